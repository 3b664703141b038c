"""Check that topics are as durable as `success` promises, at the start of a process and while it runs.

A topic that is too weak loses acknowledged notifications without a sign, on the day when a broker dies: with one
replica too few, with a leader elected without the last records, or with a retention shorter than the workers' longest
stop. No later step can detect that. So a process refuses to start on a weak topic, and checks it regularly, because
operators change topics. A missing topic does not refuse the start: it promises nothing, and the process waits for it.

Replicas that are not in sync at the moment are no weakness of a topic, and never a reason to refuse: if too few are
left, the brokers refuse records, and the publisher reports that. They are exported as a metric.
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
EVERY_IN_TROUBLE_S = 2.0  # so that a process becomes ready soon after an operator has mended the topic
REMEDY = "`alipay-notify topics plan` shows what differs, `alipay-notify topics apply` corrects it"

Look = Callable[[], Awaitable[Mapping[str, Found]]]


class NotSeen(Exception):
    """The cluster could not be read, so nothing is known of the topics; the text says why."""


class TooWeak(Exception):
    """Topics are too weak to start on; `faults` names all weaknesses."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join([*faults, REMEDY]))
        self.faults = [*faults]


def weaknesses(wanted: Sequence[TopicSpec], found: Mapping[str, Found], *, development: bool = False) -> list[str]:
    """Return one text for each weakness. `development` allows fewer replicas, and nothing else."""
    return [fault for topic in wanted for fault in _of(topic, found.get(topic.name), development=development)]


def _of(topic: TopicSpec, there: Found | None, *, development: bool) -> Iterator[str]:
    if there is None:
        yield f"the topic {topic.name} is missing"
        return
    if not development:
        yield from _copies(topic.name, there)
    if there.config.get(UNCLEAN_ELECTION, "false") != "false":
        yield f"{topic.name} has {UNCLEAN_ELECTION} on: a leader that lacks the last records may be elected"
    policies = _policies(there.config)
    if "compact" in policies and "compact" not in _policies(topic.config):
        yield f"{topic.name} is compacted: all but the last record of an order would be deleted"
    if topic.logical == topics.NOTIFICATION and policies != {"compact"}:
        yield from _retention(topic.name, there.config.get(RETENTION_MS, ""))


def _copies(name: str, there: Found) -> Iterator[str]:
    if there.replicas < REPLICAS_LEAST:
        yield f"{name} has a replication factor of {there.replicas}; it must be at least {REPLICAS_LEAST}"
    in_sync = there.config.get(MIN_IN_SYNC, "")
    if not in_sync.isdecimal() or int(in_sync) < IN_SYNC_LEAST:
        yield f"{name} has {MIN_IN_SYNC} {in_sync or 'unknown'}; it must be at least {IN_SYNC_LEAST}"


def _retention(name: str, kept: str) -> Iterator[str]:
    """Yield the weakness of this `retention.ms`; Kafka's -1 means for ever."""
    if not kept.removeprefix("-").isdecimal():
        yield f"{name} has an unknown {RETENTION_MS}"
    elif 0 <= int(kept) < RETENTION_LEAST / timedelta(milliseconds=1):
        days = int(kept) / (24 * 3_600_000)
        yield f"{name} keeps its records for {days:.2g} days; it must keep them for at least {RETENTION_LEAST.days}"


def _policies(config: Mapping[str, str]) -> set[str]:
    return {part.strip() for part in config.get(CLEANUP, "").split(",")}


class TopicWatch:
    """Checks the topics of one process regularly.

    `trouble` says why the process is not ready, and is `None` after a check that found no weakness. A check that fails
    leaves the result of the last one. Before the first successful check the topics are unknown. `seen` gets what each
    successful check has found.
    """

    def __init__(
        self,
        look: Look,
        wanted: Sequence[TopicSpec],
        *,
        development: bool = False,
        every_s: float = EVERY_S,
        every_in_trouble_s: float = EVERY_IN_TROUBLE_S,
        seen: Callable[[Mapping[str, Found]], None] = lambda found: None,
    ) -> None:
        self.trouble: str | None = "the topics have not been checked yet"
        self._look = look
        self._wanted = wanted
        self._is_development = development
        self._seen = seen
        self._every_s = every_s
        self._every_in_trouble_s = min(every_s, every_in_trouble_s)
        self._is_seen = False

    async def check(self) -> None:
        """Check once, before the start. Return also if the cluster cannot be read or a topic is missing; `trouble`
        says so then.

        Raises:
            TooWeak: topics exist that are too weak.
        """
        found = await self._found()
        there = [topic for topic in self._wanted if topic.name in found]
        if faults := weaknesses(there, found, development=self._is_development):
            raise TooWeak(faults)

    async def run(self) -> None:
        """Check regularly, until cancelled."""
        while True:
            await asyncio.sleep(self._every_s if self.trouble is None else self._every_in_trouble_s)
            await self._found()

    async def _found(self) -> Mapping[str, Found]:
        try:
            found = await self._look()
        except Exception as error:  # of any kind: a watch that ended would leave its last result standing
            if not self._is_seen:
                self.trouble = f"the topics could not be checked yet: {error}"
            return {}
        self._is_seen = True
        self._seen(found)
        self.trouble = "; ".join(weaknesses(self._wanted, found, development=self._is_development)) or None
        return found
