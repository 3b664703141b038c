"""The API for orders: the order with its timeline, the wait for a newer version, and the registration."""

import asyncio

import pytest
from msgspec import structs

from schemas.money import Money
from schemas.orders import Capture, Refund
from tests.support.admin import NOW_MS, Refused, World, form, serving
from tests.support.waiting import until
from workers.long_poll import OrderChanges


async def test_order_is_shown_with_its_amounts_and_its_timeline() -> None:
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
    entries = [
        (entry["kind"], entry.get("disposition") or entry.get("type") or entry["reason"]) for entry in order["timeline"]
    ]
    assert entries == [
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


async def test_unknown_order_and_unknown_account_are_404() -> None:
    async with serving(World()) as client:
        order, account = await client.get("/api/orders/shop/A1"), await client.get("/api/orders/unknown/A1")
        assert (order.status, account.status) == (404, 404)
        assert (await order.json())["error"] == "unknown_order"
        assert (await account.json())["error"] == "unknown_account"


async def test_order_with_only_a_parked_notification_has_no_status() -> None:
    world = World()
    await world.deliver(form("A1"), "strict")
    async with serving(world) as client:
        order = await (await client.get("/api/orders/strict/A1")).json()
    assert (order["status"], order["version"]) == (None, 0)
    assert [entry["disposition"] for entry in order["timeline"]] == ["parked"]


async def test_order_with_only_refused_requests_has_no_status() -> None:
    world = World()
    world.refusals.requests.append(Refused("shop", "A1", "bad_signature"))
    async with serving(world) as client:
        order = await (await client.get("/api/orders/shop/A1")).json()
    assert (order["status"], [entry["kind"] for entry in order["timeline"]]) == (None, ["refused"])


async def test_numbers_with_slashes_blanks_and_chinese_find_their_order() -> None:
    world = World()
    for number in ("a/b", "a b", "订单-1"):
        await world.deliver(form(number))
    async with serving(world) as client:
        for path in ("a%2Fb", "a%20b", "%E8%AE%A2%E5%8D%95-1"):
            assert (await client.get(f"/api/orders/shop/{path}")).status == 200


async def test_wait_ends_when_the_order_is_newer_than_the_given_version() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    async with serving(world) as client:
        waiting = asyncio.ensure_future(client.get("/api/orders/shop/A1?wait=60s&version=1"))
        await until(lambda: bool(world.changes._of_order))
        await world.deliver(form("A1", "WAIT_BUYER_PAY"))  # a duplicate wakes the waiter, which continues to wait
        await until(lambda: bool(world.changes._of_order))
        assert not waiting.done()
        await world.deliver(form("A1"))
        order = await (await asyncio.wait_for(waiting, 5)).json()
    assert (order["status"], order["version"]) == ("PAID", 2)


async def test_wait_ends_when_an_unknown_order_appears() -> None:
    world = World()
    async with serving(world) as client:
        waiting = asyncio.ensure_future(client.get("/api/orders/shop/A1?wait=60"))
        await until(lambda: bool(world.changes._of_order))
        await world.deliver(form("A1"))
        order = await (await asyncio.wait_for(waiting, 5)).json()
    assert order["status"] == "PAID"


async def test_wait_ends_at_once_if_the_order_is_already_newer() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        order = await (await client.get("/api/orders/shop/A1?wait=60s&version=0")).json()
    assert order["version"] == 1


async def test_wait_that_times_out_returns_the_order_as_it_is() -> None:
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
async def test_malformed_wait_or_version_is_a_bad_request(query: str) -> None:
    async with serving(World()) as client:
        answer = await client.get(f"/api/orders/shop/A1?{query}")
        assert (answer.status, (await answer.json())["error"]) == (400, "bad_request")


async def test_too_many_waiters_get_503_with_retry_after() -> None:
    world = World(changes=OrderChanges(waiters_max=1))
    async with serving(world) as client:
        waiting = asyncio.ensure_future(client.get("/api/orders/shop/A1?wait=60s"))
        await until(lambda: bool(world.changes._of_order))
        refused = await client.get("/api/orders/shop/A1?wait=60s")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert (await refused.json())["error"] == "too_many_waiters"
        await world.deliver(form("A1"))
        assert (await asyncio.wait_for(waiting, 5)).status == 200


async def test_waiters_are_answered_when_the_port_closes() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        waiting = asyncio.ensure_future(client.get("/api/orders/shop/A1?wait=60s&version=1"))
        await until(lambda: bool(world.changes._of_order))
        world.changes.close()
        assert (await asyncio.wait_for(waiting, 5)).status == 200


async def test_registration_is_created_then_replaced_and_shown() -> None:
    world = World()
    async with serving(world) as client:
        first = await client.put("/api/orders/strict/A1", json={"amount": "12.80", "currency": "USD"})
        again = await client.put("/api/orders/strict/A1", json={"amount_minor": 1280, "currency": "USD"})
        order = await again.json()
    assert (first.status, again.status) == (201, 200)
    assert (order["status"], order["version"], order["registered"]) == ("WAITING", 0, True)
    assert (order["expected_minor"], order["expected"], order["expected_currency"]) == (1280, "12.80", "USD")
    assert world.woken == 2


async def test_order_may_have_one_amount_per_currency_or_none() -> None:
    world = World()
    several = [{"amount": "80.00", "currency": "CNY"}, {"amount_minor": 1280}, {"amount_minor": 5, "currency": "XXX"}]
    async with serving(world) as client:
        two = await (await client.put("/api/orders/strict/A1", json={"amounts": several})).json()
        any_ = await (await client.put("/api/orders/strict/A1", json={"amounts": []})).json()
        page = await (await client.get("/orders/strict/A1")).text()
    assert two["expected_amounts"] == [
        {"amount_minor": 8000, "amount": "80.00", "currency": "CNY"},
        {"amount_minor": 1280, "amount": "12.80", "currency": "USD"},
        {"amount_minor": 5, "amount": None, "currency": "XXX"},
    ]
    assert (two["expected"], two["expected_currency"], two["amount"], two["currency"]) == (
        "80.00",
        "CNY",
        "80.00",
        "CNY",
    )
    assert (any_["registered"], any_["expected"], any_["expected_amounts"], any_["amount"]) == (True, None, [], None)
    assert "any amount" in page
    assert [row[3] for row in world.store.audit] == [
        "80.00 CNY, 12.80 USD, 5 smallest units of XXX", "any amount",
    ]  # fmt: skip


async def test_payment_is_compared_with_the_amount_of_its_currency() -> None:
    world = World()
    async with serving(world) as client:
        prices = {"amounts": [{"amount": "80.00", "currency": "CNY"}, {"amount": "12.80", "currency": "USD"}]}
        await client.put("/api/orders/shop/A1", json=prices)
        await world.deliver(form("A1"))
        order = await (await client.get("/api/orders/shop/A1")).json()
    assert (order["status"], order["amount"], order["currency"], order["flags"]) == ("PAID", "12.80", "USD", [])


async def test_notification_that_waited_for_registration_is_due_at_once() -> None:
    world = World()
    position = await world.deliver(form("A1"), "strict")
    async with serving(world) as client:
        await client.put("/api/orders/strict/A1", json={"amount": "12.80"})
    assert [row.position for row in await world.store.due(now_ms=NOW_MS, limit=10)] == [position]


async def test_registration_that_changes_the_order_ends_a_wait() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        waiting = asyncio.ensure_future(client.get("/api/orders/shop/A1?wait=60s&version=1"))
        await until(lambda: bool(world.changes._of_order))
        await client.put("/api/orders/shop/A1", json={"amount": "99.00"})
        order = await (await asyncio.wait_for(waiting, 5)).json()
    assert (order["version"], order["flags"]) == (2, ["amount_mismatch"])


async def test_registration_leaves_an_audit_row_with_operator_and_content() -> None:
    world = World()
    async with serving(world) as client:
        await client.put("/api/orders/shop/A1", json={"amount": "12.80", "refunds": ["REF-1"], "by": "kim\x00"})
        await client.put("/api/orders/shop/A1", json={"refunds": ["REF-2"]})
    (first, second) = world.store.audit
    assert (*first[:2], first[3]) == ("register", "shop:A1", "12.80 USD, refund REF-1")
    assert first[2].startswith("kim\\x00 (")
    assert (second[2][:5], second[3]) == ("api (", "refund REF-2")


async def test_refund_of_another_order_is_a_conflict_that_names_the_order() -> None:
    world = World()
    async with serving(world) as client:
        await client.put("/api/orders/shop/A1", json={"refunds": ["REF-1"]})
        answer = await client.put("/api/orders/shop/A2", json={"amount": "12.80", "refunds": ["REF-1"]})
        assert answer.status == 409
        assert await answer.json() == {
            "error": "conflict", "detail": "refund REF-1 is registered with order A1 already",
        }  # fmt: skip
    assert ("shop", "A2") not in world.store.orders


async def test_refund_number_is_registered_without_an_amount() -> None:
    world = World()
    async with serving(world) as client:
        answer = await client.put("/api/orders/shop/A1", json={"refunds": ["REF-1", "REF-2"]})
        assert answer.status == 201
    assert world.store.refunds == {("shop", "REF-1"): "A1", ("shop", "REF-2"): "A1"}


@pytest.mark.parametrize(
    ("body", "part"),
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
        ({"amount": "12.80", "currency": "XXX"}, "'XXX' is not a currency of ISO 4217"),
        ({"amount_minor": 1280, "currency": "usd"}, "three capital letters"),
        ({"amount": "12.80", "price": "1.00"}, "unknown field `price`"),
        ({"amounts": [{"amount": "1.00"}], "amount": "1.00"}, "not both"),
        ({"amounts": [], "currency": "USD"}, "not both"),
        ({"amounts": [{"amount": "1.00"}, {"amount_minor": 2}]}, "one entry per currency"),
        ({"amounts": [{}]}, "above zero"),
        ({"amounts": [{"amount": "1.00", "amount_minor": 100}]}, "not both"),
        ({"amounts": [{"amount_minor": n + 1, "currency": f"AA{chr(65 + n)}"} for n in range(11)]}, "at most 10"),
        ({"amounts": ["1.00"]}, "Expected `object`"),
        ({"refunds": [""]}, "refund number"),
        ({"refunds": ["x" * 65]}, "refund number"),
        ({"refunds": [f"R{n}" for n in range(101)]}, "at most 100"),
        ([], "Expected `object`"),
    ],
)
async def test_ambiguous_registration_is_refused_with_the_right_form(body: object, part: str) -> None:
    world = World()
    async with serving(world) as client:
        answer = await client.put("/api/orders/shop/A1", json=body)
        assert answer.status == 400
        assert part in (await answer.json())["detail"]
    assert not world.store.orders


@pytest.mark.parametrize("number", ["x" * 65, "a%0Ab", "a%00b"])
async def test_malformed_order_number_is_not_registered(number: str) -> None:
    async with serving(World()) as client:
        assert (await client.put(f"/api/orders/shop/{number}", json={"amount": "1.00"})).status == 400


async def test_body_that_is_not_json_or_too_large_is_refused() -> None:
    async with serving(World()) as client:
        form_body = await client.put("/api/orders/shop/A1", data={"amount": "12.80"})
        broken = await client.put(
            "/api/orders/shop/A1", data=b'{"amount":', headers={"Content-Type": "application/json"}
        )
        large = await client.put(
            "/api/orders/shop/A1", data=b" " * 70_000, headers={"Content-Type": "application/json"}
        )
        assert (form_body.status, broken.status, large.status) == (415, 400, 413)


async def test_store_that_is_down_is_503_without_internals() -> None:
    world = World()
    world.store.is_down = True
    async with serving(world) as client:
        answer = await client.get("/api/orders/shop/A1")
        text = await answer.text()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert "disk" not in text


async def test_orders_are_found_by_any_of_their_numbers() -> None:
    world = World()
    await world.deliver(form("A1"))
    await world.deliver(form("A2"))
    async with serving(world) as client:
        for number in ("A1", "20251009A1", "A1-TRADE_SUCCESS"):
            found = await (await client.get("/api/find", params={"number": number})).json()
            assert found["matches"] == [{"account": "shop", "order": "A1"}]
            assert [each["order"] for each in found["notifications"]] == ["A1"][: number == "A1-TRADE_SUCCESS"]
        assert await (await client.get("/api/find?number=A")).json() == {"matches": [], "notifications": []}
        assert (await client.get("/api/find")).status == 400
        recent = await (await client.get("/api/orders?limit=1")).json()
        assert (await client.get("/api/orders?limit=1001")).status == 400
    assert [order["order"] for order in recent["orders"]] == ["A2"]


async def test_long_poll_for_an_order_of_a_removed_account_shows_it() -> None:
    world = World()
    await world.deliver(form("A1"))
    del world.accounts["shop"]
    async with serving(world) as client:
        for query in ("", "?wait=50ms", "?wait=50ms&version=1"):
            answer = await client.get(f"/api/orders/shop/A1{query}")
            assert (answer.status, (await answer.json())["status"]) == (200, "PAID")
        absent = await asyncio.wait_for(client.get("/api/orders/shop/A2?wait=60s"), 30)
        assert (absent.status, (await absent.json())["error"]) == (404, "unknown_account")


async def test_form_with_two_readings_is_a_claim_on_an_order_and_makes_none() -> None:
    world = World()
    await world.deliver(form("A1", subject="S&total_fee=9", notify_id="c"))
    async with serving(world) as client:
        unknown = await client.get("/api/orders/shop/A1")
        assert (unknown.status, "see /api/find" in await unknown.text()) == (404, True)
        found = await (await client.get("/api/find?number=A1")).json()
        assert (found["matches"], found["notifications"][0]["reason"]) == ([], "ambiguous")
        await client.put("/api/orders/shop/A1", json={"amount": "12.80"})
        answer = await (await client.get("/api/orders/shop/A1")).json()
    assert (answer["status"], answer["version"], answer["flags"]) == ("WAITING", 0, [])
    registered, claim = answer["timeline"]
    assert (registered["kind"], registered["what"]) == ("registered", "12.80 USD")
    assert (claim["kind"], claim["reason"], claim["resolution"]) == ("claim", "ambiguous", "")


async def test_refunds_and_captures_are_listed_in_pages() -> None:
    world = World()
    await world.deliver(form("A1"))
    (claim,) = world.store.orders["shop", "A1"].claims
    refunds = tuple(Refund(id=f"R{n}", amount=Money(n + 1, "USD"), trade=claim.trade) for n in range(3))
    failed = Capture(id="C1", trade=claim.trade)
    order = structs.replace(world.store.orders["shop", "A1"], refunds=refunds, captures=(failed,))
    world.store.orders["shop", "A1"] = order
    async with serving(world) as client:
        first = await (await client.get("/api/orders/shop/A1/movements?limit=3")).json()
        rest = await (await client.get("/api/orders/shop/A1/movements", params={"cursor": first["next"]})).json()
        none = await client.get("/api/orders/shop/A2/movements")
        wrong = await client.get("/api/orders/shop/A1/movements?cursor=WzEsIDJd")
    assert [(each["kind"], each["number"], each["amount"]) for each in first["movements"]] == [
        ("refund", "R0", "0.01"), ("refund", "R1", "0.02"), ("refund", "R2", "0.03"),
    ]  # fmt: skip
    (capture,) = rest["movements"]
    assert (capture["kind"], capture["number"], capture["trade"]) == ("failed_capture", "C1", claim.trade)
    assert (capture["amount_minor"], capture["amount"], capture["currency"]) == (None, None, None)
    assert (rest["next"], none.status, wrong.status) == (None, 404, 400)
