"""The start offset of a partition that was just assigned. Pure.

It depends on the group's committed offset, on the last offset with a disposition in the store, and on the first and end
offset of the log. Usually these agree: the committed offset is at most one past the last disposition, and the log holds
both.
"""

from msgspec import Struct

from workers.errors import InfrastructureDamaged

# Number of offsets before the last disposition that may lack their own. A batch is settled in two halves if another
# worker holds locks on some of its orders, and a backup may fall between the halves. So a gap reaches back at most one
# batch of 500; the margin is two batches.
MARGIN = 2 * 500


class PartitionState(Struct, frozen=True, kw_only=True):
    """Offsets of one partition: the log holds `first` to `end`, without `end`.

    `committed` is the group's next offset, `settled` the last offset with a disposition.

    `gap_from` is the offset after the last disposition below `committed`; `None` if that is `committed` itself. It is
    needed because `settled` alone proves nothing after the store went back under running workers: a standby took over
    that had not received the last transactions, and newer records have got dispositions since.
    """

    partition: int
    committed: int | None
    settled: int | None
    first: int
    end: int
    gap_from: int | None = None

    @property
    def gap(self) -> int | None:
        """The first offset, below the committed one, whose disposition the store has lost; `None` if it lost none.

        A store without any disposition below it started with the records that the log held at that time.
        """
        if self.committed is None or self.settled is None or self.gap_from is None:
            return None
        return self.gap_from if self.gap_from > 0 or self.committed > self.first else None

    @property
    def settled_before(self) -> int | None:
        """The last offset with a disposition before the committed offset, or of all if nothing is committed."""
        if self.committed is None:
            return self.settled
        last = (self.committed if self.gap_from is None else self.gap_from) - 1
        return last if last >= 0 else None


class StartOffset(Struct, frozen=True, kw_only=True):
    """The first offset to read. `rewound_from` is the committed offset, if the store is behind it."""

    offset: int
    rewound_from: int | None = None


def start(state: PartitionState, *, accept_loss: bool = False) -> StartOffset:
    """Return the start offset. `accept_loss`: skip deleted records even if they have no disposition.

    If the store is behind the group, it was restored from a backup or has failed over, and the log is read again from
    there.

    Raises:
        InfrastructureDamaged: the log is not the log that the store knows, or lacks records without a disposition.
    """
    settled_upto = 0 if state.settled is None else state.settled + 1
    holds = f"partition {state.partition} of the log holds offsets {state.first} to {state.end - 1}"
    if state.end < settled_upto:
        raise InfrastructureDamaged(
            f"{holds}, but the store has settled offset {state.settled}: the topic was created anew or has lost "
            "records, and new records would pass for processed ones. Restore the old topic, or use a new store"
        )
    if state.committed is not None and state.committed > state.end:
        raise InfrastructureDamaged(
            f"{holds}, but the group has committed offset {state.committed}: the topic was created anew or has lost "
            f"its last records. Restore them, or set the group's offset to {state.end}"
        )
    begin, rewound_from = _wanted(state, settled_upto)
    if begin < state.first:
        if _is_lost(state, settled_upto) and not accept_loss:
            raise InfrastructureDamaged(
                f"{holds}, but reading must start at {begin}: records before {state.first} are deleted, by retention "
                "or by hand, and have no disposition. Restore them, or start with those that are left by setting "
                "ALIPAY_NOTIFY_ACCEPT_LOG_LOSS=true"
            )
        begin = state.first
    return StartOffset(offset=begin, rewound_from=rewound_from)


def _wanted(state: PartitionState, settled_upto: int) -> tuple[int, int | None]:
    if state.committed is None:
        return state.first if state.settled is None else min(state.first, settled_upto), None
    if state.gap is not None:
        return max(0, state.gap - MARGIN), state.committed
    if state.committed <= settled_upto or (state.settled is None and state.committed <= state.first):
        return state.committed, None
    return max(0, settled_upto - MARGIN), state.committed


def _is_lost(state: PartitionState, settled_upto: int) -> bool:
    """Return whether a record that the log no longer holds may lack a disposition."""
    if state.settled is None:
        return state.committed is not None and state.committed < state.first
    if state.gap is not None:
        return state.first > state.gap > 0
    if state.committed is not None and state.committed <= settled_upto:
        return state.first > max(state.committed, settled_upto - MARGIN)
    return state.first > settled_upto
