"""Tasks over many held notifications over HTTP: start one, follow it, cancel it, resume it.

They run in the worker that leads (`workers.replays`), so no request waits for them. `/api/held/replays` is the older
address of `/api/held/tasks`.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType, structs

from schemas import times
from schemas.accounts import Account
from workers.admin import held, responses, sign_in
from workers.admin.guard import AuditLog
from workers.admin.held import OperatorReason, RetryOfMany
from workers.admin.responses import ApiError
from workers.queries import HeldQuery
from workers.replays import IDS_MAX, NewTask, ReplaysPort, ReplayState, ReplayTask, TaskAction
from workers.settlement.plan import position_of


class StartReplay(RetryOfMany, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a start. `before` ends the filter; otherwise it ends now.

    `ids` are a selection. It may not be empty: a caller that has selected nothing does not mean all.
    """

    action: TaskAction = TaskAction.REPLAY
    ids: Annotated[tuple[str, ...], Meta(min_length=1, max_length=IDS_MAX)] | UnsetType = UNSET
    before: str | None = None


class ReplayAnswer(Struct, frozen=True, kw_only=True):
    """One task and its progress. `done` also counts rows that an operator decided meanwhile."""

    id: int
    action: TaskAction
    state: ReplayState
    total: int
    done: int
    applied: int
    duplicate: int
    stale: int
    held_again: int
    failed: int
    decided: int
    failures: dict[str, int]
    rate: int
    filter: dict[str, str]
    by: str
    why: str
    started_at: datetime
    finished_at: datetime | None


class ReplaysPart:
    """The API for tasks."""

    def __init__(
        self, *, accounts: Mapping[str, Account], replays: ReplaysPort, now_ms: Callable[[], int], log: AuditLog
    ) -> None:
        self._accounts = accounts
        self._replays = replays
        self._now_ms = now_ms
        self._log = log

    def routes(self) -> list[web.RouteDef]:
        return [
            route
            for name in ("tasks", "replays")
            for route in (
                web.get(f"/api/held/{name}", self.list_),
                web.post(f"/api/held/{name}", self.start),
                web.get(f"/api/held/{name}/{{number:[0-9]{{1,18}}}}", self.show),
                web.post(f"/api/held/{name}/{{number:[0-9]{{1,18}}}}/cancel", self.cancel),
                web.post(f"/api/held/{name}/{{number:[0-9]{{1,18}}}}/resume", self.resume),
            )
        ]

    async def list_(self, request: web.Request) -> web.Response:
        """Return the newest tasks, or those below the number `before`, and the number of older ones."""
        limit = responses.whole_number(request, "limit", default=20, most=responses.LIMIT_MAX)
        before = responses.whole_number(request, "before", default=0) or None
        name = request.path.rpartition("/")[2]
        found = await self._replays.replays(limit, before)
        return responses.json({name: [answer(task) for task in found.tasks], "more": found.more})

    async def start(self, request: web.Request) -> web.Response:
        """Start a task over all rows that match and are held now."""
        given = await responses.body(request, StartReplay)
        check_rate(given.rate)
        why, by, now_ms = held.why_of(given.reason), sign_in.acting(request, given.by), self._now_ms()
        query, _ = query_of(given, self._accounts, now_ms=now_ms)
        new = NewTask(action=given.action, query=query, rate=given.rate, by=by, why=why)
        task = await self._replays.start_replay(new, now_ms=now_ms)
        self._log.info("replay_started", replay=task.number, action=task.action.value, by=by, why=why)
        return responses.json(answer(task), status=201)

    async def show(self, request: web.Request) -> web.Response:
        """Return one task with its progress."""
        return responses.json(answer(await self._task(request)))

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a running task after the slice in hand; its cursor stays."""
        return await self._switch(request, ReplayState.RUNNING, ReplayState.CANCELLED)

    async def resume(self, request: web.Request) -> web.Response:
        """Continue a cancelled task at its cursor."""
        return await self._switch(request, ReplayState.CANCELLED, ReplayState.RUNNING)

    async def _switch(self, request: web.Request, before: ReplayState, after: ReplayState) -> web.Response:
        given = await responses.body(request, OperatorReason)
        task, by = await self._task(request), sign_in.acting(request, given.by)
        why = held.why_of(given.reason, optional=True)
        if not await self._replays.switch_replay(
            task.number, before=before, after=after, by=by, why=why, now_ms=self._now_ms()
        ):
            task = await self._task(request)
            raise ApiError(409, "conflict", f"task {task.number} is {task.state.value}, not {before.value}")
        self._log.info("replay_switched", replay=task.number, state=after.value, by=by, why=why)
        return responses.json(answer(await self._task(request)))

    async def _task(self, request: web.Request) -> ReplayTask:
        number = int(request.match_info["number"])
        task = await self._replays.replay(number)
        if task is None:
            raise ApiError(404, "unknown_replay", f"there is no task {number}")
        return task


def check_rate(rate: int) -> None:
    """Raise `ApiError` if no task may go so fast or so slowly."""
    if not 1 <= rate <= held.RATE_MAX:
        raise responses.bad_request(f"rate must be 1 to {held.RATE_MAX} a second")


def query_of(given: StartReplay, accounts: Mapping[str, Account], *, now_ms: int) -> tuple[HeldQuery, int]:
    """Return the rows of a task that starts now, and the moment that ends them.

    Raises:
        ApiError: as `held.query_of`, or an id of the selection is none.
    """
    before_ms = now_ms + 1 if given.before is None else responses.moment_ms(given.before, now_ms=now_ms)
    query = held.query_of(given, accounts, now_ms=now_ms)
    ids = () if given.ids is UNSET else _ids(given.ids)
    return structs.replace(query, before_ms=before_ms, ids=ids), before_ms


def _ids(given: Sequence[str]) -> tuple[str, ...]:
    """Return the ids of a selection; raise `ApiError` if one is none."""
    for id_ in given:
        if position_of(id_) is None:
            raise responses.bad_request(f"{id_!r} is not the id of a held notification")
    return tuple(given)


def answer(task: ReplayTask) -> ReplayAnswer:
    """Return the task with its progress."""
    query = task.query
    texts = {
        "account": query.account,
        "scope": query.scope,
        "order": query.order,
        "disposition": query.disposition,
        "reason": query.reason,
    }
    moments = {"since": query.since_ms, "before": query.before_ms}
    return ReplayAnswer(
        id=task.number,
        action=task.action,
        state=task.state,
        total=task.total,
        done=task.handled,
        applied=task.applied,
        duplicate=task.duplicate,
        stale=task.stale,
        held_again=task.held_again,
        failed=task.failed,
        decided=task.decided,
        failures=task.failures,
        rate=task.rate,
        filter={name: str(text) for name, text in texts.items() if text is not None}
        | ({"ids": " ".join(query.ids)} if query.ids else {})
        | {name: times.from_epoch_ms(at_ms).isoformat() for name, at_ms in moments.items() if at_ms is not None},
        by=task.by,
        why=task.why,
        started_at=times.from_epoch_ms(task.started_at_ms),
        finished_at=None if task.finished_at_ms is None else times.from_epoch_ms(task.finished_at_ms),
    )
