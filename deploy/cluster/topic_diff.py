"""Differences between the specified topics and those of a cluster, and the changes that remove them.

No proposed change deletes records or weakens a topic. More partitions, more replicas, a longer retention or a stricter
`min.insync.replicas` than specified are an operator's decision and stay. A difference that no request to the brokers
can remove, or whose removal might stop a topic from accepting records, is left to the operator, with instructions.

A change that fails does not prevent the others, because a cluster is better half corrected than not at all; applying
again continues with the rest. A change counts as done when a broker shows it.
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
    """The topic does not exist."""

    topic: TopicSpec


class AddPartitions(Struct, frozen=True, kw_only=True):
    """There are too few partitions. After the change, an order's old and new records may be in two partitions."""

    name: str
    now: int
    wanted: int


class SetConfig(Struct, frozen=True, kw_only=True):
    """A setting differs from the specification; `now` is the value in force."""

    name: str
    setting: str
    now: str
    wanted: str


class ByHand(Struct, frozen=True, kw_only=True):
    """A change that this program cannot make; `how` is the instruction for the operator."""

    name: str
    setting: str
    now: str
    wanted: str
    how: str


Difference = Create | AddPartitions | SetConfig | ByHand


def between(wanted: Sequence[TopicSpec], found: Mapping[str, Found]) -> list[Difference]:
    """Return the differences, topic by topic. `found` has the existing topics by their names in the cluster."""
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
    # A value above the number of replicas stops the topic on older brokers; newer brokers cap it.
    if setting == MIN_IN_SYNC and int(wanted) > replicas:
        how = f"give the topic {wanted} replicas or more first, then apply again"
        return ByHand(name=name, setting=setting, now=now, wanted=wanted, how=how)
    return SetConfig(name=name, setting=setting, now=now, wanted=wanted)


def _is_enough(setting: str, now: str, wanted: str, replicas: int) -> bool:
    if setting == CLEANUP:
        return {part.strip() for part in now.split(",")} == {part.strip() for part in wanted.split(",")}
    if setting not in _ENOUGH_IF_MORE or not _is_number(now):
        return now == wanted
    if setting == MIN_IN_SYNC and int(now) > replicas:  # the same danger, already in force
        return False
    return _amount(setting, now) >= _amount(setting, wanted)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _amount(setting: str, text: str) -> float:
    number = int(text)
    return float("inf") if setting in _ENDLESS_IF_NEGATIVE and number < 0 else number


class ApplyOutcome(StrEnum):
    """The result for one difference."""

    WOULD_CHANGE = "would change"
    DONE = "done"
    FAILED = "failed"
    BY_HAND = "by hand"


class ApplyReport(Struct, frozen=True, kw_only=True):
    """A difference with its result; `detail` is the brokers' refusal, or the instruction for the operator."""

    difference: Difference
    outcome: ApplyOutcome
    detail: str = ""


class TopicAdmin(Protocol):
    """The changes to a cluster, as `kafka_admin.KafkaAdmin` makes them."""

    async def create(self, topic: TopicSpec) -> None: ...

    async def until(self, name: str, holds: Callable[[Found], bool]) -> None: ...

    async def add_partitions(self, name: str, *, up_to: int) -> None: ...

    async def set_config(self, name: str, config: Mapping[str, str]) -> None: ...


def planned(differences: Sequence[Difference]) -> list[ApplyReport]:
    """Return what `apply` would do, without doing it."""
    return [_untouched(difference) for difference in differences]


async def apply(admin: TopicAdmin, differences: Sequence[Difference]) -> list[ApplyReport]:
    """Make the changes. Settings of one topic change together, because one without the other may be worse than none."""
    reports = []
    settings_done: dict[str, str] = {}
    for difference in differences:
        if isinstance(difference, ByHand):
            reports.append(_untouched(difference))
            continue
        if isinstance(difference, SetConfig):
            if difference.name not in settings_done:
                settings_done[difference.name] = await _refusal(admin, difference, differences)
            refusal = settings_done[difference.name]
        else:
            refusal = await _refusal(admin, difference, differences)
        reports.append(
            ApplyReport(
                difference=difference, outcome=ApplyOutcome.FAILED if refusal else ApplyOutcome.DONE, detail=refusal
            )
        )
    return reports


async def _refusal(
    admin: TopicAdmin, difference: Create | AddPartitions | SetConfig, all_: Sequence[Difference]
) -> str:
    """Make the change. Return the reason if it was refused, otherwise an empty text."""
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
