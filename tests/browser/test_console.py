"""The console in a real browser: pages update by themselves, and an operator decides held notifications there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Dialog

from tests.support.admin import NOW_MS, TOKEN, World, form, serving
from tests.support.browser import browsing, needs_browser, sign_in_path, violations
from tests.support.keys import NEW, OLD, used
from tests.support.waiting import until
from tests.unit.workers.admin.test_bills import DIFFERENCE, finished
from workers.admin import held_amounts, held_preview
from workers.admin.operators import Operator
from workers.admin.process_state import ProcessCounts
from workers.admin.processes import SeenProcess
from workers.audit import AuditQuery
from workers.replays import Replayer

pytestmark = needs_browser
ALICE, BOB = Operator("alice", b"the-token-of-alice"), Operator("bob", b"the-token-of-bob")


async def audited(world: World, action: str | None = None) -> list[tuple[str, str, str]]:
    """Action, subject and reason of the audit rows, the newest first."""
    found = await world.audit.audit_list(AuditQuery(action=action))
    return [(each.action, each.subject, each.why) for each in found.entries]


@asynccontextmanager
async def doing(loop: Replayer) -> AsyncIterator[None]:
    """The worker's loop of tasks runs meanwhile."""
    running = asyncio.create_task(loop.run())
    yield
    loop.stop()
    await running


async def test_order_page_shows_new_events_without_a_reload() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    async with serving(world) as client, browsing() as page:
        loads: list[str] = []
        await page.goto(str(client.make_url("/orders/shop/A1")))
        page.on("framenavigated", lambda frame: loads.append(frame.url))
        assert await page.text_content(".pill") == "WAITING"
        await world.deliver(form("A1"))
        await page.wait_for_selector(".pill.paid")
        assert await page.locator(".timeline li").count() == 4
        assert loads == []


async def test_first_page_tells_the_money_at_risk_as_soon_as_it_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_amounts, "KEPT_S", 0.0)
    world = World()
    async with serving(world) as client, browsing() as page:
        await page.goto(str(client.make_url("/")))
        assert await page.text_content(".risk b") == "none"
        await world.deliver(form("B1"), "strict")
        await page.wait_for_selector(".risk.bad")
        assert await page.text_content(".risk b") == "12.80 USD"
        await page.click(".risk")
        await page.wait_for_selector("text=waits for order:B1")


async def test_operator_filters_orders_turns_the_page_and_takes_them_as_csv(console: World) -> None:
    world = console
    for number in range(55):
        await world.deliver(form(f"A{number:02}"))
    await world.deliver(form("W1", "WAIT_BUYER_PAY"))
    async with serving(world) as client, browsing() as page:
        await page.goto(str(client.make_url("/orders")))
        await page.select_option("select[name=status]", "PAID")
        await page.fill("input[name=prefix]", "A")
        await page.click("main button")
        await page.wait_for_url("**status=PAID**")
        assert await page.locator("#orders tbody tr").count() == 50
        assert await page.text_content("#orders tbody tr:first-child a") == "A54"
        await page.click("a[rel=next]")
        await page.wait_for_url("**cursor=**")
        assert await page.locator("#orders tbody a").all_text_contents() == [f"A{n:02}" for n in range(4, -1, -1)]
        async with page.expect_download() as download:
            await page.click("a[download]")
        rows = (await (await download.value).path()).read_text().splitlines()
        assert len(rows) == 56


async def test_faults_of_the_accounts_file_appear_and_vanish_without_a_reload() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    async with serving(world) as client, browsing() as page:
        await page.goto(str(client.make_url("/orders/shop/A1")))
        assert await page.locator(".notice").count() == 0
        world.accounts_faults = ["account shop: key.pem cannot be read"]
        await world.deliver(form("A1"))
        await page.wait_for_selector(".notice")
        assert "key.pem cannot be read" in (await page.text_content(".notice") or "")
        world.accounts_faults = []
        await world.deliver(form("A1", notify_id="again"))
        await page.wait_for_selector(".notice", state="detached")


async def test_operator_replays_a_held_notification_from_the_page(console: World) -> None:
    world = console
    position = await world.deliver(form("B1"), "strict")
    async with serving(world) as client, browsing(password=TOKEN) as page:
        await client.put("/api/orders/strict/B1", json={"amount": "12.80"})
        await page.goto(str(client.make_url(sign_in_path(f"/held/{position}"))))
        await page.fill("input[name=reason]", "it is registered now")
        await page.click("button[value=replay]")
        await page.wait_for_selector(".good-note")
        assert "applied" in (await page.text_content("output") or "")
        assert await violations(page) == []
    assert [why for *_, why in await audited(world, "replay")] == ["it is registered now"]


async def test_operator_accepts_a_held_notification_and_sees_who_did_it_on_the_order(console: World) -> None:
    world = console
    async with serving(world) as client, browsing(password=TOKEN) as page:
        await client.put("/api/orders/shop/A1", json={"amount": "99.00"})
        position = await world.deliver(form("A1"))
        await page.goto(str(client.make_url(sign_in_path(f"/held/{position}"))))
        assert await page.text_content("h1") == "said 12.80 USD, registered 99.00 USD"
        await page.fill("input[name=reason]", "the buyer has a voucher")
        await page.fill("input[name=by]", "kim")
        page.on("dialog", lambda dialog: dialog.accept())
        await page.click("button[value=accept]")
        await page.wait_for_selector(".good-note")
        await page.goto(str(client.make_url("/orders/shop/A1")))
        assert await page.text_content(".pill") == "PAID"
        assert "the buyer has a voucher" in (await page.text_content(".timeline li.decision") or "")
        assert await violations(page) == []


async def test_operator_selects_several_and_a_task_accepts_or_discards_them(console: World) -> None:
    world = console
    for number in range(4):
        await world.deliver(form(f"B{number}"), "strict")
    loop = world.replayer()
    async with serving(world) as client, browsing(password=TOKEN) as page, doing(loop):
        await client.put("/api/orders/strict/B0", json={"amount": "12.80"})
        await page.goto(str(client.make_url(sign_in_path("/held?account=strict"))))
        await page.fill("#many input[name=reason]", "tests")
        await page.click("#many button[value=discard]")
        assert "Select at least one" in (await page.text_content("#many output") or "")
        await page.check("#all")
        await page.uncheck("input[value='0-4']")
        await page.click("#many button[value=accept]")  # parked ones cannot be accepted
        await page.wait_for_selector("dialog h2:has-text('Accept 3?')")
        assert "38.40 USD paid in 3" in " ".join((await page.inner_text("dialog")).split())
        assert await violations(page) == []
        await page.keyboard.press("Escape")
        await page.wait_for_selector("#many output:has-text('Nothing was changed.')")
        assert await page.locator("input[name=id]:checked").count() == 3
        await page.click("#many button[value=accept]")
        await page.click("dialog button[value=go]")
        await page.wait_for_selector("#many output:has-text('Task 1 over 3 has started')")
        await page.wait_for_selector("#replays li.finished")
        assert await page.locator("input[name=id]:checked").count() == 0
        told = await page.inner_text("#replays li")
        assert "3 of 3" in told
        assert "0 accepted, 3 refused" in told
        assert "3 accept is for another amount" in " ".join(told.split())
        assert await violations(page) == []
        await page.check("input[value='0-2']")
        await world.deliver(form("B9"), "strict")  # the list is drawn anew, and the selection stays
        await page.wait_for_selector("input[value='0-5']")
        assert await page.is_checked("input[value='0-2']")
        await page.click("#many button[value=discard]")
        await page.click("dialog button:text('Back')")
        await page.wait_for_selector("#many output:has-text('Nothing was changed.')")
        await page.click("#many button[value=discard]")
        assert "Discarding is final" in (await page.text_content("dialog .warning") or "")
        await page.click("dialog button[value=go]")
        await page.wait_for_selector("input[value='0-2']", state="detached")
        await page.wait_for_selector("#replays li:has-text('1 discarded')")
    assert await audited(world, "discard") == [("discard", "0-2", "tests")]


async def test_operator_retries_all_that_match_as_a_task_after_its_preview(console: World) -> None:
    world = console
    for number in range(2):
        await world.deliver(form(f"B{number}"), "strict")
    async with serving(world) as client, browsing(password=TOKEN) as page:
        await page.goto(str(client.make_url(sign_in_path("/held?reason=unknown_order"))))
        await page.fill("#many input[name=reason]", "registered")
        await page.select_option("#many select[name=rate]", "200")
        await page.click("#many button[value=replay][data-all]")
        await page.wait_for_selector("dialog[open]")
        told = " ".join((await page.inner_text("dialog")).split())
        for part in ("Retry 2?", "25.60 USD paid in 2", "Oldest", "Newest", "unknown order", "At most 200 a second"):
            assert part in told, part
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await violations(page) == []
        await page.click("dialog button[value=go]")
        await page.wait_for_selector("#replays li.running")
        assert "Task 1 over 2 has started" in (await page.text_content("#many output") or "")
        assert "before" not in (await page.text_content("#many output") or "")
    task = await world.store.replay(1)
    assert task is not None
    assert (task.query.reason, task.rate) == ("unknown_order", 200)


async def test_task_says_if_the_number_has_changed_since_its_preview(console: World) -> None:
    world = console
    for number in range(3):
        await world.deliver(form(f"B{number}"), "strict")
    async with serving(world) as client, browsing(password=TOKEN) as page:
        await page.goto(str(client.make_url(sign_in_path("/held?account=strict"))))
        await page.fill("#many input[name=reason]", "tests")
        await page.click("#many button[value=discard][data-all]")
        await page.wait_for_selector("dialog h2:has-text('Discard 3?')")
        assert (await client.post("/api/held/0-2/discard", json={"reason": "by another"})).status == 200
        await page.click("dialog button[value=go]")
        told = "Task 1 over 2 has started. It goes on without this page. They were 3 before: others have changed some"
        await page.wait_for_selector(f"#many output:has-text('{told}')")
    task = await world.store.replay(1)
    assert task is not None
    assert (task.action, task.query.account, task.query.ids) == ("discard", "strict", ())


async def test_many_are_confirmed_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_preview, "TYPED_ABOVE", 1)
    world = World()
    for number in range(2):
        await world.deliver(form(f"B{number}"), "strict")
    async with serving(world) as client, browsing(password=TOKEN) as page:
        await page.goto(str(client.make_url(sign_in_path("/held?account=strict"))))
        await page.fill("#many input[name=reason]", "tests")
        await page.click("#many button[value=discard][data-all]")
        await page.fill("dialog input[name=typed]", "3")
        assert await page.is_disabled("dialog button[value=go]")
        assert await violations(page) == []
        await page.press("dialog input[name=typed]", "Enter")  # goes back
        await page.wait_for_selector("#many output:has-text('Nothing was changed.')")
        await page.click("#many button[value=discard][data-all]")
        await page.fill("dialog input[name=typed]", "2")
        await page.click("dialog button[value=go]")
        await page.wait_for_selector("#many output:has-text('Task 1 over 2 has started')")


async def test_replay_is_cancelled_and_resumed_from_the_page(console: World) -> None:
    world = console
    for number in range(3):
        await world.deliver(form(f"B{number}"), "strict")
    async with serving(world) as client, browsing(password=TOKEN) as page:
        body = {"rate": 10, "reason": "registered", "by": "kim"}
        await client.post("/api/held/replays", json=body)
        await world.replayer().run_once()
        await page.goto(str(client.make_url(sign_in_path("/held"))))
        await page.evaluate("sessionStorage.by = 'ana'")
        await page.click("button[data-verb=cancel]")
        await page.wait_for_selector("button[data-verb=resume]")
        assert "1 of 3" in (await page.text_content("#replays") or "")
        assert await violations(page) == []
        await page.click("button[data-verb=resume]")
        await page.wait_for_selector("button[data-verb=cancel]")
    assert [action for action, *_ in await audited(world)][:2] == ["replay_resume", "replay_cancel"]
    (cancelled,) = (await world.audit.audit_list(AuditQuery(action="replay_cancel"))).entries
    assert cancelled.by.startswith("ana ")


async def test_without_a_token_the_page_offers_the_sign_in_and_no_action(console: World) -> None:
    world = console
    position = await world.deliver(form("B1"), "strict")
    async with serving(world) as client, browsing(password=TOKEN) as page:
        await page.goto(str(client.make_url(f"/held/{position}")))
        assert await page.locator("main form").count() == 0
        assert await violations(page) == []
        await page.click("main section a:text('Sign in')")
        await page.wait_for_selector("form[data-held]")
        assert page.url.endswith(f"/held/{position}")
        assert await page.text_content(".who") == "signed in, without a name"
        assert await violations(page) == []
    assert await audited(world) == []


async def test_token_that_ended_meanwhile_is_told_and_nothing_is_discarded(console: World) -> None:
    world = console
    position = await world.deliver(form("B1"), "strict")
    async with serving(world, operators=(ALICE,)) as client, browsing(excused="401") as page:
        headers = {"Authorization": f"Bearer {ALICE.token.decode()}"}
        await page.set_extra_http_headers(headers)
        await page.goto(str(client.make_url(f"/held/{position}")))
        await page.set_extra_http_headers({})
        await page.fill("form[data-held] input[name=reason]", "let it go")
        page.on("dialog", lambda dialog: dialog.accept())
        await page.click("button[value=discard]")
        await page.wait_for_selector("form[data-held] output:has-text('You are not signed in.')")
    assert await audited(world) == []


async def test_operator_signs_in_once_and_acts_under_the_name_of_the_token(console: World) -> None:
    world = console
    position = await world.deliver(form("B1"), "strict")
    async with serving(world, operators=(ALICE, BOB)) as client, browsing(password=BOB.token.decode()) as page:
        await page.goto(str(client.make_url("/")))
        await page.click(".who a")
        await page.wait_for_selector(".who:has-text('bob')")
        await page.click("nav a[href='/held']")
        await page.wait_for_selector("#many")
        await page.goto(str(client.make_url(f"/held/{position}")))
        assert await page.locator("input[name=by]").count() == 0
        assert BOB.token.decode() not in await page.content()
        assert await page.evaluate("Object.keys(sessionStorage).length + Object.keys(localStorage).length") == 0
        assert await violations(page) == []
        await page.fill("form[data-held] input[name=reason]", "a test order")
        page.on("dialog", lambda dialog: dialog.accept())
        await page.click("button[value=discard]")
        await page.wait_for_selector(".good-note:has-text('bob (token, 127.0.0.1)')")
    (entry,) = (await world.audit.audit_list(AuditQuery())).entries
    assert (entry.action, entry.by) == ("discard", "bob (token, 127.0.0.1)")


async def test_operator_who_changes_and_gives_no_other_token_is_signed_out() -> None:
    async with serving(World(), operators=(ALICE, BOB), carried=None) as client, browsing(excused="401") as page:
        url = client.make_url("/sign-in")
        await page.goto(str(url.with_user("alice").with_password(ALICE.token.decode())))
        await page.goto(str(client.make_url("/held")))
        await page.wait_for_selector(".who:has-text('alice')")
        async with page.expect_event("requestfailed", lambda request: "/sign-in" in request.url):
            await page.click(".who a", no_wait_after=True)  # without a window there is no prompt
        await page.wait_for_url("chrome-error://**")
        await page.goto(str(client.make_url("/held")))
        assert await page.text_content(".who") == "Sign in"
        assert await page.locator("#many").count() == 0


async def test_page_of_another_operator_than_the_one_signed_in_changes_nothing(console: World) -> None:
    world = console
    position = await world.deliver(form("B1"), "strict")
    async with (
        serving(world, operators=(ALICE, BOB)) as client,
        browsing(excused="403", password=BOB.token.decode()) as page,
    ):
        await page.goto(str(client.make_url(sign_in_path(f"/held/{position}"))))
        await page.evaluate("document.body.dataset.operator = 'alice'")  # as before a sign-in in another tab
        await page.fill("form[data-held] input[name=reason]", "a test order")
        page.on("dialog", lambda dialog: dialog.accept())
        await page.click("button[value=discard]")
        await page.wait_for_selector("form[data-held] output:has-text('this token is that of bob')")
    assert await audited(world) == []


@pytest.mark.parametrize("token", [None, TOKEN])
async def test_page_that_rebinds_its_name_to_the_admin_port_reads_nothing(token: str | None) -> None:
    world = World()
    position = await world.deliver(form("B1", buyer_logon_id="buyer@secret.example"), "strict")
    rebound = "--host-resolver-rules=MAP evil.example 127.0.0.1"  # the attacker's name server, second answer
    async with serving(world, token=token) as client, browsing(excused="403", arguments=[rebound]) as page:
        await page.goto(f"http://evil.example:{client.port}/livez")  # a document of the attacker's origin
        for path in (f"/api/held/{position}", f"/held/{position}", "/api/orders", "/metrics"):
            read = await page.evaluate("path => fetch(path).then(async a => [a.status, await a.text()])", path)
            assert read[0] == 403, (path, read)
            assert "secret" not in read[1]


async def test_console_beyond_loopback_opens_after_one_sign_in() -> None:
    world = World()
    position = await world.deliver(form("B1"), "strict")
    async with (
        serving(world, carried=None, reads_need_token=True) as client,
        browsing(excused="401", password=TOKEN) as page,
    ):
        await page.goto(str(client.make_url(f"/held/{position}")))
        await page.fill("input[name=reason]", "a test order")
        page.on("dialog", lambda dialog: dialog.accept())
        await page.click("button[value=discard]")
        await page.wait_for_selector(".good-note")
    assert [why for *_, why in world.store.decided] == ["a test order"]


async def test_tail_follows_what_happens_and_stands_still_while_paused(console: World) -> None:
    world = console
    await world.deliver(form("A1"))
    async with serving(world) as client, browsing() as page:
        await page.goto(str(client.make_url("/tail")))
        assert await page.text_content("#lines tbody tr:first-child a") == "A1"
        await page.wait_for_selector("#following:text('following')")
        await world.deliver(form("A2"))
        await page.wait_for_selector("#lines a:text('A2')")
        await page.click("#pause")
        assert await page.text_content("#following") == "paused"
        await until(lambda: not world.tail._waiters, within_s=30)  # nothing is kept for it
        await world.deliver(form("A3"))
        await world.deliver(form("A4"))
        assert await page.locator("#lines a:text('A3')").count() == 0
        await page.click("#pause")
        await page.wait_for_selector("#lines a:text('A4')")
        assert await page.locator("#lines a:text('A3')").count() == 1
        await page.click("#lines a:text('A4')")
        await page.wait_for_url("**/orders/shop/A4")


async def test_tail_is_filtered_by_account_and_outcome(console: World) -> None:
    world = console
    async with serving(world) as client, browsing() as page:
        await page.goto(str(client.make_url("/tail")))
        await page.select_option("select[name=account]", "strict")
        await page.select_option("select[name=outcome]", "parked")
        await page.click("main form button")
        await page.wait_for_url("**account=strict**")
        await page.wait_for_selector("#following:text('following')")
        await world.deliver(form("A1"))
        world.tail.received(account="strict", scope="strict", order="R1", notification_id="n")
        await world.deliver(form("B1"), "strict")
        await page.wait_for_selector("#lines a:text('B1')")
        assert await page.locator("#lines tbody tr").count() == 1
        assert "parked unknown order" in (await page.inner_text("#lines tbody tr"))
        assert await violations(page) == []


async def test_gone_process_stands_in_the_list_on_the_first_page() -> None:
    world = World()
    state = await world.own.state()
    gone = SeenProcess(address="10.0.0.7:9464", state=state, seen_at_ms=NOW_MS, is_gone=True, trouble="no answer")
    never = SeenProcess(address="worker:9464", state=None, seen_at_ms=None, is_gone=True, trouble="unknown name")

    class Three:
        are_known = True

        async def seen(self) -> list[SeenProcess]:
            return [SeenProcess(address="10.0.0.6:9464", state=state, seen_at_ms=NOW_MS), gone, never]

        def counts(self) -> ProcessCounts:
            return ProcessCounts(accepted=5)

    world.processes = Three()
    async with serving(world) as client, browsing() as page:
        await page.set_viewport_size({"width": 1360, "height": 900})
        await page.goto(str(client.make_url("/")))
        rows = [await row.inner_text() for row in await page.locator("#processes tbody tr").all()]
        assert ["gone" in row for row in rows] == [False, True, True]
        assert "10.0.0.6:9464" in rows[0]
        assert "1.2.3" in rows[0]
        assert "unknown name" in rows[2]
        assert "Received per minute" in await page.inner_text("#facts")


@pytest.mark.parametrize("width", [390, 1360])
async def test_no_page_is_wider_than_its_window_and_no_card_hides_a_part(width: int) -> None:
    world = World()
    number = "N" * 64
    await world.deliver(form(number, "WAIT_BUYER_PAY"))
    await world.deliver(form("2026113022001499681406857742"))
    held = await world.deliver(form(number), "strict")
    world.accounts_faults = [f"account shop: {'f' * 90}.pem cannot be read"]
    async with serving(world) as client, browsing() as page:
        await page.set_viewport_size({"width": width, "height": 900})
        await finished(client, DIFFERENCE | {"order": number, "trade": number}, report={"file": "f" * 200})
        for path in (
            "/",
            "/orders",
            "/held",
            "/tail",
            "/callbacks?endpoint=hooks",
            "/bills",
            "/bills/1",
            f"/held/{held}",
            f"/orders/shop/{number}",
        ):
            await page.goto(str(client.make_url(path)))
            assert await page.evaluate("document.documentElement.scrollWidth") == width, path
            more = "Array.from(document.querySelectorAll('.card'), card => card.scrollWidth - card.clientWidth)"
            assert set(await page.evaluate(more)) == {0}, path
        await page.goto(str(client.make_url("/held")))
        label = "getComputedStyle(document.querySelector('#rows td:last-child'), '::before').content"
        assert await page.evaluate(label) == ('"Next"' if width == 390 else "none")


async def test_operator_finds_the_differences_of_a_bill_and_takes_them_as_csv(console: World) -> None:
    world = console
    await world.deliver(form("A1"))
    async with serving(world) as client, browsing() as page:
        known = DIFFERENCE | {
            "kind": "payment_amount",
            "order": "A1",
            "here_minor": 1,
            "here_currency": "USD",
            "is_known": True,
        }
        await finished(client, DIFFERENCE | {"order": "=1"}, known, report={"counts": {"payment_amount": 1}})
        await page.goto(str(client.make_url("/")))
        await page.click("nav a[href='/bills']")
        await page.click("#imports tbody a")
        await page.wait_for_selector("#differences tbody tr:nth-child(2)")
        async with page.expect_download() as download:
            await page.click("a[download]")
        rows = (await (await download.value).path()).read_text().splitlines()
        assert [row.split(",")[3] for row in rows] == ["order", "'=1", "A1"]
        await page.click("#differences tbody a")
        await page.wait_for_url("**/orders/shop/A1")


async def test_operator_verifies_on_the_order_page_and_reveals_personal_data_with_a_reason(console: World) -> None:
    world = console
    await world.deliver(form("A1"))
    async with serving(world) as client, browsing(password=TOKEN) as page:
        await page.goto(str(client.make_url("/orders/shop/A1")))
        await page.click("button[data-verify]")
        await page.wait_for_selector("output.verdict.good")
        assert "with key k" in (await page.text_content("output.verdict") or "")
        world.is_authentic = False
        await page.click("button[data-verify]")
        await page.wait_for_selector("output.verdict.bad")
        await page.click(".timeline a[href^='/notifications/']")
        await page.wait_for_selector("#fields")
        assert "somebody" not in await page.content()
        await page.click("text=Reveal personal data")
        assert await page.locator("form.reveal").count() == 0
        await page.click("details a:text('Sign in')")
        await page.wait_for_selector("#fields")
        await page.click("text=Reveal personal data")
        await page.fill("form.reveal input[name=reason]", "the buyer asks")
        await page.fill("form.reveal input[name=by]", "kim")
        assert await audited(world, "reveal") == []
        await page.click("form.reveal button")
        await page.wait_for_function(
            "() => document.querySelector('pre.raw').textContent.includes('somebody%40example.com')"
        )
        assert "somebody@example.com" in (await page.text_content("#fields") or "")
        assert await violations(page) == []
        await page.goto(str(client.make_url("/audit?action=reveal")))
        assert "the buyer asks" in (await page.text_content("tbody") or "")
        await page.reload()
        await page.go_back()
        assert "somebody" not in await page.content()


async def test_operator_erases_an_order_s_personal_data_with_a_reason(console: World) -> None:
    world = console
    position = await world.deliver(form("A1"))
    held = await world.deliver(form("A1", notify_id="n2", total_fee="0.01"))
    asked: list[str] = []
    async with serving(world, operators=(ALICE,)) as client, browsing(password=ALICE.token.decode()) as page:

        async def answered(dialog: Dialog) -> None:
            asked.append(dialog.message)
            await (dialog.accept() if len(asked) > 1 else dialog.dismiss())

        page.on("dialog", answered)
        await page.goto(str(client.make_url(sign_in_path("/orders/shop/A1"))))
        await page.click("text=Erase personal data")
        assert await page.locator("form[data-erase] input[name=by]").count() == 0
        assert "can no longer be verified" in (await page.inner_text("section:has(form[data-erase]) .warning"))
        assert await violations(page) == []
        await page.click("form[data-erase] button")
        assert asked == [], "the browser asks for the reason first"
        await page.fill("form[data-erase] input[name=reason]", "the buyer asks")
        await page.click("form[data-erase] button")  # and is not sure
        assert await audited(world, "erase") == []
        await page.click("form[data-erase] button")
        told = f"Erased from 1, and recorded. {held} are held, and keep theirs until they are resolved."
        await page.wait_for_selector(f"form[data-erase] output:has-text('{told}')")
        await page.wait_for_selector(".timeline li.registered:has-text('alice (token, 127.0.0.1)')")
        assert "it cannot be verified any more" in await page.inner_text(".timeline li.applied")
        assert await violations(page) == []
        await page.goto(str(client.make_url(f"/notifications/{position}")))
        assert "Reveal personal data" not in await page.inner_text("main")
    assert asked[0].startswith("Erase the personal data of A1? It does not come back")
    assert await audited(world, "erase") == [("erase", "shop:A1", "the buyer asks")]


async def test_keys_page_tells_when_an_old_key_may_go() -> None:
    world = World()
    world.keys.rings["shop"] = (OLD, NEW)
    used(world.key_uses, "old.pem", 30)
    used(world.key_uses, "new.pem", 1)
    async with serving(world) as client, browsing() as page:
        await page.goto(str(client.make_url("/")))
        await page.click("nav a[href='/keys']")
        await page.wait_for_selector("tr[data-key='shop:old.pem'] .good-note")
        assert await page.locator("tr[data-key='shop:new.pem'] .good-note").count() == 0
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_operator_says_that_a_payment_was_refunded_in_alipay_s_portal(console: World) -> None:
    world = console
    async with serving(world) as client, browsing(excused="409", password=TOKEN) as page:
        await client.put("/api/orders/shop/A1", json={"amount": "99.00"})
        position = await world.deliver(form("A1"))
        await page.goto(str(client.make_url(sign_in_path(f"/held/{position}"))))
        await page.fill("form[data-held] input[name=reason]", "paid the wrong price")
        page.on("dialog", lambda dialog: dialog.accept())
        await page.click("button[value=refund-outside]")
        assert "Enter the amount" in (await page.text_content("form[data-held] output") or "")
        await page.fill("input[name=amount]", "1.00")
        await page.click("button[value=refund-outside]")
        await page.wait_for_selector("output:has-text('it reports 12.80 USD, so not 1.00 USD')")
        await page.fill("input[name=amount]", "12.80")
        await page.click("button[value=refund-outside]")
        await page.wait_for_selector("output:has-text('Resolved: refunded_outside.')")
        assert await violations(page) == []
        await page.goto(str(client.make_url("/orders/shop/A1")))
        told = await page.inner_text(".timeline li.decision")
        assert "Refunded outside: 12.80 USD" in " ".join(told.split())
        assert await violations(page) == []


async def test_operator_snoozes_a_held_notification_and_ends_it(console: World) -> None:
    world = console
    position = await world.deliver(form("B1"), "strict")
    async with serving(world) as client, browsing(password=TOKEN) as page:
        await page.goto(str(client.make_url(sign_in_path(f"/held/{position}"))))
        await page.fill("form[data-held] input[name=reason]", "the shop is asked")
        await page.fill("form[data-held] input[name=by]", "kim")
        await page.select_option("select[name=until]", "4h")
        await page.click("button[value=snooze]")
        await page.wait_for_selector("output:has-text('Snoozed.')")
        await page.goto(str(client.make_url("/held")))
        assert await page.locator("#rows input[name=id]").count() == 0
        await page.click("text=1 snoozed")
        await page.wait_for_selector(f"input[value='{position}']")
        assert "snoozed, back in" in await page.inner_text("#rows tbody")
        assert await violations(page) == []
        await page.goto(str(client.make_url(f"/held/{position}")))
        assert "the shop is asked" in await page.inner_text("#head")
        assert await page.input_value("form[data-held] input[name=by]") == "kim"
        assert await violations(page) == []
        await page.fill("form[data-held] input[name=reason]", "answered")
        await page.click("button[value=unsnooze]")
        await page.wait_for_selector("output:has-text('The snooze has ended.')")
        await page.click("#head a:text('Audit')")
        await page.wait_for_selector(".audit .tag:text('unsnooze')")
        rows = await page.locator(".audit tbody tr").all_inner_texts()
        assert ["asked" in row for row in rows] == [False, True]
        await page.goto(str(client.make_url("/orders/strict/B1")))
        steps = await page.locator(".timeline .below li").all_inner_texts()
        told = [" ".join(step.split()) for step in steps[-2:]]
        assert all(part in told[0] for part in ("Snoozed until", "kim", "the shop is asked"))
        assert all(part in told[1] for part in ("Snooze ended", "answered"))
        assert await violations(page) == []
        await page.goto(str(client.make_url("/held")))
        await page.wait_for_selector(f"input[value='{position}']")
