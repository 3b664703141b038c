"""The first facts of the console: money at risk, the oldest held, the last notification, the lag, and readiness.

Money at risk is reported as paid by notifications that are acknowledged but not applied: the held ones. Those that are
still in the log are told by the lag.
"""

from collections.abc import Sequence

from msgspec import Struct
from prometheus_client import CollectorRegistry

from schemas import telemetry, times
from workers.admin.held_amounts import HeldAmounts, HeldSum
from workers.admin.probes import Check, Readiness, is_ready
from workers.admin.reported import AmountOf
from workers.errors import ReadTooSlow
from workers.queries import HeldPort, HeldQuery

LATE_S = 15 * 60  # since the last notification: a quiet hour, or Alipay does not reach us
LAG_MAX_S = 240  # Alipay sends a second time after four minutes


class FirstFacts(Struct, frozen=True, kw_only=True):
    """The facts of one moment. `lag_s` is `None` in a process that reads no log; moments are `None` if there is none.

    `at_risk` is `None` if it could not be summed in time, and of the oldest `counted` rows only if not `is_whole`.
    `failing` are the checks that are not good.
    """

    at_risk: tuple[HeldSum, ...] | None
    counted: int
    is_whole: bool
    held: int
    oldest_ms: int | None
    is_old: bool
    received_ms: int | None
    is_late: bool
    lag_s: float | None
    is_behind: bool
    is_ready: bool
    failing: tuple[Check, ...]

    @property
    def runbooks(self) -> list[str]:
        """The names of the runbooks for the facts that are not good, the most urgent first."""
        wrong = {
            "ProcessNotReady": not self.is_ready or bool(self.failing),
            "MoneyAtRiskUnknown": self.at_risk is None,
            "MoneyAtRiskOld": bool(self.at_risk),
            "ConsumerLagSeconds": self.is_behind,
            "NotificationsStopped": self.is_late,
            "HeldOld": self.is_old,
        }
        return [name for name, is_wrong in wrong.items() if is_wrong]


class Now:
    """Asks for the facts."""

    def __init__(
        self, *, held: HeldPort, amounts: HeldAmounts, readiness: Readiness, registry: CollectorRegistry
    ) -> None:
        self._held = held
        self._amounts = amounts
        self._readiness = readiness
        self._registry = registry

    async def facts(self, *, now_ms: int) -> FirstFacts:
        """Return the facts; what cannot be read in time is left out.

        Raises:
            InfrastructureDown: as `HeldPort.counts`.
        """
        counts = await self._held.counts()
        try:
            sums = await self._amounts.sums(HeldQuery())
        except ReadTooSlow:
            sums = None
        checks: Sequence[Check] = await self._readiness()
        oldest = [each.oldest_ms for each in counts.held if each.oldest_ms is not None]
        oldest_ms = min(oldest, default=None)
        received_ms, lag_s = counts.received_newest_ms, self._lag_s()
        return FirstFacts(
            at_risk=None if sums is None else tuple(each for each in sums.sums if each.of is AmountOf.PAID),
            counted=0 if sums is None else sums.counted,
            is_whole=sums is not None and sums.is_whole,
            held=sum(each.count for each in counts.held),
            oldest_ms=oldest_ms,
            is_old=oldest_ms is not None and now_ms - oldest_ms > times.DAY_MS,
            received_ms=received_ms,
            is_late=received_ms is not None and now_ms - received_ms > LATE_S * 1000,
            lag_s=lag_s,
            is_behind=lag_s is not None and lag_s > LAG_MAX_S,
            is_ready=is_ready(checks),
            failing=tuple(check for check in checks if not check.ok),
        )

    def _lag_s(self) -> float | None:
        """Return the largest lag of this process's partitions; `None` if it reads none."""
        families = self._registry.restricted_registry([telemetry.LAG_SECONDS.name]).collect()
        return max((sample.value for family in families for sample in family.samples), default=None)
