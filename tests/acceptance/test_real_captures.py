"""Antom's card payments and subscriptions through the real engine: authorised, captured, failed, in two shapes.

Numbers and names are made up; the shapes are those of Antom's documents.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance import test_real_inputs
from tests.acceptance.test_real_inputs import CLIENT, KEY, Merchant
from tests.support.processes import Engine, eventually

ACCOUNTS = f"""
[accounts.antom]
family = "antom"
client_id = "{CLIENT}"
keys = {{ 1 = "{KEY}" }}

[accounts.registered]
family = "antom"
client_id = "{CLIENT}"
orders = "registered"
keys = {{ 1 = "{KEY}" }}

[accounts.manual]
family = "antom"
client_id = "{CLIENT}"
capture = "manual"
keys = {{ 1 = "{KEY}" }}
"""
EXPIRES = "2026-12-07T08:00:00+08:00"
BRL_1280 = {"currency": "BRL", "value": "1280"}


@pytest.fixture(scope="module")
def merchant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Merchant]:
    directory: Path = tmp_path_factory.mktemp("merchant")
    test_real_inputs.prepare(directory)
    (directory / "accounts.toml").write_text(ACCOUNTS)
    with Engine(directory / "accounts.toml", directory / "data") as engine:
        yield Merchant(engine)


def result(status: str = "S") -> dict[str, Any]:
    return {"result": {"resultCode": "SUCCESS", "resultStatus": status, "resultMessage": "success."}}


def capture(order: str, number: str, value: str | None) -> bytes:
    """Return CAPTURE_RESULT of an order's payment; failed if there is no value."""
    amount = {} if value is None else {"captureAmount": {"currency": "BRL", "value": value}}
    message = {"notifyType": "CAPTURE_RESULT", **result("F" if value is None else "S"), **amount}
    return json.dumps(
        message | {"captureRequestId": f"CR-{number}", "captureId": f"C-{number}", "paymentId": f"T-{order}"}
    ).encode()


def refund(order: str, number: str, value: str) -> bytes:
    message = {"notifyType": "REFUND_RESULT", **result(), "refundStatus": "SUCCESS", "refundRequestId": number}
    named = {"paymentId": f"T-{order}"} if order else {}
    return json.dumps(message | named | {"refundAmount": {"currency": "BRL", "value": value}}).encode()


def periodic(payment: str, period: str = "1", **more: Any) -> bytes:
    """Return the payment of one period of a subscription, as Antom's page documents it."""
    message = {
        **result(),
        "paymentId": payment,
        "paymentAmount": BRL_1280,
        "paymentTime": "2026-11-30T08:00:00+08:00",
        "subscriptionRequestId": "SUBREQ-1",
        "subscriptionId": "20261130SUB1",
        "periodStartTime": "2026-11-30T00:00:00+08:00",
        "periodEndTime": "2026-12-30T00:00:00+08:00",
        "phaseNo": period,
        **more,
    }
    return json.dumps(message).encode()


def events(page: dict[str, Any]) -> list[str]:
    types = [entry["type"] for entry in page["timeline"] if entry["kind"] == "event"]
    return [type_.removeprefix("alipay_notify.order.").removesuffix(".v1") for type_ in types]


def found(merchant: Merchant, account: str, number: str) -> list[str]:
    matches = merchant.engine.get(f"/api/find?number={number}")[1]["matches"]
    return [match["order"] for match in matches if match["account"] == account]


def seen(page: dict[str, Any]) -> tuple[str, str | None, list[str]]:
    return page["status"], page["amount"], page["flags"]


def test_failed_capture_flags_a_paid_order_and_a_later_one_clears_it(merchant: Merchant) -> None:
    merchant.antom_body(merchant.payment("A-1", authExpiryTime=EXPIRES))
    merchant.antom_body(capture("A-1", "A-1", None))
    page = merchant.order("antom", "A-1", entries=2)
    assert seen(page) == ("PAID", "12.80", ["capture_failed"])
    assert events(page) == ["paid", "flagged"]
    merchant.antom_body(capture("A-1", "A-1b", "1280"))
    page = merchant.order("antom", "A-1", entries=3)
    assert (seen(page), page["version"]) == (("PAID", "12.80", []), 3)


def test_manual_account_is_paid_by_captures(merchant: Merchant) -> None:
    assert merchant.register("manual", "M-1", amount="12.80", currency="BRL") == 201
    merchant.antom_body(merchant.payment("M-1", authExpiryTime=EXPIRES), "manual")
    page = merchant.order("manual", "M-1")
    assert seen(page) == ("WAITING", "12.80", [])
    assert (page["authorized_minor"], page["authorized"], page["authorized_until"]) == (
        1280,
        "12.80",
        "2026-12-07T00:00:00Z",
    )
    assert events(page) == ["authorized"]
    merchant.antom_body(capture("M-1", "M-1", None), "manual")
    assert seen(merchant.order("manual", "M-1", entries=2)) == ("WAITING", "12.80", ["capture_failed"])
    merchant.antom_body(capture("M-1", "M-1b", "1000"), "manual")
    page = merchant.order("manual", "M-1", entries=3)
    assert (seen(page), page["authorized"]) == (("PAID", "10.00", []), "12.80")
    assert events(page) == ["authorized", "flagged", "paid"]
    merchant.antom_body(capture("M-1", "M-1c", "280"), "manual")
    merchant.antom_body(refund("M-1", "R-M-1", "400"), "manual")
    page = merchant.order("manual", "M-1", entries=5)
    assert (seen(page), page["refunded"]) == (("PAID", "12.80", []), "4.00")


def test_capture_before_its_payment_waits_for_it(merchant: Merchant) -> None:
    merchant.antom_body(capture("M-2", "M-2", "1000"), "manual")
    merchant.antom_body(merchant.payment("M-2", authExpiryTime=EXPIRES), "manual")
    # The waiting capture stands on the page too, until its retry applies it.
    eventually(lambda: seen(merchant.order("manual", "M-2", entries=2)) == ("PAID", "10.00", []))


def test_more_than_was_authorised_is_held(merchant: Merchant) -> None:
    merchant.antom_body(merchant.payment("M-3", authExpiryTime=EXPIRES), "manual")
    merchant.antom_body(capture("M-3", "M-3", "1000"), "manual")
    merchant.antom_body(capture("M-3", "M-3b", "281"), "manual")
    assert merchant.outcomes("manual", "M-3", entries=3)[2] == ("quarantined", "amount_mismatch")
    assert seen(merchant.order("manual", "M-3")) == ("PAID", "12.80", ["amount_mismatch"])
    in_dollars = json.loads(capture("M-3", "M-3c", "100")) | {"captureAmount": {"currency": "USD", "value": "100"}}
    merchant.antom_body(json.dumps(in_dollars).encode(), "manual")
    merchant.order("manual", "M-3", entries=4)
    for held in merchant.engine.get("/api/held?account=manual&order=M-3")[1]["held"]:
        status, answer = merchant.engine.post(f"/api/held/{held['id']}/accept", {"reason": "it was paid", "by": "ana"})
        assert (status, held["detail"] in answer["detail"]) == (409, True)


def test_captured_sum_is_refunded(merchant: Merchant) -> None:
    merchant.antom_body(merchant.payment("M-4", authExpiryTime=EXPIRES), "manual")
    merchant.antom_body(capture("M-4", "M-4", "1000"), "manual")
    merchant.antom_body(refund("M-4", "R-M-4", "1000"), "manual")
    page = merchant.order("manual", "M-4", entries=3)
    assert (page["status"], page["closed_because"], page["refunded"]) == ("CLOSED", "refunded", "10.00")
    merchant.antom_body(capture("M-4", "M-4b", "280"), "manual")
    page = merchant.order("manual", "M-4", entries=4)
    assert (seen(page), page["refunded"]) == (("PAID", "12.80", []), "10.00")


def test_refund_of_more_than_was_captured_names_what_was_captured(merchant: Merchant) -> None:
    merchant.antom_body(merchant.payment("M-8", authExpiryTime=EXPIRES), "manual")
    merchant.antom_body(capture("M-8", "M-8", "500"), "manual")
    merchant.antom_body(refund("M-8", "R-M-8", "900"), "manual")
    assert seen(merchant.order("manual", "M-8", entries=3)) == ("CLOSED", "5.00", ["over_refunded"])
    (held,) = merchant.engine.get("/api/held?account=manual&order=M-8")[1]["held"]
    assert held["detail"] == "refunded 9.00 BRL, paid 5.00 BRL"


def test_authorisation_that_fails_is_closed_unpaid(merchant: Merchant) -> None:
    merchant.antom_body(merchant.payment("M-5", authExpiryTime=EXPIRES), "manual")
    merchant.antom_body(merchant.payment("M-5", **result("F")), "manual")
    page = merchant.order("manual", "M-5", entries=2)
    assert (page["status"], page["closed_because"], events(page)) == ("CLOSED", "failed", ["authorized", "closed"])


def test_wallet_payment_is_paid_at_once_at_a_manual_account(merchant: Merchant) -> None:
    merchant.antom_body(merchant.payment("M-6"), "manual")
    page = merchant.order("manual", "M-6")
    assert (seen(page), page["authorized"], events(page)) == (("PAID", "12.80", []), None, ["paid"])


def test_dispute_stands_on_the_timeline_of_the_payment_that_it_names(merchant: Merchant) -> None:
    merchant.antom_body(merchant.payment("M-7"), "manual")
    dispute = {"disputeNotificationType": "DISPUTE_CREATED", "disputeId": "D-7", "paymentId": "T-M-7", **result()}
    merchant.antom_body(json.dumps(dispute).encode(), "manual")
    assert merchant.outcomes("manual", "M-7", entries=2)[1] == ("applied", "noted")
    assert found(merchant, "manual", "D-7") == ["M-7"]


@pytest.mark.parametrize("account", ["antom", "registered"])
def test_payment_of_a_subscription_is_an_order_of_its_own(merchant: Merchant, account: str) -> None:
    for _ in range(3):
        merchant.antom_body(periodic(f"P-{account}"), account)
    outcomes = merchant.outcomes(account, f"P-{account}", entries=3)
    assert outcomes == [("applied", "changed"), ("duplicate", "same_id"), ("duplicate", "same_id")]
    assert seen(merchant.order(account, f"P-{account}")) == ("PAID", "12.80", [])
    merchant.antom_body(periodic(f"P2-{account}", "2"), account)
    assert seen(merchant.order(account, f"P2-{account}")) == ("PAID", "12.80", [])
    for number in ("SUBREQ-1", "20261130SUB1"):
        assert {f"P-{account}", f"P2-{account}"} <= set(found(merchant, account, number))


@pytest.mark.parametrize("account", ["antom", "manual"])
@pytest.mark.parametrize("first", ["periodic", "order"])
def test_payment_told_in_two_shapes_is_one_order_with_two_numbers(merchant: Merchant, first: str, account: str) -> None:
    order, trade = f"Z-{first}", f"T-Z-{first}"
    bodies = {"periodic": periodic(trade), "order": merchant.payment(order)}
    number = trade if first == "periodic" else order
    merchant.antom_body(bodies.pop(first), account)
    merchant.order(account, number)
    merchant.antom_body(bodies.popitem()[1], account)
    page = merchant.order(account, number, entries=2)
    assert (seen(page), page["version"]) == (("PAID", "12.80", []), 1)
    for alias in (order, trade):
        assert found(merchant, account, alias) == [number]
        assert merchant.engine.get(f"/api/orders/{account}/{alias}")[1]["order"] == number


def test_second_number_is_registered_and_waited_for_as_the_first(merchant: Merchant) -> None:
    merchant.antom_body(periodic("T-X-1"))
    merchant.order("antom", "T-X-1")
    merchant.antom_body(merchant.payment("X-1"))
    merchant.order("antom", "T-X-1", entries=2)
    assert merchant.register("antom", "X-1", amount="12.80", currency="BRL") == 200
    assert merchant.register("antom", "X-1", refunds=["R-X-1"]) == 200
    started = time.monotonic()
    merchant.antom_body(refund("", "R-X-1", "1280"))
    waited = merchant.engine.get("/api/orders/antom/X-1?wait=20s&version=1")[1]
    assert (waited["order"], waited["registered"], waited["status"]) == ("T-X-1", True, "CLOSED")
    assert time.monotonic() - started < 10


def test_registered_order_whose_payment_has_another_number_is_held(merchant: Merchant) -> None:
    merchant.antom_body(periodic("T-Y-1"), "registered")
    merchant.order("registered", "T-Y-1")
    assert merchant.register("registered", "Y-1", amount="12.80", currency="BRL") == 201
    merchant.antom_body(merchant.payment("Y-1"), "registered")
    assert merchant.outcomes("registered", "Y-1") == [("quarantined", "second_trade")]
    assert merchant.order("registered", "Y-1")["flags"] == ["second_trade"]
    (held,) = merchant.engine.get("/api/held?account=registered&order=Y-1")[1]["held"]
    why = {"reason": "it was paid", "by": "ana"}
    status, answer = merchant.engine.post(f"/api/held/{held['id']}/accept", why)
    assert (status, "order T-Y-1 has this payment" in answer["detail"]) == (409, True)
    assert merchant.engine.post(f"/api/held/{held['id']}/discard", why)[0] == 200
    assert merchant.order("registered", "Y-1")["flags"] == []
    assert seen(merchant.order("registered", "T-Y-1")) == ("PAID", "12.80", [])
    assert merchant.order("registered", "T-Y-1")["registered"] is False
