"""Held notifications in every order store: parked, due, woken, retried, discarded, replayed."""

import asyncio

import pytest

from schemas import events
from schemas.dispositions import Disposition, Reason
from tests.contract.engines import AnyStore, all_unsent
from tests.contract.shortcuts import dispositions, parked, register, version
from tests.support import log_records
from tests.support.log_records import NOW_MS, REGISTERED, Time
from workers.learnt_accounts import LearntAccounts
from workers.processing import Processing
from workers.queries import HeldQuery
from workers.settlement.verdicts import DecisionRefused

HOUR_MS = 3_600_000


async def test_parked_notification_keeps_its_bytes_and_becomes_due(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([parked("P1")]))
    assert await store.due(now_ms=NOW_MS, limit=10) == []
    next_ms = await store.next_due_ms()
    assert next_ms is not None
    assert next_ms > NOW_MS
    (row,) = await store.due(now_ms=next_ms, limit=10)
    assert row.record == parked("P1")
    assert (row.disposition, row.waits_for, row.attempts) == (Disposition.PARKED, "order:P1", 0)


async def test_registration_wakes_only_the_notifications_parked_for_it(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([parked("P1"), parked("P2"), parked("P1", id_="again")]))
    await register(store, "P1")
    due = await store.due(now_ms=NOW_MS, limit=10)
    assert [row.order for row in due] == ["P1", "P1"]
    await work.retry(due)
    assert await dispositions(store, "P1", REGISTERED.name) == ["applied", "duplicate"]
    assert await dispositions(store, "P2", REGISTERED.name) == ["parked"]
    assert [page.row.order for page in await store.held_list(HeldQuery())] == ["P2"]


async def test_resolved_row_names_its_resolution_and_time(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([parked("P1")]))
    await register(store, "P1")
    await work.retry(await store.due(now_ms=NOW_MS, limit=10))
    page = await store.held_page("0-1")
    assert page is not None
    assert (page.resolution, page.resolved_at_ms) == ("applied", NOW_MS)
    assert [each.row.id for each in await store.held_list(HeldQuery(resolved=True))] == ["0-1"]
    assert await store.next_due_ms() is None


async def test_each_failed_retry_waits_longer(work: Processing, store: AnyStore, time: Time) -> None:
    await work.process(log_records.logged([parked("P1")]))
    first_ms = await store.next_due_ms()
    assert first_ms is not None
    time.now_ms = first_ms
    await work.retry(await store.due(now_ms=first_ms, limit=10))
    second_ms = await store.next_due_ms()
    assert second_ms is not None
    assert second_ms - first_ms > first_ms - NOW_MS
    page = await store.held_page("0-1")
    assert page is not None
    assert (page.row.attempts, page.row.first_at_ms) == (1, NOW_MS)


async def test_notification_parked_for_25_hours_is_quarantined(work: Processing, store: AnyStore, time: Time) -> None:
    await work.process(log_records.logged([parked("P1")]))
    await retry_when_due(work, store, time, 25)
    time.now_ms = NOW_MS + 25 * HOUR_MS
    page = await store.held_page("0-1")
    assert page is not None
    await work.retry([page.row])
    page = await store.held_page("0-1")
    assert page is not None
    assert (page.row.disposition, page.row.reason) == (Disposition.QUARANTINED, Reason.WAITED_TOO_LONG)
    assert page.resolved_at_ms is None
    assert await store.next_due_ms() is None
    assert await dispositions(store, "P1", REGISTERED.name) == ["quarantined"]


async def retry_when_due(work: Processing, store: AnyStore, time: Time, retries: int) -> None:
    """Let a parked notification wait in vain for so many retries."""
    for _ in range(retries):
        due_ms = await store.next_due_ms()
        assert due_ms is not None
        time.now_ms = due_ms
        await work.retry(await store.due(now_ms=time.now_ms, limit=10))


@pytest.mark.parametrize("hours", [26, 24 * 400, -26])
async def test_clock_that_jumps_gives_no_parked_notification_up(
    work: Processing, store: AnyStore, time: Time, hours: int
) -> None:
    await work.process(log_records.logged([parked("P1")]))
    time.now_ms += hours * HOUR_MS
    for _ in range(3):
        await work.retry(await store.due(now_ms=time.now_ms, limit=10))
    page = await store.held_page("0-1")
    assert page is not None
    assert page.row.disposition is Disposition.PARKED
    assert page.row.due_at_ms is not None
    assert page.row.due_at_ms - time.now_ms <= 1.1 * HOUR_MS


async def test_notification_parked_by_a_clock_ahead_is_retried_when_it_is_right(
    work: Processing, store: AnyStore, time: Time
) -> None:
    time.now_ms += 26 * HOUR_MS
    await work.process(log_records.logged([parked("P1")]))
    time.now_ms -= 26 * HOUR_MS
    (row,) = await store.due(now_ms=time.now_ms, limit=10)
    await work.retry([row])
    assert await store.due(now_ms=time.now_ms, limit=10) == []
    assert len(await store.due(now_ms=time.now_ms + HOUR_MS, limit=10)) == 1


async def test_notification_held_again_for_the_same_reason_has_a_new_notice(store: AnyStore, time: Time) -> None:
    keyed = log_records.processing(store, time)
    keyless = log_records.processing(store, time, authenticate=log_records.nobody_signed_this)
    await keyless.process(log_records.logged([parked("P1")]))
    for work in (keyed, keyless):
        (page,) = await store.held_list(HeldQuery())
        await work.retry([page.row])
    (page,) = await store.held_list(HeldQuery())
    assert (page.row.disposition, page.row.reason) == (Disposition.DEAD, Reason.UNAUTHENTICATED)
    announced = [events.decoded(notice.value)["disposition"] for notice in await all_unsent(store)]
    assert announced == ["dead", "parked", "dead"]


async def test_row_retried_twice_from_one_read_has_one_notice(work: Processing, store: AnyStore, time: Time) -> None:
    await work.process(log_records.logged([parked("P1")]))
    await retry_when_due(work, store, time, 25)
    time.now_ms = NOW_MS + 26 * HOUR_MS
    due = await store.due(now_ms=time.now_ms, limit=10)
    await work.retry(due)
    await work.retry(due)
    (page,) = await store.held_list(HeldQuery())
    assert (page.row.disposition, page.row.reason) == (Disposition.QUARANTINED, Reason.WAITED_TOO_LONG)
    assert len(await all_unsent(store)) == 2


async def test_row_retried_meanwhile_keeps_its_result(work: Processing, store: AnyStore) -> None:
    second = parked("P1", id_="second", trade="2025100922001other")
    await work.process(log_records.logged([parked("P1"), second]))
    await register(store, "P1")
    due = await store.due(now_ms=NOW_MS, limit=10)
    await work.retry(due)
    await work.retry(due)
    (page,) = await store.held_list(HeldQuery())
    assert (page.row.id, page.row.reason) == ("0-2", Reason.SECOND_TRADE), "a person has to look at it"
    await work.retry([page.row])
    (page,) = await store.held_list(HeldQuery())
    assert (page.row.id, page.row.reason, page.row.attempts) == ("0-2", Reason.SECOND_TRADE, 2), "only a person ends it"


async def test_row_resolved_meanwhile_is_not_applied_again(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([parked("P1")]))
    await register(store, "P1")
    due = await store.due(now_ms=NOW_MS, limit=10)
    await work.retry(due)
    before = await all_unsent(store)
    await work.retry(due)
    assert await version(store, "P1", REGISTERED.name) == 1
    assert await all_unsent(store) == before


async def test_payment_wakes_the_refund_that_waits_for_its_trade(work: Processing, store: AnyStore) -> None:
    refund = log_records.record(
        "",
        notify_type="batch_refund_notify",
        id_="b1",
        batch_no="20251009001",
        result_details="2025100922001N1^2.80^SUCCESS",
    )
    await work.process(log_records.logged([refund]))
    assert await store.due(now_ms=NOW_MS, limit=10) == []
    await work.process(log_records.logged([log_records.record("N1")], first=2))
    await work.retry(await store.due(now_ms=NOW_MS, limit=10))
    page = await store.order_page("shop-sg", "N1")
    assert page is not None
    assert page.view is not None
    assert page.view.refunded_minor == 280


async def test_row_parked_and_woken_by_one_batch_is_due_at_once(work: Processing, store: AnyStore) -> None:
    refund = log_records.record(
        "",
        notify_type="batch_refund_notify",
        id_="b1",
        batch_no="20251009001",
        result_details="2025100922001N1^2.80^SUCCESS",
    )
    await work.process(log_records.logged([refund, log_records.record("N1")]))
    assert len(await store.due(now_ms=NOW_MS, limit=10)) == 1


async def test_replayed_row_keeps_the_version_from_when_it_was_held(work: Processing, store: AnyStore) -> None:
    contradiction = log_records.record("N1", id_="second", trade="2025100922001other")
    await work.process(log_records.logged([log_records.record("N1"), contradiction]))
    page = await store.held_page("0-2")
    assert page is not None
    assert page.row.disposition is Disposition.QUARANTINED
    await work.retry([page.row])
    shown = await store.order_page("shop-sg", "N1")
    assert shown is not None
    assert shown.deliveries[1].version == 2


async def test_rows_due_longest_come_first_up_to_the_limit(work: Processing, store: AnyStore, time: Time) -> None:
    for offset, order in enumerate(("P1", "P2", "P3"), 1):
        await work.process(log_records.logged([parked(order)], first=offset))
        time.now_ms += 1000
    due = await store.due(now_ms=NOW_MS + HOUR_MS, limit=2)
    assert [row.order for row in due] == ["P1", "P2"]


async def test_row_is_discarded_once_with_operator_and_reason(work: Processing, store: AnyStore, time: Time) -> None:
    await work.process(log_records.logged([parked("P1")]))
    time.now_ms += 5
    operator = log_records.Operator(store, time)
    await operator.discard("0-1")
    with pytest.raises(DecisionRefused, match="already resolved: discarded, by ana: a test order"):
        await operator.discard("0-1", by="bo", why="again")
    page = await store.held_page("0-1")
    assert page is not None
    assert (page.resolution, page.by, page.why, page.resolved_at_ms) == ("discarded", "ana", "a test order", NOW_MS + 5)
    assert await store.next_due_ms() is None


@pytest.mark.parametrize("unknown", ["0-2", "", "nonsense", "0-", "-1", "0-\u0661", "1-1", "0-99999999999999999999"])
async def test_unknown_or_malformed_id_finds_no_row(work: Processing, store: AnyStore, unknown: str) -> None:
    await work.process(log_records.logged([parked("P1")]))
    assert await store.held_page(unknown) is None


async def test_replays_of_a_row_are_counted(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([parked("P1"), parked("P2")]))
    await store.note_replay(["0-1", "0-2"], by="ana", why="fixed", now_ms=NOW_MS)
    await store.note_replay(["0-1"], by="ana", why="fixed again", now_ms=NOW_MS)
    assert [page.replays for page in await store.held_list(HeldQuery())] == [2, 1]
    due = await store.due(now_ms=NOW_MS + HOUR_MS, limit=10)
    assert sorted(row.replays for row in due) == [1, 2], "the notices of their retries tell of them"


async def test_held_notifications_are_filtered_by_each_property(work: Processing, store: AnyStore, time: Time) -> None:
    await work.process(log_records.logged([parked("P1"), log_records.sealed(b"no form at all", "X")]))
    time.now_ms += 1000
    await work.process(log_records.logged([parked("P2")], first=3))

    async def found(query: HeldQuery) -> list[str]:
        return [page.row.id for page in await store.held_list(query)]

    assert await found(HeldQuery()) == ["0-1", "0-2", "0-3"]
    assert await found(HeldQuery(limit=1)) == ["0-1"]
    assert await found(HeldQuery(account=REGISTERED.name)) == ["0-1", "0-3"]
    assert await found(HeldQuery(order="P2")) == ["0-3"]
    assert await found(HeldQuery(disposition=Disposition.DEAD)) == ["0-2"]
    assert await found(HeldQuery(reason=Reason.UNKNOWN_ORDER, since_ms=NOW_MS + 1000)) == ["0-3"]
    assert await found(HeldQuery(resolved=True)) == []


async def test_record_of_an_unknown_account_waits_and_is_applied_once_it_is_learnt(store: AnyStore, time: Time) -> None:
    accounts = {name: account for name, account in log_records.ACCOUNTS.items() if name != log_records.SHOP.name}
    work = log_records.processing(store, time, accounts=accounts)
    learnt = LearntAccounts(accounts, store)
    await work.process(log_records.logged([log_records.record("N1"), parked("P1")]))
    assert await dispositions(store, "N1") == []
    (page,) = await store.held_list(HeldQuery(account=log_records.SHOP.name))
    assert (page.row.disposition, page.row.reason) == (Disposition.PARKED, Reason.UNKNOWN_ACCOUNT)
    learning = asyncio.create_task(learnt.run())
    learnt.learn(accounts)  # as at a start: it wakes nothing, because the account is not among them
    time.now_ms += 25 * HOUR_MS
    await work.retry(await store.due(now_ms=time.now_ms, limit=10))
    accounts[log_records.SHOP.name] = log_records.SHOP
    learnt.learn([log_records.SHOP.name])
    async with asyncio.timeout(20):
        while not (due := await store.due(now_ms=time.now_ms, limit=10)):
            await asyncio.sleep(0.01)
    await work.retry(due)
    assert await dispositions(store, "N1") == ["applied"]
    assert await store.held_list(HeldQuery(account=log_records.SHOP.name)) == []
    learning.cancel()


async def test_order_page_has_the_way_of_its_held_notifications_and_its_audit_rows(
    work: Processing, store: AnyStore, time: Time
) -> None:
    await work.process(log_records.logged([parked("P1"), parked("P2")]))
    await store.note_replay(["0-1"], by="ana", why="perhaps", now_ms=NOW_MS + 1000)
    await store.note_replay(["0-2"], by="ana", why="another order", now_ms=NOW_MS + 1000)
    page = await store.order_page(REGISTERED.name, "P1")
    assert page is not None
    (hold,) = page.holds
    assert (str(hold.position), hold.disposition, hold.reason) == ("0-1", "parked", Reason.UNKNOWN_ORDER)
    assert (hold.first_at_ms, hold.attempts, hold.resolution) == (NOW_MS, 0, "")
    assert hold.due_at_ms is not None
    assert [(act.subject, act.by, act.why, act.at_ms) for act in page.acts] == [
        ("0-1", "ana", "perhaps", NOW_MS + 1000)
    ]
    time.now_ms += 2000
    await register(store, "P1")
    await work.retry(await store.due(now_ms=time.now_ms, limit=10))
    page = await store.order_page(REGISTERED.name, "P1")
    assert page is not None
    assert [(hold.resolution, hold.attempts) for hold in page.holds] == [("applied", 0)]
    assert [(act.subject, act.by) for act in page.acts] == [("0-1", "ana"), (f"{REGISTERED.name}:P1", "tests")]
