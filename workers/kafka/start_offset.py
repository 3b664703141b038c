"""Where a member begins to read a partition that it has just been given. Pure.

Three are asked: the group's committed offset, the store's last settled one, and the log itself, for its first offset
and its end. As a rule they agree: committed is no further than settled, and both lie in the log. Where they do not,
either the store is older than the group (it was restored from a backup), and the log is read again from there; or
records are gone that nobody has settled, and then nobody goes on as if nothing were missing.

A store that went back while workers were at work (a standby took over that had not heard the last commits) may have
settled newer records since, and then its last settled offset proves nothing. So the one right before the committed
offset is asked for too.
"""

from msgspec import Struct

from workers.errors import InfrastructureDamaged

# How far behind the last settled offset one may lie that is not settled. A batch is settled out of order inside itself
# when another worker holds claims on some of it, and a backup may have been taken between its two halves; so the gaps
# reach back one batch of 500 at most, and this is two.
MARGIN = 2 * 500


class PartitionState(Struct, frozen=True, kw_only=True):
    """What is known of a partition. The log holds `first` up to, and not with, `end`.

    `gap_from` is where the settled ones below the committed offset end, unless they reach up to it.
    """

    partition: int
    committed: int | None
    settled: int | None
    first: int
    end: int
    gap_from: int | None = None

    @property
    def gap(self) -> int | None:
        """Where records lay, below the committed offset, that the store has lost; `None` where there are none.

        A store that has settled nothing below it began with what the log held then.
        """
        if self.committed is None or self.settled is None or self.gap_from is None:
            return None
        return self.gap_from if self.gap_from > 0 or self.committed > self.first else None

    @property
    def settled_before(self) -> int | None:
        """The last offset before the committed one that is settled; where nothing is committed, the last of all."""
        if self.committed is None:
            return self.settled
        last = (self.committed if self.gap_from is None else self.gap_from) - 1
        return last if last >= 0 else None


class StartOffset(Struct, frozen=True, kw_only=True):
    """Where to begin. `rewound_from` is the group's committed offset, where the store is behind it."""

    offset: int
    rewound_from: int | None = None


def start(known: PartitionState, *, accept_loss: bool = False) -> StartOffset:
    """The first offset to read. `accept_loss`: begin with what is left, where unsettled records are gone.

    Raises:
        InfrastructureDamaged: the log is not the one that the store knows, or lacks records that have no disposition.
    """
    settled_upto = 0 if known.settled is None else known.settled + 1
    ends = f"partition {known.partition} of the log holds offsets {known.first} to {known.end - 1}"
    if known.end < settled_upto:
        raise InfrastructureDamaged(
            f"{ends}, and the store has settled {known.settled}: the topic was made anew, or lost records. New records "
            "would pass for settled ones. Bring the old topic back, or start with a store of its own"
        )
    if known.committed is not None and known.committed > known.end:
        raise InfrastructureDamaged(
            f"{ends}, and the group has committed {known.committed}: the topic was made anew, or lost its last "
            "records. Bring them back, or set the group's offset to the end that is left"
        )
    begin, rewound_from = _wanted(known, settled_upto)
    if begin < known.first:
        if _is_lost(known, settled_upto) and not accept_loss:
            raise InfrastructureDamaged(
                f"{ends}, and reading has to begin at {begin}: the records before {known.first} are gone, by retention "
                "or by hand, and have no disposition. Bring them back, or go on with what is left: "
                "ALIPAY_NOTIFY_ACCEPT_LOG_LOSS=true"
            )
        begin = known.first
    return StartOffset(offset=begin, rewound_from=rewound_from)


def _wanted(known: PartitionState, settled_upto: int) -> tuple[int, int | None]:
    if known.committed is None:
        return known.first if known.settled is None else min(known.first, settled_upto), None
    if known.gap is not None:
        return max(0, known.gap - MARGIN), known.committed
    if known.committed <= settled_upto or (known.settled is None and known.committed <= known.first):
        return known.committed, None
    return max(0, settled_upto - MARGIN), known.committed


def _is_lost(known: PartitionState, settled_upto: int) -> bool:
    """Whether there was a record, before those that the log holds, that may have no disposition."""
    if known.settled is None:
        return known.committed is not None and known.committed < known.first
    if known.gap is not None:
        return known.first > known.gap > 0
    if known.committed is not None and known.committed <= settled_upto:
        return known.first > max(known.committed, settled_upto - MARGIN)
    return known.first > settled_upto
