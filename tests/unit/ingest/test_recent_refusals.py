"""The list of recent refusals is bounded, and searchable by the claimed order."""

import pytest

from ingest import recent_refusals
from ingest.recent_refusals import RecentRefusals, RefusedRequest
from schemas import accounts_toml
from schemas.dispositions import Outcome, Refusal

SHOP = accounts_toml.parse(
    {"accounts": {"s": {"family": "openapi", "sign_type": "RSA2", "app_id": "1", "keys": ["k"]}}}
)["s"]
HK = accounts_toml.parse({"accounts": {"h": {"family": "antom", "client_id": "c", "keys": {"1": "k"}}}})["h"]


def one(order: str, at_ms: int = 0) -> RefusedRequest:
    return RefusedRequest(
        account="s",
        order=order,
        outcome=Outcome.BAD_SIGNATURE,
        reason=Refusal.BAD_SIGNATURE,
        received_at_ms=at_ms,
    )


def test_oldest_refusals_are_dropped() -> None:
    recent = RecentRefusals(kept_max=3)
    for number in range(5):
        recent.add(one(str(number)))
    assert [request.order for request in recent.all()] == ["2", "3", "4"]


def test_refusals_after_a_number_are_those_that_came_since() -> None:
    recent = RecentRefusals(kept_max=3)
    for number in range(5):
        recent.add(one(str(number)))
    assert [request.order for request in recent.after(4)] == ["4"]
    assert [request.order for request in recent.after(0)] == ["2", "3", "4"]  # the first two are gone
    assert recent.after(5) == recent.after(6) == recent.newest(0) == []
    assert [request.order for request in recent.newest(2)] == ["3", "4"]


def test_refusals_are_found_by_account_and_order() -> None:
    recent = RecentRefusals()
    recent.add(one("a", 1))
    recent.add(one("b", 2))
    recent.add(one("a", 3))
    assert [request.received_at_ms for request in recent.of_order("s", "a")] == [1, 3]
    assert recent.of_order("t", "a") == []


@pytest.mark.parametrize(
    ("body", "claimed"),
    [
        (b"a=b&out_trade_no=O-1&c=d", "O-1"),
        (b"out_trade_no=a+b%2Fc", "a b/c"),
        (b"xout_trade_no=O-1", ""),
        (b"out_trade_no=%ff%00", "\\xff\x00"),
        (b"out_trade_no=" + b"9" * 100, "9" * 64),
        (b"out_trade_no=" + b"9" * 1000, ""),
        (b"\xff\xfe", ""),
        (b"", ""),
    ],
)
def test_claimed_order_is_read_from_any_body(body: bytes, claimed: str) -> None:
    assert recent_refusals.claimed_order(SHOP, body) == claimed


def test_claimed_id_is_read_from_any_body() -> None:
    bodies = (b"a=1&notify_id=n%2D1&b=2", b"my_notify_id=x", b"")
    assert [recent_refusals.claimed_id(SHOP, body, "O-1") for body in bodies] == [b"n-1", b"", b""]
    assert [recent_refusals.claimed_id(HK, b"{}", order) for order in ("P-1", "\ud800", "")] == [b"P-1", b"?", b""]


def test_claimed_order_of_antom_is_its_request_id() -> None:
    assert recent_refusals.claimed_order(HK, b'{"paymentRequestId":"P-1"}') == "P-1"
    assert recent_refusals.claimed_order(HK, b"{") == ""
