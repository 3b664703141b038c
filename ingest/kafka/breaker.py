"""Whether the log is worth trying: after some time of nothing but failures, whoever comes is refused at once.

    closed ──failures, and only failures, for a while──► open ──may_try──► half-open ──one append──► probing
       ▲                                                  ▲                                            │
       └──────────────any success, in any state           └────────────────a failure──────────────────┘

Waiting out a deadline for each request would fill the receiver with requests that nothing can be done for. A number of
failures alone says little, since one lost batch is hundreds of them while other partitions take theirs: they must also
span some time without a single success.

An open breaker does not let itself be tried because time has passed: nobody sends requests to a receiver that is not
ready, so none could find out. Whoever watches the brokers says when there is reason to try.
"""

from collections.abc import Callable
from enum import Enum, auto

from msgspec import Struct


class BreakerState(Enum):
    CLOSED = auto()
    OPEN = auto()
    HALF_OPEN = auto()
    PROBING = auto()


class BreakerPolicy(Struct, frozen=True, kw_only=True):
    """When to give up, and for how long: longer with each probe that fails, as far as recovery allows."""

    failures_max: int = 5
    failing_s: float = 1.0
    open_s: float = 0.5
    open_max_s: float = 4.0
    probe_s: float = 3.0  # no append takes longer, so a probe that does was never made


class Breaker:
    """Counts what it is told. It calls nothing itself and waits for nothing."""

    def __init__(self, patience: BreakerPolicy, *, now_s: Callable[[], float]) -> None:
        self._patience = patience
        self._now_s = now_s
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._failing_since_s = 0.0
        self._open_s = patience.open_s
        self._try_from_s = 0.0
        self.why: str | None = None  # what the last failure was; nothing while the breaker is closed

    @property
    def state(self) -> BreakerState:
        return self._state

    def admits(self) -> bool:
        """Whether an append may be made now. Whoever is admitted tells how it went."""
        if self._state is BreakerState.CLOSED:
            return True
        if self._state is not BreakerState.HALF_OPEN:
            return False
        self._state = BreakerState.PROBING  # this one tries; the others are refused until it is known what it found
        self._try_from_s = self._now_s() + self._patience.probe_s
        return True

    def succeeded(self) -> None:
        self._failures = 0
        if self._state is not BreakerState.CLOSED:
            self._state = BreakerState.CLOSED
            self._open_s = self._patience.open_s
            self.why = None

    def failed(self, why: str) -> None:
        """An append was not acknowledged, or not in time."""
        if self._state is BreakerState.PROBING:
            self._open_s = min(2 * self._open_s, self._patience.open_max_s)
            self._open(why)
        elif self._state is BreakerState.CLOSED:
            now_s = self._now_s()
            if self._failures == 0:
                self._failing_since_s = now_s
            self._failures += 1
            if (
                self._failures >= self._patience.failures_max
                and now_s - self._failing_since_s >= self._patience.failing_s
            ):
                self._open(why)
        # While it is open, what was begun before goes on failing for a while. That says nothing new.

    def trip(self, why: str) -> None:
        """There is no use in trying, whatever the count says."""
        if self._state is BreakerState.PROBING:
            self._open_s = min(2 * self._open_s, self._patience.open_max_s)
        if self._state is not BreakerState.OPEN:
            self._open(why)

    def may_try(self) -> None:
        """The brokers answer: one append may find out, unless the last one did just now.

        It also replaces a probe that was never made, since its request may have ended before.
        """
        if self._state in (BreakerState.OPEN, BreakerState.PROBING) and self._now_s() >= self._try_from_s:
            self._state = BreakerState.HALF_OPEN

    def _open(self, why: str) -> None:
        self._state = BreakerState.OPEN
        self._try_from_s = self._now_s() + self._open_s
        self.why = why
