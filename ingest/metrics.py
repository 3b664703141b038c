"""The receiver's metrics, on a given registry (specifications: `schemas.telemetry`).

Series are cached, because looking them up is slower than counting. Their number is bounded: label values come from
closed sets. The sender chooses path and method, so an unknown account counts as `unknown`, and a method outside HTTP as
`_OTHER`. What each notification counts is in families of our own (`schemas.series`), which take no lock for it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from ingest.kafka.in_flight import ProducerFault
from ingest.keys import KeyRing
from schemas import telemetry
from schemas.dispositions import Outcome, Refusal
from schemas.series import Histogram, HistogramFamily, Series, SeriesFamily
from schemas.telemetry import MetricFamily
from schemas.trace_context import TraceContext

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
OTHER_METHOD = "_OTHER"
ROUTE = "/notify/{account}"
SIGNATURE_REASONS = frozenset(
    {Refusal.MISSING_SIGN, Refusal.UNSUPPORTED_SIGN_TYPE, Refusal.UNKNOWN_KEY, Refusal.BAD_SIGNATURE}
)


class ReceiverMetrics:
    """The metrics of one receiver. Call `accounts_in_use` before the first request, and after each reload."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._received = _by_account(telemetry.RECEIVED, registry)
        self._signature_failures = _by_account(telemetry.SIGNATURE_FAILURES, registry)
        self._key_verifications = _by_account(telemetry.KEY_VERIFICATIONS, registry)
        self._stale_request_time = _by_account(telemetry.STALE_REQUEST_TIME, registry)
        self._parse_errors = _counter(telemetry.HTTP_PARSE_ERRORS, registry)
        self._duration = _histogram(telemetry.HTTP_DURATION, registry)
        self._append = _histogram(telemetry.APPEND_DURATION, registry)
        self._rebuilds = _counter(telemetry.PRODUCER_REBUILDS, registry)
        self._under_replicated = _gauge(telemetry.UNDER_REPLICATED, registry)
        self._active = _gauge(telemetry.HTTP_ACTIVE, registry)
        self._key_expiry = _by_account(telemetry.KEY_EXPIRY, registry)
        self._retiring_until = _by_account(telemetry.RETIRING_KEY_UNTIL, registry)
        self._give_up = _GiveUp()
        registry.register(self._give_up)
        self._append_ok = self._append.of("ok")
        self._append_failed = self._append.of("error")
        self._outcomes: dict[tuple[str, Outcome], Series] = {}
        self._accepted: dict[str, Series] = {}
        self._accepted_answers = self._duration.of("POST", ROUTE, "200")
        self._answers: dict[tuple[str, int], Histogram] = {}
        self._rings: dict[str, KeyRing] = {}
        self._count_outcomes(telemetry.UNKNOWN_ACCOUNT)

    def accounts_in_use(self, rings: Iterable[KeyRing]) -> None:
        """Make the counters of these accounts and keys, and show the expiry of their certificates and of no others.

        An unused key is shown as zero, so that it can be removed. The counters of a removed account or key stay,
        because a counter that vanishes loses its last increments.
        """
        before, self._rings = self._rings, {ring.account: ring for ring in rings}
        for account, ring in before.items():
            if self._rings.get(account) is not ring:
                self._hide_ends(ring)
        for account, ring in self._rings.items():
            if before.get(account) is not ring:
                self._show(ring)

    def _show(self, ring: KeyRing) -> None:
        if ring.account not in self._accepted:
            self._count_outcomes(ring.account)
        for key in ring.keys:
            self._key_verifications.of(ring.account, key.id)
            if key.expires_at is not None:
                self._key_expiry.of(ring.account, key.id).set(key.expires_at.timestamp())
        for former in ring.retiring:
            for key in former.keys:
                self._key_verifications.of(ring.account, key.id)
                self._retiring_until.of(ring.account, key.id, former.sign_type.value).set(former.until_ms / 1000)

    def _hide_ends(self, ring: KeyRing) -> None:
        for key in ring.keys:
            self._key_expiry.remove(ring.account, key.id)
        for former in ring.retiring:
            for key in former.keys:
                self._retiring_until.remove(ring.account, key.id, former.sign_type.value)

    def _count_outcomes(self, account: str) -> None:
        for outcome in Outcome:
            self._outcomes[account, outcome] = self._received.of(account, outcome.value)
        self._accepted[account] = self._outcomes[account, Outcome.ACCEPTED]

    def answered(self, account: str | None, outcome: Outcome, *, method: str, status: int, seconds: float) -> None:
        """Count a request and its duration. `account` is `None` if it is not configured."""
        self._outcomes[account or telemetry.UNKNOWN_ACCOUNT, outcome].inc()
        answers = self._answers.get((method, status))
        if answers is None:
            answers = self._new_answers(method, status)
        answers.observe(seconds)

    def accepted(self, account: str, seconds: float) -> None:
        """As `answered`, but faster, for the most frequent outcome."""
        self._accepted[account].inc()
        self._accepted_answers.observe(seconds)

    def exemplify(self, seconds: float, trace: TraceContext, *, at_s: float) -> None:
        """Note the trace of an accepted notification, whose duration was counted."""
        self._accepted_answers.exemplify(seconds, trace.trace_id, at_s=at_s)

    def _new_answers(self, method: str, status: int) -> Histogram:
        known = method if method in METHODS else OTHER_METHOD
        answers = self._duration.of(known, ROUTE, str(status))
        if known == method:
            self._answers[method, status] = answers
        return answers

    def verified(self, account: str, key_id: str) -> None:
        """Count a signature by its key. Key ids are configured, so their number is bounded."""
        self._key_verifications.of(account, key_id).inc()

    def not_authentic(self, account: str, reason: Refusal) -> None:
        if reason in SIGNATURE_REASONS:
            self._signature_failures.of(account, reason.value).inc()

    def stale_request_time(self, account: str) -> None:
        self._stale_request_time.of(account).inc()

    def parse_error(self) -> None:
        self._parse_errors.inc()

    def appended(self, seconds: float, /, *, durable: bool) -> None:
        (self._append_ok if durable else self._append_failed).observe(seconds)

    def producing(self) -> None:
        """Make the counters of producer replacements. Called by a log with producers; the embedded log has none."""
        for fault in ProducerFault:
            self._rebuilds.labels(fault.value)

    def rebuilt(self, fault: ProducerFault) -> None:
        """Count a replaced producer."""
        self._rebuilds.labels(fault.value).inc()

    def replicated(self, under_replicated: Mapping[str, int]) -> None:
        """Show how many partitions of each topic have too few copies now."""
        for topic, partitions in under_replicated.items():
            self._under_replicated.labels(topic).set(partitions)

    def watch_active(self, active: Callable[[], int]) -> None:
        """Read the number of requests in flight from `active` at each scrape, instead of counting at each request."""
        self._active.labels("POST").set_function(active)

    def watch_give_up(self, earliest_ms: Callable[[], Mapping[str, int]]) -> None:
        """Read at each scrape when Alipay gives up on a refused notification first, by account."""
        self._give_up.earliest_ms = earliest_ms


class _GiveUp:
    """To a registry, a collector of one gauge, which has a series only for accounts with such a notification."""

    def __init__(self) -> None:
        self.earliest_ms: Callable[[], Mapping[str, int]] = dict
        self._family = SeriesFamily(telemetry.REFUSED_GIVES_UP)

    def describe(self) -> Any:
        return [self._family]

    def collect(self) -> Any:
        """Return the gauge as of now."""
        earliest_ms = self.earliest_ms()
        for sample in self._family.samples:
            if sample.labels["account"] not in earliest_ms:
                self._family.remove(sample.labels["account"])
        for account, at_ms in earliest_ms.items():
            self._family.of(account).set(at_ms / 1000)
        return [self._family]


def _by_account(family: MetricFamily, registry: CollectorRegistry) -> SeriesFamily:
    series = SeriesFamily(family)
    registry.register(series)
    return series


def _counter(family: MetricFamily, registry: CollectorRegistry) -> Counter:
    return Counter(family.name, family.help, family.labels, registry=registry)


def _gauge(family: MetricFamily, registry: CollectorRegistry) -> Gauge:
    return Gauge(family.name, family.help, family.labels, registry=registry)


def _histogram(family: MetricFamily, registry: CollectorRegistry) -> HistogramFamily:
    histogram = HistogramFamily(family)
    registry.register(histogram)
    return histogram
