"""Lose notifications on purpose: so that a merchant can see what its questions find.

A notification is lost at its first delivery or not at all, and then at each retry too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

_REMEMBERED = 10_000


class Dropping:
    """Decides which notifications are lost: `share` of them, from 0 (none) to 1 (all)."""

    def __init__(self, share: float, chance: Callable[[], float]) -> None:
        self.share = share
        self._chance = chance
        self._decided: OrderedDict[str, bool] = OrderedDict()

    def takes(self, notify_id: str) -> bool:
        """Return whether this notification is lost."""
        known = self._decided.get(notify_id)
        if known is None:
            known = self._decided[notify_id] = self._chance() < self.share
            while len(self._decided) > _REMEMBERED:
                self._decided.popitem(last=False)
        return known

    def release(self) -> None:
        """Lose no more from now on, and let those that were lost arrive if they are sent again."""
        self.share = 0.0
        self._decided.clear()
