"""What would have to be done to make the topics as they should be. Pure.

Nothing that is proposed destroys records or weakens a topic: more partitions, more replicas, a longer retention or a
stricter `min.insync.replicas` than asked for are somebody's decision and stay. What no request to the brokers can
change, or what might stop a topic from taking records, is said to the person instead, with the way to do it.

Makes the differences that a program can make go away, one after another, and tells of each what became of it.

One that is refused does not keep the others: a cluster is better half corrected than not at all, and applying again
begins where this ended. A change counts as made when a broker shows it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol, assert_never

from msgspec import Struct

from deploy.cluster.kafka_admin import BrokerRefused
from deploy.cluster.topic_check import NotSeen
from deploy.cluster.topics import CLEANUP, MESSAGE_BYTES, MIN_IN_SYNC, RETENTION_BYTES, RETENTION_MS, Found, TopicSpec

_ENOUGH_IF_MORE = frozenset({RETENTION_MS, RETENTION_BYTES, MIN_IN_SYNC, MESSAGE_BYTES})
_ENDLESS_IF_NEGATIVE = frozenset({RETENTION_MS, RETENTION_BYTES})


class Create(Struct, frozen=True):
    """The topic is not there."""

    topic: TopicSpec


class AddPartitions(Struct, frozen=True, kw_only=True):
    """There are too few. Records of an order that were written before and after may lie in two partitions."""

    name: str
    now: int
    wanted: int


class SetConfig(Struct, frozen=True, kw_only=True):
    """A setting is not as it should be; `now` is what is in force."""

    name: str
    setting: str
    now: str
    wanted: str


class ByHand(Struct, frozen=True, kw_only=True):
    """Something that this program cannot do; `how` is for a person."""

    name: str
    setting: str
    now: str
    wanted: str
    how: str


Difference = Create | AddPartitions | SetConfig | ByHand


def between(wanted: Sequence[TopicSpec], found: Mapping[str, Found]) -> list[Difference]:
    """What differs, topic by topic; `found` is by the cluster's names, and has no entry for what is not there."""
    differences: list[Difference] = []
    for topic in wanted:
        there = found.get(topic.name)
        differences += [Create(topic)] if there is None else _of(topic, there)
    return differences


def _of(topic: TopicSpec, there: Found) -> Iterator[Difference]:
    if there.partitions < topic.partitions:
        yield AddPartitions(name=topic.name, now=there.partitions, wanted=topic.partitions)
    if there.replicas < topic.replicas:
        how = (
            "write an assignment that names more brokers for each partition and give it to "
            "kafka-reassign-partitions.sh --execute; a topic without records can be deleted and applied again"
        )
        yield ByHand(name=topic.name, setting="replicas", now=str(there.replicas), wanted=str(topic.replicas), how=how)
    for setting, value in topic.config.items():
        now = there.config.get(setting, "")
        if not _is_enough(setting, now, value, there.replicas):
            yield _setting(topic.name, setting, now=now, wanted=value, replicas=there.replicas)


def _setting(name: str, setting: str, *, now: str, wanted: str, replicas: int) -> Difference:
    # Above the replicas it stops the topic on an older broker, and a newer one counts to the replicas only.
    if setting == MIN_IN_SYNC and int(wanted) > replicas:
        how = f"give the topic {wanted} replicas or more first, then apply again"
        return ByHand(name=name, setting=setting, now=now, wanted=wanted, how=how)
    return SetConfig(name=name, setting=setting, now=now, wanted=wanted)


def _is_enough(setting: str, now: str, wanted: str, replicas: int) -> bool:
    if setting == CLEANUP:
        return {part.strip() for part in now.split(",")} == {part.strip() for part in wanted.split(",")}
    if setting not in _ENOUGH_IF_MORE or not _is_number(now):
        return now == wanted
    if setting == MIN_IN_SYNC and int(now) > replicas:  # for the same reason
        return False
    return _amount(setting, now) >= _amount(setting, wanted)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _amount(setting: str, text: str) -> float:
    number = int(text)
    return float("inf") if setting in _ENDLESS_IF_NEGATIVE and number < 0 else number


class ApplyOutcome(StrEnum):
    """What became of a difference."""

    WOULD_CHANGE = "would change"
    DONE = "done"
    FAILED = "failed"
    BY_HAND = "by hand"


class ApplyReport(Struct, frozen=True, kw_only=True):
    """A difference with its outcome; `detail` is the brokers' refusal, or what a person has to do."""

    difference: Difference
    outcome: ApplyOutcome
    detail: str = ""


class TopicAdmin(Protocol):
    """The changes that a cluster takes, as `kafka_admin.KafkaAdmin` makes them."""

    async def create(self, topic: TopicSpec) -> None: ...

    async def until(self, name: str, holds: Callable[[Found], bool]) -> None: ...

    async def add_partitions(self, name: str, *, up_to: int) -> None: ...

    async def set_config(self, name: str, config: Mapping[str, str]) -> None: ...


def planned(differences: Sequence[Difference]) -> list[ApplyReport]:
    """What applying would do."""
    return [_untouched(difference) for difference in differences]


async def apply(admin: TopicAdmin, differences: Sequence[Difference]) -> list[ApplyReport]:
    """Make the changes; the settings of one topic all together, since one without the other may be worse than none."""
    told = []
    settings_done: dict[str, str] = {}
    for difference in differences:
        if isinstance(difference, ByHand):
            told.append(_untouched(difference))
            continue
        if isinstance(difference, SetConfig):
            if difference.name not in settings_done:
                settings_done[difference.name] = await _refusal(admin, difference, differences)
            refusal = settings_done[difference.name]
        else:
            refusal = await _refusal(admin, difference, differences)
        told.append(
            ApplyReport(
                difference=difference, outcome=ApplyOutcome.FAILED if refusal else ApplyOutcome.DONE, detail=refusal
            )
        )
    return told


async def _refusal(
    admin: TopicAdmin, difference: Create | AddPartitions | SetConfig, all_: Sequence[Difference]
) -> str:
    """Empty where the change was made."""
    try:
        match difference:
            case Create(topic):
                await admin.create(topic)
                await admin.until(topic.name, lambda found: found.partitions >= topic.partitions)
            case AddPartitions(name=name, wanted=count):
                await admin.add_partitions(name, up_to=count)
                await admin.until(name, lambda found: found.partitions >= count)
            case SetConfig(name=name):
                together = [each for each in all_ if isinstance(each, SetConfig) and each.name == name]
                config = {each.setting: each.wanted for each in together}
                await admin.set_config(name, config)
                await admin.until(name, lambda found: config.items() <= found.config.items())
            case _:
                assert_never(difference)
    except (BrokerRefused, NotSeen) as error:
        return str(error)
    return ""


def _untouched(difference: Difference) -> ApplyReport:
    if isinstance(difference, ByHand):
        return ApplyReport(difference=difference, outcome=ApplyOutcome.BY_HAND, detail=difference.how)
    return ApplyReport(difference=difference, outcome=ApplyOutcome.WOULD_CHANGE)
