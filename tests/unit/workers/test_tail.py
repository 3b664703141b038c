"""The tail: filled only while it is watched, bounded, and with numbers that show what was missed."""

import asyncio

import pytest

from schemas import topics
from schemas.events import Outgoing
from tests.support.plans import delivery, plan
from tests.support.waiting import until
from workers import tail as tails
from workers.long_poll import TooManyWaiters
from workers.tail import Tail, TailKind


def tail(**more: float) -> Tail:
    return Tail(now_ms=lambda: 5, **more)  # type: ignore[arg-type]


def receive(into: Tail, order: str) -> None:
    into.received(account="shop", scope="shop", order=order, notification_id=f"id-{order}")


def test_batches_are_left_out_while_the_tail_is_not_watched() -> None:
    quiet = tail()
    quiet.settled(plan(deliveries=[delivery(1)]))
    quiet.emitted([Outgoing(id="shop:A1:1", topic=topics.ORDER_EVENT, key=b"shop:A1", value=b"{}", headers=())])
    assert (quiet.is_watched, quiet.added) == (False, 0)


async def test_tail_is_filled_until_its_viewers_have_been_gone_for_a_while() -> None:
    short = tail(watched_s=0.05)
    short.watch()
    short.watch()
    assert short.is_watched
    short.settled(plan(deliveries=[delivery(1)]))
    assert short.added == 1
    await until(lambda: not short.is_watched)
    short.watch()
    assert short.is_watched
    short.close()
    await until(lambda: not short.is_watched)


async def test_four_moments_have_numbers_outcomes_and_nothing_of_the_buyer() -> None:
    shown = tail()
    shown.watch()
    shown.received(account="isv", scope="isv/2021", order="A1", notification_id="n1")
    shown.refused(
        account="shop", scope="shop", order="B" * 200, notification_id="", outcome="bad_signature", reason="unknown_key"
    )
    shown.settled(plan(deliveries=[delivery(1, order="A1", notification_id="n1")]))
    headers = (("ce_type", b"com.shop.payments.order.paid.v1"),)
    shown.emitted(
        [
            Outgoing(id="isv/2021:A1:3", topic=topics.ORDER_EVENT, key=b"isv/2021:A1", value=b"{}", headers=headers),
            Outgoing(id="0-1", topic=topics.HELD, key=b"shop:A1", value=b"{}", headers=()),
        ]
    )
    received, refused, settled, sent, notice = shown.after(0, 10)
    assert (received.kind, received.account, received.auth_app_id) == (TailKind.RECEIVED, "isv", "2021")
    assert (received.order, received.outcome, received.at_ms, received.number) == ("A1", "accepted", 5, 1)
    assert (refused.outcome, refused.reason, len(refused.order)) == ("bad_signature", "unknown_key", tails.TEXT_MAX)
    assert (settled.kind, settled.outcome, settled.notification_id) == (TailKind.SETTLED, "applied", "n1")
    assert (sent.outcome, sent.version, sent.account, sent.auth_app_id) == ("order.paid", 3, "isv", "2021")
    assert (notice.outcome, notice.version, notice.number) == (topics.HELD, None, 5)


def test_ring_keeps_the_newest_and_numbers_show_what_is_gone() -> None:
    small = tail(kept_max=3)
    for number in range(5):
        receive(small, f"A{number}")
    assert [entry.number for entry in small.after(0, 10)] == [3, 4, 5]
    assert [entry.number for entry in small.after(4, 10)] == [5]
    assert [entry.number for entry in small.after(0, 2)] == [4, 5]
    assert small.after(5, 10) == small.after(9, 10) == []


def test_lines_that_another_ring_has_lost_leave_a_gap() -> None:
    both, other = tail(), tail()
    receive(other, "A1")
    both.add(other.after(0, 10))
    both.add(other.after(0, 10), missed=7)
    assert [entry.number for entry in both.after(0, 10)] == [1, 9]
    assert [entry.number for entry in both.after(1, 10)] == [9]
    assert both.after(9, 10) == []


async def test_viewers_are_woken_and_their_number_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tails, "VIEWERS_MAX", 1)
    watched = tail()
    with watched.waiting() as viewer:
        with pytest.raises(TooManyWaiters), watched.waiting():
            pass
        assert not await viewer.wait(0.01)
        receive(watched, "A1")
        assert await viewer.wait(5)
        asyncio.get_running_loop().call_later(0.01, watched.close)
        assert await viewer.wait(5)
    with watched.waiting():
        assert watched.is_closed
