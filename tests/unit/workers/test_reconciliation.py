"""Orders are asked about at the right times, by the leader only, and not faster than they may be."""

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry

from schemas import telemetry
from schemas.accounts import Account, Family, SignType
from schemas.dispositions import Flag
from schemas.orders import Status, View
from schemas.record_format import Record
from tests.support import waiting
from tests.support.fakes import MemoryLogger
from workers import metrics, reconciliation
from workers.errors import InfrastructureDown, ReadTooSlow, RecordRefused
from workers.queries import OrderList, OrderPage, OrderPlace, OrderQuery
from workers.reconciliation import Answered, AnswerKind, Reconciliation

AFTER_S = 600
RECORD = Record(b"shop:A-1", b"{}", ())
NEWS = Answered(kind=AnswerKind.NEWS, record=RECORD)


def account(name: str, *, queries: bool = True) -> Account:
    return Account(name=name, family=Family.OPENAPI, sign_type=SignType.RSA2, app_id="2021", queries=queries)


class Orders:
    """An order store with a list, whose orders are given with the time of their last change."""

    def __init__(self) -> None:
        self.changed_at_ms: dict[str, int] = {}
        self.flags: dict[str, tuple[Flag, ...]] = {}
        self.is_down = False
        self.failures: dict[str, Exception] = {}  # of the lists of these accounts
        self.slow_from_ms = 10**12  # lists of longer spans of time are too slow
        self.queries: list[OrderQuery] = []

    async def order_list(self, query: OrderQuery) -> OrderList:
        if self.is_down:
            raise InfrastructureDown("the store is away")
        if failure := self.failures.get(query.account or ""):
            raise failure
        assert query.since_ms is not None
        assert query.before_ms is not None
        if query.before_ms - query.since_ms > self.slow_from_ms:
            raise ReadTooSlow("the order store took longer than 3 s")
        self.queries.append(query)
        newest = sorted(self.changed_at_ms.items(), key=lambda each: -each[1])
        found = [(number, at) for number, at in newest if query.since_ms <= at < query.before_ms]
        found = [each for each in found if not query.is_flagged or self.flags.get(each[0])]
        first = 0 if query.after is None else [number for number, _ in found].index(query.after.number) + 1
        page = found[first : first + query.limit]
        more = len(found) > first + query.limit
        last = OrderPlace(changed_at_ms=page[-1][1], number=page[-1][0], account="shop") if page and more else None
        return OrderList(pages=tuple(self._page(number) for number, _ in page), next_=last)

    def _page(self, number: str) -> OrderPage:
        view = View(
            status=Status.WAITING, closed_because=None, trade=None, amount_minor=None, currency=None,
            refunded_minor=0, flags=self.flags.get(number, ()),
        )  # fmt: skip
        return OrderPage(account="shop", number=number, order=None, view=view, deliveries=(), events=())


class Town:
    """A loop over fakes, and a clock."""

    def __init__(self, *names: str, per_s: float = 10_000) -> None:
        self.accounts = {name: account(name) for name in names or ("shop",)}
        self.orders, self.log = Orders(), MemoryLogger()
        self.now_ms = 1_760_000_000_000
        self.now_s = 0.0  # a monotonic clock that stands still; 0 for the real one
        self.leads = True
        self.answers: dict[str, Answered] = {}
        self.asked: list[str] = []
        self.appended: list[Record] = []
        self.is_log_down = False
        self.registry = CollectorRegistry()
        self.loop = Reconciliation(
            accounts=self.accounts, orders=self.orders, ask=self.ask, append=self.append, leads=lambda: self.leads,
            now_ms=lambda: self.now_ms, after_s=AFTER_S, per_s=per_s,
            questions=metrics.by_account(telemetry.QUESTIONS, self.registry), log=self.log, chance=lambda: 0.5,
            now_s=lambda: self.now_s or time.monotonic(),
        )  # fmt: skip

    async def ask(self, account: Account, order: str, /) -> Answered:
        self.asked.append(order)
        return self.answers.get(order, Answered(kind=AnswerKind.UNPAID))

    async def append(self, record: Record, /) -> None:
        if self.is_log_down:
            raise InfrastructureDown("the log is away")
        self.appended.append(record)

    async def after(self, seconds: float) -> Sequence[str]:
        """What is asked when so much time has passed."""
        self.now_ms += round(seconds * 1000)
        self.asked = []
        await self.loop.look()
        await self.loop.ask_until(time.monotonic() + 30)
        return self.asked

    def sold(self, *numbers: str) -> None:
        self.orders.changed_at_ms |= dict.fromkeys(numbers, self.now_ms)


async def test_unpaid_order_is_asked_about_when_due_and_whenever_its_age_has_doubled() -> None:
    town = Town()
    await town.after(0)
    town.sold("A-1")
    asked = [await town.after(60) for _ in range(40)]
    assert [minute for minute, numbers in enumerate(asked, 1) if numbers] == [11, 21, 41][:2], asked
    assert await town.after(2 * 60) == ["A-1"]
    assert await town.after(3 * 86_400) == ["A-1"], "at most once in one look, however much came due"
    assert await town.after(3 * 86_400) == [], "Alipay has given up long ago"


async def test_first_look_asks_about_all_that_is_unpaid_the_newest_first() -> None:
    town = Town()
    for number in ("A-1", "A-2", "A-3"):
        town.sold(number)
        town.now_ms += 1000
    assert await town.after(AFTER_S) == ["A-3", "A-2", "A-1"]
    assert await town.after(1) == []


async def test_orders_of_many_pages_are_all_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "PAGE", 10)
    town = Town()
    town.sold(*(f"A-{number}" for number in range(95)))
    assert sorted(await town.after(AFTER_S + 1)) == sorted(town.orders.changed_at_ms)


async def test_more_orders_than_may_wait_leave_out_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "WAITING_MAX", 2)
    town = Town()
    for number in ("A-1", "A-2", "A-3"):
        town.sold(number)
        town.now_ms += 1000
    assert await town.after(AFTER_S) == ["A-3", "A-2"]


async def test_order_reported_as_paid_and_as_expired_is_asked_about_too() -> None:
    town = Town()
    town.sold("A-1")
    town.orders.flags["A-1"] = (Flag.PAID_AND_EXPIRED,)
    assert await town.after(AFTER_S + 1) == ["A-1"]
    assert any(query.is_flagged for query in town.orders.queries)


async def test_answer_with_news_is_appended() -> None:
    town = Town()
    town.sold("A-1")
    town.answers["A-1"] = NEWS
    await town.after(AFTER_S + 1)
    assert town.appended == [RECORD]


async def test_order_whose_answer_could_not_be_appended_is_asked_about_again() -> None:
    town = Town()
    town.sold("A-1")
    town.answers["A-1"] = NEWS
    town.is_log_down = True
    with pytest.raises(InfrastructureDown):
        await town.after(AFTER_S + 1)
    town.is_log_down = False
    assert await town.after(1) == ["A-1"]
    assert town.appended == [RECORD]


async def test_look_that_failed_goes_back_as_far_the_next_time() -> None:
    town = Town()
    await town.after(0)
    town.sold("A-1")
    town.orders.is_down = True
    with pytest.raises(InfrastructureDown):
        await town.after(AFTER_S + 1)
    town.orders.is_down = False
    assert await town.after(1) == ["A-1"]


@pytest.mark.parametrize("kind", [AnswerKind.NO_ANSWER, AnswerKind.REFUSED])
async def test_gateway_without_an_answer_is_asked_again_after_ever_longer_rests(
    kind: AnswerKind,
) -> None:
    town = Town()
    town.sold("A-1", "A-2")
    town.answers = dict.fromkeys(("A-1", "A-2"), Answered(kind=kind, detail="why"))
    town.now_ms += AFTER_S * 1000 + 1
    await town.loop.look()
    moments = []
    for second in range(4000):
        town.now_s = 1000.0 + second
        before = len(town.asked)
        await town.loop.ask_until(town.now_s + 0.5)
        moments += [second] * (len(town.asked) - before)
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert gaps[:6] == [2, 4, 8, 16, 32, 64]
    assert max(gaps) <= reconciliation.REST_MAX_S
    assert {"A-1", "A-2"} == set(town.asked), "no order is forgotten for the gateway's fault"
    lines = town.log.of("question without an answer")
    assert (lines[0]["reason"], lines[0]["error"]) == (kind.value, "why")
    assert len(lines) < len(moments), "an outage is told ever more rarely"
    town.answers.clear()
    town.now_s += reconciliation.REST_MAX_S * 1.5 + 1
    await town.loop.ask_until(town.now_s + 100)
    assert town.asked[-2:] in (["A-1", "A-2"], ["A-2", "A-1"])


async def test_order_with_wrong_answers_only_is_let_go_until_its_age_has_doubled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconciliation, "REST_S", 0.0)
    for kind in (AnswerKind.UNAUTHENTIC, AnswerKind.NOT_OURS, AnswerKind.UNREADABLE):
        town = Town()
        town.sold("A-1")
        town.answers["A-1"] = Answered(kind=kind, detail="why")
        for _ in range(10):
            await town.after(AFTER_S / 8)
        assert town.asked == []
        assert town.appended == []


async def test_order_that_cannot_be_asked_about_delays_no_other() -> None:
    town = Town()
    town.sold("A-1", "A-2")
    town.answers["A-2"] = Answered(kind=AnswerKind.UNASKABLE, detail="too long")
    assert sorted(await town.after(AFTER_S + 1)) == ["A-1", "A-2"]


async def test_account_that_rests_delays_no_other() -> None:
    town = Town("bad", "good")
    town.sold("A-1")
    town.answers["A-1"] = Answered(kind=AnswerKind.NO_ANSWER)
    assert await town.after(AFTER_S + 1) == ["A-1", "A-1"]


async def test_accounts_whose_questions_take_all_the_time_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "ACCOUNTS_AT_ONCE", 1)
    town = Town("a", "b", "c")
    town.sold(*(f"A-{number}" for number in range(9)))
    town.now_ms += AFTER_S * 1000 + 1
    town.now_s = 1.0
    asked: list[str] = []

    async def slow(account: Account, order: str, /) -> Answered:
        asked.append(account.name)
        town.now_s += 10
        return Answered(kind=AnswerKind.UNPAID)

    town.loop._ask = slow
    await town.loop.look()
    for _ in range(6):
        await town.loop.ask_until(town.now_s + 10)
    assert [sorted(asked[:3]), sorted(asked[3:])] == [["a", "b", "c"]] * 2, "each once before any of them twice"


async def test_only_the_leader_asks() -> None:
    town = Town()
    town.sold("A-1")
    town.leads = False
    assert await town.after(AFTER_S + 1) == []
    town.leads = True
    assert await town.after(1) == ["A-1"]


async def test_account_without_queries_costs_nothing() -> None:
    town = Town()
    town.accounts["shop"] = account("shop", queries=False)
    town.sold("A-1")
    assert await town.after(AFTER_S + 1) == []
    assert town.orders.queries == []


async def test_account_that_is_removed_is_not_asked_about_any_more() -> None:
    town = Town()
    town.sold("A-1")
    town.now_ms += AFTER_S * 1000 + 1
    await town.loop.look()
    del town.accounts["shop"]
    await town.loop.ask_until(time.monotonic() + 1)
    await town.loop.look()
    assert town.asked == []


async def test_questions_keep_their_distance() -> None:
    town = Town(per_s=50)
    town.sold(*(f"A-{number}" for number in range(10)))
    began_s = time.monotonic()
    await town.after(AFTER_S + 1)
    assert time.monotonic() - began_s >= 9 / 50


async def test_outcomes_are_counted_by_account() -> None:
    town = Town()
    town.sold("A-1")
    await town.after(AFTER_S + 1)
    labels = {"account": "shop", "outcome": "unpaid"}
    assert town.registry.get_sample_value("alipay_notify_questions_total", labels) == 1
    others = labels | {"outcome": "refused"}
    assert town.registry.get_sample_value("alipay_notify_questions_total", others) == 0, "the first one is an increase"


async def test_loop_goes_on_over_outages_and_changes_of_the_leader() -> None:
    town = Town()
    town.loop._look_every_s = 0.01
    town.orders.is_down = True
    town.sold("A-1")
    town.now_ms += AFTER_S * 1000 + 1
    running = asyncio.create_task(town.loop.run())
    async with asyncio.timeout(30):
        await waiting.until(lambda: bool(town.log.of("reconciliation delayed")), within_s=30)
        town.leads, town.orders.is_down = False, False
        await asyncio.sleep(0.2)
        assert town.asked == []
        town.leads = True
        await waiting.until(lambda: bool(town.asked), within_s=30)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_clock_that_is_set_back_asks_about_nothing() -> None:
    town = Town()
    town.sold("A-1")
    await town.after(AFTER_S + 1)
    assert await town.after(-3600) == []


async def test_look_that_takes_long_is_repeated_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Town()
    town.loop._look_every_s = 0.01
    monkeypatch.setattr(reconciliation, "REST_PER_LOOK", 1000)
    looks = 0

    async def slow_look() -> None:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0.2)

    monkeypatch.setattr(town.loop, "look", slow_look)
    running = asyncio.create_task(town.loop.run())
    await asyncio.sleep(1.5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert looks == 1


@pytest.mark.parametrize("failure", [ReadTooSlow("the order store took longer than 3 s"), TypeError("a bug")])
async def test_account_whose_orders_cannot_be_listed_delays_no_other(failure: Exception) -> None:
    town = Town("big", "shop")
    town.sold("A-1")
    town.orders.failures = {"big": failure}
    assert await town.after(AFTER_S + 1) == ["A-1"]
    town.orders.failures = {}
    assert await town.after(1) == ["A-1"]  # of the account that was left out: nothing is forgotten


def counted(town: Town, kind: AnswerKind, account: str = "shop") -> float | None:
    return town.registry.get_sample_value("alipay_notify_questions_total", {"account": account, "outcome": kind})


async def test_list_that_is_too_slow_is_halved_while_newly_due_orders_are_asked_about() -> None:
    town = Town()
    town.sold("A-1")
    town.now_ms += AFTER_S * 1000 + 1
    town.orders.slow_from_ms = 3_600_000
    assert await town.after(0) == []
    assert counted(town, AnswerKind.NOT_LISTED) == 1
    assert len(town.loop._waiting["shop"].unlisted) == 2
    town.sold("A-2")
    assert "A-2" in await town.after(AFTER_S + 1), "although the list of the first look is still too slow"
    asked = [order for _ in range(10) for order in await town.after(1)]
    assert "A-1" in asked, "the first look is completed in smaller spans"
    assert town.loop._waiting["shop"].unlisted == []


async def test_spans_that_are_always_too_slow_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "SPANS_MAX", 20)
    town = Town()
    town.orders.failures = {"shop": ReadTooSlow("the order store took longer than 3 s")}
    for _ in range(30):
        assert await town.after(30) == []
    assert len(town.loop._waiting["shop"].unlisted) == 20
    assert counted(town, AnswerKind.NOT_LISTED) == 30


@pytest.mark.parametrize("where", ["ask", "append"])
async def test_order_on_which_a_question_fails_delays_no_other_account(where: str) -> None:
    town = Town("shop", "cafe")
    town.sold("A-1", "A-2", "A-3")
    town.answers = dict.fromkeys(("A-1", "A-2", "A-3"), NEWS)

    async def failing(*given: object) -> Answered:
        if given[0] is RECORD or getattr(given[0], "name", "") == "shop":
            raise RecordRefused("too large")
        return NEWS

    setattr(town.loop, f"_{where}", failing)
    await town.after(AFTER_S + 1)
    failing_accounts = 1 if where == "ask" else 2
    assert len(town.log.of("reconciliation failed")) == failing_accounts, "a bug may concern all orders: each rests"
    for _ in range(2):
        for each in town.loop._waiting.values():
            each.rests_until_s = 0.0
        await town.after(0)
    assert len(town.log.of("reconciliation failed")) == 3 * failing_accounts
    assert counted(town, AnswerKind.FAILED) == 3
    assert [each.orders for each in town.loop._waiting.values()] == [{}, {}]


async def test_order_on_which_our_code_fails_is_let_go_and_the_loop_goes_on() -> None:
    town = Town()
    town.loop._look_every_s = 0.01
    town.sold("A-1", "A-2")
    town.now_ms += AFTER_S * 1000 + 1
    town.answers = {"A-1": NEWS}

    async def failing(record: Record, /) -> None:
        raise TypeError("a bug")

    town.loop._append = failing
    running = asyncio.create_task(town.loop.run())
    await waiting.until(lambda: bool(town.log.of("reconciliation failed")) and "A-2" in town.asked, within_s=30)
    await asyncio.sleep(0.3)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert town.asked.count("A-1") == 1
