"""Makes a history that goes wrong shorter: without the notifications and the faults that it does not need."""

from collections.abc import Callable

from tests.simulation import history
from tests.simulation.history import Seed, Verdict


def shortest(seed: Seed, play: Callable[[Seed], Verdict] = history.play) -> Seed:
    """Return the seed with as much left out as possible, so that something is still wrong."""
    verdict = play(seed)
    drop = _left_out(verdict.notices, lambda drop: bool(play(seed._replace(drop=drop)).wrong))
    seed = seed._replace(drop=drop)
    happened = play(seed).happened
    faults = 1 + max((number for number, _ in happened), default=-1)
    skip = _left_out(faults, lambda skip: bool(play(seed._replace(skip=skip)).wrong))
    return seed._replace(skip=skip)


def _left_out(count: int, is_wrong: Callable[[frozenset[int]], bool]) -> frozenset[int]:
    """Return numbers below `count` that can all be left out: try large parts first, and single ones last."""
    out: frozenset[int] = frozenset()
    size = count
    while size:
        for first in range(0, count, size):
            more = out | frozenset(range(first, min(first + size, count)))
            if more != out and is_wrong(more):
                out = more
        size //= 2
    return out
