"""The errors of the workers, and what each one means for the batch in hand.

    InfrastructureDown                   retry the same batch with backoff; no record is to blame, no attempt is counted
    ├── InfrastructureDamaged            retrying does not help: the loop stops, and an operator is needed
    ├── ReadTooSlow                      a read took longer than operators' reads may; the store is well
    ├── RowsLocked                       another session holds a row: settle around it, and park what needs it
    ├── VersionConflict                  another worker wrote first: decide again on what it wrote
    ├── kafka.ports.KafkaUnreachable     Kafka does not answer in time
    ├── kafka.ports.ClientFailed         the Kafka client must be replaced before the next poll
    └── postgres.errors.Collided         the transaction met another one: run it again
    RecordRefused                        the store cannot hold a value of some record: halve the batch to find it
    └── RefundTaken                      a registration names a refund that belongs to another order
    DecisionFailed                       our code failed on some record: halve the batch, hold that record as dead
    NeverSettled                         the store did not return: halve the batch, hold that record as dead
    TooManyDeadLetters                   the consumer stops, because the fault is probably ours

`Backoff` retries the first family, `Processing` halves the batch, and `restarts` stops a loop. Only a record's own
fault may hold it. An outage must not: a failover of half a minute would turn healthy payments into dead letters.
"""


class InfrastructureDown(Exception):
    """Kafka, Redis or the store is unreachable, locked or full. Try again later."""


class InfrastructureDamaged(InfrastructureDown):
    """A store or a log is damaged, or the two do not belong together. An operator must repair it."""


class ReadTooSlow(InfrastructureDown):
    """A read for operators took longer than it may, or waited too long for others. The store itself answers."""


class RowsLocked(InfrastructureDown):
    """Another session has held the lock of some row for longer than we wait."""


class VersionConflict(InfrastructureDown):
    """Another worker wrote an order, a notification or a held row between our read and our write. Decide again."""


class RecordRefused(Exception):
    """The store cannot hold a text or a number of some record in the batch."""


class RefundTaken(RecordRefused):
    """A registration names a refund that is registered with another order: one of the two is the merchant's mistake."""

    def __init__(self, refund: str, order: str) -> None:
        super().__init__(f"refund {refund} is registered with order {order} already")


class DecisionFailed(Exception):
    """Deciding raised an unexpected exception: our code cannot handle some record of the batch."""


class NeverSettled(Exception):
    """Settling a batch has not ended long after the stores' own time limits: some wait in our code has none."""


class TooManyDeadLetters(Exception):
    """Too many dead letters in a row. The worker stops, because the fault is probably ours and not the records'."""


class UnknownAccount(Exception):
    """The worker does not know the record's account, or knows it with another family."""

    def __init__(self, family: str) -> None:
        super().__init__(f"the worker's accounts.toml has no such account of family {family}")
        self.family = family


class Unverified(Exception):
    """This process cannot verify the record, but a receiver with newer files could. The text names the missing part."""
