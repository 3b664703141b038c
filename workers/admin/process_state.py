"""The state of one process, as a console asks for it: role, partitions, counts, readiness, and news.

One request is answered after its wait, so a console that asks again at once has a heartbeat, and the answers carry the
refused requests and the lines of the tail that it does not have yet. A process that stops in good order answers at
once, with `is_stopping`, and waits for a moment until each console has had this answer; one that was killed never does.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Protocol

from aiohttp import web
from msgspec import Struct
from prometheus_client import CollectorRegistry

from schemas import telemetry
from schemas.dispositions import Disposition, Outcome
from schemas.series import SeriesFamily
from workers.admin import responses
from workers.admin.probes import Check, Readiness, is_ready
from workers.tail import Tail, TailEntry

GATHERED_S = 0.3  # new lines of the tail wait so long for others, so that a busy process answers three times a second
LINES_MAX = 500  # of the tail, in one answer
CONSOLES_MAX = 16
ASKED_LATELY_S = 10.0
LEAVE_S = 1.0  # a console asks again at once

_PROCESSED = f"{telemetry.PROCESSED.name}_total"
_REPEATS = frozenset({Disposition.DUPLICATE.value, Disposition.STALE.value})


class ProcessRole(StrEnum):
    """The task of a process. An engine is receiver, worker and console in one."""

    ENGINE = "engine"
    RECEIVER = "receiver"
    WORKER = "worker"
    CONSOLE = "console"


class ProcessIdentity(Struct, frozen=True, kw_only=True):
    """Which process it is."""

    role: ProcessRole
    instance: str
    version: str
    started_at_ms: int


class PartitionLag(Struct, frozen=True, kw_only=True):
    """One partition that the process reads, and how far it is behind."""

    partition: str
    seconds: float = 0.0
    messages: float = 0.0


class ProcessCounts(Struct, frozen=True, kw_only=True):
    """The counts of the process since its start."""

    accepted: float = 0.0
    refused: float = 0.0
    applied: float = 0.0
    repeats: float = 0.0


class RefusedLine(Struct, frozen=True, kw_only=True, gc=False):
    """One refused request. Scope, order and id are the sender's claims."""

    account: str
    scope: str
    order: str
    notification_id: str = ""
    outcome: str
    reason: str
    received_at_ms: int


class ProcessState(Struct, frozen=True, kw_only=True):
    """The answer. `refused_added` and `tail_added` are the numbers to ask after the next time.

    `run_id` differs after each start: counts and numbers begin anew then.
    """

    identity: ProcessIdentity
    run_id: str
    is_ready: bool
    is_stopping: bool = False
    failing: tuple[Check, ...] = ()
    partitions: tuple[PartitionLag, ...] = ()
    counts: ProcessCounts = ProcessCounts()
    refused: tuple[RefusedLine, ...] = ()
    refused_added: int = 0
    tail: tuple[TailEntry, ...] = ()
    tail_added: int = 0


class RefusedOne(Protocol):
    """A refused request, as the receiver remembers it."""

    @property
    def account(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def order(self) -> str: ...
    @property
    def notification_id(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def received_at_ms(self) -> int: ...


class RefusedSource(Protocol):
    """The receiver's memory of refused requests; `added` counts all that there ever were."""

    @property
    def added(self) -> int: ...

    def after(self, number: int) -> Sequence[RefusedOne]: ...


class NoneRefused:
    """The memory of a process without a receiver."""

    added = 0

    def after(self, number: int) -> Sequence[RefusedOne]:
        return ()


class OwnProcess:
    """This process's own state. One that stops because it `has_failed` leaves without a word, like a killed one."""

    def __init__(
        self,
        *,
        identity: ProcessIdentity,
        readiness: Readiness,
        registry: CollectorRegistry,
        tail: Tail,
        refused: RefusedSource | None = None,
        has_failed: Callable[[], bool] = lambda: False,
    ) -> None:
        self.identity = identity
        self.tail = tail
        self._readiness = readiness
        self._registry = registry
        self._refused = refused or NoneRefused()
        self._has_failed = has_failed
        self._requests: SeriesFamily | None = None

    async def state(self, *, refused_after: int | None = None, tail_after: int | None = None) -> ProcessState:
        """Return the state, with the refused requests and the lines of the tail after these numbers."""
        checks = await self._readiness()
        refused = () if refused_after is None else self._refused.after(refused_after)
        return ProcessState(
            identity=self.identity,
            run_id=self.tail.run_id,
            is_ready=is_ready(checks),
            is_stopping=self.tail.is_closed and not self._has_failed(),
            failing=tuple(check for check in checks if not check.ok),
            partitions=self._partitions(),
            counts=self.counts(),
            refused=tuple(map(_line, refused)),
            refused_added=self._refused.added,
            tail=() if tail_after is None else tuple(self.tail.after(tail_after, LINES_MAX)),
            tail_added=self.tail.added,
        )

    def counts(self) -> ProcessCounts:
        """Return the receiver's counts over all accounts, and the worker's."""
        sums = {**self._received(), "applied": 0.0, "repeats": 0.0}
        for family in self._registry.restricted_registry([_PROCESSED]).collect():
            for sample in family.samples:
                result = sample.labels.get("result", "")
                field = "applied" if result == Disposition.APPLIED.value else "repeats" if result in _REPEATS else ""
                if field:
                    sums[field] += sample.value
        return ProcessCounts(**sums)

    def _received(self) -> dict[str, float]:
        if self.identity.role not in (ProcessRole.ENGINE, ProcessRole.RECEIVER):
            return {}
        if self._requests is None:
            found: Iterable[object] = self._registry.collect()
            families = (each for each in found if isinstance(each, SeriesFamily))
            self._requests = next((each for each in families if each.name == telemetry.RECEIVED.name), None)
        if self._requests is None:
            return {}  # the receiver starts after the admin port
        totals = {outcome: self._requests.total(outcome.value) for outcome in Outcome}
        accepted = totals.pop(Outcome.ACCEPTED)
        return {"accepted": accepted, "refused": sum(totals.values())}

    def _partitions(self) -> tuple[PartitionLag, ...]:
        names = (telemetry.LAG_SECONDS.name, telemetry.LAG_MESSAGES.name)
        seconds: dict[str, float] = {}
        messages: dict[str, float] = {}
        for family in self._registry.restricted_registry(names).collect():
            into = seconds if family.name == telemetry.LAG_SECONDS.name else messages
            into |= {sample.labels.get("partition", ""): sample.value for sample in family.samples}
        found = sorted(seconds, key=lambda partition: (len(partition), partition))
        return tuple(
            PartitionLag(partition=each, seconds=seconds[each], messages=messages.get(each, 0)) for each in found
        )


class ProcessPart:
    """The API of this process's own state."""

    def __init__(self, own: OwnProcess, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._own = own
        self._monotonic_s = monotonic_s
        self._consoles: dict[str, float] = {}  # those that are to hear of the stop, with the time of their last answer

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/process", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        """Return the state after the wait, or earlier if the process stops, or has new lines and they are wanted.

        `refused_after` and `tail_after` are of the run with this `run_id`; for another run they count from its start.
        """
        wait_s = responses.wait_s(request)
        refused_after = responses.whole_number(request, "refused_after", default=0)
        tail_after: int | None = responses.whole_number(request, "tail_after", default=0)
        if request.query.get("run_id") != self._own.tail.run_id:
            refused_after = tail_after = 0
        if responses.yes_or_no(request.query, "watch"):
            self._own.tail.watch()
        else:
            tail_after = None
        await self._wait(wait_s, tail_after)
        state = await self._own.state(refused_after=refused_after, tail_after=tail_after)
        self._note(request.query.get("console", ""))
        return responses.json(state)

    async def leave(self) -> None:
        """Answer all questions, and wait until each console that has asked lately knows that the process stops."""
        self._own.tail.close()
        end = self._monotonic_s() + LEAVE_S
        while self._monotonic_s() < end and self._lately():  # noqa: ASYNC110 - time alone ends some of them
            await asyncio.sleep(0.01)

    def _note(self, console: str) -> None:
        if self._own.tail.is_closed:
            self._consoles.pop(console, None)
        elif console and (console in self._consoles or len(self._consoles) < CONSOLES_MAX):
            self._consoles[console] = self._monotonic_s()
            self._consoles = self._lately()

    def _lately(self) -> dict[str, float]:
        now_s = self._monotonic_s()
        return {console: at_s for console, at_s in self._consoles.items() if now_s - at_s < ASKED_LATELY_S}

    async def _wait(self, wait_s: float, tail_after: int | None) -> None:
        tail, deadline = self._own.tail, self._monotonic_s() + wait_s
        with tail.waiting() as waiter:
            while not tail.is_closed:
                if tail_after is not None and tail.added > tail_after:
                    await asyncio.sleep(min(GATHERED_S, wait_s))
                    return
                if not await waiter.wait(deadline - self._monotonic_s()):
                    return


def _line(refused: RefusedOne) -> RefusedLine:
    return RefusedLine(
        account=refused.account,
        scope=refused.scope,
        order=refused.order,
        notification_id=refused.notification_id,
        outcome=str(refused.outcome),
        reason=str(refused.reason),
        received_at_ms=refused.received_at_ms,
    )
