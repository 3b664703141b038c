"""Answers of the API for comparisons with bills."""

from msgspec import UNSET, structs

from tests.support.admin import World, form
from workers.admin import bill_shapes
from workers.bills import BillDifference, BillImport, BillReport, DifferenceKind

FOUND = BillDifference(kind=DifferenceKind.PAYMENT_AMOUNT, scope="isv/2021000000000009", order="A1", bill_minor=1280)


def test_difference_has_texts_beside_its_amounts() -> None:
    shown = bill_shapes.difference(7, structs.replace(FOUND, bill_currency="JPY", here_minor=5, here_currency="XXX"))
    assert (shown.place, shown.account, shown.auth_app_id) == (7, "isv", "2021000000000009")
    assert (shown.bill_amount, shown.here_amount, shown.here_minor) == ("1280", None, 5)


def test_difference_without_a_time_that_can_be_shown_has_none() -> None:
    for at_ms in (None, 10**18, -(10**18)):
        assert bill_shapes.difference(1, structs.replace(FOUND, at_ms=at_ms, bill_currency="CNY")).at is None
    at = bill_shapes.difference(1, structs.replace(FOUND, at_ms=0, bill_currency="CNY")).at
    assert at is not None
    assert at.isoformat() == "1970-01-01T00:00:00+00:00"


async def test_order_that_only_held_ones_name_has_no_status_and_no_payments() -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    page = await world.store.order_page("strict", "B1")
    assert page is not None
    shown = bill_shapes.billed(page)
    assert (shown.status, shown.payments, shown.refunds, shown.auth_app_id) == (None, (), {}, UNSET)


async def test_order_that_is_a_note_has_no_status() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    page = await world.store.order_page("shop", "A1")
    assert page is not None
    assert page.order is not None
    assert bill_shapes.billed(page).status == "WAITING"
    noted = structs.replace(page.order, claims=(), registered=False)
    assert noted.is_note
    assert bill_shapes.billed(structs.replace(page, order=noted)).status is None


def test_import_counts_its_differences() -> None:
    report = BillReport(
        file="f", layout="l", since_ms=0, until_ms=1, by="kim", counts={"uncertain": 3, "payment_amount": 2}
    )
    found = BillImport(number=4, account="shop", digest="d", begun_at_ms=5, finished_at_ms=6, report=report)
    shown = bill_shapes.answer(found)
    assert (shown.number, shown.differences, shown.uncertain, shown.is_agreed, shown.by) == (4, 2, 3, False, "kim")
