"""Every number that an authentic message carries leads to it, in every order store: applied, noted or held.

What is filed under no order stands on the page of the order that it names, whichever came first. A form with two
readings is mentioned there as a claim only.
"""

from itertools import permutations
from typing import Any
from urllib.parse import urlencode

import pytest

from schemas.accounts import Account
from schemas.dispositions import Disposition, Reason
from schemas.money import Money
from schemas.orders import Status
from schemas.record_format import Record
from tests.contract.engines import AnyStore
from tests.contract.shortcuts import register
from tests.support import facts, log_records
from tests.support.facts import Fact, antom_refund, batch, capture, form, payment
from tests.support.fakes import Offsets
from tests.support.log_records import ACCOUNTS, PROVIDER, Operator, Time
from workers.queries import HeldQuery, OrderPage
from workers.settlement import decision
from workers.settlement.plan import LogRecord, Registration

ANTOM, MANUAL = facts.account("antom"), facts.account("manual")
MAPI, OPENAPI, REGISTERED = facts.account("mapi"), facts.account("openapi"), facts.account("mapi", "registered")
APPLIED, DUPLICATE = Disposition.APPLIED, Disposition.DUPLICATE
QUARANTINED, PARKED = Disposition.QUARANTINED, Disposition.PARKED


class Delivered:
    """A store with its worker, to which facts are delivered one by one."""

    def __init__(self, store: AnyStore, time: Time) -> None:
        self.store = store
        self._time = time
        self._work = log_records.processing(store, time, accounts=facts.ACCOUNTS | ACCOUNTS)
        self._log = Offsets()

    async def take(self, account: Account, *told: Fact) -> None:
        for fact in told:
            await self.take_record(facts.record(facts.body(fact), account))

    async def take_record(self, record: Record) -> LogRecord:
        logged = self._log.log_record(record)
        await self._work.process([logged])
        return logged

    async def sweep(self) -> None:
        await self._work.retry(await self.store.due(now_ms=self._time(), limit=100))

    async def page(self, account: Account | str, number: str = "A") -> OrderPage:
        page = await self.store.order_page(account if isinstance(account, str) else account.name, number)
        assert page is not None
        return page

    async def found(self, number: str) -> list[tuple[Disposition, Reason]]:
        return [(each.disposition, each.reason) for each in await self.store.notifications(number)]


@pytest.fixture
def delivered(store: AnyStore, time: Time) -> Delivered:
    return Delivered(store, time)


def ends(page: OrderPage) -> list[Disposition]:
    return sorted(each.disposition for each in page.deliveries)


CAPTURED = capture("C1", "4000")
CAPTURES = [CAPTURED, CAPTURED, payment("p", **facts.AUTHORIZED)]


@pytest.mark.parametrize("order", sorted(set(permutations(range(3)))), ids=str)
async def test_copy_of_a_capture_stands_on_its_order_in_every_order(
    delivered: Delivered, order: tuple[int, ...]
) -> None:
    await delivered.take(MANUAL, *(CAPTURES[index] for index in order))
    await delivered.sweep()
    page = await delivered.page(MANUAL)
    assert ends(page) == [APPLIED, APPLIED, DUPLICATE]
    assert sorted(each.version for each in page.deliveries if each.version is not None) == [1, 2]
    assert page.view is not None
    assert (page.view.status, page.view.amount_minor) == (Status.PAID, 4000)


async def test_copies_of_a_batch_refund_stand_on_the_page_of_each_trade(delivered: Delivered) -> None:
    refunds = batch("b", "T1^40.00^SUCCESS#T2^30.00^SUCCESS", "20250401")
    await delivered.take(MAPI, refunds, refunds, form("p1", "TRADE_SUCCESS"))
    await delivered.take(MAPI, form("p2", "TRADE_SUCCESS", order="B", trade="T2"))
    await delivered.sweep()
    for number in ("A", "B"):
        assert ends(await delivered.page(MAPI, number)) == [APPLIED, APPLIED, DUPLICATE]
    assert await delivered.found("20250401") == [(APPLIED, Reason.CHANGED)]


@pytest.mark.parametrize("is_paid_first", [True, False], ids=["after the payment", "before the payment"])
async def test_copies_of_a_refund_that_names_nothing_else_stand_on_its_order(
    delivered: Delivered, is_paid_first: bool
) -> None:
    registration = Registration(refunds=("R1",))
    refund = antom_refund("R1", "4000", refundId="2025R1", arn="74537")
    told = [payment("p"), refund, refund] if is_paid_first else [refund, refund, payment("p")]
    await delivered.take(ANTOM, told[0], told[1])
    await delivered.store.register(
        ANTOM.name, "A", ("R1",),
        lambda known: decision.register(known, ANTOM.name, "A", registration, now_ms=log_records.NOW_MS),
        by="tests", why="refund",
    )  # fmt: skip
    await delivered.take(ANTOM, told[2])
    await delivered.sweep()
    assert ends(await delivered.page(ANTOM)) == [APPLIED, APPLIED, DUPLICATE]
    for number in ("R1", "2025R1", "74537"):
        assert await delivered.found(number) == [(APPLIED, Reason.CHANGED)]
        assert await delivered.store.find(number) == [(ANTOM.name, "A")]


async def test_refund_that_waits_for_its_payment_stands_on_the_order_that_registered_it(delivered: Delivered) -> None:
    registration = Registration(amounts=(Money(10000, "HKD"),), refunds=("R1",))
    await delivered.store.register(
        ANTOM.name, "A", ("R1",),
        lambda known: decision.register(known, ANTOM.name, "A", registration, now_ms=log_records.NOW_MS),
        by="tests", why="refund",
    )  # fmt: skip
    await delivered.take(ANTOM, antom_refund("R1", "4000"), antom_refund("R1", "4000"))
    assert ends(await delivered.page(ANTOM)) == [DUPLICATE, PARKED]


@pytest.mark.parametrize(
    ("account", "told", "numbers"),
    [
        (OPENAPI, form("p", "TRADE_SUCCESS", agreement_no="AG1", external_agreement_no="E1"), ["AG1", "E1"]),
        (MAPI, form("p", "TRADE_SUCCESS", agreement_no="AG1", auth_no="F1", out_order_no="O1"), ["AG1", "F1", "O1"]),
        (
            OPENAPI,
            facts.refunded("p", "3.00", out_biz_no="REQ1", out_request_no="REQ2"),
            ["REQ1", "REQ2"],
        ),
        (ANTOM, payment("p", subscriptionId="2025S1", subscriptionRequestId="S1"), ["2025S1", "S1"]),
        (ANTOM, payment("p", acquirerReferenceNo="ARN-1", acquirerInfo={"referenceRequestId": "Q1"}), ["ARN-1", "Q1"]),
        (MANUAL, payment("p", **facts.AUTHORIZED, subscriptionOrderId="SO1", updateRequestId="U1"), ["SO1", "U1"]),
    ],
)
async def test_payment_is_found_by_each_number_it_carries(
    delivered: Delivered, account: Account, told: Fact, numbers: list[str]
) -> None:
    await delivered.take(account, told, told)
    for number in (*numbers, "T1"):
        assert await delivered.store.find(number) == [(account.name, "A")]
    for number in numbers:
        assert await delivered.found(number) == [(APPLIED, Reason.CHANGED)]


AGREED = {"agreement_no": "AG1", "external_agreement_no": "E1"}


@pytest.mark.parametrize(
    ("account", "told", "reason", "numbers"),
    [
        (REGISTERED, form("p", "TRADE_SUCCESS", **AGREED), Reason.UNKNOWN_ORDER, ["T1", "AG1", "E1"]),
        (MAPI, form("p", "TRADE_SUCCESS", "1e2", **AGREED), Reason.BAD_AMOUNT, ["T1", "AG1", "E1"]),
        (MAPI, form("p", "TRADE_SUCCESS", charset="latin-1", **AGREED), Reason.CHARSET, ["T1", "AG1", "E1"]),
        (MAPI, batch("b", "T1^1.00^SUCCESS#T2^x^SUCCESS", "B1"), Reason.BAD_AMOUNT, ["B1", "T1", "T2"]),
        (ANTOM, payment("p", paymentAmount={}, acquirerReferenceNo="ARN-1"), Reason.BAD_AMOUNT, ["T1", "ARN-1"]),
        (ANTOM, payment("p", status="?", subscriptionId="2025S1"), Reason.UNKNOWN_STATUS, ["T1", "2025S1"]),
        (ANTOM, capture("C1", "4000"), Reason.UNKNOWN_TRADE, ["T1", "C1", "request-C1"]),
        (ANTOM, antom_refund("R1", "4000", refundId="2025R1"), Reason.UNKNOWN_REFUND, ["R1", "2025R1"]),
    ],
)
async def test_held_notification_is_found_by_each_number_it_carries(
    delivered: Delivered, account: Account, told: Fact, reason: Reason, numbers: list[str]
) -> None:
    await delivered.take(account, told, told)
    for number in numbers:
        ((_, found),) = await delivered.found(number)
        assert found is reason


async def test_contradiction_is_found_by_the_trade_that_its_order_does_not_have(delivered: Delivered) -> None:
    await delivered.take(MAPI, form("p", "TRADE_SUCCESS"), form("p", "TRADE_SUCCESS", order="B", trade="T9"))
    assert await delivered.found("T9") == [(QUARANTINED, Reason.ID_CONFLICT)]
    held = await delivered.store.notification("0-1")
    assert held is not None
    assert held.record is not None
    assert b"T9" in held.record.value


async def test_batch_that_names_nobody_is_found_by_its_number_and_its_trades(delivered: Delivered) -> None:
    told: Fact = batch("b", "T1^1.00^SUCCESS#T2^1.00^TRADE_HAS_CLOSED", "B1")
    del told["fields"]["partner_id"]
    await delivered.take(MAPI, told, told, form("p", "TRADE_SUCCESS"))
    for number in ("B1", "T1", "T2"):
        assert (QUARANTINED, Reason.NAMES_NOBODY) in await delivered.found(number)
    assert ends(await delivered.page(MAPI)) == [APPLIED, DUPLICATE, QUARANTINED]


SIGNED = {"sign": "c2lnbmVk", "sign_type": "RSA2", "app_id": "2021000000000001"}


def ambiguous(order: str = "A&total_amount=9", trade: str = "T1", **more: Any) -> dict[str, str]:
    fields: dict[str, str] = form("c", "TRADE_SUCCESS", order=order, trade=trade, **more)["fields"]
    return fields | SIGNED


def sealed(fields: dict[str, str], account: Account = OPENAPI) -> Record:
    return log_records.sealed(urlencode(fields).encode(), "sign", account=account)


@pytest.mark.parametrize("is_first", [True, False], ids=["before the payment", "after the payment"])
async def test_order_mentions_a_form_with_two_readings_as_a_claim_only(delivered: Delivered, is_first: bool) -> None:
    claim = sealed(ambiguous(subject="S&out_trade_no=B"))
    if not is_first:
        await delivered.take(OPENAPI, form("p", "TRADE_SUCCESS"))
    for _ in range(3):
        await delivered.take_record(claim)
    if is_first:
        assert await delivered.store.order_page(OPENAPI.name, "A") is None, "a claim alone makes no order"
        await delivered.take(OPENAPI, form("p", "TRADE_SUCCESS"))
    page = await delivered.page(OPENAPI)
    assert page.order is not None
    assert page.view is not None
    assert (page.order.version, page.view.flags, len(page.events)) == (1, (), 1)
    assert ends(page) == [APPLIED]
    (mentioned,) = page.claims
    assert (mentioned.delivery.reason, mentioned.delivery.order, mentioned.resolution) == (Reason.AMBIGUOUS, "", "")
    for number in ("B", "A&total_amount=9"):
        assert await delivered.store.order_page(OPENAPI.name, number) is None
        await register(delivered.store, number, account=OPENAPI.name)
        assert (await delivered.page(OPENAPI, number)).claims == (mentioned,)
    for number in ("A", "B", "T1", "c"):
        assert (QUARANTINED, Reason.AMBIGUOUS) in await delivered.found(number)
    assert await delivered.store.find("A") == [(OPENAPI.name, "A")]
    assert await delivered.store.find("c") == []


async def test_claim_on_a_trade_is_mentioned_by_the_order_that_has_it(delivered: Delivered) -> None:
    await delivered.take(OPENAPI, form("p", "TRADE_SUCCESS"))
    await delivered.take_record(sealed(ambiguous("X", subject="S&total_amount=9")))
    await delivered.take(OPENAPI, form("x", "WAIT_BUYER_PAY", order="X", trade="T2"))
    for number in ("A", "X"):
        assert len((await delivered.page(OPENAPI, number)).claims) == 1


async def test_claim_says_what_became_of_it(delivered: Delivered, store: AnyStore, time: Time) -> None:
    shop = ACCOUNTS["shop-sg"]
    fields = log_records.payment("N1", id_="c", subject="S&total_fee=9") | {"sign": "c2lnbmVk"}
    await delivered.take_record(log_records.record("N1"))
    await delivered.take_record(log_records.sealed(urlencode(fields).encode(), "sign"))
    operator = Operator(store, time)
    (row,) = [page.row for page in await store.held_list(HeldQuery(account=shop.name))]
    await operator.discard(row.id)
    (mentioned,) = (await delivered.page(shop, "N1")).claims
    assert mentioned.resolution == "discarded"
    await delivered.take_record(log_records.sealed(urlencode(fields).encode(), "sign"))
    assert len((await delivered.page(shop, "N1")).claims) == 1


async def test_claim_is_mentioned_by_the_order_of_each_merchant_that_it_may_name(delivered: Delivered) -> None:
    merchants = [f"202100000000000{digit}" for digit in (7, 8, 9)]
    for merchant in merchants:
        paid = log_records.payment("A", total_amount="12.80", id_=merchant, trade=f"T-{merchant}", auth_app_id=merchant)
        await delivered.take_record(sealed(paid, PROVIDER))
    text = f"S&auth_app_id={merchants[1]}"
    await delivered.take_record(sealed(ambiguous("A", auth_app_id=merchants[0], subject=text), PROVIDER))
    counts = [len((await delivered.page(f"isv/{merchant}")).claims) for merchant in merchants]
    assert counts == [1, 1, 0]
    assert (await delivered.store.find("A")) == [("isv/" + merchant, "A") for merchant in merchants]


async def test_copies_stand_on_the_order_that_got_the_payment_by_its_other_number(
    delivered: Delivered, time: Time
) -> None:
    account = facts.account("antom", "registered")
    await delivered.take(account, payment("p"), payment("p"), capture("C1", "4000", paymentRequestId="A"))
    await delivered.take(account, capture("C1", "4000", paymentRequestId="A"), facts.periodic("s"))
    time.now_ms += 60_000
    await delivered.sweep()
    page = await delivered.page(account)
    assert page.number == "T1"
    assert sorted(each.reason for each in page.deliveries) == [
        Reason.CHANGED,
        Reason.NOTED,
        Reason.SAME_FACT,
        Reason.SAME_ID,
        Reason.SAME_ID,
    ]


async def test_conflict_is_found_by_the_id_that_another_notification_has(delivered: Delivered) -> None:
    await delivered.take(MAPI, form("p", "TRADE_SUCCESS"), form("p", "TRADE_FINISHED"))
    assert await delivered.found("p") == [(QUARANTINED, Reason.ID_CONFLICT), (APPLIED, Reason.CHANGED)]


async def test_number_of_many_payments_finds_a_hundred_orders(delivered: Delivered) -> None:
    paid = [form(f"p{n}", "TRADE_SUCCESS", order=f"N{n:03}", trade=f"T{n}", **AGREED) for n in range(101)]
    await delivered.take(OPENAPI, *paid)
    found = await delivered.store.find("AG1")
    assert (len(found), found[0]) == (100, (OPENAPI.name, "N000"))
    assert len(await delivered.found("AG1")) == 100
