"""The cashier: paying, cancelling, repeated Requests and notify_verify."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

import pytest

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
    cashier = urlsplit(town.buyer.at).path
    await town.buyer.go(f"{cashier}/pay", press=True)
    await town.buyer.state(town.order, 1)
    await town.buyer.go(f"{cashier}/cancel", press=True)
    assert "trade_status=TRADE_FINISHED" in town.buyer.at
    await town.buyer.go(cashier)
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
