"""The cashier: paying, cancelling, other endings, repeated Requests and notify_verify."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

import pytest

from deploy.sandbox import cashier
from tests.unit.deploy.sandbox.town import Town, signed_request


async def test_cancelled_payment_closes_the_order(town: Town) -> None:
    await town.buyer.go("/shop")
    await town.buyer.press("/shop/pay")
    await town.buyer.press("/cancel")
    state = await town.buyer.state(town.order, 1)
    assert (state["status"], state["refunded_minor"]) == ("CLOSED", 0)


async def test_second_payment_of_one_order_has_no_effect(town: Town) -> None:
    await town.buyer.go("/shop")
    await town.buyer.press("/shop/pay")
    assert "Harbour Museum" in town.buyer.page
    path = urlsplit(town.buyer.at).path
    await town.buyer.go(f"{path}/pay", press=True)
    await town.buyer.state(town.order, 1)
    await town.buyer.go(f"{path}/cancel", press=True)
    assert "trade_status=TRADE_FINISHED" in town.buyer.at
    await town.buyer.go(path)
    assert "付款成功" in town.buyer.page
    assert len(town.merchant.confirmed) == 1


async def test_html_in_a_subject_is_escaped(town: Town) -> None:
    await town.buyer.go(signed_request(town))
    assert "A &lt;b&gt;bold&lt;/b&gt; thing" in town.buyer.page


async def test_same_request_again_opens_the_same_payment(town: Town) -> None:
    await town.buyer.go(signed_request(town))
    first = town.buyer.at
    await town.buyer.go(signed_request(town))
    assert town.buyer.at == first
    await town.buyer.go(signed_request(town, total_fee="2.00"))
    assert "CONTEXT_INCONSISTENT" in town.buyer.page


@pytest.mark.parametrize(
    ("partner", "notify_id", "answer"),
    [
        ("2088999900001025", "given-out", "true"),
        ("2088999900001025", "made-up", "false"),
        ("2088999900001017", "given-out", "false"),
        ("", "given-out", "invalid"),
        ("2088000000000000", "given-out", "invalid"),
        ("2088999900001025", "", "invalid"),
    ],
)
async def test_notify_verify_answers_true_false_or_invalid(
    town: Town, partner: str, notify_id: str, answer: str
) -> None:
    town.sandbox.issued.issue("2088999900001025", "given-out")
    question = {"service": "notify_verify", "partner": partner, "notify_id": notify_id}
    assert await town.buyer.go(f"/gateway.do?{urlencode(question)}") == answer
    async with town.buyer.http.post(f"{town.buyer.base}/gateway.do", data=question) as response:
        assert await response.text() == answer


async def ended(town: Town, ending: str, *, service: str = "create_forex_trade_wap") -> str:
    """Open the cashier with a Request of the shop's order T-1, end there, and return the cashier's path."""
    town.merchant.orders["T-1"] = {
        "status": "WAITING", "version": 1, "amount_minor": 100, "currency": "USD", "refunded_minor": 0, "flags": [],
        "timeline": [],
    }  # fmt: skip
    await town.buyer.go(signed_request(town, service=service))
    path = urlsplit(town.buyer.at).path
    await town.buyer.end(path, ending)
    return path


@pytest.mark.parametrize("service", ["create_forex_trade", "create_forex_trade_wap"])
async def test_buyer_may_be_back_before_the_notification(
    town: Town, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cashier, "_BUYER_FIRST_S", 0.5)
    await ended(town, "return_first", service=service)
    assert "trade_status=TRADE_FINISHED" in town.buyer.at
    assert town.merchant.orders["T-1"]["status"] == "WAITING"
    assert (await town.buyer.state("T-1", 1))["status"] == "FINISHED"


@pytest.mark.parametrize("service", ["create_forex_trade", "create_forex_trade_wap"])
async def test_notification_may_arrive_before_the_buyer_is_back(town: Town, service: str) -> None:
    await ended(town, "notified_first", service=service)
    assert "trade_status=TRADE_FINISHED" in town.buyer.at
    assert town.merchant.orders["T-1"]["status"] == "FINISHED"


async def test_closed_browser_brings_only_the_notification(town: Town) -> None:
    path = await ended(town, "browser_closed")
    assert urlsplit(town.buyer.at).path == path
    assert "gets no Return" in town.buyer.page
    assert "/shop/return" not in town.buyer.page
    assert (await town.buyer.state("T-1", 1))["status"] == "FINISHED"


async def test_paying_twice_reports_two_trades_of_one_order(town: Town) -> None:
    await ended(town, "twice")
    await town.buyer.state("T-1", 2)
    assert len(town.merchant.confirmed) == 2
    trades = {fields["trade_no"] for fields in town.merchant.forms}
    assert (len(trades), {fields["out_trade_no"] for fields in town.merchant.forms}) == (2, {"T-1"})


async def test_failed_payment_sends_nothing_and_may_be_tried_again(town: Town) -> None:
    path = await ended(town, "failed")
    assert "The payment failed" in town.buyer.page
    assert town.merchant.forms == []
    await town.buyer.go(f"{path}/pay", press=True)
    assert (await town.buyer.state("T-1", 1))["status"] == "FINISHED"


async def test_timed_out_payment_closes_the_order_without_a_signed_return(town: Town) -> None:
    await ended(town, "expired")
    assert "timed out" in town.buyer.page
    assert "sign=" not in town.buyer.page
    assert (await town.buyer.state("T-1", 1))["status"] == "CLOSED"


async def test_ended_payment_ends_only_once(town: Town) -> None:
    path = await ended(town, "browser_closed")
    await town.buyer.state("T-1", 1)
    await town.buyer.end(path, "twice")
    await town.buyer.go(f"{path}/cancel", press=True)
    assert "gets no Return" in town.buyer.page
    assert len(town.merchant.forms) == 1


async def test_unknown_ending_is_refused(town: Town) -> None:
    path = await ended(town, "lost")
    assert (town.buyer.status, urlsplit(town.buyer.at).path) == (400, f"{path}/end")
