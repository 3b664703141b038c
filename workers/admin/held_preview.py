"""A dry run of a task over held notifications, drawn for the page that asks its reader before it starts one.

It shows what the task would go through now: how many, their sums by currency, the oldest and the newest. `before` ends
a filter at that moment, so the task that is confirmed does not take rows that came later and were not shown. Very many
have no such end, because their start would count them one by one while batches wait; it uses the kept counts instead.
"""

from collections.abc import Callable, Mapping

from aiohttp import web
from msgspec import UNSET, structs

from schemas import times
from schemas.accounts import Account
from workers import held_lists
from workers.admin import held, held_pages, replays, responses
from workers.admin.held_amounts import HeldAmounts, HeldSums
from workers.admin.pages import ConsoleFrame
from workers.admin.replays import StartReplay
from workers.errors import ReadTooSlow
from workers.long_poll import OrderChanges
from workers.queries import HeldPort, HeldQuery
from workers.replays import TaskAction

TYPED_ABOVE = 1000  # so many are confirmed by their number
ENDED_MAX = 10_000  # so many are ended at the moment of the preview


class HeldPreviewPart:
    """The dry run. It changes nothing, but is a POST, because a selection is too long for an address."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        held: HeldPort,
        amounts: HeldAmounts,
        changes: OrderChanges,
        pages: ConsoleFrame,
        now_ms: Callable[[], int],
    ) -> None:
        self._accounts = accounts
        self._held = held
        self._amounts = amounts
        self._changes = changes
        self._pages = pages
        self._now_ms = now_ms

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/held/preview", self.preview)]

    async def preview(self, request: web.Request) -> web.Response:
        """Show the rows that a task with this body would go through."""
        given = await responses.body(request, StartReplay)
        replays.check_rate(given.rate)
        now_ms = self._now_ms()
        # As a start has it, with the rows of this millisecond.
        wanted, before_ms = replays.query_of(given, self._accounts, now_ms=now_ms)
        query = held_lists.until_now(held_lists.for_task(wanted, now_ms), now_ms)
        groups = await self._held.held_groups(query)
        newest = await self._held.held_list(structs.replace(query, newest_first=True, limit=1))
        asleep = 0 if query.ids else await held.snoozed(self._held, query, now_ms=now_ms)
        total = sum(group.count for group in groups)
        return self._pages.page(
            "preview.html",
            seen=self._changes.seen,
            action=given.action.value,
            is_final=given.action is TaskAction.DISCARD,
            selected=None if given.ids is UNSET else len(set(given.ids)),
            total=total,
            groups=held_pages.by_reason(groups),
            sums=await self._sums(query),
            oldest=times.from_epoch_ms(min(group.oldest_ms for group in groups)) if groups else None,
            newest=times.from_epoch_ms(newest[0].row.first_at_ms) if newest else None,
            snoozed=asleep,
            rate=given.rate,
            before=times.from_epoch_ms(before_ms).isoformat(timespec="milliseconds") if total <= ENDED_MAX else "",
            is_typed=total > TYPED_ABOVE,
        )

    async def _sums(self, query: HeldQuery) -> HeldSums | None:
        """Return the sums; `None` if reading the rows takes too long."""
        try:
            return await self._amounts.sums(query)
        except ReadTooSlow:
            return None
