"""Shortcuts over the ports of an order store, for the suites of the stores."""

from collections.abc import Sequence

from schemas.money import Money
from schemas.record_format import Record
from tests.contract.engines import AnyStore
from tests.support import log_records
from tests.support.log_records import NOW_MS, REGISTERED
from workers.settlement import decision
from workers.settlement.plan import Registration, WritePlan


async def dispositions(store: AnyStore, order: str, account: str = "shop-sg") -> list[str]:
    page = await store.order_page(account, order)
    return [] if page is None else [delivery.disposition.value for delivery in page.deliveries]


async def version(store: AnyStore, order: str, account: str = "shop-sg") -> int:
    page = await store.order_page(account, order)
    return 0 if page is None or page.order is None else page.order.version


async def register(
    store: AnyStore, order: str, *, minor: int = 1280, refunds: Sequence[str] = (), account: str = REGISTERED.name
) -> WritePlan:
    registration = Registration(amounts=(Money(minor, "USD"),), refunds=tuple(refunds))
    return await store.register(
        account,
        order,
        refunds,
        lambda known: decision.register(known, account, order, registration, now_ms=NOW_MS),
        by="tests",
        why="so that it is known",
    )


def parked(order: str, **more: str) -> Record:
    return log_records.record(order, account=REGISTERED, **more)
