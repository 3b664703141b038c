"""The two values that disagree."""

from schemas.dispositions import Reason
from schemas.orders import Claim, Order
from tests.support import facts
from tests.support.admin import ACCOUNTS, World, form, serving
from workers.admin import contradictions
from workers.admin.contradictions import Contradiction
from workers.admin.held_amounts import HeldAmounts
from workers.queries import OrderPage
from workers.settlement.plan import Position


async def contradiction(world: World, position: Position) -> Contradiction | None:
    page = await world.store.held_page(str(position))
    assert page is not None
    amounts = HeldAmounts(accounts=world.accounts, held=world.store, time_limit=world.time_limit)
    order = await world.store.order_page(page.row.account, page.row.order)
    account = world.accounts[page.row.account]
    return contradictions.of(page.row.reason, amounts.notification(page), order, account)


async def test_amount_is_compared_with_the_registered_ones() -> None:
    world = World()
    async with serving(world) as client:
        amounts = [{"amount": "99.00", "currency": "USD"}, {"amount": "700.00", "currency": "CNY"}]
        await client.put("/api/orders/shop/A1", json={"amounts": amounts})
    found = await contradiction(world, await world.deliver(form("A1")))
    assert found == Contradiction(name="Amount", said="12.80 USD", known="99.00 USD / 700.00 CNY", source="registered")


async def test_amount_is_compared_with_an_earlier_notification() -> None:
    world = World()
    await world.deliver(form("A1"))
    found = await contradiction(world, await world.deliver(form("A1", notify_id="n2", total_fee="0.01")))
    assert found is not None
    assert (found.said, found.known, found.source) == ("0.01 USD", "12.80 USD", "reported before")


def test_currency_is_compared_with_those_of_the_account() -> None:
    account = facts.account("mapi")
    notification = facts.notification(facts.form("n1", "TRADE_SUCCESS"), account)
    found = contradictions.of(Reason.CURRENCY_MISMATCH, notification, None, ACCOUNTS["antom-us"])
    assert found is not None
    assert (found.said, found.known, found.source) == ("100.00 USD", "CNY", "currency of the account")
    assert contradictions.of(Reason.CURRENCY_MISMATCH, notification, None, None) is None


async def test_refunds_are_compared_with_the_payment() -> None:
    world = World()
    await world.deliver(form("A1"))
    account = facts.account("mapi")
    order = await world.store.order_page("shop", "A1")
    refund = facts.notification(facts.batch("b1", "20251009A1^99.00^SUCCESS"), account)
    found = contradictions.of(Reason.OVER_REFUNDED, refund, order, account)
    assert found == Contradiction(name="Refund", said="99.00 USD", known="12.80 USD", source="paid")


async def test_capture_is_compared_with_the_amount_that_was_reserved() -> None:
    account = facts.account("manual")
    claim = Claim(trade="T1", amount_minor=10_000, currency="HKD")
    order = Order(account=account.name, number="A", claims=(claim,))
    page = OrderPage(account=account.name, number="A", order=order, view=None, deliveries=(), events=())
    captured = facts.notification(facts.capture("C1", "20000"), account)
    found = contradictions.of(Reason.AMOUNT_MISMATCH, captured, page, account)
    assert found == Contradiction(name="Amount", said="200.00 HKD", known="100.00 HKD", source="authorised")


async def test_second_trade_is_compared_with_the_first() -> None:
    world = World()
    await world.deliver(form("A1"))
    held = await world.deliver(form("A1", notify_id="n2") | {"trade_no": "T2"})
    found = await contradiction(world, held)
    assert found == Contradiction(name="Trade", said="T2", known="20251009A1", source="paid before")


def test_reason_without_two_values_has_no_contradiction() -> None:
    assert contradictions.of(Reason.AMOUNT_MISMATCH, None, None, None) is None
