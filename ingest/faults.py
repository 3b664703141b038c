"""What can be wrong with a producer, and what the failure of one record says. Words only: no client is needed here."""

from enum import StrEnum


class Fault(StrEnum):
    """Why a producer is replaced."""

    SEQUENCE = "sequence"  # the broker misses a batch, or has forgotten the producer: nothing after it is taken
    FENCED = "fenced"
    CLOSED = "closed"
    UNEXPECTED = "unexpected"  # its sender met something that it was not written for
    SENDER_ENDED = "sender_ended"
    REFUSED_BATCH = "refused_batch"  # leaves a hole in the sequence of an idempotent producer
    SILENT = "silent"  # nothing was acknowledged, or no broker answered, for too long


class Meaning(StrEnum):
    """What the failure of one record says about the log. In none of them is it certain that nothing was written."""

    UNKNOWN = "unknown"  # no word in time
    REFUSED = "refused"  # the broker would not have this batch; the next may be fine
    FORBIDDEN = "forbidden"  # we may not write to the topic
    OURS = "ours"  # it never came to asking: the record, or this program, is not as it should be
