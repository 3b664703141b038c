"""Held notifications, for the person who has to decide: list them, look into one, try again, or let it be.

A replay takes the ordinary way: the signature is verified again, the store decides, and what was applied once is not
applied twice. It is written down before it is tried. Many at once is a dry run unless told otherwise, oldest first, and
no faster than asked, since live notifications go the same way.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from aiohttp import web
from msgspec import Struct

from schemas.accounts import Account
from schemas.dispositions import HELD, Disposition, Reason
from workers.admin import inspection, responses, shapes
from workers.admin.guard import AuditLog
from workers.admin.inspection import Signature
from workers.admin.responses import ApiError
from workers.long_poll import OrderChanges
from workers.processing import Authenticate
from workers.queries import HeldPage, HeldPort, HeldQuery
from workers.settlement.plan import HeldRow

BULK_MAX = 1000
RATE_DEFAULT = 50
RATE_MAX = 500
WHY_CHARACTERS_MAX = 500

Retry = Callable[[Sequence[HeldRow]], Awaitable[None]]


class Replays(Protocol):
    """Counts what came of replays."""

    def replayed(self, result: str) -> None: ...


class OperatorReason(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a person does it, and who: both go into the audit row."""

    reason: str = ""
    by: str = ""


class Bulk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which held notifications to try again."""

    account: str | None = None
    order: str | None = None
    disposition: str | None = None
    held_reason: str | None = None
    since: str | None = None
    limit: int = BULK_MAX
    dry_run: bool = True
    rate: int = RATE_DEFAULT
    reason: str = ""
    by: str = ""


class HeldInspection(shapes.HeldAnswer, frozen=True, kw_only=True):
    """One held notification with its bytes: as they are, as they read (the payer masked), and whether signed."""

    fields: dict[str, str]
    headers: dict[str, str]
    body_base64: str
    signature: Signature


class HeldPart:
    """The API's part about held notifications."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        held: HeldPort,
        retry: Retry,
        authenticate: Authenticate,
        changes: OrderChanges,
        replays: Replays,
        wake: Callable[[], None],
        now_ms: Callable[[], int],
        log: AuditLog,
    ) -> None:
        self._accounts = accounts
        self._held = held
        self._retry = retry
        self._authenticate = authenticate
        self._changes = changes
        self._replays = replays
        self._wake = wake
        self._now_ms = now_ms
        self._log = log
        self._bulk = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/held", self.list_),
            web.post("/api/held/replay", self.replay_many),
            web.get("/api/held/{id:[0-9]+-[0-9]+}", self.show),
            web.post("/api/held/{id:[0-9]+-[0-9]+}/replay", self.replay),
            web.post("/api/held/{id:[0-9]+-[0-9]+}/discard", self.discard),
        ]

    async def list_(self, request: web.Request) -> web.Response:
        """Oldest first, without the bytes."""
        pages = await self._held.held_list(query(request, now_ms=self._now_ms()))
        return responses.json({"held": [shapes.held(page) for page in pages]})

    async def show(self, request: web.Request) -> web.Response:
        """One with its bytes, its fields and whether its signature is good now."""
        return responses.json(self.inspected(await self._page(request.match_info["id"])))

    def inspected(self, page: HeldPage) -> HeldInspection:
        """The page with all that its bytes tell. The bytes name the payer, so that they were shown leaves a line."""
        self._log.info("held_shown", held=page.row.id, account=page.row.account)
        record = page.row.record
        summary = shapes.held(page)
        return HeldInspection(
            **{name: getattr(summary, name) for name in shapes.HeldAnswer.__struct_fields__},
            fields=inspection.fields(record, self._accounts),
            headers=inspection.headers(record),
            body_base64=base64.b64encode(record.value).decode("ascii"),
            signature=inspection.signature(record, self._accounts, self._authenticate),
        )

    async def replay(self, request: web.Request) -> web.Response:
        """Try one again; the answer is what became of it."""
        told = await responses.body(request, OperatorReason)
        page = await self._page(request.match_info["id"])
        _check_unresolved(page)
        await self._replayed([page], by=responses.by(request, told.by), why=_why(told.reason, optional=True))
        return responses.json(shapes.held(await self._page(page.row.id)))

    async def replay_many(self, request: web.Request) -> web.Response:
        """Say which would be tried again; with `dry_run: false` try them, `rate` a second."""
        bulk = await responses.body(request, Bulk)
        if not 1 <= bulk.limit <= BULK_MAX or not 1 <= bulk.rate <= RATE_MAX:
            raise responses.bad_request(f"limit is 1 to {BULK_MAX}, rate is 1 to {RATE_MAX} a second")
        pages = await self._held.held_list(_bulk_query(bulk, now_ms=self._now_ms()))
        if bulk.dry_run:
            return responses.json({"dry_run": True, "count": len(pages), "ids": [page.row.id for page in pages]})
        why = _why(bulk.reason)
        if self._bulk.locked():
            raise ApiError(409, "conflict", "a replay is under way; one at a time")
        async with self._bulk:
            results = await self._replayed_slowly(pages, bulk.rate, by=responses.by(request, bulk.by), why=why)
        return responses.json({"dry_run": False, "count": len(pages), "results": results})

    async def discard(self, request: web.Request) -> web.Response:
        """Resolve one without applying it; for good."""
        told = await responses.body(request, OperatorReason)
        why = _why(told.reason)
        page = await self._page(request.match_info["id"])
        by = responses.by(request, told.by)
        if not await self._held.discard(page.row.id, by=by, why=why, now_ms=self._now_ms()):
            raise ApiError(409, "conflict", "it was resolved already")
        self._log.info("held_discarded", held=page.row.id, by=by, why=why)
        self._changes.changed(page.row.account, page.row.order)
        return responses.json(shapes.held(await self._page(page.row.id)))

    async def _replayed_slowly(self, pages: Sequence[HeldPage], rate: int, *, by: str, why: str) -> dict[str, int]:
        """Try them in slices of a tenth of a second; how many ended how."""
        results: dict[str, int] = {}
        size = max(1, rate // 10)
        for start in range(0, len(pages), size):
            slice_ = pages[start : start + size]
            for result in await self._replayed(slice_, by=by, why=why):
                results[result] = results.get(result, 0) + 1
            if start + size < len(pages):
                await asyncio.sleep(len(slice_) / rate)
        return results

    async def _replayed(self, pages: Sequence[HeldPage], *, by: str, why: str) -> list[str]:
        """Note the replay, try again, and find out what came of it: a resolution, or the disposition it still has."""
        ids = [page.row.id for page in pages]
        self._log.info("held_replayed", held=", ".join(ids), by=by, why=why)
        await self._held.note_replay(ids, by=by, why=why, now_ms=self._now_ms())
        await self._retry([page.row for page in pages])
        self._wake()
        results = []
        for page in pages:
            after = await self._held.held_page(page.row.id)
            result = "gone" if after is None else after.resolution or after.row.disposition.value
            self._replays.replayed(result)
            self._changes.changed(page.row.account, page.row.order)
            results.append(result)
        return results

    async def _page(self, id_: str) -> HeldPage:
        page = await self._held.held_page(id_)
        if page is None:
            raise ApiError(404, "unknown_held", f"there is no held notification {id_}")
        return page


def query(request: web.Request, *, now_ms: int) -> HeldQuery:
    """Which held notifications a request's query means.

    Raises:
        ApiError: a word that is not one of the closed sets, or not a moment.
    """
    asked = request.query
    since = asked.get("since")
    return HeldQuery(
        account=asked.get("account"),
        order=asked.get("order"),
        disposition=_disposition(asked.get("disposition")),
        reason=_reason(asked.get("reason")),
        since_ms=None if since is None else responses.moment_ms(since, now_ms=now_ms),
        resolved=asked.get("resolved", "false") in ("true", "1"),
        limit=responses.whole_number(request, "limit", default=100, most=responses.LIMIT_MAX),
    )


def _bulk_query(bulk: Bulk, *, now_ms: int) -> HeldQuery:
    return HeldQuery(
        account=bulk.account,
        order=bulk.order,
        disposition=_disposition(bulk.disposition),
        reason=_reason(bulk.held_reason),
        since_ms=None if bulk.since is None else responses.moment_ms(bulk.since, now_ms=now_ms),
        limit=bulk.limit,
    )


def _disposition(text: str | None) -> Disposition | None:
    if text is None:
        return None
    if text not in HELD:
        raise responses.bad_request(f"disposition is one of {', '.join(sorted(HELD))}")
    return Disposition(text)


def _reason(text: str | None) -> Reason | None:
    if text is None:
        return None
    if text not in set(Reason):
        raise responses.bad_request(f"reason is one of {', '.join(Reason)}")
    return Reason(text)


def _check_unresolved(page: HeldPage) -> None:
    if page.resolution:
        raise ApiError(409, "conflict", f"it was resolved already: {page.resolution}")


def _why(text: str, *, optional: bool = False) -> str:
    if len(text) > WHY_CHARACTERS_MAX or (not text.strip() and not optional):
        raise responses.bad_request(f'say why: {{"reason": "…"}}, at most {WHY_CHARACTERS_MAX} characters')
    return text.strip()
