"""The seed of the product, as a buyer and a shopkeeper see it: a browser, a shop, a cashier, and the real engine.

The shop believes only the notification, so its page can turn PAID only by the whole way: cashier → signed POST →
receiver → journal → worker → order → long poll → page.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.support.browser import browsing_in_sync, needs_browser
from tests.support.processes import Demo, eventually

pytestmark = needs_browser

FIRST_TIMELINE_WITHIN_S = 60.0
PAID = "TRADE_FINISHED"  # the old gateway's word for the shop's kind of payment, which is final at once


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path / "demo")
    try:
        yield demo
    finally:
        code = demo.stop()
    assert code == 0, demo.log()[-4000:]


def asked(demo: Demo, path: str) -> Any:
    with urlopen(demo.addresses["admin"] + path, timeout=10) as answer:
        return json.load(answer)


def test_payment_and_refund_of_a_buyer_are_shown_on_the_console(demo: Demo) -> None:
    with browsing_in_sync() as (page, complaints):
        loads: list[str] = []
        page.goto(demo.addresses["shop"])
        page.get_by_role("button", name="Pay with Alipay").click()
        page.wait_for_url("**/cashier/**")
        page.get_by_role("button", name="Confirm payment").click()
        page.wait_for_url("**/shop/return**")
        page.on("framenavigated", lambda frame: loads.append(frame.url))
        page.wait_for_selector("#status.good")
        assert page.text_content("#status") == "PAID"
        assert loads == [], "the page turned PAID by itself, without a reload"
        order = page.get_attribute("#order", "data-order")
        assert order is not None

        page.get_by_role("button", name="Refund").click()
        page.wait_for_selector("#status.bad")
        assert page.text_content("#status") == "REFUNDED"
        assert "12.80" in (page.text_content("#refunded") or "")

        (match,) = asked(demo, f"/api/find?number={order}")["matches"]
        page.goto(f"{demo.addresses['admin']}/orders/{match['account']}/{order}")
        page.wait_for_selector(".timeline li.sent")
        told = page.text_content("#timeline") or ""
        assert told.index(PAID) < told.index("order.finished.v1") < told.index("order.refunded.v1")
        assert complaints == []

    shown = asked(demo, f"/api/orders/{match['account']}/{order}")
    assert (shown["status"], shown["closed_because"]) == ("CLOSED", "refunded")
    assert (shown["refunded_minor"], shown["flags"]) == (shown["amount_minor"], [])
    applied = [entry for entry in shown["timeline"] if entry.get("disposition") == "applied"]
    assert [entry["version"] for entry in applied] == list(range(1, shown["version"] + 1))


def test_timeline_of_the_first_payment_is_shown_within_a_minute(demo: Demo) -> None:
    def first() -> Any:
        for order in asked(demo, "/api/orders")["orders"]:
            shown = asked(demo, f"/api/orders/{order['account']}/{order['order']}")
            kinds = {entry["kind"] for entry in shown["timeline"]}
            if shown["status"] == "PAID" and kinds >= {"notification", "event"}:
                return shown
        return None

    shown = eventually(first, within_s=FIRST_TIMELINE_WITHIN_S)
    assert time.monotonic() - demo.began < FIRST_TIMELINE_WITHIN_S
    with browsing_in_sync() as (page, complaints):
        page.goto(demo.addresses["admin"])
        page.get_by_role("link", name=shown["order"]).first.click()
        page.wait_for_selector(".timeline li.applied")
        assert complaints == []
    assert time.monotonic() - demo.began < FIRST_TIMELINE_WITHIN_S
