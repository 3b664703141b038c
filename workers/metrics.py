"""The worker's metrics, made from their specifications in `schemas.telemetry` on a given registry.

Children are kept, because `labels()` costs more than the count. Every label value comes from a closed set, so that no
sender can add a series: a trade status is Alipay's text, and one that is not listed here counts as `other`.
"""

import asyncio
import collections
import contextlib
import time
from collections.abc import Callable, Container, Iterable, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge

from schemas import answers, scopes, telemetry, topics, trace_context
from schemas.currencies import EXPONENTS
from schemas.dispositions import HELD, Disposition
from schemas.events import Outgoing
from schemas.notification import Notification
from schemas.orders import News
from schemas.series import HistogramFamily, SeriesFamily
from schemas.telemetry import MetricFamily
from workers.errors import InfrastructureDown, VersionConflict
from workers.queries import HeldPort, ParkedCount
from workers.restarts import FailureKind, LoopName
from workers.settlement import parking
from workers.settlement.order_view import CONTRADICTIONS
from workers.settlement.plan import ParsedRecord, WritePlan


def counter(family: MetricFamily, registry: CollectorRegistry) -> Counter:
    return Counter(family.name, family.help, family.labels, registry=registry)


def gauge(family: MetricFamily, registry: CollectorRegistry) -> Gauge:
    return Gauge(family.name, family.help, family.labels, registry=registry)


def histogram(family: MetricFamily, registry: CollectorRegistry) -> HistogramFamily:
    """Return a histogram of our own: records are observed one by one."""
    histogram = HistogramFamily(family)
    registry.register(histogram)
    return histogram


def by_account(family: MetricFamily, registry: CollectorRegistry) -> SeriesFamily:
    """Return a family with series for each account, of which there may be thousands."""
    series = SeriesFamily(family)
    registry.register(series)
    return series


OTHER = "other"
TRADE_STATUSES = frozenset(
    {"WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED", "TRADE_CLOSED", "TRADE_PENDING",
     "REFUND_SUCCESS", "REFUND_CLOSED", "SUCCESS", "FAIL", "PENDING", "UNKNOWN", "CANCELLED", "S", "F", "U"}
)  # fmt: skip
# These carry the time of the payment, and none of their own: a trade is finished months later.
OF_THE_PAYMENT = frozenset({News.FINISHED, News.FROZEN})
LOCK_OUTCOMES = ("acquired", "contended_then_acquired", "timeout", "error", "done")
GAUGES_INTERVAL_S = 5.0
REST_PER_REFRESH = 20  # so that the gauges take at most a twentieth of the store's time


class _Cause(Struct):
    received_at: datetime
    status: str = ""


class _Event(Struct):
    cause: _Cause | None = None


_decode_event = msgspec.json.Decoder(_Event).decode


def _since(cause: _Cause, now_s: float) -> float:
    """Return the seconds since the notification was received."""
    return max(0.0, now_s - cause.received_at.timestamp())


class WorkerMetrics:
    """The metrics of one worker; they observe its loops (`workers.observers`)."""

    def __init__(self, registry: CollectorRegistry, accounts: Container[str], *, now_ms: Callable[[], int]) -> None:
        self._accounts = accounts  # live: a reload may add accounts
        self._now_ms = now_ms
        processed = counter(telemetry.PROCESSED, registry)
        self._processed = {disposition: processed.labels(disposition.value) for disposition in Disposition}
        self._statuses = by_account(telemetry.TRADE_STATUS, registry)
        self._held = _Children(counter(telemetry.HELD, registry))
        # From the start, so that the first contradiction is an increase, which an alert can see.
        for reason in CONTRADICTIONS.values():
            self._held.of(Disposition.QUARANTINED.value, reason.value)
        self._amount = by_account(telemetry.AMOUNT, registry)
        self._recovered = by_account(telemetry.RECOVERED, registry)
        self._delay = histogram(telemetry.DELIVERY_DELAY, registry).of()
        self._steps = histogram(telemetry.PROCESSING_DURATION, registry)
        self._end_to_end = histogram(telemetry.END_TO_END, registry)
        self._retries = _Children(counter(telemetry.RETRIES, registry))
        self._replayed = _Children(counter(telemetry.REPLAYED, registry))
        self._lock_outcomes = _Children(counter(telemetry.CLAIMS, registry))
        for outcome in LOCK_OUTCOMES:  # from the start too
            self._lock_outcomes.of(outcome)
        self._lock_spans = {
            "wait": histogram(telemetry.CLAIM_WAIT, registry).of(),
            "hold": histogram(telemetry.CLAIM_HOLD, registry).of(),
        }
        self._fenced = counter(telemetry.FENCED_WRITES, registry)
        self._held_now = gauge(telemetry.HELD_NOW, registry)
        self._held_oldest = gauge(telemetry.HELD_OLDEST, registry)
        self._retry_pending = gauge(telemetry.RETRY_PENDING, registry)
        self._outbox = gauge(telemetry.OUTBOX_PENDING, registry)
        self._outbox_oldest = gauge(telemetry.OUTBOX_OLDEST, registry)
        failures = counter(telemetry.LOOP_FAILURES, registry)
        # From the start, so that the first failure is an increase.
        self._loop_failures = {
            (loop, kind): failures.labels(loop.value, kind.value) for loop in LoopName for kind in FailureKind
        }
        interrupted = counter(telemetry.HANDLING_INTERRUPTED, registry)
        self._handling_interrupted = {step: interrupted.labels(step) for step in ("read", "decide")}
        self._lag = gauge(telemetry.LAG_MESSAGES, registry)
        self._lag_s = gauge(telemetry.LAG_SECONDS, registry)

    def settled(self, plan: WritePlan, parsed_records: Sequence[ParsedRecord]) -> None:
        """Count the dispositions of a batch. A retried row that is held again was counted when it first came."""
        retried = {parsed.position for parsed in parsed_records if parsed.held is not None}
        counted = [each for each in plan.deliveries if each.position not in retried or each.disposition not in HELD]
        # Group first: a batch has few dispositions and statuses, and each count takes a lock.
        dispositions = collections.Counter((each.disposition, each.reason) for each in counted)
        for (disposition, reason), count in dispositions.items():
            self._processed[disposition].inc(count)
            if disposition in HELD:
                self._held.of(disposition.value, reason.value).inc(count)
        for each in counted:
            if each.type in answers.TYPES and each.disposition is Disposition.APPLIED and each.version is not None:
                self._recovered.of(self._account(each.account)).inc()
        new = (each for each in counted if each.status and each.position not in retried)
        for (account, status), count in collections.Counter((each.account, each.status) for each in new).items():
            self._statuses.of(self._account(account), _status(status)).inc(count)
        paid: collections.Counter[tuple[str, str]] = collections.Counter()
        for account, money in plan.paid:
            paid[account, money.currency if money.currency in EXPONENTS else OTHER] += money.minor
        for (account, currency), minor in paid.items():
            self._amount.of(self._account(account), currency).inc(minor)
        for parsed in parsed_records:
            held = parsed.held
            if held is not None and held.disposition is Disposition.PARKED:
                self._retries.of(parking.tier_of(held.attempts), held.reason.value).inc()
            notification = parsed.notification
            happened_at = None if notification is None or parsed.held is not None else _happened_at(notification)
            if happened_at is not None:
                self._delay.observe(max(0.0, parsed.received_at_ms / 1000 - happened_at.timestamp()))

    def emitted(self, events: Sequence[Outgoing]) -> None:
        """Measure the way from receiver to topic, for each order event that was acknowledged."""
        now_s = self._now_ms() / 1000
        for event in events:
            if event.topic != topics.ORDER_EVENT:
                continue
            cause = _decode_event(event.value).cause
            if cause is not None:
                self._end_to_end.of(_status(cause.status)).observe(_since(cause, now_s))

    def exemplify(self, events: Sequence[Outgoing]) -> None:
        """Note the traces of acknowledged order events, whose way was measured."""
        now_s = self._now_ms() / 1000
        for event in events:
            trace = trace_context.of(event.headers) if event.topic == topics.ORDER_EVENT else None
            cause = None if trace is None else _decode_event(event.value).cause
            if trace is not None and cause is not None:
                durations = self._end_to_end.of(_status(cause.status))
                durations.exemplify(_since(cause, now_s), trace.trace_id, at_s=now_s)

    def step(self, name: str, seconds: float) -> None:
        self._steps.of(name).observe(seconds)

    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None:
        """Count a wait for infrastructure, or for a version conflict to be decided again."""
        self._retries.of("pause", "infrastructure").inc()
        if isinstance(error, VersionConflict):
            self._fenced.inc()

    def loop_failed(self, loop: LoopName, kind: FailureKind) -> None:
        """Count a failure of a loop."""
        self._loop_failures[loop, kind].inc()

    def interrupted(self, step: str) -> None:
        """Count that reading or deciding was interrupted."""
        self._handling_interrupted[step].inc()

    def retried(self, result: str) -> None:
        """Count an operator's retry of a held notification."""
        self._replayed.of(result).inc()

    def lock_outcome(self, outcome: str, count: int = 1) -> None:
        self._lock_outcomes.of(outcome).inc(count)

    def lock_span(self, span: str, seconds: float) -> None:
        """Measure how long a batch waited for its locks (`wait`), or held them (`hold`)."""
        self._lock_spans[span].observe(seconds)

    def lag(self, *, messages: int, seconds: float, partition: int = 0, group: str = "worker") -> None:
        """Show how far the worker is behind the log."""
        labels = (topics.NOTIFICATION, str(partition), group)
        self._lag.labels(*labels).set(messages)
        self._lag_s.labels(*labels).set(seconds)

    def lag_ended(self, *, partition: int, group: str) -> None:
        """Stop showing the lag of a partition that another worker has now."""
        labels = (topics.NOTIFICATION, str(partition), group)
        self._lag.remove(*labels)
        self._lag_s.remove(*labels)

    async def refresh(self, held: HeldPort) -> None:
        """Update the gauges that only the store knows."""
        counts = await held.counts()
        known = {count.disposition: count for count in counts.held}
        for disposition in HELD:
            count = known.get(disposition)
            self._held_now.labels(disposition.value).set(0 if count is None else count.count)
            oldest_ms = None if count is None else count.oldest_ms
            self._held_oldest.labels(disposition.value).set((oldest_ms or 0) / 1000)
        for tier, waiting in _by_tier(counts.parked).items():
            self._retry_pending.labels(tier).set(waiting)
        self._outbox.set(counts.outbox_pending)
        self._outbox_oldest.set((counts.outbox_oldest_ms or 0) / 1000)

    async def keep_fresh(self, held: HeldPort, *, interval_s: float = GAUGES_INTERVAL_S) -> None:
        """Refresh every `interval_s` until cancelled, or less often if it takes long. If the store does not answer, the
        gauges keep their values."""
        while True:
            begun = time.monotonic()
            with contextlib.suppress(Exception):  # the store's trouble has a gauge and an alert of its own
                await self.refresh(held)
            await asyncio.sleep(max(interval_s, (time.monotonic() - begun) * REST_PER_REFRESH))

    def _account(self, name: str) -> str:
        return account_label(name, self._accounts)


def account_label(scope: str, accounts: Container[str]) -> str:
    """Return the account of a scope, or `unknown` if it is not configured, because its name may be a sender's."""
    if scope in accounts:
        return scope
    account = scopes.account_of(scope)
    return account if account in accounts else telemetry.UNKNOWN_ACCOUNT


class _Children:
    """The children of one counter, by label values."""

    def __init__(self, family: Counter) -> None:
        self._family = family
        self._made: dict[tuple[str, ...], Counter] = {}

    def of(self, *labels: str) -> Counter:
        child = self._made.get(labels)
        if child is None:
            child = self._made[labels] = self._family.labels(*labels)
        return child


def _happened_at(notification: Notification) -> datetime | None:
    """Return the time of the notification's own event, if it has one. An answer is no delivery of Alipay's."""
    is_other = notification.news in OF_THE_PAYMENT or notification.type in answers.TYPES
    return None if is_other else notification.happened_at


def _by_tier(parked: Iterable[ParkedCount]) -> dict[str, int]:
    waiting = dict.fromkeys(parking.TIERS, 0)
    for count in parked:
        waiting[parking.tier_of(count.attempts)] += count.count
    return waiting


def _status(status: str) -> str:
    return status if status in TRADE_STATUSES else OTHER
