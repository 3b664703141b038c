"""The ages of held notifications in groups, for the histogram of the console's list."""

from collections.abc import Iterable

from msgspec import Struct

from schemas.times import HOUR_MS

# In hours. The third is when Alipay gives up, by its usual schedule; the last is a weekend without anybody.
EDGES_H = (1, 6, 25, 72)


class AgeGroup(Struct, frozen=True):
    """How many have been held for so long: `least_h` hours or more, and less than `below_h`, if that is no `None`."""

    least_h: int
    below_h: int | None
    count: int


def by_age(first_at_ms: Iterable[int], *, now_ms: int) -> list[AgeGroup]:
    """Group these moments at which notifications were first held, the youngest group first. All groups are there."""
    counts = [0] * (len(EDGES_H) + 1)
    for moment_ms in first_at_ms:
        age_ms = now_ms - moment_ms
        counts[sum(age_ms >= edge * HOUR_MS for edge in EDGES_H)] += 1
    return [AgeGroup(*each) for each in zip((0, *EDGES_H), (*EDGES_H, None), counts, strict=True)]
