"""Whether the topics keep what `success` promises, and the watch that a process keeps over it.

A topic that is too weak loses acknowledged notifications quietly, on the day when a broker dies: one replica too few,
a leader that was elected without the last records, a retention shorter than the workers' longest stop. No later step
can find out. So a process looks when it starts and refuses what it sees, and it looks again from time to time, since
topics are altered by people. A topic that is missing refuses nothing: it promises nothing either, and the process waits
for whoever makes it.

How many replicas are alive at this moment is not judged here: the brokers refuse records where they are too few, and
the publisher tells.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import timedelta

from deploy.cluster.topics import CLEANUP, MIN_IN_SYNC, RETENTION_MS, UNCLEAN_ELECTION, Found, TopicSpec
from schemas import topics

REPLICAS_LEAST = 3
IN_SYNC_LEAST = 2
RETENTION_LEAST = timedelta(days=7)
EVERY_S = 60.0
EVERY_IN_TROUBLE_S = 2.0  # a process that is not ready should not stay so for long once somebody has seen to it
REMEDY = "`alipay-notify topics plan` shows what differs, `alipay-notify topics apply` corrects it"

Look = Callable[[], Awaitable[Mapping[str, Found]]]


class NotSeen(Exception):
    """The cluster could not be looked at; it says why. Nothing is known of the topics then."""


class TooWeak(Exception):
    """The topics do not keep what would be promised on them, and the start is refused; `faults` are all of them."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join([*faults, REMEDY]))
        self.faults = [*faults]


def weaknesses(wanted: Sequence[TopicSpec], found: Mapping[str, Found], *, development: bool = False) -> list[str]:
    """What is too weak, in words; nothing where all is well. Development is forgiven too few copies, nothing else."""
    return [fault for topic in wanted for fault in _of(topic, found.get(topic.name), development=development)]


def _of(topic: TopicSpec, there: Found | None, *, development: bool) -> Iterator[str]:
    if there is None:
        yield f"the topic {topic.name} is missing"
        return
    if not development:
        yield from _copies(topic.name, there)
    if there.config.get(UNCLEAN_ELECTION, "false") != "false":
        yield f"{topic.name} has {UNCLEAN_ELECTION} on: a leader without the last records may be elected"
    policies = _policies(there.config)
    if "compact" in policies and "compact" not in _policies(topic.config):
        yield f"{topic.name} is compacted: all but the last record of an order would be deleted"
    if topic.logical == topics.NOTIFICATION and policies != {"compact"}:
        yield from _retention(topic.name, there.config.get(RETENTION_MS, ""))


def _copies(name: str, there: Found) -> Iterator[str]:
    if there.replicas < REPLICAS_LEAST:
        yield f"{name} has a replication factor of {there.replicas}, and {REPLICAS_LEAST} is the least"
    in_sync = there.config.get(MIN_IN_SYNC, "")
    if not in_sync.isdecimal() or int(in_sync) < IN_SYNC_LEAST:
        yield f"{name} has {MIN_IN_SYNC} {in_sync or 'unknown'}, and {IN_SYNC_LEAST} is the least"


def _retention(name: str, kept: str) -> Iterator[str]:
    """Kafka's -1 is for ever."""
    if not kept.removeprefix("-").isdecimal():
        yield f"{name} does not say its {RETENTION_MS}"
    elif 0 <= int(kept) < RETENTION_LEAST / timedelta(milliseconds=1):
        days = int(kept) / (24 * 3_600_000)
        yield f"{name} keeps its records for {days:.2g} days, and {RETENTION_LEAST.days} is the least"


def _policies(config: Mapping[str, str]) -> set[str]:
    return {part.strip() for part in config.get(CLEANUP, "").split(",")}


class Watched:
    """The topics of one process, looked at again and again.

    `trouble` says what keeps the process from being ready, and is `None` after a look that found nothing. A look that
    fails tells nothing new: what the last one found stands, and before the first one the topics are unknown.
    """

    def __init__(
        self,
        look: Look,
        wanted: Sequence[TopicSpec],
        *,
        development: bool = False,
        every_s: float = EVERY_S,
        every_in_trouble_s: float = EVERY_IN_TROUBLE_S,
    ) -> None:
        self.trouble: str | None = "the topics have not been looked at yet"
        self._look = look
        self._wanted = wanted
        self._is_development = development
        self._every_s = every_s
        self._every_in_trouble_s = min(every_s, every_in_trouble_s)
        self._is_seen = False

    async def check(self) -> None:
        """Look once, before the start. Returns too where the cluster cannot be seen or a topic is not there yet:
        `trouble` says so then.

        Raises:
            TooWeak: topics were seen that are not as strong as promised.
        """
        found = await self._found()
        there = [topic for topic in self._wanted if topic.name in found]
        if faults := weaknesses(there, found, development=self._is_development):
            raise TooWeak(faults)

    async def run(self) -> None:
        """Look from time to time, until cancelled."""
        while True:
            await asyncio.sleep(self._every_s if self.trouble is None else self._every_in_trouble_s)
            await self._found()

    async def _found(self) -> Mapping[str, Found]:
        try:
            found = await self._look()
        except Exception as error:  # also what nobody foresaw: a watch that ended would leave its last verdict standing
            if not self._is_seen:
                self.trouble = f"the topics could not be looked at yet: {error}"
            return {}
        self._is_seen = True
        self.trouble = "; ".join(weaknesses(self._wanted, found, development=self._is_development)) or None
        return found
