"""The sender of callbacks, over the order store of the embedded engine."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.embedded.callbacks import SqliteCallbacks
from deploy.embedded.store import SqliteOrderStore
from schemas import event_names
from tests.support import log_records, waiting
from tests.support.log_records import Time
from workers.callbacks import deliveries, schedule, sender
from workers.callbacks.deliveries import DeliveryQuery, Step
from workers.callbacks.endpoints import Endpoint
from workers.callbacks.messages import Message
from workers.callbacks.schedule import AttemptResult, CallbackAnswer, CallbackOutcome, EndpointState
from workers.callbacks.sender import CallbackSender
from workers.errors import InfrastructureDown, RowsLocked

STATUSES = ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED")
DELIVERED = CallbackAnswer(outcome=CallbackOutcome.DELIVERED, status=200)


def endpoint(name: str) -> Endpoint:
    return Endpoint(name=name, url=f"https://{name}.example/", secrets=(b"s" * 24,))


class Merchant:
    """The endpoints' side: what arrived at each, in order, and how it answers."""

    def __init__(self) -> None:
        self.arrived: dict[str, list[str]] = defaultdict(list)
        self.answers: dict[str, Callable[[Message], Awaitable[CallbackAnswer]]] = {}
        self.at_once: Counter[str] = Counter()
        self.most_at_once: Counter[str] = Counter()

    async def post(self, endpoint: Endpoint, message: Message) -> CallbackAnswer:
        name = endpoint.name
        self.at_once[name] += 1
        self.most_at_once[name] = max(self.most_at_once[name], self.at_once[name])
        try:
            await asyncio.sleep(0)
            answer = await self.answers[name](message) if name in self.answers else DELIVERED
            if answer.outcome is CallbackOutcome.DELIVERED:
                self.arrived[name].append(message.id)
            return answer
        finally:
            self.at_once[name] -= 1

    def versions(self, name: str) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for id_ in self.arrived[name]:
            _, order, version = id_.split(":")
            found[order].append(int(version))
        return found


class Notes:
    """The observer."""

    def __init__(self) -> None:
        self.results: list[AttemptResult] = []
        self.disabled_: list[str] = []
        self.errors: list[Exception] = []
        self.paused_: list[str] = []
        self.removed_: list[str] = []

    def attempted(self, endpoint: Endpoint, result: AttemptResult) -> None:
        self.results.append(result)

    def disabled(self, endpoint: Endpoint, state: EndpointState) -> None:
        self.disabled_.append(endpoint.name)

    def removed(self, name: str) -> None:
        self.removed_.append(name)

    def paused(self, endpoint: Endpoint, error: InfrastructureDown) -> None:
        self.paused_.append(str(error))

    def failed(self, endpoint: Endpoint, error: Exception) -> None:
        self.errors.append(error)


class Shop:
    """An order store with its sender."""

    def __init__(self, store: SqliteOrderStore, time: Time) -> None:
        self.time = time
        self.callbacks = SqliteCallbacks(store.database, store.reads)
        self.merchant = Merchant()
        self.notes = Notes()
        self.endpoints: Mapping[str, Endpoint] = {}
        self.is_leading = True
        self.is_clock_trusted = True
        self.asked = 0
        self._work = log_records.processing(store, time)
        self._records = 0

    async def pay(self, *numbers: str) -> None:
        records = [log_records.record(number, status) for number in numbers for status in STATUSES]
        await self._work.process(log_records.logged(records, first=self._records + 1))
        self._records += len(records)

    def use(self, *names: str) -> None:
        self.endpoints = {name: endpoint(name) for name in names}

    async def leads(self) -> bool:
        self.asked += 1
        return self.is_leading

    def sender(self) -> CallbackSender:
        return CallbackSender(
            endpoints=lambda: self.endpoints,
            store=self.callbacks,
            post=self.merchant.post,
            names=event_names.LOGICAL,
            observer=self.notes,
            now_ms=self.time,
            leads=self.leads,
            is_clock_trusted=lambda: self.is_clock_trusted,
            look_every_s=0.02,
        )

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.sender().run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    time = Time()
    store = await SqliteOrderStore.open(tmp_path / "orders.sqlite3", now_ms=time)
    yield Shop(store, time)
    await store.close()


async def until(condition: Callable[[], bool]) -> None:
    await waiting.until(condition, within_s=60)


async def configured(shop: Shop, *names: str) -> None:
    shop.use(*names)
    await shop.callbacks.configure(list(shop.endpoints.values()), now_ms=shop.time())


NUMBERS = [f"N{number}" for number in range(20)]


async def test_each_event_arrives_once_and_in_version_order(shop: Shop) -> None:
    await configured(shop, "a", "b")
    await shop.pay(*NUMBERS)
    async with shop.sending():
        await until(lambda: all(len(shop.merchant.arrived[name]) == 60 for name in ("a", "b")))
    for name in ("a", "b"):
        assert shop.merchant.versions(name) == {number: [1, 2, 3] for number in NUMBERS}
        assert 1 < shop.merchant.most_at_once[name] <= sender.CONNECTIONS_EACH_MAX
    assert [page.pending for page in await shop.callbacks.endpoints()] == [0, 0]


async def test_endpoint_that_hangs_delays_no_other(shop: Shop) -> None:
    async def hangs(message: Message) -> CallbackAnswer:
        await asyncio.Event().wait()
        return DELIVERED

    shop.merchant.answers["a"] = hangs
    await configured(shop, "a", "b")
    await shop.pay(*NUMBERS)
    running = asyncio.create_task(shop.sender().run())
    await until(lambda: len(shop.merchant.arrived["b"]) == 60)
    assert shop.merchant.at_once["a"] == sender.CONNECTIONS_EACH_MAX
    del shop.merchant.answers["a"]
    running.cancel()
    await asyncio.wait([running])
    async with shop.sending():  # what hung is sent again
        await until(lambda: len(shop.merchant.arrived["a"]) == 60)


def steps_of(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Return the list to which each finished step is added."""
    step, steps = shop.callbacks.step, list[Step]()

    async def noted(*args: object, **more: object) -> Step:
        steps.append(await step(*args, **more))  # type: ignore[arg-type]
        return steps[-1]

    monkeypatch.setattr(shop.callbacks, "step", noted)
    return steps


async def test_results_are_written_together_and_deliveries_got_ahead(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = steps_of(shop, monkeypatch)
    numbers = [f"N{number}" for number in range(200)]
    await configured(shop, "a")
    await shop.pay(*numbers)
    async with shop.sending():
        await until(lambda: len(shop.merchant.arrived["a"]) == 600)
    assert shop.merchant.versions("a") == {number: [1, 2, 3] for number in numbers}
    assert len(steps) <= 600 / 8


async def test_what_waits_in_memory_is_not_sent_when_its_endpoint_is_disabled(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = steps_of(shop, monkeypatch)
    may_answer = asyncio.Event()

    async def slow(message: Message) -> CallbackAnswer:
        await may_answer.wait()
        return DELIVERED

    shop.merchant.answers["a"] = slow
    await configured(shop, "a")
    await shop.pay(*(f"N{number}" for number in range(100)))
    async with shop.sending():
        await until(lambda: shop.merchant.at_once["a"] == sender.CONNECTIONS_EACH_MAX)
        await shop.callbacks.disable("a", by="tests", why="it moves", now_ms=shop.time())
        await until(lambda: steps[-1].state.is_disabled)
        may_answer.set()
        await until(lambda: len(shop.notes.results) == sender.CONNECTIONS_EACH_MAX)
        await asyncio.sleep(0.1)
    assert len(shop.merchant.arrived["a"]) == sender.CONNECTIONS_EACH_MAX


async def test_what_has_waited_long_in_memory_is_got_anew(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that stood still may have lost its lease: what it sends then must be due by the store of now."""
    monkeypatch.setattr(sender, "AHEAD_S", 0.0)
    await configured(shop, "a")
    await shop.pay(*NUMBERS)
    async with shop.sending():
        await until(lambda: len(shop.merchant.arrived["a"]) == 60)
    assert shop.merchant.versions("a") == {number: [1, 2, 3] for number in NUMBERS}


async def test_what_is_sent_while_results_cannot_be_written_is_bounded(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed loses these results, and the next one sends the events again."""
    monkeypatch.setattr(sender, "UNWRITTEN_MAX", 10)
    step, may_write = shop.callbacks.step, asyncio.Event()

    async def stuck(endpoint: Endpoint, results: Sequence[AttemptResult], **more: object) -> Step:
        if results:
            await may_write.wait()
        return await step(endpoint, results, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(shop.callbacks, "step", stuck)
    await configured(shop, "a")
    await shop.pay(*(f"N{number}" for number in range(100)))
    async with shop.sending():
        await until(lambda: len(shop.merchant.arrived["a"]) >= 10 and not shop.merchant.at_once["a"])
        await asyncio.sleep(0.1)
        assert len(shop.merchant.arrived["a"]) < 10 + sender.CONNECTIONS_EACH_MAX
        may_write.set()
        await until(lambda: len(shop.merchant.arrived["a"]) == 300)


async def test_everything_that_waits_is_sent_when_an_endpoint_answers_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More waits than one step makes due."""
    monkeypatch.setattr(deliveries, "ALL_DUE_MAX", 2)

    async def refuses(message: Message) -> CallbackAnswer:
        return CallbackAnswer(outcome=CallbackOutcome.REFUSED, status=500)

    shop.merchant.answers["a"] = refuses
    await configured(shop, "a")
    await shop.pay(*NUMBERS)
    async with shop.sending():
        await until(lambda: len(shop.notes.results) == len(NUMBERS))
        shop.time.now_ms += schedule.OUTAGE_MS
        await until(lambda: len(shop.notes.results) == 2 * len(NUMBERS))
        del shop.merchant.answers["a"]
        await shop.pay("M1")
        await until(lambda: len(shop.merchant.arrived["a"]) == 3 * len(NUMBERS) + 3)


async def test_failed_event_is_tried_again_when_it_is_due(shop: Shop) -> None:
    async def refuses(message: Message) -> CallbackAnswer:
        return CallbackAnswer(outcome=CallbackOutcome.REFUSED, status=500)

    shop.merchant.answers["a"] = refuses
    await configured(shop, "a")
    await shop.pay("N1")
    async with shop.sending():
        await until(lambda: len(shop.notes.results) == 1)
        del shop.merchant.answers["a"]
        shop.time.now_ms += 6_000
        await until(lambda: shop.merchant.versions("a") == {"N1": [1, 2, 3]})
    assert [result.attempts for result in shop.notes.results] == [1, 2, 1, 1]


async def test_gone_endpoint_is_reported_once_and_gets_no_more(shop: Shop) -> None:
    async def gone(message: Message) -> CallbackAnswer:
        return CallbackAnswer(outcome=CallbackOutcome.GONE, status=410)

    shop.merchant.answers["a"] = gone
    await configured(shop, "a", "b")
    await shop.pay("N1")
    async with shop.sending():
        await until(lambda: shop.notes.disabled_ == ["a"] and len(shop.merchant.arrived["b"]) == 3)
        await shop.pay("N2")
        await until(lambda: len(shop.merchant.arrived["b"]) == 6)
    assert (shop.notes.disabled_, shop.merchant.arrived["a"]) == (["a"], [])


async def test_attempts_in_flight_at_a_stop_are_finished_and_noted(shop: Shop) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(message: Message) -> CallbackAnswer:
        begun.set()
        await may_end.wait()
        return DELIVERED

    shop.merchant.answers["a"] = slow
    await configured(shop, "a")
    await shop.pay("N1")
    running = asyncio.create_task(shop.sender().run())
    await begun.wait()
    running.cancel()
    await asyncio.sleep(0)
    may_end.set()
    await asyncio.wait([running])
    (first, *_) = reversed(await shop.callbacks.deliveries(DeliveryQuery(endpoint="a")))
    assert (first.event_id, first.attempts, first.outcome) == ("shop-sg:N1:1", 1, CallbackOutcome.DELIVERED)


async def test_results_tell_whether_the_clock_is_trusted(shop: Shop) -> None:
    await configured(shop, "a")
    async with shop.sending():
        shop.is_clock_trusted = False
        await shop.pay("N1")
        await until(lambda: bool(shop.notes.results))
        assert not any(each.is_clock_trusted for each in shop.notes.results)
        shop.is_clock_trusted = True
        await shop.pay("N2")
        await until(lambda: any(each.is_clock_trusted for each in shop.notes.results))


async def test_endpoints_removed_while_no_process_ran_are_noted_as_removed(shop: Shop) -> None:
    await configured(shop, "a", "b")
    shop.use()
    shop.is_leading = False
    async with shop.sending():
        await until(lambda: shop.asked == 1)
    assert [page.is_configured for page in await shop.callbacks.endpoints()] == [True, True]  # another process leads
    shop.is_leading = True
    async with shop.sending():
        await _until_configured(shop, [])
        await until(lambda: sorted(shop.notes.removed_) == ["a", "b"])


async def test_without_endpoints_the_lease_is_not_asked_for_and_the_store_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_configured, reads = shop.callbacks.has_configured, []

    async def counted() -> object:
        reads.append(1)
        return await has_configured()

    monkeypatch.setattr(sender, "LEFT_EVERY_S", 0.0)
    monkeypatch.setattr(shop.callbacks, "has_configured", counted)
    async with shop.sending():
        await shop.pay("N1")
        await asyncio.sleep(0.2)
    assert (shop.asked, len(reads)) == (0, 1)
    assert await shop.callbacks.endpoints() == []


async def test_only_the_leader_sends_and_a_reload_changes_the_endpoints(shop: Shop) -> None:
    await configured(shop, "a")
    shop.is_leading = False
    await shop.pay("N1")
    async with shop.sending():
        await until(lambda: shop.asked >= 3)
        assert shop.merchant.arrived["a"] == []
        shop.is_leading = True
        await until(lambda: len(shop.merchant.arrived["a"]) == 3)
        shop.use("b")
        await _until_configured(shop, ["b"])
        await shop.pay("N2")
        await until(lambda: shop.merchant.versions("b") == {"N2": [1, 2, 3]})
        shop.use()
        await _until_configured(shop, [])
    assert len(shop.merchant.arrived["a"]) == 3


async def _until_configured(shop: Shop, names: list[str]) -> None:
    async with asyncio.timeout(30):
        while [page.name for page in await shop.callbacks.endpoints() if page.is_configured] != names:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_store_that_does_not_answer_loses_no_result(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "REST_S", 0.01)
    step, failures = shop.callbacks.step, [InfrastructureDown("away"), RuntimeError("a bug")]

    async def fails(*args: object, **more: object) -> object:
        if len(shop.notes.results) == 1 and failures:
            raise failures.pop()
        return await step(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(shop.callbacks, "step", fails)
    await configured(shop, "a")
    await shop.pay("N1")
    async with shop.sending():
        await until(lambda: len(shop.merchant.arrived["a"]) == 3)
    assert shop.merchant.versions("a") == {"N1": [1, 2, 3]}
    assert [str(error) for error in shop.notes.errors] == ["a bug"]
    assert shop.notes.paused_ == ["away"]


async def test_endpoints_that_cannot_be_noted_stop_no_other(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    configure, is_locked = shop.callbacks.configure, True

    async def fails(*args: object, **more: object) -> Sequence[str]:
        if is_locked and shop.merchant.arrived["a"]:
            raise RowsLocked("a shell has locked the endpoint")
        return await configure(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(shop.callbacks, "configure", fails)
    await configured(shop, "a")
    async with shop.sending():
        await shop.pay("N1")
        await until(lambda: len(shop.merchant.arrived["a"]) == 3)
        shop.use("a", "b")
        await shop.pay("N2")
        await until(lambda: len(shop.merchant.arrived["a"]) == 6)
        is_locked = False
        await _until_configured(shop, ["a", "b"])
        await shop.pay("N3")
        await until(lambda: shop.merchant.versions("b") == {"N3": [1, 2, 3]})


async def test_lane_that_ends_unasked_is_started_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    step, cancellations = shop.callbacks.step, [asyncio.CancelledError()]

    async def cancelled(*args: object, **more: object) -> object:
        if cancellations:
            raise cancellations.pop()
        return await step(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(shop.callbacks, "step", cancelled)
    await configured(shop, "a")
    await shop.pay("N1")
    async with shop.sending():
        await until(lambda: len(shop.merchant.arrived["a"]) == 3)
    assert [type(error).__name__ for error in shop.notes.errors] == ["EndedUnasked"]


async def test_bug_in_an_attempt_waits_for_the_schedule(shop: Shop) -> None:
    async def fails(message: Message) -> CallbackAnswer:
        raise RuntimeError("a bug")

    shop.merchant.answers["a"] = fails
    await configured(shop, "a")
    await shop.pay("N1")
    async with shop.sending():
        await until(lambda: len(shop.notes.results) == 1)
        await asyncio.sleep(0.1)
    assert (len(shop.notes.results), len(shop.notes.errors)) == (1, 1)


def test_connections_are_shared_and_bounded() -> None:
    for endpoints in range(1, 65):
        each = sender.connections_each(endpoints)
        assert 1 <= each <= sender.CONNECTIONS_EACH_MAX
        assert each * endpoints <= sender.CONNECTIONS_MAX
