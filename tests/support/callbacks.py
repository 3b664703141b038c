"""Callbacks in memory, for the admin port: one endpoint and its log, without a sender."""

from collections.abc import Sequence

from msgspec import structs

from workers.callbacks.deliveries import CallbackDelivery, DeliveryQuery, EndpointPage
from workers.callbacks.schedule import CallbackOutcome, DeliveryState, EndpointState


class MemoryCallbacks:
    """Implements `workers.callbacks.deliveries.CallbacksPort`."""

    def __init__(self, now_ms: int) -> None:
        self.page = EndpointPage(
            name="hooks",
            url="https://shop.example/callbacks?key=1",
            state=EndpointState(),
            is_configured=True,
            pending=2,
            oldest_ms=now_ms,
            last_delivered_ms=None,
        )
        self.log = [self.row(number, now_ms) for number in (3, 2, 1)]
        self.asked: list[str] = []  # the names of endpoints, or all
        self.queries: list[DeliveryQuery] = []
        self.resent: list[tuple[int | None, str, str, int | None]] = []
        self.acts: list[tuple[str, str, str]] = []

    def row(self, number: int, now_ms: int) -> CallbackDelivery:
        return CallbackDelivery(
            endpoint="hooks",
            number=number,
            event_id=f"shop:A1:{number}",
            type="order.paid",
            state=DeliveryState.PENDING if number > 1 else DeliveryState.DELIVERED,
            attempts=1,
            created_ms=now_ms,
            due_ms=now_ms if number == 2 else None,
            tried_ms=now_ms,
            outcome=CallbackOutcome.DELIVERED if number == 1 else CallbackOutcome.REFUSED,
            status=200 if number == 1 else 500,
            detail="" if number == 1 else "it answered 500",
            took_ms=12,
        )

    async def endpoints(self) -> Sequence[EndpointPage]:
        self.asked.append("all")
        return [self.page]

    async def endpoint(self, name: str) -> EndpointPage | None:
        self.asked.append(name)
        return self.page if name == self.page.name else None

    async def deliveries(self, query: DeliveryQuery) -> Sequence[CallbackDelivery]:
        self.queries.append(query)
        found = [row for row in self.log if query.state in (None, row.state)]
        return [row for row in found if query.before is None or row.number < query.before][: query.limit]

    async def enable(self, endpoint: str, *, by: str, why: str, now_ms: int) -> bool:
        if endpoint != self.page.name:
            return False
        self.acts.append(("enable", endpoint, why))
        self.page = structs.replace(self.page, state=EndpointState())
        return True

    async def disable(self, endpoint: str, *, by: str, why: str, now_ms: int) -> bool:
        if endpoint != self.page.name or self.page.state.is_disabled:
            return False
        self.acts.append(("disable", endpoint, why))
        self.page = structs.replace(self.page, state=EndpointState(disabled_at_ms=now_ms, disabled_why=why))
        return True

    async def resend(
        self, endpoint: str, *, number: int | None, scope: str, order: str, version: int | None, by: str, why: str,
        now_ms: int,
    ) -> int | None:  # fmt: skip
        if endpoint != self.page.name:
            return None
        self.resent.append((number, scope, order, version))
        return 0 if number == 99 else 1
