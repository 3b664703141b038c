"""Remembers which event topics, or partitions of them, take no events now, so that the others need not wait for them.

    a topic without metadata, or without the right to write to it     ─► the topic is away
    a send to a partition without answer, or with an error            ─► the partition is away

After a pause, which grows with each failure, a destination that is away is on trial: the next publish tries it. Its
trouble is shown until a send succeeds, or until nothing has failed there for a minute: then other workers have sent its
events. Pauses are short, because an outage of all of Kafka ends here too.
"""

import time
from collections.abc import Callable

from msgspec import Struct

PAUSE_S = 0.5
PAUSE_MAX_S = 5.0  # half of the ten seconds within which work resumes after an outage, however long it was
FORGOTTEN_AFTER_S = 60.0  # longer than a refused event waits until it is offered again

Destination = tuple[str, int | None]  # a topic's full name and a partition; `None` for all of them


class _Trouble(Struct):
    why: str
    pause_s: float
    away_until_s: float


class Destinations:
    """The destinations in trouble, by the monotonic clock."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._troubles: dict[Destination, _Trouble] = {}
        self._refusal = ("", now_s())

    @property
    def trouble(self) -> str | None:
        """Name each topic in trouble, with the reason, and the last refusal; `None` if there is none."""
        self._forget_old()
        reasons = {topic: trouble.why for (topic, _), trouble in sorted(self._troubles.items(), key=_by_topic)}
        reported = [f"{topic}: {why}" for topic, why in reasons.items()]
        refusal, refused_s = self._refusal
        if refusal and self._now_s() - refused_s < FORGOTTEN_AFTER_S:
            reported.append(refusal)
        return "; ".join(reported) or None

    @property
    def are_well(self) -> bool:
        """Whether no destination is in trouble, nor was within the last minute."""
        return not self._troubles

    def refused(self, why: str) -> None:
        """Show for a while that some events are refused. They are offered again and again within this time."""
        self._refusal = (why, self._now_s())

    def failed(self, topic: str, partition: int | None, why: str) -> None:
        """Leave this destination alone for a while, longer each time."""
        self._forget_old()
        before = self._troubles.get((topic, partition))
        pause_s = PAUSE_S if before is None else min(2 * before.pause_s, PAUSE_MAX_S)
        self._troubles[topic, partition] = _Trouble(why, pause_s, self._now_s() + pause_s)

    def worked(self, topic: str, partition: int) -> None:
        """Forget the trouble of a destination that has acknowledged a send."""
        if self._troubles:
            self._troubles.pop((topic, partition), None)
            self._troubles.pop((topic, None), None)

    def is_away(self, topic: str, partition: int | None = None) -> bool:
        """Return whether this partition is to be left alone now; without one, whether the whole topic is."""
        if not self._troubles:
            return False
        now_s = self._now_s()
        found = (self._troubles.get((topic, None)), self._troubles.get((topic, partition)))
        return any(trouble is not None and now_s < trouble.away_until_s for trouble in found)

    def is_on_trial(self, topic: str) -> bool:
        """Return whether the whole topic was away, and nothing was acknowledged since."""
        return (topic, None) in self._troubles

    def any_partition_away(self, topic: str) -> bool:
        """Return whether single partitions of the topic are in trouble."""
        return any(name == topic and partition is not None for name, partition in self._troubles)

    def _forget_old(self) -> None:
        old_s = self._now_s() - FORGOTTEN_AFTER_S
        self._troubles = {each: trouble for each, trouble in self._troubles.items() if trouble.away_until_s > old_s}


def _by_topic(item: tuple[Destination, _Trouble]) -> tuple[str, bool]:
    (topic, partition), _ = item
    return topic, partition is None  # the trouble of the whole topic last: it is the one that is shown
