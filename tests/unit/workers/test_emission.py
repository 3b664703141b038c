"""One round of the relay: what is offered to the topics, and what becomes of the rest."""

import pytest

from schemas import topics
from schemas.events import Outgoing
from tests.support.fakes import AwayTopics, MemoryTopics, PlanObserver
from workers import emission
from workers.emission import EVERYTHING, NOTHING_AWAY, NOTICES, ORDER_EVENTS, REFUSED_AGAIN_S, Away, SetAside
from workers.errors import InfrastructureDown


def event(order: str, version: int = 1, topic: str = topics.ORDER_EVENT) -> Outgoing:
    return Outgoing(id=f"shop:{order}:{version}", topic=topic, key=f"shop:{order}".encode(), value=b"{}", headers=())


class Outbox:
    """Unsent events in memory."""

    def __init__(self, *events: Outgoing) -> None:
        self.waiting = dict(enumerate(events, 1))
        self.set_aside_numbers: list[int] = []

    async def unsent(
        self, limit: int, away: Away = NOTHING_AWAY, *, only: frozenset[str] = EVERYTHING
    ) -> list[tuple[int, Outgoing]]:
        ready = [item for item in self.waiting.items() if item[1].topic in only and not away.holds(item[1])]
        return ready[:limit]

    async def mark_sent(self, numbers: object) -> None:
        for number in list(numbers):  # type: ignore[call-overload]
            del self.waiting[number]

    async def set_aside(self, numbers: object) -> None:
        self.set_aside_numbers += list(numbers)  # type: ignore[call-overload]


@pytest.fixture
def published() -> MemoryTopics:
    return MemoryTopics()


@pytest.fixture
def observer() -> PlanObserver:
    return PlanObserver()


async def test_empty_outbox_publishes_nothing(published: MemoryTopics, observer: PlanObserver) -> None:
    assert await emission.emit(Outbox(), published, observer, 10) == 0
    assert observer.emitted_ids == []


async def test_acknowledged_events_are_marked_and_observed(published: MemoryTopics, observer: PlanObserver) -> None:
    outbox = Outbox(event("A"), event("B"), event("C"))
    assert await emission.emit(outbox, published, observer, 2) == 2
    assert await emission.emit(outbox, published, observer, 2) == 1
    assert outbox.waiting == {}
    assert observer.emitted_ids == ["shop:A:1", "shop:B:1", "shop:C:1"]


async def test_refused_event_is_set_aside_and_the_round_counts_as_tried(
    published: MemoryTopics, observer: PlanObserver
) -> None:
    published.refuses = {"shop:B:1"}
    outbox = Outbox(event("A"), event("B"), event("B", 2))
    assert await emission.emit(outbox, published, observer, 10) == 3
    assert observer.emitted_ids == ["shop:A:1"]
    assert outbox.set_aside_numbers == [2]
    del outbox.waiting[3]
    assert await emission.emit(outbox, published, observer, 10) == 1


async def test_event_of_a_topic_that_is_away_is_not_offered(published: MemoryTopics, observer: PlanObserver) -> None:
    published.away = AwayTopics(topics.HELD)
    outbox = Outbox(event("A", topic=topics.HELD), event("B"))
    assert await emission.emit(outbox, published, observer, 10) == 1
    assert [*outbox.waiting] == [1]
    assert await emission.emit(outbox, published, observer, 10) == 0


async def test_round_in_which_nothing_went_out_is_trouble_of_the_infrastructure(observer: PlanObserver) -> None:
    class GoneSince(MemoryTopics):
        """Topics that go away between the look and the send."""

        async def publish(self, events: object) -> emission.Published:
            return emission.Published(acknowledged=(), trouble="the topic is away")

    with pytest.raises(InfrastructureDown, match="the topic is away"):
        await emission.emit(Outbox(event("A")), GoneSince(), observer, 10)


async def test_each_loop_of_a_relay_sends_its_own_topics(published: MemoryTopics, observer: PlanObserver) -> None:
    outbox = Outbox(event("A"), event("B", topic=topics.HELD), event("C", topic=topics.NOTED))
    assert await emission.emit(outbox, published, observer, 10, only=NOTICES) == 2
    assert await emission.emit(outbox, published, observer, 10, only=ORDER_EVENTS) == 1


def test_every_topic_of_events_belongs_to_one_loop() -> None:
    assert not ORDER_EVENTS & NOTICES
    assert {topics.NOTIFICATION} == {*topics.ALL} - EVERYTHING


def test_key_is_set_aside_for_its_topic_until_its_time() -> None:
    now_s = 7.0
    aside = SetAside(lambda: now_s)
    aside.add([(topics.ORDER_EVENT, b"shop:A")])
    assert aside.holds(event("A", 2))
    assert not aside.holds(event("A", topic=topics.HELD))
    assert not aside.holds(event("B"))
    now_s += REFUSED_AGAIN_S
    assert not aside.holds(event("A", 2))
    aside.add([(topics.ORDER_EVENT, b"shop:B")])
    assert not aside.holds(event("A"))
    assert aside.holds(event("B"))
