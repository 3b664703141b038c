"""Held notifications over HTTP, for operators: list them, show one, retry. Decisions are in `held_verdicts`.

A retry takes the ordinary way: the signature is verified again, the store decides, and no notification is applied
twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from aiohttp import web
from msgspec import Struct, structs

from schemas.accounts import Account
from schemas.dispositions import HELD, Disposition, Reason
from workers import held_lists
from workers.admin import cursors, merchants, responses, shapes, sign_in
from workers.admin.guard import AuditLog
from workers.admin.held_amounts import HeldAmounts
from workers.admin.held_details import HeldDetails
from workers.admin.responses import ApiError
from workers.long_poll import OrderChanges
from workers.queries import HeldPage, HeldPort, HeldQuery
from workers.settlement.plan import HeldRow

BULK_MAX = 1000
RATE_DEFAULT = 50
RATE_MAX = 500
WHY_CHARACTERS_MAX = 500

Retry = Callable[[Sequence[HeldRow]], Awaitable[None]]


class RetryCounter(Protocol):
    """Counts the outcomes of retries."""

    def retried(self, result: str) -> None: ...


class OperatorReason(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The operator's reason and name, for the audit row."""

    reason: str = ""
    by: str = ""


class RetryOfMany(OperatorReason, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part that the bodies of a bulk retry and of a replay share: a filter, and the pace in rows a second."""

    account: str | None = None
    auth_app_id: str | None = None
    order: str | None = None
    disposition: str | None = None
    held_reason: str | None = None
    since: str | None = None
    rate: int = RATE_DEFAULT


class BulkRetry(RetryOfMany, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a bulk retry."""

    limit: int = BULK_MAX
    dry_run: bool = True


class HeldPart:
    """The API for held notifications."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        held: HeldPort,
        amounts: HeldAmounts,
        details: HeldDetails,
        retry: Retry,
        changes: OrderChanges,
        retries: RetryCounter,
        wake: Callable[[], None],
        now_ms: Callable[[], int],
        log: AuditLog,
    ) -> None:
        self._accounts = accounts
        self._held = held
        self._amounts = amounts
        self._details = details
        self._retry = retry
        self._changes = changes
        self._retries = retries
        self._wake = wake
        self._now_ms = now_ms
        self._log = log
        self._bulk = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/held", self.list_),
            web.post("/api/held/replay", self.retry_many),
            web.get("/api/held/{id:[0-9]+-[0-9]+}", self.show),
            web.post("/api/held/{id:[0-9]+-[0-9]+}/replay", self.retry),
        ]

    async def list_(self, request: web.Request) -> web.Response:
        """Return a page of the held notifications, oldest first, without their bytes, and the count of all."""
        asked = query(request, self._accounts, now_ms=self._now_ms())
        pages, next_ = await page_of(self._held, asked)
        groups = await self._held.held_groups(asked)
        return responses.json(
            {
                "held": [self._shape(page) for page in pages],
                "next": next_,
                "snoozed": await snoozed(self._held, asked, now_ms=self._now_ms()),
                "total": sum(group.count for group in groups),
                "counts": [shapes.held_count(group) for group in groups],
            }
        )

    async def show(self, request: web.Request) -> web.Response:
        """Return one with its bytes, its fields, its signature check, and the values that disagree."""
        shown, _ = await self._details.of(await self._page(request.match_info["id"]))
        return responses.json(shown)

    async def retry(self, request: web.Request) -> web.Response:
        """Retry one, and return it with its outcome."""
        given = await responses.body(request, OperatorReason)
        page = await self._page(request.match_info["id"])
        _check_unresolved(page)
        by = sign_in.acting(request, given.by)
        await self._retry_rows([page], by=by, why=why_of(given.reason, optional=True))
        return responses.json(self._shape(await self._page(page.row.id)))

    async def retry_many(self, request: web.Request) -> web.Response:
        """Return the matching ids; with `dry_run: false`, retry them, oldest first and at most `rate` a second.

        Snoozed ones are left out, and counted.
        """
        bulk = await responses.body(request, BulkRetry)
        if not 1 <= bulk.limit <= BULK_MAX or not 1 <= bulk.rate <= RATE_MAX:
            raise responses.bad_request(f"limit must be 1 to {BULK_MAX}, and rate 1 to {RATE_MAX} a second")
        now_ms = self._now_ms()
        query = query_of(bulk, self._accounts, now_ms=now_ms)
        pages = await self._held.held_list(structs.replace(query, awake_at_ms=now_ms, limit=bulk.limit))
        answer = {
            "dry_run": bulk.dry_run,
            "count": len(pages),
            "snoozed": await snoozed(self._held, query, now_ms=now_ms),
        }
        if bulk.dry_run:
            return responses.json(answer | {"ids": [page.row.id for page in pages]})
        why = why_of(bulk.reason)
        if self._bulk.locked():
            raise ApiError(409, "conflict", "another bulk retry is running; wait until it has ended")
        async with self._bulk:
            by = sign_in.acting(request, bulk.by)
            results = await self._retry_slowly(pages, bulk.rate, by=by, why=why)
        return responses.json(answer | {"results": results})

    async def _retry_slowly(self, pages: Sequence[HeldPage], rate: int, *, by: str, why: str) -> dict[str, int]:
        """Retry in slices of a tenth of a second, so that live notifications pass; return the count of each outcome."""
        results: dict[str, int] = {}
        size = max(1, rate // 10)
        for start in range(0, len(pages), size):
            slice_ = pages[start : start + size]
            for result in await self._retry_rows(slice_, by=by, why=why):
                results[result] = results.get(result, 0) + 1
            if start + size < len(pages):
                await asyncio.sleep(len(slice_) / rate)
        return results

    async def _retry_rows(self, pages: Sequence[HeldPage], *, by: str, why: str) -> list[str]:
        """Write the audit rows, retry, and return each outcome: a resolution, or the disposition that it still has."""
        ids = [page.row.id for page in pages]
        self._log.info("held_replayed", held=", ".join(ids), by=by, why=why)
        # Before the retry, so that an attempt that fails or crashes is on record too.
        await self._held.note_replay(ids, by=by, why=why, now_ms=self._now_ms())
        await self._retry([held_lists.replayed(page) for page in pages])
        self._wake()
        results = []
        for page in pages:
            after = await self._held.held_page(page.row.id)
            result = "gone" if after is None else after.resolution or after.row.disposition.value
            self._retries.retried(result)
            self._changes.changed(page.row.account, page.row.order)
            results.append(result)
        return results

    def _shape(self, page: HeldPage) -> shapes.HeldAnswer:
        return shapes.held(page, self._amounts.of(page))

    async def _page(self, id_: str) -> HeldPage:
        page = await self._held.held_page(id_)
        if page is None:
            raise ApiError(404, "unknown_held", f"there is no held notification {id_}")
        return page


async def page_of(held: HeldPort, asked: HeldQuery) -> tuple[Sequence[HeldPage], str | None]:
    """Return the page, and the cursor of the next one; `None` if this is the last."""
    pages = await held.held_list(structs.replace(asked, limit=asked.limit + 1))
    shown = pages[: asked.limit]
    return shown, cursors.after_held(shown[-1]) if shown and len(pages) > len(shown) else None


async def snoozed(held: HeldPort, asked: HeldQuery, *, now_ms: int) -> int:
    """Return how many rows that match are snoozed now, whether or not the list has them."""
    asleep = structs.replace(asked, awake_at_ms=None, snoozed_at_ms=now_ms)
    return 0 if asked.resolved else sum(group.count for group in await held.held_groups(asleep))


def query(request: web.Request, accounts: Mapping[str, Account], *, now_ms: int, is_awake: bool = False) -> HeldQuery:
    """Return the filter and the page in a request's query; an empty parameter is the same as none.

    Without `snoozed` in it, snoozed rows are left out if `is_awake`, unless it is about resolved ones.

    Raises:
        ApiError: an unknown disposition or reason, a merchant without its account, or a wrong time or number.
    """
    parameters = {name: text for name, text in request.query.items() if text.strip()}
    account, since, before = parameters.get("account"), parameters.get("since"), parameters.get("before")
    resolved = responses.yes_or_no(parameters, "resolved")
    is_given = "snoozed" in parameters
    only_snoozed = responses.yes_or_no(parameters, "snoozed")
    only_awake = not only_snoozed and (is_given or (is_awake and not resolved))
    return HeldQuery(
        account=account,
        scope=merchants.filtered_scope(accounts, account, parameters.get("auth_app_id")),
        order=parameters.get("order"),
        disposition=_disposition(parameters.get("disposition")),
        reason=_reason(parameters.get("reason")),
        since_ms=None if since is None else responses.moment_ms(since, now_ms=now_ms),
        before_ms=None if before is None else responses.moment_ms(before, now_ms=now_ms),
        resolved=resolved,
        awake_at_ms=now_ms if only_awake else None,
        snoozed_at_ms=now_ms if only_snoozed else None,
        after=cursors.held_place(request),
        limit=responses.whole_number(request, "limit", default=100, most=responses.LIMIT_MAX),
    )


def query_of(given: RetryOfMany, accounts: Mapping[str, Account], *, now_ms: int) -> HeldQuery:
    """Return the filter in a body.

    Raises:
        ApiError: an unknown disposition or reason, a merchant without its account, a wrong time, or an empty text: a
            caller whose filter is lost does not mean all.
    """
    if "" in (given.account, given.auth_app_id, given.order):
        raise responses.bad_request(
            "account, auth_app_id and order may not be empty: leave out those that do not filter"
        )
    return HeldQuery(
        account=given.account,
        scope=merchants.filtered_scope(accounts, given.account, given.auth_app_id),
        order=given.order,
        disposition=_disposition(given.disposition),
        reason=_reason(given.held_reason),
        since_ms=None if given.since is None else responses.moment_ms(given.since, now_ms=now_ms),
    )


def _disposition(text: str | None) -> Disposition | None:
    if text is None:
        return None
    if text not in HELD:
        raise responses.bad_request(f"disposition must be one of {', '.join(sorted(HELD))}")
    return Disposition(text)


def _reason(text: str | None) -> Reason | None:
    if text is None:
        return None
    if text not in set(Reason):
        raise responses.bad_request(f"reason must be one of {', '.join(Reason)}")
    return Reason(text)


def _check_unresolved(page: HeldPage) -> None:
    if page.resolution:
        raise ApiError(409, "conflict", f"it is already resolved: {page.resolution}")


def why_of(text: str, *, optional: bool = False) -> str:
    """Return the operator's reason; raise `ApiError` if it is missing or too long."""
    if len(text) > WHY_CHARACTERS_MAX or (not text.strip() and not optional):
        raise responses.bad_request(f'give the reason: {{"reason": "…"}}, at most {WHY_CHARACTERS_MAX} characters')
    return text.strip()
