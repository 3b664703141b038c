"""Makes the differences that a program can make go away, one after another, and tells of each what became of it.

One that is refused does not keep the others: a cluster is better half corrected than not at all, and applying again
begins where this ended. A change counts as made when a broker shows it.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol, assert_never

from msgspec import Struct

from deploy.cluster.differences import AddPartitions, ByHand, Create, Difference, SetConfig
from deploy.cluster.kafka_admin import Refused
from deploy.cluster.strength import NotSeen
from deploy.cluster.topics import Found, Wanted


class Outcome(StrEnum):
    """What became of a difference."""

    WOULD_CHANGE = "would change"
    DONE = "done"
    FAILED = "failed"
    BY_HAND = "by hand"


class Told(Struct, frozen=True, kw_only=True):
    """A difference with its outcome; `detail` is the brokers' refusal, or what a person has to do."""

    difference: Difference
    outcome: Outcome
    detail: str = ""


class Admin(Protocol):
    """The changes that a cluster takes, as `kafka_admin.KafkaAdmin` makes them."""

    async def create(self, topic: Wanted) -> None: ...

    async def until(self, name: str, holds: Callable[[Found], bool]) -> None: ...

    async def add_partitions(self, name: str, *, up_to: int) -> None: ...

    async def set_config(self, name: str, config: Mapping[str, str]) -> None: ...


def planned(differences: Sequence[Difference]) -> list[Told]:
    """What applying would do."""
    return [_untouched(difference) for difference in differences]


async def apply(admin: Admin, differences: Sequence[Difference]) -> list[Told]:
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
        told.append(Told(difference=difference, outcome=Outcome.FAILED if refusal else Outcome.DONE, detail=refusal))
    return told


async def _refusal(admin: Admin, difference: Create | AddPartitions | SetConfig, all_: Sequence[Difference]) -> str:
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
    except (Refused, NotSeen) as error:
        return str(error)
    return ""


def _untouched(difference: Difference) -> Told:
    if isinstance(difference, ByHand):
        return Told(difference=difference, outcome=Outcome.BY_HAND, detail=difference.how)
    return Told(difference=difference, outcome=Outcome.WOULD_CHANGE)
