"""How much the receiver takes on at a time: requests by number, and their bodies by size.

Asked before a body is read, so that saying no costs less than saying yes. Each request reserves what it announced, or
the largest body where it announced nothing: memory is bounded by what could still arrive, not by what has arrived.
"""

from ingest.errors import Throttled


class Room:
    """Counts what is in flight in one process."""

    def __init__(self, *, requests_max: int, bytes_max: int) -> None:
        self._requests_max = requests_max
        self._bytes_max = bytes_max
        self.requests = 0
        self.bytes = 0

    def enter(self, size: int) -> None:
        """Reserve room for one request of `size` bytes; `leave` gives it back.

        Raises:
            Throttled: there is none.
        """
        if self.requests >= self._requests_max or self.bytes + size > self._bytes_max:
            raise Throttled
        self.requests += 1
        self.bytes += size

    def leave(self, size: int) -> None:
        self.requests -= 1
        self.bytes -= size
