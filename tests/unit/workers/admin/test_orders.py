"""The API about orders: what it shows, the wait for something newer, and the merchant's registration."""

import asyncio
import json

import pytest

from schemas.dispositions import Flag
from schemas.orders import Order
from tests.support.admin import NOW_MS, Refused, World, form, serving, until
from workers.admin import shapes
from workers.long_poll import OrderChanges
from workers.queries import OrderPage
from workers.settlement import order_view


async def test_an_order_is_shown_with_its_money_and_its_whole_story() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    await world.deliver(form("A1"))
    await world.deliver(form("A1"))
    await world.processing.emit()
    world.refusals.requests.append(Refused("shop", "A1", "bad_signature", NOW_MS + 5))
    async with serving(world) as client:
        answer = await client.get("/api/orders/shop/A1")
        order = await answer.json()
    assert answer.status == 200
    assert {key: order[key] for key in ("status", "version", "amount_minor", "amount", "currency")} == {
        "status": "PAID", "version": 2, "amount_minor": 1280, "amount": "12.80", "currency": "USD",
    }  # fmt: skip
    assert (order["refunded_minor"], order["flags"], order["registered"], order["expected_minor"]) == (
        0,
        [],
        False,
        None,
    )
    told = [
        (entry["kind"], entry.get("disposition") or entry.get("type") or entry["reason"]) for entry in order["timeline"]
    ]
    assert told == [
        ("notification", "applied"),
        ("event", "alipay_notify.order.waiting.v1"),
        ("notification", "applied"),
        ("event", "alipay_notify.order.paid.v1"),
        ("notification", "duplicate"),
        ("refused", "bad_signature"),
    ]
    first, event = order["timeline"][:2]
    assert first["notification_id"] == "A1-WAIT_BUYER_PAY"
    assert first["received_at"] == "2025-10-09T08:53:20Z"
    assert event["sent_at"] == "2025-10-09T08:53:20Z"


async def test_nothing_known_is_404_and_names_what_was_asked() -> None:
    async with serving(World()) as client:
        order, account = await client.get("/api/orders/shop/A1"), await client.get("/api/orders/nobody/A1")
        assert (order.status, account.status) == (404, 404)
        assert (await order.json())["error"] == "unknown_order"
        assert (await account.json())["error"] == "unknown_account"


async def test_an_order_of_which_only_a_parked_notification_is_known_has_a_page_without_a_status() -> None:
    world = World()
    await world.deliver(form("A1"), "strict")
    async with serving(world) as client:
        order = await (await client.get("/api/orders/strict/A1")).json()
    assert (order["status"], order["version"]) == (None, 0)
    assert [entry["disposition"] for entry in order["timeline"]] == ["parked"]


async def test_an_order_that_only_a_refused_refund_names_has_a_page_without_a_status() -> None:
    note = Order(account="shop", number="A1", refused=frozenset({Flag.OVER_REFUNDED}))
    page = OrderPage(account="shop", number="A1", order=note, view=order_view.view(note), deliveries=(), events=())
    shown = shapes.summary(page)
    assert (shown.status, shown.version, shown.registered, shown.flags) == (None, 0, False, (Flag.OVER_REFUNDED,))


async def test_an_order_of_which_only_refused_requests_are_known_has_a_page_too() -> None:
    world = World()
    world.refusals.requests.append(Refused("shop", "A1", "bad_signature"))
    async with serving(world) as client:
        order = await (await client.get("/api/orders/shop/A1")).json()
    assert (order["status"], [entry["kind"] for entry in order["timeline"]]) == (None, ["refused"])


async def test_numbers_with_slashes_blanks_and_chinese_reach_their_order() -> None:
    world = World()
    for number in ("a/b", "a b", "订单-1"):
        await world.deliver(form(number))
    async with serving(world) as client:
        for path in ("a%2Fb", "a%20b", "%E8%AE%A2%E5%8D%95-1"):
            assert (await client.get(f"/api/orders/shop/{path}")).status == 200


async def test_a_wait_ends_when_the_order_is_newer_than_the_version_that_is_known() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    async with serving(world) as client:
        waiting = asyncio.ensure_future(client.get("/api/orders/shop/A1?wait=60s&version=1"))
        await until(lambda: bool(world.changes._of_order))
        await world.deliver(form("A1", "WAIT_BUYER_PAY"))  # a duplicate wakes it, and it goes on waiting
        await until(lambda: bool(world.changes._of_order))
        assert not waiting.done()
        await world.deliver(form("A1"))
        order = await (await asyncio.wait_for(waiting, 5)).json()
    assert (order["status"], order["version"]) == ("PAID", 2)


async def test_a_wait_ends_when_an_order_appears_that_nobody_knew() -> None:
    world = World()
    async with serving(world) as client:
        waiting = asyncio.ensure_future(client.get("/api/orders/shop/A1?wait=60"))
        await until(lambda: bool(world.changes._of_order))
        await world.deliver(form("A1"))
        order = await (await asyncio.wait_for(waiting, 5)).json()
    assert order["status"] == "PAID"


async def test_a_wait_for_what_is_newer_already_is_none() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        order = await (await client.get("/api/orders/shop/A1?wait=60s&version=0")).json()
    assert order["version"] == 1


async def test_a_wait_is_over_when_its_time_is_and_shows_the_order_as_it_is() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        known = await client.get("/api/orders/shop/A1?wait=20ms&version=1")
        unknown = await client.get("/api/orders/shop/A2?wait=0.02s")
        assert (known.status, (await known.json())["version"], unknown.status) == (200, 1, 404)
    assert not world.changes._of_order


@pytest.mark.parametrize(
    "query", ["wait=soon", "wait=-1", "wait=1m", "version=one", "version=-1", "version=1&wait=1e3"]
)
async def test_a_wait_in_another_form_is_a_bad_request(query: str) -> None:
    async with serving(World()) as client:
        answer = await client.get(f"/api/orders/shop/A1?{query}")
        assert (answer.status, (await answer.json())["error"]) == (400, "bad_request")


async def test_more_waiters_than_there_is_room_for_are_told_to_ask_again() -> None:
    world = World(changes=OrderChanges(waiters_max=1))
    async with serving(world) as client:
        waiting = asyncio.ensure_future(client.get("/api/orders/shop/A1?wait=60s"))
        await until(lambda: bool(world.changes._of_order))
        refused = await client.get("/api/orders/shop/A1?wait=60s")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert (await refused.json())["error"] == "too_many_waiters"
        await world.deliver(form("A1"))
        assert (await asyncio.wait_for(waiting, 5)).status == 200


async def test_those_who_wait_get_their_answer_when_the_port_closes() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        waiting = asyncio.ensure_future(client.get("/api/orders/shop/A1?wait=60s&version=1"))
        await until(lambda: bool(world.changes._of_order))
        world.changes.close()
        assert (await asyncio.wait_for(waiting, 5)).status == 200


async def test_a_registration_is_created_then_renewed_and_shown() -> None:
    world = World()
    async with serving(world) as client:
        first = await client.put("/api/orders/strict/A1", json={"amount": "12.80", "currency": "USD"})
        again = await client.put("/api/orders/strict/A1", json={"amount_minor": 1280, "currency": "USD"})
        order = await again.json()
    assert (first.status, again.status) == (201, 200)
    assert (order["status"], order["version"], order["registered"]) == ("WAITING", 0, True)
    assert (order["expected_minor"], order["expected"], order["expected_currency"]) == (1280, "12.80", "USD")
    assert world.woken == 2


async def test_what_waited_for_its_registration_comes_due_at_once() -> None:
    world = World()
    position = await world.deliver(form("A1"), "strict")
    async with serving(world) as client:
        await client.put("/api/orders/strict/A1", json={"amount": "12.80"})
    assert [row.position for row in await world.store.due(now_ms=NOW_MS, limit=10)] == [position]


async def test_a_registration_ends_a_wait_by_the_change_that_it_makes() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        waiting = asyncio.ensure_future(client.get("/api/orders/shop/A1?wait=60s&version=1"))
        await until(lambda: bool(world.changes._of_order))
        await client.put("/api/orders/shop/A1", json={"amount": "99.00"})
        order = await (await asyncio.wait_for(waiting, 5)).json()
    assert (order["version"], order["flags"]) == (2, ["amount_mismatch"])


async def test_a_registration_leaves_an_audit_row_of_who_and_what() -> None:
    world = World()
    async with serving(world) as client:
        await client.put("/api/orders/shop/A1", json={"amount": "12.80", "refunds": ["REF-1"], "by": "kim\x00"})
        await client.put("/api/orders/shop/A1", json={"refunds": ["REF-2"]})
    (first, second) = world.store.audit
    assert (*first[:2], first[3]) == ("register", "shop:A1", "12.80 USD, refund REF-1")
    assert first[2].startswith("kim\N{REPLACEMENT CHARACTER} (")
    assert (second[2][:5], second[3]) == ("api (", "refund REF-2")


async def test_a_refund_of_another_order_is_a_conflict_that_names_it() -> None:
    world = World()
    async with serving(world) as client:
        await client.put("/api/orders/shop/A1", json={"refunds": ["REF-1"]})
        answer = await client.put("/api/orders/shop/A2", json={"amount": "12.80", "refunds": ["REF-1"]})
        assert answer.status == 409
        assert await answer.json() == {
            "error": "conflict", "detail": "refund REF-1 is registered with order A1 already",
        }  # fmt: skip
    assert ("shop", "A2") not in world.store.orders


async def test_a_refund_number_is_registered_without_an_amount() -> None:
    world = World()
    async with serving(world) as client:
        answer = await client.put("/api/orders/shop/A1", json={"refunds": ["REF-1", "REF-2"]})
        assert answer.status == 201
    assert world.store.refunds == {("shop", "REF-1"): "A1", ("shop", "REF-2"): "A1"}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "give an amount"),
        ({"currency": "USD"}, "give an amount"),
        ({"amount": "12.80", "amount_minor": 1280}, "not both"),
        ({"amount": 12.8}, "Expected `str | null`"),
        ({"amount": "12.8"}, "12.80"),
        ({"amount": "1e3"}, "12.80"),
        ({"amount": "-1.00"}, "12.80"),
        ({"amount": "0.00"}, "above zero"),
        ({"amount_minor": 0}, "above zero"),
        ({"amount_minor": -1280}, "above zero"),
        ({"amount_minor": 12.5}, "Expected `int | null`"),
        ({"amount_minor": 10**13}, "above zero"),
        ({"amount": "12.80", "currency": "JPY"}, "no decimals"),
        ({"amount": "12.80", "currency": "XXX"}, "currency must be one of"),
        ({"amount": "12.80", "price": "1.00"}, "unknown field `price`"),
        ({"refunds": [""]}, "refund number"),
        ({"refunds": ["x" * 65]}, "refund number"),
        ({"refunds": [f"R{n}" for n in range(101)]}, "at most 100"),
        ([], "Expected `object`"),
    ],
)
async def test_a_registration_that_could_be_misread_is_refused_and_says_what_would_be_right(
    body: object, told: str
) -> None:
    world = World()
    async with serving(world) as client:
        answer = await client.put("/api/orders/shop/A1", json=body)
        assert answer.status == 400
        assert told in (await answer.json())["detail"]
    assert not world.store.orders


@pytest.mark.parametrize("number", ["x" * 65, "a%0Ab", "a%00b"])
async def test_a_number_that_is_none_is_not_registered(number: str) -> None:
    async with serving(World()) as client:
        assert (await client.put(f"/api/orders/shop/{number}", json={"amount": "1.00"})).status == 400


async def test_a_body_that_is_no_json_or_says_so_is_refused() -> None:
    async with serving(World()) as client:
        form_body = await client.put("/api/orders/shop/A1", data={"amount": "12.80"})
        broken = await client.put(
            "/api/orders/shop/A1", data=b'{"amount":', headers={"Content-Type": "application/json"}
        )
        large = await client.put(
            "/api/orders/shop/A1", data=b" " * 70_000, headers={"Content-Type": "application/json"}
        )
        assert (form_body.status, broken.status, large.status) == (415, 400, 413)


async def test_a_store_that_is_down_is_503_and_nothing_of_the_fault_is_told() -> None:
    world = World()
    world.store.is_down = True
    async with serving(world) as client:
        answer = await client.get("/api/orders/shop/A1")
        text = await answer.text()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert "disk" not in text


async def test_orders_are_found_by_any_of_their_numbers_and_the_latest_are_listed() -> None:
    world = World()
    await world.deliver(form("A1"))
    await world.deliver(form("A2"))
    async with serving(world) as client:
        for number in ("A1", "20251009A1", "A1-TRADE_SUCCESS"):
            found = await (await client.get("/api/find", params={"number": number})).json()
            assert found == {"matches": [{"account": "shop", "order": "A1"}]}
        assert await (await client.get("/api/find?number=A")).json() == {"matches": []}
        assert (await client.get("/api/find")).status == 400
        recent = await (await client.get("/api/orders?limit=1")).json()
        assert (await client.get("/api/orders?limit=1001")).status == 400
    assert [order["order"] for order in recent["orders"]] == ["A2"]


async def test_a_return_says_what_it_claims_and_beside_it_what_is_known() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        answer = await (await client.post("/api/returns/shop", json={"query": "out_trade_no=A1&sign=x"})).json()
        assert (answer["authentic"], answer["result_status"], answer["claims"]) == (
            True,
            "9000",
            {"out_trade_no": "A1"},
        )
        assert (answer["order"]["status"], answer["order"]["timeline"]) == ("PAID", [])
        both = await client.post("/api/returns/shop", json={"query": "a", "result": "b"})
        none, empty = (
            await client.post("/api/returns/shop", json={}),
            await client.post("/api/returns/shop", json={"result": ""}),
        )
        unknown = await client.post("/api/returns/nobody", json={"query": "a"})
        assert [both.status, none.status, empty.status, unknown.status] == [400, 400, 400, 404]


async def test_the_feed_gives_events_in_order_and_waits_for_the_next() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    await world.deliver(form("B1"), "strict")  # parked: a notice, on the other topic
    await world.deliver(form("A1"))
    async with serving(world) as client:
        fed = await (await client.get("/api/events?after=0&limit=1")).json()
        assert [(event["id"], event["specversion"]) for event in fed["events"]] == [("shop:A1:1", "1.0")]
        assert fed["events"][0]["data"]["status"] == "WAITING"
        assert fed["events"][0]["source"] == "/alipay-notify/shop"
        rest = await (await client.get(f"/api/events?after={fed['next']}&limit=1")).json()
        assert [event["id"] for event in rest["events"]] == ["shop:A1:2"]
        notices = await (await client.get("/api/events?topic=payments.notification.held.v1")).json()
        assert [event["data"]["reason"] for event in notices["events"]] == ["unknown_order"]
        waiting = asyncio.ensure_future(client.get(f"/api/events?after={rest['next']}&wait=60s"))
        await until(lambda: bool(world.changes._of_all))
        await world.deliver(form("A2"))
        last = await (await asyncio.wait_for(waiting, 5)).json()
        assert [event["id"] for event in last["events"]] == ["shop:A2:1"]
        nothing = await (await client.get(f"/api/events?after={last['next']}&wait=10ms")).json()
        assert nothing == {"events": [], "next": last["next"]}
        assert (await client.get("/api/events?topic=other")).status == 400


async def test_whoever_has_seen_less_is_told_at_once_and_the_others_wait() -> None:
    world = World()
    async with serving(world) as client:
        seen = (await (await client.get("/api/changes?seen=99")).json())["seen"]
        waiting = asyncio.ensure_future(client.get(f"/api/changes?seen={seen}&wait=60s"))
        await until(lambda: bool(world.changes._of_all))
        await world.deliver(form("A1"))
        assert (await (await asyncio.wait_for(waiting, 5)).json())["seen"] > seen
    assert json.dumps(seen)
