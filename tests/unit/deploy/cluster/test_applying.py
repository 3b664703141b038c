"""What becomes of each difference when they are applied."""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import structs

from deploy.cluster import applying, topics
from deploy.cluster.applying import Outcome
from deploy.cluster.differences import AddPartitions, ByHand, Create, Difference, SetConfig
from deploy.cluster.kafka_admin import Refused
from deploy.cluster.strength import NotSeen
from deploy.cluster.topics import Found, Wanted
from schemas.topics import NOTIFICATION, ORDER_EVENT

TOPIC, OTHER = topics.wanted(only=[NOTIFICATION, ORDER_EVENT])
RETENTION = SetConfig(name=TOPIC.name, setting="retention.ms", now="1", wanted="2")
CLEANUP = SetConfig(name=TOPIC.name, setting="cleanup.policy", now="compact", wanted="delete")
ELSEWHERE = structs.replace(RETENTION, name=OTHER.name)
REPLICAS = ByHand(name=TOPIC.name, setting="replicas", now="1", wanted="3", how="move them")


class Admin:
    """Writes down what it is asked for, and refuses what it was told to."""

    def __init__(self, *refused: str, invisible: bool = False) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self._refused = refused
        self._is_invisible = invisible

    async def create(self, topic: Wanted) -> None:
        self._take("create", topic.name)

    async def until(self, name: str, holds: Callable[[Found], bool]) -> None:
        if self._is_invisible:
            raise NotSeen("no answer in time")
        assert not holds(Found(partitions=0, replicas=1, config={}))
        assert holds(Found(partitions=12, replicas=1, config={"retention.ms": "2", "cleanup.policy": "delete"}))
        self._take("seen", name)

    async def add_partitions(self, name: str, *, up_to: int) -> None:
        self._take("partitions", name, up_to)

    async def set_config(self, name: str, config: Mapping[str, str]) -> None:
        self._take("config", name, dict(config))

    def _take(self, what: str, name: str, *more: object) -> None:
        if name in self._refused:
            raise Refused(f"{name}: not allowed")
        self.asked.append((what, name, *more))


async def outcomes(admin: Admin, *differences: Difference) -> list[tuple[Outcome, str]]:
    return [(told.outcome, told.detail) for told in await applying.apply(admin, differences)]


async def test_a_change_is_made_when_the_brokers_show_it() -> None:
    admin = Admin()
    assert await outcomes(admin, Create(TOPIC)) == [(Outcome.DONE, "")]
    assert admin.asked == [("create", TOPIC.name), ("seen", TOPIC.name)]
    for change in (Create(TOPIC), RETENTION, AddPartitions(name=TOPIC.name, now=1, wanted=12)):
        assert await outcomes(Admin(invisible=True), change) == [(Outcome.FAILED, "no answer in time")]


async def test_the_settings_of_one_topic_are_set_together() -> None:
    admin = Admin()
    assert await outcomes(admin, RETENTION, ELSEWHERE, CLEANUP) == [(Outcome.DONE, "")] * 3
    assert admin.asked == [
        ("config", TOPIC.name, {"retention.ms": "2", "cleanup.policy": "delete"}),
        ("seen", TOPIC.name),
        ("config", OTHER.name, {"retention.ms": "2"}),
        ("seen", OTHER.name),
    ]


async def test_what_is_refused_keeps_nothing_else_from_being_done() -> None:
    admin = Admin(TOPIC.name)
    more = AddPartitions(name=OTHER.name, now=1, wanted=12)
    refused = (Outcome.FAILED, f"{TOPIC.name}: not allowed")
    assert await outcomes(admin, Create(TOPIC), RETENTION, CLEANUP, more, ELSEWHERE) == [
        refused,
        refused,
        refused,
        (Outcome.DONE, ""),
        (Outcome.DONE, ""),
    ]
    assert {name for _, name, *_ in admin.asked} == {OTHER.name}


async def test_what_is_for_a_person_is_left_to_one() -> None:
    admin = Admin()
    assert await outcomes(admin, REPLICAS) == [(Outcome.BY_HAND, "move them")]
    assert admin.asked == []


def test_a_plan_says_what_would_be_done() -> None:
    told = applying.planned([Create(TOPIC), REPLICAS])
    assert [each.outcome for each in told] == [Outcome.WOULD_CHANGE, Outcome.BY_HAND]
