"""The audit rows over HTTP: filters, pages and links."""

from tests.support.admin import NOW_MS, World, form, serving


async def played() -> World:
    world = World()
    async with serving(world) as client:
        await client.put("/api/orders/shop/A%2F1?", json={"amount": "12.80", "by": "kim"})
        held = await world.deliver(form("B1"), "strict")
        await client.post(f"/api/held/{held}/replay", json={"reason": "try", "by": "sam"})
        await client.post(f"/api/held/{held}/discard", json={"reason": "<b>", "by": "kim"})
        await client.post("/api/held/replays", json={"reason": "all", "rate": 1, "by": "sam"})
        await client.put("/api/orders/isv/C1?auth_app_id=2021000000000009", json={"amount": "1.00"})
    world.store.audit.append(("replay-log", "payments.alipay.notification.v1 from 36h", "root", "restored"))
    return world


async def test_actions_are_listed_from_the_newest_with_links() -> None:
    world = await played()
    async with serving(world) as client:
        entries = (await (await client.get("/api/audit")).json())["entries"]
    assert [(each["action"], each["link"]) for each in entries] == [
        ("replay-log", ""),
        ("register", "/orders/isv/C1?auth_app_id=2021000000000009"),
        ("replay_start", "/held"),
        ("discard", "/held/0-1"),
        ("replay", "/held/0-1"),
        ("register", "/orders/shop/A%2F1"),
    ]
    assert entries[-1] == {
        "number": 1,
        "at": "2025-10-09T08:53:20Z",
        "action": "register",
        "subject": "shop:A/1",
        "by": "kim (127.0.0.1)",
        "why": "12.80 USD",
        "account": "shop",
        "order": "A/1",
        "link": "/orders/shop/A%2F1",
    }
    assert entries[3]["held_id"] == "0-1"
    assert entries[1]["auth_app_id"] == "2021000000000009"


async def test_filters_narrow_and_pages_go_on() -> None:
    world = await played()
    world.audit.at_ms = dict.fromkeys((1, 2, 3), NOW_MS - 7200000)
    async with serving(world) as client:

        async def numbers(query: str) -> tuple[list[int], str | None]:
            answer = await (await client.get(f"/api/audit?{query}")).json()
            return [each["number"] for each in answer["entries"]], answer["next"]

        assert await numbers("by=kim") == ([3, 1], None)
        assert await numbers("by=127.0.0.1&action=register") == ([5, 1], None)
        assert await numbers("subject=0-1&action=&by=") == ([3, 2], None)
        assert await numbers("since=1h") == ([6, 5, 4], None)
        first, next_ = await numbers("limit=4")
        assert first == [6, 5, 4, 3]
        assert await numbers(f"limit=4&cursor={next_}") == ([2, 1], None)


async def test_faulty_filters_are_400_and_stay_in_the_form() -> None:
    async with serving(World()) as client:
        for query in ("action=destroy", "since=yesterday", "cursor=x", "limit=x", f"by={'x' * 501}"):
            assert (await client.get(f"/api/audit?{query}")).status == 400, query
        page = await client.get("/audit?by=kim&since=yesterday")
        text = await page.text()
    assert page.status == 400
    assert "a time must look like" in text
    assert 'value="kim"' in text


async def test_page_escapes_reasons_and_turns() -> None:
    world = await played()
    async with serving(world) as client:
        text = await (await client.get("/audit?limit=4&by=127")).text()
        empty = await (await client.get("/audit?by=nobody")).text()
    assert "&lt;b&gt;" in text
    assert '<a class="subject mono" href="/held/0-1">0-1</a>' in text
    assert 'rel="next"' in text
    assert "No action matches." in empty


async def test_event_that_was_published_again_links_to_its_order() -> None:
    world = World()
    world.store.audit.append(("resend", "shop:A/1:2", "lee", "lost"))
    async with serving(world) as client:
        (entry,) = (await (await client.get("/api/audit?action=resend")).json())["entries"]
    assert (entry["subject"], entry["order"], entry["link"]) == ("shop:A/1:2", "A/1", "/orders/shop/A%2F1")


async def test_import_of_a_bill_links_to_its_report() -> None:
    world = World()
    world.store.audit.append(("bill_import", "bill:7", "lee", "shop: bill.csv, 2 differences"))
    async with serving(world) as client:
        (entry,) = (await (await client.get("/api/audit?action=bill_import")).json())["entries"]
    assert (entry["subject"], entry["link"], "order" in entry) == ("bill:7", "/bills/7", False)
