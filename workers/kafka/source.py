"""The worker's log on Kafka, which implements `workers.consumer.Source` with one group member at a time.

A member that fails or hangs is replaced by a new one and closed in the background. aiokafka does not detect all of
these states itself, so they are checked here: records in the log that are not delivered, a rebalance that does not end,
commits without an answer, and brokers that have moved to other addresses.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Protocol

from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from workers.errors import InfrastructureDown
from workers.kafka.lag import Lag
from workers.kafka.member import Member
from workers.kafka.ports import (
    ClientFailed,
    GroupClient,
    KafkaUnreachable,
    LastSettled,
    MemberLimits,
    MemberObserver,
)
from workers.settlement.plan import LogRecord, Position

BATCH_MAX = 500  # a larger batch would block the event loop for too long
LEAVE_S = 8.0  # longer than a member takes that must be closed by force

# The group has rebalanced or dropped this member. The batch is redelivered to the owner of its partitions.
_REBALANCED = (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)


class ReplaceReason(StrEnum):
    """Why a member was replaced."""

    FAILED = "failed"
    STALLED = "stalled"
    UNASSIGNED = "unassigned"
    UNREACHABLE = "unreachable"
    COMMIT = "commit"
    STORE = "store"


class SourceObserver(MemberObserver, Protocol):
    """Observes the source. Best effort: no guarantee depends on it."""

    def rebuilt(self, reason: ReplaceReason, why: str) -> None: ...
    def commit_dropped(self, why: str) -> None: ...


AllSettled = Callable[[Sequence[Position]], Awaitable[bool]]


class KafkaSource:
    """Reads one topic as a member of a consumer group.

    `build` makes a client that is not started; see `workers.kafka.clients.consumer`. `all_settled` asks the store
    whether all of these offsets have dispositions. `accept_loss`: start at the earliest available offset even if
    unprocessed records were deleted; see `workers.kafka.start_offset`. `trouble` is the reason why the last poll or
    commit failed, for the readiness check; `None` while all is well.
    """

    def __init__(
        self,
        build: Callable[[], GroupClient],
        *,
        topic: str,
        last_settled: LastSettled,
        observer: SourceObserver,
        all_settled: AllSettled | None = None,
        limits: MemberLimits | None = None,
        accept_loss: bool = False,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trouble: str | None = "has not joined the consumer group yet"
        self._build = build
        self._topic = topic
        self._last_settled = last_settled
        self._all_settled = all_settled
        self._observer = observer
        self._limits = limits or MemberLimits()
        self._accept_loss = accept_loss
        self._now_s = now_s
        self._member: Member | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._batch_of: tuple[Member, int] | None = None  # the member and the epoch that delivered the last batch
        self._commits_failed = 0
        self._well_at = self._checked_at = now_s()
        self._behind_since: float | None = None
        self._one_record_at_a_time = False
        self._backoff_s = 0.0
        self._backoff_until = float("-inf")

    @property
    def joined(self) -> bool:
        """Whether the group has assigned our partitions, even if there are none."""
        return self._member is not None and self._member.assigned is not None

    def lag(self) -> list[Lag]:
        """Return the lag of each assigned partition, without a request to the brokers."""
        return [] if self._member is None else self._member.lag()

    async def poll(self, max_records: int) -> Sequence[LogRecord]:
        """Return the next records, in order within each partition; empty if none came within the time limit.

        Raises:
            InfrastructureDamaged: the log is damaged, or is not the log that the store knows.
            InfrastructureDown: no record was taken; poll again.
        """
        try:
            return await self._poll(min(max_records, BATCH_MAX)) or ()
        except InfrastructureDown as error:
            self.trouble = str(error)
            raise

    async def commit(self, upto: Sequence[Position]) -> None:
        """Commit these offsets. If the group has rebalanced or the store has lost rows, commit nothing.

        A batch that is not committed is redelivered, and the store recognises the records that have dispositions.

        Raises:
            InfrastructureDown: the offsets may not be committed; commit again.
        """
        if self._member is not None:
            # A store can lose what it had committed, if a standby takes over that had not received the last
            # transactions. So check the records of earlier batches first: this commit moves the group past them.
            await self._check_store(self._member)
        member = self._member
        if member is None or self._batch_of != (member, member.epoch):
            self._observer.commit_dropped("the group has rebalanced since the batch was fetched")
            return
        try:
            await member.commit(upto)
        except _REBALANCED as error:
            self._observer.commit_dropped(type(error).__name__)
        except (KafkaError, OSError, TimeoutError) as error:
            self._commits_failed += 1
            self.trouble = f"offset commit failed: {type(error).__name__}: {error}".rstrip(": ")
            if self._commits_failed >= self._limits.commit_tries:
                self._replace(ReplaceReason.COMMIT, self.trouble)
            raise InfrastructureDown(self.trouble) from error
        self._commits_failed = 0

    async def stop(self) -> None:
        """Leave the group, so that it reassigns the partitions at once. Return soon, whatever the brokers do."""
        if self._member is not None:
            self._leave(self._member)
            self._member = None
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=LEAVE_S)

    async def _poll(self, max_records: int) -> list[LogRecord]:
        if self._member is not None and self._member.needs_replacement:
            self._replace(
                ReplaceReason.FAILED, "aiokafka cannot decode a record; it was delivered as an empty record instead"
            )
            self._one_record_at_a_time = False
        member = await self._current_member()
        try:
            batch = await member.poll(max_records)
        except ClientFailed as error:
            self._one_record_at_a_time = error.is_records
            self._replace(ReplaceReason.FAILED, str(error))
            raise
        except KafkaUnreachable as error:
            if self._now_s() - self._well_at > self._limits.unreachable_s:
                self._replace(ReplaceReason.UNREACHABLE, str(error))
            raise
        if not batch:
            await self._check_empty_poll(member)
            return []
        self._batch_of = (member, member.epoch)
        self._behind_since = None
        self._mark_well()
        return batch

    def _mark_well(self) -> None:
        self.trouble = None
        self._well_at = self._now_s()

    async def _current_member(self) -> Member:
        """Return the member; join the group with a new one if there is none and the backoff is over."""
        if self._member is not None:
            return self._member
        if (wait_s := self._backoff_until - self._now_s()) > 0:
            await asyncio.sleep(min(wait_s, self._limits.poll_s))
            raise KafkaUnreachable(self.trouble or "waiting before the next attempt to join the consumer group")
        # The new member starts at the committed offset, so a replacement loses no record.
        member = Member(
            self._build(),
            topic=self._topic,
            last_settled=self._last_settled,
            observer=self._observer,
            limits=self._limits,
            accept_loss=self._accept_loss,
            one_record_at_a_time=self._one_record_at_a_time,
            now_s=self._now_s,
        )
        try:
            await member.join()
        except BaseException:
            self._leave(member)
            self._back_off(member)
            raise
        self._member = member
        self._behind_since = None
        self._well_at = self._now_s()
        return member

    async def _check_empty_poll(self, member: Member) -> None:
        """Find out why a poll was empty: no new records, or a stuck consumer?"""
        now_s = self._now_s()
        if member.assigned is None:
            if now_s - member.rebalanced_at > self._limits.unassigned_s:
                self._replace(ReplaceReason.UNASSIGNED, "the rebalance does not end: no partitions are assigned")
            return
        if self.trouble is None and now_s - self._checked_at < self._limits.check_every_s:
            return
        self._checked_at = now_s
        is_behind = await member.is_behind()
        if is_behind is None:
            self._mark_unanswered()
            return
        self._mark_well()
        if not is_behind:
            self._behind_since = None
            with suppress(InfrastructureDown):  # the consumer's other calls report that the store is down
                await self._check_store(member)
        elif self._behind_since is None:
            self._behind_since = now_s
        elif now_s - self._behind_since >= self._limits.stalled_s:
            self._replace(ReplaceReason.STALLED, "the log has records that aiokafka does not deliver")

    async def _check_store(self, member: Member) -> None:
        """Replace the member if the store has lost dispositions; the new one starts where the store is.

        Raises:
            InfrastructureDown: the store does not answer.
        """
        if self._all_settled is None or not (before := member.settled_before()):
            return
        if not await self._all_settled(before) and member is self._member:
            self._replace(
                ReplaceReason.STORE, "the order store has lost dispositions: the log is read again from there"
            )

    def _mark_unanswered(self) -> None:
        self.trouble = "Kafka does not answer"
        if self._now_s() - self._well_at > self._limits.unreachable_s:  # all brokers may have new addresses
            self._replace(ReplaceReason.UNREACHABLE, self.trouble)

    def _replace(self, reason: ReplaceReason, why: str) -> None:
        """Leave the group with this member; the next poll makes another.

        A batch of the old member is not committed any more. It is redelivered, and the store recognises it.
        """
        member, self._member = self._member, None
        if member is None:
            return
        self._commits_failed = 0
        self._leave(member)
        self._back_off(member)
        self._observer.rebuilt(reason, why)

    def _back_off(self, member: Member) -> None:
        """Double the backoff after a short-lived member, because a group that rebalances all the time reads nothing."""
        lived_s = self._now_s() - member.created_at
        if lived_s > self._limits.backoff_reset_s:
            self._backoff_s = self._limits.backoff_s
        else:
            longer_s = max(self._limits.backoff_s, 2 * self._backoff_s)
            self._backoff_s = min(longer_s, self._limits.backoff_max_s)
        self._backoff_until = self._now_s() + self._backoff_s

    def _leave(self, member: Member) -> None:
        async def leave() -> None:
            with suppress(Exception):  # the member is given up, so its errors no longer matter
                await member.leave()

        task = asyncio.create_task(leave())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
