"""HeldSums of held notifications by currency, from their bytes, for the oldest of many."""

import pytest

from schemas.dispositions import Disposition
from tests.support.admin import World, form
from workers.admin import held_amounts
from workers.admin.held_amounts import HeldAmounts, HeldSums
from workers.admin.reported import AmountOf
from workers.queries import HeldQuery


def amounts(world: World) -> HeldAmounts:
    return HeldAmounts(accounts=world.accounts, held=world.store, time_limit=world.time_limit)


def told(sums: HeldSums) -> list[tuple[str, str, str | None, int]]:
    return [(each.of.value, each.currency, each.amount, each.count) for each in sums.sums]


async def test_sums_are_by_currency_and_by_what_is_paid() -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    await world.deliver(form("B2", total_fee="0.20"), "strict")
    await world.deliver(form("B3", currency="JPY", total_fee="500"), "strict")
    await world.deliver(form("B4", "WAIT_BUYER_PAY"), "strict")
    await world.deliver_raw(b"nonsense", "B5", "strict")
    found = await amounts(world).sums(HeldQuery())
    assert told(found) == [("paid", "USD", "13.00", 2), ("paid", "JPY", "500", 1), ("unpaid", "USD", "12.80", 1)]
    assert (found.counted, found.is_whole) == (5, True)
    parked = await amounts(world).sums(HeldQuery(disposition=Disposition.DEAD))
    assert parked.sums == ()


async def test_one_trade_that_is_reported_several_times_counts_once() -> None:
    world = World()
    for status in ("TRADE_SUCCESS", "TRADE_FINISHED"):
        await world.deliver(form("B1", status), "strict")
    assert told(await amounts(world).sums(HeldQuery())) == [("paid", "USD", "12.80", 1)]


async def test_bytes_that_nobody_signed_are_no_money() -> None:
    world = World()
    world.is_authentic = False
    await world.deliver(form("B1"), "strict")
    (page,) = world.store.pages.values()
    assert page.row.disposition is Disposition.DEAD
    assert (await amounts(world).sums(HeldQuery())).sums == ()


async def test_sum_of_very_many_is_of_the_oldest_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_amounts, "SUMMED_MAX", 2)
    monkeypatch.setattr(held_amounts, "READ_AT_ONCE", 1)
    world = World()
    for number in range(3):
        await world.deliver(form(f"B{number}"), "strict")
    found = await amounts(world).sums(HeldQuery(limit=1))
    assert (found.counted, found.is_whole, told(found)) == (2, False, [("paid", "USD", "25.60", 2)])


async def test_sums_are_kept_for_a_moment_and_then_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    asked = amounts(world)
    assert (await asked.sums(HeldQuery())).counted == 0
    await world.deliver(form("B1"), "strict")
    assert (await asked.sums(HeldQuery())).counted == 0
    monkeypatch.setattr(held_amounts, "KEPT_S", 0.0)
    assert (await asked.sums(HeldQuery())).counted == 1


async def test_what_is_kept_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_amounts, "KEPT_AMOUNTS", 1)
    monkeypatch.setattr(held_amounts, "KEPT_SUMS", 1)
    world = World()
    asked = amounts(world)
    for number in range(3):
        await world.deliver(form(f"B{number}"), "strict")
        assert (await asked.sums(HeldQuery(order=f"B{number}"))).counted == 1
    assert (len(asked._amounts), len(asked._sums)) == (1, 1)


async def test_amount_cannot_be_read_while_its_account_is_unknown() -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    (page,) = world.store.pages.values()
    asked = amounts(world)
    strict = world.accounts.pop("strict")
    assert asked.of(page) is None
    world.accounts["strict"] = strict
    amount = asked.of(page)
    assert amount is not None
    assert (amount.of, amount.minor) == (AmountOf.PAID, 1280)
