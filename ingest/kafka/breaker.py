"""Circuit breaker of the log: after a time of nothing but failures, appends are refused at once.

    closed ──only failures, for a while──► open ──allow_probe──► half-open ──one append──► probing
       ▲                                    ▲                                                │
       └──────a success, in any state       └───────────────────a failure────────────────────┘

Otherwise the receiver would fill with requests that wait for a deadline in vain.
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
    """When to open, and for how long: `open_s` doubles with each failed probe, up to `open_max_s`."""

    failures_max: int = 5
    failing_s: float = 1.0
    open_s: float = 0.5
    open_max_s: float = 4.0
    probe_s: float = 3.0  # longer than any append takes: after this time the probe was never sent


class Breaker:
    """Counts reported results. It makes no calls and never waits."""

    def __init__(self, policy: BreakerPolicy, *, now_s: Callable[[], float]) -> None:
        self._policy = policy
        self._now_s = now_s
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._failing_since_s = 0.0
        self._open_s = policy.open_s
        self._probe_from_s = 0.0
        self.why: str | None = None  # the last failure; `None` while closed

    @property
    def state(self) -> BreakerState:
        return self._state

    def admits(self) -> bool:
        """Return whether an append may be made now. An admitted caller reports its result."""
        if self._state is BreakerState.CLOSED:
            return True
        if self._state is not BreakerState.HALF_OPEN:
            return False
        self._state = BreakerState.PROBING  # this append probes; all others are refused until its result
        self._probe_from_s = self._now_s() + self._policy.probe_s
        return True

    def succeeded(self) -> None:
        self._failures = 0
        if self._state is not BreakerState.CLOSED:
            self._state = BreakerState.CLOSED
            self._open_s = self._policy.open_s
            self.why = None

    def failed(self, why: str) -> None:
        """Report that an append was not acknowledged, or not in time."""
        if self._state is BreakerState.PROBING:
            self._open_s = min(2 * self._open_s, self._policy.open_max_s)
            self._open(why)
        elif self._state is BreakerState.CLOSED:
            now_s = self._now_s()
            if self._failures == 0:
                self._failing_since_s = now_s
            self._failures += 1
            # The count alone is not enough: one lost batch is hundreds of failures while other partitions work. So the
            # failures must also span some time without a success.
            if self._failures >= self._policy.failures_max and now_s - self._failing_since_s >= self._policy.failing_s:
                self._open(why)
        # While open, appends that began earlier still fail. This is nothing new.

    def trip(self, why: str) -> None:
        """Open whatever the count, because appends cannot succeed."""
        if self._state is BreakerState.PROBING:
            self._open_s = min(2 * self._open_s, self._policy.open_max_s)
        if self._state is not BreakerState.OPEN:
            self._open(why)

    def allow_probe(self) -> None:
        """Let one append probe, because the brokers answer. Do nothing right after the last failed probe.

        Time alone never allows a probe, because a load balancer sends no requests to a receiver that is not ready. So
        the supervisor, which checks the brokers, calls this. It also replaces a probe that was never sent, because its
        request may have ended before.
        """
        if self._state in (BreakerState.OPEN, BreakerState.PROBING) and self._now_s() >= self._probe_from_s:
            self._state = BreakerState.HALF_OPEN

    def _open(self, why: str) -> None:
        self._state = BreakerState.OPEN
        self._probe_from_s = self._now_s() + self._open_s
        self.why = why
