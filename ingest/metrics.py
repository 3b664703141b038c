"""The receiver's metrics, on a given registry (specifications: `schemas.telemetry`).

Labelled children are cached, because `labels()` is slower than counting. Their number is bounded: label values come
from closed sets. The sender chooses path and method, so an unknown account counts as `unknown`, and a method outside
HTTP as `_OTHER`.
"""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ingest.kafka.in_flight import ProducerFault
from schemas import telemetry
from schemas.dispositions import Outcome, Refusal

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
OTHER_METHOD = "_OTHER"
ROUTE = "/notify/{account}"
SIGNATURE_REASONS = frozenset(
    {Refusal.MISSING_SIGN, Refusal.UNSUPPORTED_SIGN_TYPE, Refusal.UNKNOWN_KEY, Refusal.BAD_SIGNATURE}
)


class ReceiverMetrics:
    """The metrics of one receiver."""

    def __init__(self, registry: CollectorRegistry, accounts: Iterable[str]) -> None:
        self._accounts = frozenset(accounts)
        self._received = _counter(telemetry.RECEIVED, registry)
        self._signature_failures = _counter(telemetry.SIGNATURE_FAILURES, registry)
        self._key_verifications = _counter(telemetry.KEY_VERIFICATIONS, registry)
        self._stale_request_time = _counter(telemetry.STALE_REQUEST_TIME, registry)
        self._parse_errors = _counter(telemetry.HTTP_PARSE_ERRORS, registry)
        self._duration = _histogram(telemetry.HTTP_DURATION, registry)
        self._append = _histogram(telemetry.APPEND_DURATION, registry)
        self._rebuilds = _counter(telemetry.PRODUCER_REBUILDS, registry)
        self._active = _gauge(telemetry.HTTP_ACTIVE, registry)
        self._key_expiry = _gauge(telemetry.KEY_EXPIRY, registry)
        self._append_ok = self._append.labels("ok")
        self._append_failed = self._append.labels("error")
        self._outcomes = {
            (account, outcome): self._received.labels(account, outcome.value)
            for account in (*self._accounts, telemetry.UNKNOWN_ACCOUNT)
            for outcome in Outcome
        }
        self._accepted = {name: self._received.labels(name, Outcome.ACCEPTED.value) for name in self._accounts}
        self._accepted_answers = self._duration.labels("POST", ROUTE, "200")
        self._answers: dict[tuple[str, int], Histogram] = {}
        self._keys: dict[tuple[str, str], Counter] = {}

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

    def _new_answers(self, method: str, status: int) -> Histogram:
        known = method if method in METHODS else OTHER_METHOD
        answers = self._duration.labels(known, ROUTE, str(status))
        if known == method:
            self._answers[method, status] = answers
        return answers

    def verified(self, account: str, key_id: str) -> None:
        """Count a signature by its key. Key ids are configured, so their number is bounded."""
        self._key(account, key_id).inc()

    def keys_in_use(self, keys: Iterable[tuple[str, str]]) -> None:
        """Make the counters of these keys, so that an unused key is shown as zero and can be removed."""
        for account, key_id in keys:
            self._key(account, key_id)

    def _key(self, account: str, key_id: str) -> Counter:
        key = self._keys.get((account, key_id))
        if key is None:
            key = self._keys[account, key_id] = self._key_verifications.labels(account, key_id)
        return key

    def not_authentic(self, account: str, reason: Refusal) -> None:
        if reason in SIGNATURE_REASONS:
            self._signature_failures.labels(account, reason.value).inc()

    def stale_request_time(self, account: str) -> None:
        self._stale_request_time.labels(account).inc()

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

    def keys_expire(self, expiries: Mapping[tuple[str, str], float]) -> None:
        """Set the expiry of each certificate in use, in epoch seconds by account and key, and drop all others."""
        self._key_expiry.clear()
        for (account, key_id), at_s in expiries.items():
            self._key_expiry.labels(account, key_id).set(at_s)

    def watch_active(self, active: Callable[[], int]) -> None:
        """Read the number of requests in flight from `active` at each scrape, instead of counting at each request."""
        self._active.labels("POST").set_function(active)


def _counter(family: telemetry.MetricFamily, registry: CollectorRegistry) -> Counter:
    return Counter(family.name, family.help, family.labels, registry=registry)


def _gauge(family: telemetry.MetricFamily, registry: CollectorRegistry) -> Gauge:
    return Gauge(family.name, family.help, family.labels, registry=registry)


def _histogram(family: telemetry.MetricFamily, registry: CollectorRegistry) -> Histogram:
    return Histogram(family.name, family.help, family.labels, registry=registry, buckets=family.buckets)
