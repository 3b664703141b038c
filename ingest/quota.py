"""Limits on memory in use by one process: a number of requests or records, and their bytes.

The receiver counts requests before it reads their bodies; the Kafka log counts records until they are written or lost.
"""

from collections.abc import Callable


class Quota:
    """Counts items in flight and their bytes, up to two limits. `exceeded` makes the error for an item too many."""

    def __init__(self, *, count_max: int, bytes_max: int, exceeded: Callable[[], Exception]) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._exceeded = exceeded
        self.count = 0
        self.bytes = 0

    def take(self, size: int) -> None:
        """Count one item of `size` bytes, until `release`. If a limit would be passed, raise and count nothing."""
        if self.count >= self._count_max or self.bytes + size > self._bytes_max:
            raise self._exceeded()
        self.count += 1
        self.bytes += size

    def release(self, size: int, count: int = 1) -> None:
        """Stop counting items that were taken with this `size` together."""
        self.count -= count
        self.bytes -= size
