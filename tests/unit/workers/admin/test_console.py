"""The console's pages: their content, escaping of senders' texts, and no foreign files."""

import re

from schemas.dispositions import Flag, Reason
from schemas.orders import Capture, Claim, Order, State
from tests.support.admin import NOW_MS, Refused, World, form, serving
from tests.support.paths import ROOT
from tests.support.plans import always, order_write, plan
from workers.admin import reason_texts
from workers.admin.console import LINES
from workers.admin.links import OutsideLinks
from workers.admin.probes import Check
from workers.settlement import loading

SCRIPT = "<script>alert(1)</script>"


async def test_overview_shows_orders_held_notifications_and_six_charts() -> None:
    world = World()
    await world.deliver(form("A1"))
    await world.deliver(form("B1"), "strict")
    async with serving(world) as client:
        text = await (await client.get("/")).text()
    assert text.count("<svg") == 6
    assert 'href="/orders/shop/A1"' in text
    assert "12.80 <small>USD</small>" in text
    assert 'href="/held?disposition=parked&amp;reason=unknown_order"' in text
    assert reason_texts.REASONS[Reason.UNKNOWN_ORDER] in text


async def test_first_page_links_to_the_runbooks_of_what_is_wrong_and_to_the_boards() -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    async with serving(world) as client:
        assert 'id="links" class="pages" data-live hidden' in await (await client.get("/")).text()
    world.links = OutsideLinks(runbooks="https://wiki.example/runbooks", grafana="https://grafana.example")
    async with serving(world) as client:
        text = await (await client.get("/")).text()
    assert 'href="https://wiki.example/runbooks/MoneyAtRiskOld.md"' in text
    boards = re.findall(r'href="https://grafana.example/d/([\w-]+)"', text)
    assert boards == [f"alipay-notify-{name}" for name in ("overview", "pipeline", "reliability", "business")]
    assert all((ROOT / f"deploy/grafana/dashboards/{board}.json").exists() for board in boards)


async def test_first_page_ends_with_the_newest_lines_of_the_tail_and_does_not_fill_it() -> None:
    world = World()
    for number in range(LINES):
        await world.deliver(form(f"A{number}", notify_id=f"n{number}"))
    world.refusals.requests.append(Refused("shop", "FORGED", "bad_signature"))
    async with serving(world) as client:
        lines = (await (await client.get("/")).text()).partition('id="tail"')[2]
    orders = re.findall(r'href="/orders/shop/(\w+)"', lines)
    assert (len(orders), "FORGED" in orders, len(set(orders))) == (LINES, True, LINES)
    assert not world.tail.is_watched


async def test_first_number_is_the_money_at_risk() -> None:
    world = World()
    async with serving(world) as client:
        calm = await (await client.get("/")).text()
    assert "<b>none yet</b>" in calm
    await world.deliver(form("B1"), "strict")
    world.checks = [Check(name="store", ok=False, detail="it does not answer")]
    async with serving(world) as client:
        text = await (await client.get("/")).text()
    numbers = re.findall(r"<b>(.*?)</b>", text)
    assert numbers[0] == '<span class="amount">12.80 <small>USD</small></span>'
    assert "no" in numbers
    assert "store: it does not answer" in re.sub(r"<[^>]*>", "", text)
    assert text.index("Money at risk") < text.index("Oldest held") < text.index("Recently changed")


async def test_orders_page_lists_what_matches_and_keeps_its_filter_in_every_link() -> None:
    world = World()
    for number in range(3):
        await world.deliver(form(f"A{number}"))
    await world.deliver(form("W1", "WAIT_BUYER_PAY"))
    async with serving(world) as client:
        text = await (await client.get("/orders?status=PAID&account=shop&limit=2&prefix=")).text()
        cursor = re.search(r"cursor=([^\"]+)", text)
        assert cursor is not None
        rest = await (await client.get(f"/orders?status=PAID&account=shop&limit=2&cursor={cursor[1]}")).text()
    assert [f"/orders/shop/A{number}" in text for number in range(3)] == [False, True, True]
    assert [f"/orders/shop/A{number}" in rest for number in range(3)] == [True, False, False]
    assert "/orders/shop/W1" not in text + rest
    assert '<option value="PAID" selected>' in text or "<option selected>PAID" in text
    assert 'href="/orders?status=PAID&amp;account=shop&amp;limit=2&amp;cursor=' in text
    assert 'href="/orders.csv?status=PAID&amp;account=shop"' in text
    assert 'title="2025-10-09 16:53:20 UTC+8"' in text
    assert "First page" in rest


async def test_filter_with_a_fault_is_shown_with_what_is_wrong() -> None:
    async with serving(World()) as client:
        answer = await client.get(f"/orders?amount_min={SCRIPT}&currency=USD")
        text = await answer.text()
    assert answer.status == 400
    assert "amount_min: " in text
    assert 'name="currency"' in text
    assert SCRIPT not in text


async def test_order_page_shows_the_whole_timeline() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    await world.deliver(form("A1"))
    async with serving(world) as client:
        await client.put("/api/orders/shop/A1", json={"amount": "99.00"})
        await world.deliver(form("A1", notify_id="other", total_fee="13.00"))
        world.refusals.requests.append(Refused("shop", "A1", "bad_signature"))
        text = (await (await client.get("/orders/shop/A1")).text()).replace("<wbr>", "")
    for part in ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "alipay_notify.order.paid.v1", "A request was refused", "99.00"):
        assert part in text
    assert reason_texts.FLAGS[Flag.AMOUNT_MISMATCH] in text
    assert 'href="/held/0-3"' in text


async def test_order_page_counts_deliveries_and_shows_alipays_next_try_of_what_was_refused() -> None:
    world = World()
    for _ in range(2):
        await world.deliver(form("A1"))
    came = [("n-9", -4), ("n-9", 0), ("A1-TRADE_SUCCESS", -1)]
    world.refusals.requests += [
        Refused("shop", "A1", "bad_signature", NOW_MS + minute * 60_000, notification_id=id_) for id_, minute in came
    ]
    async with serving(world) as client:
        text = " ".join((await (await client.get("/orders/shop/A1")).text()).split())
    assert "Delivery 2 of this notification" in text
    assert "Delivery 1 of" not in text
    assert text.count("it comes again in 10 m") == 1
    assert "for the last time in 24 h" in text
    assert text.count("came again and was accepted") == 1


async def test_order_page_shows_what_is_only_authorised() -> None:
    world = World()
    claim = Claim(trade="T1", amount_minor=1280, currency="USD", state=State.AUTHORIZED, authorized_until_ms=NOW_MS)
    order = Order(account="antom-us", number="A1", version=1, claims=(claim,), captures=(Capture(id="C", trade="T1"),))
    await world.store.settle(loading.load_request([]), always(plan(orders=[order_write(order, None)])))
    async with serving(world) as client:
        text = await (await client.get("/orders/antom-us/A1")).text()
    assert "Authorised" in text
    assert "until <time" in text
    assert ">2025-10-09 16:53:20</time>" in text
    assert reason_texts.FLAGS[Flag.CAPTURE_FAILED] in text


async def test_l09_sender_text_is_escaped_on_every_page() -> None:
    world = World()
    number = f"A1{SCRIPT}"
    await world.deliver(form(number, notify_id=f"id{SCRIPT}"))
    held = await world.deliver(form(number, notify_id=f"other{SCRIPT}", subject=f"=HYPERLINK({SCRIPT})"), "strict")
    dead = await world.deliver_raw(SCRIPT.encode(), SCRIPT)
    async with serving(world) as client:
        quoted = "A1%3Cscript%3Ealert(1)%3C%2Fscript%3E"
        for path in (
            "/",
            "/held",
            f"/held/{held}",
            f"/held/{dead}",
            f"/orders/shop/{quoted}",
            f"/find?number={quoted}x",
        ):
            answer = await client.get(path)
            text = await answer.text()
            assert answer.status == 200
            assert SCRIPT not in text
            assert "&lt;script&gt;" in text or path == f"/held/{dead}"
            assert "nosniff" in answer.headers["X-Content-Type-Options"]


async def test_number_leads_to_its_order_or_to_an_empty_result() -> None:
    world = World()
    await world.deliver(form("A1"))
    await world.deliver(form("A2"))
    world.refusals.requests.append(Refused("shop", "A9", "bad_signature"))
    async with serving(world) as client:
        for number, place in (("A1", "/orders/shop/A1"), ("20251009A2", "/orders/shop/A2"), ("A9", "/orders/shop/A9")):
            found = await client.get("/find", params={"number": f" {number} "}, allow_redirects=False)
            assert (found.status, found.headers["Location"]) == (302, place)
        assert "Nothing has this number" in await (await client.get("/find?number=A")).text()
        assert (await client.get("/orders/shop/A")).status == 404


async def test_number_of_a_mandate_leads_to_its_notification() -> None:
    world = World()
    mandate = {"notify_type": "dut_user_sign", "agreement_no": "A1", "status": "NORMAL", "alipay_user_id": "208810200"}
    await world.deliver(mandate | {"notify_id": "m1", "external_agreement_no": "<E1>"})
    async with serving(world) as client:
        for number in ("m1", "A1"):
            found = await client.get("/find", params={"number": number}, allow_redirects=False)
            assert (found.status, found.headers["Location"]) == (302, "/notifications/0-1")
        page = await (await client.get("/notifications/0-1")).text()
        for shown in ("dut_user_sign", "agreement", "A1", "NORMAL", "/find?number=%3CE1%3E", "&lt;E1&gt;"):
            assert shown in page
        assert "208810200" not in page
        assert (await client.get("/notifications/0-9")).status == 404
        await world.deliver(mandate | {"notify_id": "m2", "notify_type": "dut_user_unsign"})
        both = await (await client.get("/find?number=A1")).text()
        assert all(link in both for link in ("/notifications/0-1", "/notifications/0-2", "dut_user_unsign"))


async def test_order_page_leads_to_noted_notifications_of_its_trade() -> None:
    world = World()
    await world.deliver({"notify_type": "trade_complaint", "notify_id": "m1", "trade_no": "20251009N1"})
    await world.deliver(form("N1"))
    async with serving(world) as client:
        page = await (await client.get("/orders/shop/N1")).text()
    assert "trade_complaint" in page
    assert "/notifications/0-1" in page


async def test_page_has_the_count_of_changes_at_which_it_was_rendered() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        text = await (await client.get("/")).text()
    assert f'data-seen="{world.changes.seen}"' in text


async def test_order_page_mentions_a_form_with_two_readings_as_a_claim_only() -> None:
    world = World()
    await world.deliver(form("A1"))
    claim = await world.deliver(form("A1", subject="S&total_fee=9&out_trade_no=<A2>&out_trade_no=A3", notify_id="c"))
    async with serving(world) as client:
        for number in ("A1", "20251009A1"):
            found = await client.get("/find", params={"number": number}, allow_redirects=False)
            assert found.headers["Location"] == "/orders/shop/A1"
        found = await client.get("/find", params={"number": "<A2>"}, allow_redirects=False)
        assert found.headers["Location"] == "/notifications/0-2"
        await client.put("/api/orders/shop/A3", json={"amount": "12.80"})
        pages = [await (await client.get(f"/orders/shop/{number}")).text() for number in ("A1", "A3")]
        unknown = await client.get("/orders/shop/%3CA2%3E")
        assert (unknown.status, "a claim only" in await unknown.text()) == (404, True)
        notification = await (await client.get("/notifications/0-2")).text()
        await client.post(f"/api/held/{claim}/discard", json={"reason": "the trade is unknown to Alipay"})
        discarded = await (await client.get("/orders/shop/A1")).text()
    for page in (*pages, discarded):
        assert "A claim only" in page
        assert f'href="/held/{claim}"' in page
        assert "its signature also fits other parameters" in page
        assert "<A2>" not in page
    assert ('tag discarded"' in pages[0], 'tag discarded"' in discarded) == (False, True)
    assert "claimed order" in notification


async def test_number_of_an_agreement_lists_its_payment_and_its_mandate() -> None:
    world = World()
    await world.deliver({"notify_type": "dut_user_sign", "notify_id": "m1", "agreement_no": "AG1"})
    await world.deliver(form("N1", agreement_no="AG1"))
    async with serving(world) as client:
        text = await (await client.get("/find?number=AG1")).text()
    assert all(part in text for part in ("Orders and notifications", 'href="/orders/shop/N1"', "/notifications/0-1"))


async def test_order_page_shows_the_refunds_that_an_operator_accepted() -> None:
    world = World()
    await world.deliver(form("A1"))
    over = {"refund_fee": "15.00", "gmt_refund": "2025-10-10 08:00:00", "notify_id": "r"}
    held_id = await world.deliver(form("A1", **over))
    async with serving(world) as client:
        before = await (await client.get("/orders/shop/A1")).text()
        await client.post(f"/api/held/{held_id}/accept", json={"reason": "postage"})
        after = await (await client.get("/orders/shop/A1")).text()
    assert ("accepted as refunded" in before, "accepted as refunded" in after) == (False, True)
    assert "15.00 <small>USD</small>" in after
