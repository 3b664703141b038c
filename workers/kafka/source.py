"""The worker's log on Kafka: `workers.consumer.Source`, over one member of the consumer group at a time.

A member that fails, or that the library leaves hanging, is replaced by a new one, and left in the background. Nothing
is lost by that: the new one begins where the group has committed. Nothing is committed for the old one either: a batch
that is still in hand has its dispositions in the store, comes again, and is recognised there.

The store may lose what it had committed, where a standby takes over that has not heard the last of it. So before a
commit moves the group on, what was settled before the batch has to be settled still; while nothing comes, it is looked
at from time to time. If it is not, the member is replaced, and the new one begins where the store is (`kafka_start`).

What is watched here, since the library does not end it by itself: records that lie in the log and do not come, a group
that does not give partitions, commits that are not answered, and brokers that are nowhere to be found any more.
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
from workers.kafka.member import Member
from workers.kafka.ports import (
    ClientFailed,
    GroupClient,
    KafkaUnreachable,
    Lag,
    LastSettled,
    MemberLimits,
    MemberObserver,
)
from workers.settlement.plan import LogRecord, Position

BATCH_MAX = 500  # more in one go would hold the event loop for too long
LEAVE_S = 8.0  # more than a member takes that has to be ended by force

# The group has decided without us, or has forgotten us: what is not remembered comes again.
_OVERTAKEN = (
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
    """Those who want to know, without a guarantee."""

    def rebuilt(self, reason: ReplaceReason, why: str) -> None: ...
    def commit_dropped(self, why: str) -> None: ...


AllSettled = Callable[[Sequence[Position]], Awaitable[bool]]


class KafkaSource:
    """Reads one topic as one of a group. `build` makes an unstarted client; see `workers.kafka.clients.consumer`.

    `trouble` is why the last poll or commit failed, for whoever asks whether the worker is ready; `None` while all is
    well. `accept_loss`: begin with what the log still holds, where unsettled records are gone
    (`workers.kafka.start_offset`).
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
        self.trouble: str | None = "has not joined the group yet"
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
        self._batch_of: tuple[Member, int] | None = None
        self._commits_failed = 0
        self._well_at = self._looked_at = now_s()
        self._behind_since: float | None = None
        self._is_careful = False
        self._rest_s = 0.0
        self._rests_until = float("-inf")

    @property
    def joined(self) -> bool:
        """Whether the group has given us our partitions, be it none."""
        return self._member is not None and self._member.assigned is not None

    def lag(self) -> list[Lag]:
        """How far each of our partitions is behind, without asking anybody."""
        return [] if self._member is None else self._member.lag()

    async def poll(self, max_records: int) -> Sequence[LogRecord]:
        """The next records of our partitions, each partition's in order; empty where none came for a while.

        Raises:
            Broken: the log is damaged, or is not the one that the store knows.
            InfrastructureDown: nothing was taken; poll again.
        """
        try:
            return await self._poll(min(max_records, BATCH_MAX)) or ()
        except InfrastructureDown as error:
            self.trouble = str(error)
            raise

    async def commit(self, upto: Sequence[Position]) -> None:
        """The group remembers these, if it still is the group that gave us the batch, and the store is what it was;
        otherwise the batch comes again.

        Raises:
            InfrastructureDown: it may not remember them; commit again.
        """
        if self._member is not None:
            await self._check_store(self._member)
        member = self._member
        if member is None or self._batch_of != (member, member.epoch):
            self._observer.commit_dropped("the group has changed since the batch was read")
            return
        try:
            await member.commit(upto)
        except _OVERTAKEN as error:
            self._observer.commit_dropped(type(error).__name__)
        except (KafkaError, OSError, TimeoutError) as error:
            self._commits_failed += 1
            self.trouble = f"the group does not take commits: {type(error).__name__}: {error}".rstrip(": ")
            if self._commits_failed >= self._limits.commit_tries:
                self._replace(ReplaceReason.COMMIT, self.trouble)
            raise InfrastructureDown(self.trouble) from error
        self._commits_failed = 0

    async def stop(self) -> None:
        """Leave the group, so that others take the partitions at once. Returns soon, whatever the brokers do."""
        if self._member is not None:
            self._leave(self._member)
            self._member = None
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=LEAVE_S)

    async def _poll(self, max_records: int) -> list[LogRecord]:
        if self._member is not None and self._member.is_worn:
            self._replace(
                ReplaceReason.FAILED, "it has met a record that it cannot read, and handed it out as an empty one"
            )
            self._is_careful = False
        member = await self._present()
        try:
            batch = await member.poll(max_records)
        except ClientFailed as error:
            self._is_careful = error.is_records
            self._replace(ReplaceReason.FAILED, str(error))
            raise
        except KafkaUnreachable as error:
            if self._now_s() - self._well_at > self._limits.unreachable_s:
                self._replace(ReplaceReason.UNREACHABLE, str(error))
            raise
        if not batch:
            await self._look_after(member)
            return []
        self._batch_of = (member, member.epoch)
        self._behind_since = None
        self._is_well()
        return batch

    def _is_well(self) -> None:
        self.trouble = None
        self._well_at = self._now_s()

    async def _present(self) -> Member:
        """The member that reads, made anew where there is none."""
        if self._member is not None:
            return self._member
        if (wait_s := self._rests_until - self._now_s()) > 0:
            await asyncio.sleep(min(wait_s, self._limits.poll_s))
            raise KafkaUnreachable(self.trouble or "a new member of the group is not made yet")
        member = Member(
            self._build(),
            topic=self._topic,
            last_settled=self._last_settled,
            observer=self._observer,
            limits=self._limits,
            accept_loss=self._accept_loss,
            is_careful=self._is_careful,
            now_s=self._now_s,
        )
        try:
            await member.join()
        except BaseException:
            self._leave(member)
            self._rest(member)
            raise
        self._member = member
        self._behind_since = None
        self._well_at = self._now_s()
        return member

    async def _look_after(self, member: Member) -> None:
        """A poll brought nothing: is that because there is nothing?"""
        now_s = self._now_s()
        if member.assigned is None:
            if now_s - member.moved_at > self._limits.unassigned_s:
                self._replace(ReplaceReason.UNASSIGNED, "the group has not given out its partitions")
            return
        if self.trouble is None and now_s - self._looked_at < self._limits.look_every_s:
            return
        self._looked_at = now_s
        is_behind = await member.is_behind()
        if is_behind is None:
            self._is_silent()
            return
        self._is_well()
        if not is_behind:
            self._behind_since = None
            with suppress(InfrastructureDown):  # the store's own trouble is told by whoever needs it
                await self._check_store(member)
        elif self._behind_since is None:
            self._behind_since = now_s
        elif now_s - self._behind_since >= self._limits.stalled_s:
            self._replace(ReplaceReason.STALLED, "records lie in the log and do not come")

    async def _check_store(self, member: Member) -> None:
        """Replace the member where the store has lost what was settled.

        Raises:
            InfrastructureDown: the store does not say.
        """
        if self._all_settled is None or not (before := member.settled_before()):
            return
        if not await self._all_settled(before) and member is self._member:
            self._replace(
                ReplaceReason.STORE, "the order store has lost what it had settled: it is read again from there"
            )

    def _is_silent(self) -> None:
        """The log does not say how far it goes. After a while every broker may have another address."""
        self.trouble = "Kafka does not answer"
        if self._now_s() - self._well_at > self._limits.unreachable_s:
            self._replace(ReplaceReason.UNREACHABLE, self.trouble)

    def _replace(self, reason: ReplaceReason, why: str) -> None:
        """Leave the member; the next poll makes another."""
        member, self._member = self._member, None
        if member is None:
            return
        self._commits_failed = 0
        self._leave(member)
        self._rest(member)
        self._observer.rebuilt(reason, why)

    def _rest(self, member: Member) -> None:
        """Longer after each one that did not last: a group that is joined and left all the time reads nothing."""
        lasted = self._now_s() - member.born_at > self._limits.lasted_s
        longer_s = max(self._limits.rest_s, 2 * self._rest_s)
        self._rest_s = self._limits.rest_s if lasted else min(longer_s, self._limits.rest_max_s)
        self._rests_until = self._now_s() + self._rest_s

    def _leave(self, member: Member) -> None:
        async def leave() -> None:
            with suppress(Exception):  # it is given up, and tells of nothing that anybody could use
                await member.leave()

        task = asyncio.create_task(leave())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
