"""Each request is reported with exactly one outcome, labels from closed sets, and at most one log line."""

import pytest
from prometheus_client import CollectorRegistry

from ingest.authenticate import Authentic
from ingest.clock import Clock, SystemClock
from ingest.errors import Malformed, NoSuchAccount, Throttled, Unauthentic
from ingest.keys import KeyRing
from ingest.metrics import ReceiverMetrics
from ingest.recent_refusals import RecentRefusals
from ingest.reporting import FinishedRequest, Reporting
from ingest.resends import Resends
from schemas import accounts_toml
from schemas.accounts import SignType
from schemas.dispositions import Refusal
from schemas.trace_context import TraceContext
from tests.support.fakes import MemoryLogger

SHOP = accounts_toml.parse(
    {"accounts": {"s": {"family": "openapi", "sign_type": "RSA2", "app_id": "1", "keys": ["k"]}}}
)["s"]
AUTHENTIC = Authentic("k", b"O-1", b"n-1")


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def logger() -> MemoryLogger:
    return MemoryLogger()


@pytest.fixture
def recent() -> RecentRefusals:
    return RecentRefusals()


class TurnedClock(SystemClock):
    """A clock that a test turns."""

    now_ms = 0

    def epoch_ms(self) -> int:
        return self.now_ms


class Watching:
    """Viewers, or none."""

    def __init__(self, *, is_watched: bool) -> None:
        self.is_watched = is_watched
        self.seen: list[dict[str, str]] = []

    def received(self, **fields: str) -> None:
        self.seen.append(fields)

    def refused(self, **fields: str) -> None:
        self.seen.append(fields)


def reporting(
    registry: CollectorRegistry,
    logger: MemoryLogger,
    recent: RecentRefusals,
    *,
    sample: int = 1,
    clock: Clock | None = None,
    resends: Resends | None = None,
    viewers: Watching | None = None,
) -> Reporting:
    metrics = ReceiverMetrics(registry)
    metrics.accounts_in_use([KeyRing("s", SignType.RSA2, ())])
    return Reporting(
        metrics=metrics,
        logger=logger,
        recent=recent,
        clock=clock or SystemClock(),
        resends=resends,
        viewers=viewers,
        accepted_sample=sample,
        refusals_per_s=2,
    )


def finished(*, known: bool = True, method: str = "POST", body: bytes | None = None) -> FinishedRequest:
    return FinishedRequest(account=SHOP if known else None, method=method, status=400, began_s=0.0, body=body)


def received(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {
        (sample.labels["account"], sample.labels["outcome"]): sample.value
        for sample in samples
        if sample.name == "alipay_notify_received_total" and sample.value
    }


def test_accepted_notification_has_one_outcome_and_one_log_line(
    registry: CollectorRegistry, logger: MemoryLogger, recent: RecentRefusals
) -> None:
    reporting(registry, logger, recent).accepted("s", AUTHENTIC, is_stale=False, began_s=0.0, is_gone=False)
    assert received(registry) == {("s", "accepted"): 1}
    assert registry.get_sample_value("alipay_notify_key_verifications_total", {"account": "s", "key_id": "k"}) == 1
    ((event, fields),) = logger.lines
    assert (event, fields["out_trade_no"], fields["notify_id"]) == ("notification", "O-1", "n-1")


def test_accepted_notification_without_a_waiting_sender_counts_as_gone(
    registry: CollectorRegistry, logger: MemoryLogger, recent: RecentRefusals
) -> None:
    reporting(registry, logger, recent).accepted("s", AUTHENTIC, is_stale=False, began_s=0.0, is_gone=True)
    assert received(registry) == {("s", "gone"): 1}


def test_sampled_notification_names_its_span_in_the_line_and_at_the_histogram(
    registry: CollectorRegistry, logger: MemoryLogger, recent: RecentRefusals
) -> None:
    reporter, trace = reporting(registry, logger, recent), TraceContext("1" * 32, "2" * 16)
    reporter.accepted("s", AUTHENTIC, is_stale=False, began_s=0.0, is_gone=False, trace=trace)
    reporter.accepted("s", AUTHENTIC, is_stale=False, began_s=0.0, is_gone=False)
    (_, traced), (_, untraced) = logger.lines
    assert (traced["trace_id"], traced["span_id"]) == (trace.trace_id, trace.span_id)
    assert {*traced} - {*untraced} == {"trace_id", "span_id"}
    samples = (sample for family in registry.collect() for sample in family.samples if sample.exemplar)
    assert [(sample.name, sample.exemplar.labels) for sample in samples if sample.exemplar] == [
        ("http_server_request_duration_seconds_bucket", {"trace_id": trace.trace_id})
    ]


def test_log_lines_of_accepted_notifications_can_be_sampled(
    registry: CollectorRegistry, logger: MemoryLogger, recent: RecentRefusals
) -> None:
    reporter = reporting(registry, logger, recent, sample=10)
    for _ in range(30):
        reporter.accepted("s", AUTHENTIC, is_stale=False, began_s=0.0, is_gone=False)
    assert len(logger.lines) == 3
    assert received(registry) == {("s", "accepted"): 30}


def test_refusal_is_counted_kept_for_the_console_and_logged(
    registry: CollectorRegistry, logger: MemoryLogger, recent: RecentRefusals
) -> None:
    body = b"out_trade_no=O-9&sign=x"
    reporting(registry, logger, recent).refused(Unauthentic(Refusal.BAD_SIGNATURE), finished(body=body))
    assert received(registry) == {("s", "bad_signature"): 1}
    labels = {"account": "s", "reason": "bad_signature"}
    assert registry.get_sample_value("alipay_notify_signature_failures_total", labels) == 1
    assert [request.reason for request in recent.of_order("s", "O-9")] == [Refusal.BAD_SIGNATURE]
    assert logger.lines[0][1]["reason"] == "bad_signature"


def test_refused_notification_is_noted_until_it_is_accepted(
    registry: CollectorRegistry, logger: MemoryLogger, recent: RecentRefusals
) -> None:
    clock, resends = TurnedClock(), Resends()
    reporter = reporting(registry, logger, recent, clock=clock, resends=resends)
    for minute in (0, 4):
        clock.now_ms = minute * 60_000
        body = b"out_trade_no=O-1&notify_id=n-1&sign=x"
        reporter.refused(Unauthentic(Refusal.BAD_SIGNATURE), finished(body=body))
    assert dict(resends.give_up_ms(clock.now_ms)) == {"s": 1464 * 60_000}
    assert [each.notification_id for each in recent.all()] == ["n-1", "n-1"]
    reporter.accepted("s", AUTHENTIC, is_stale=False, began_s=0.0, is_gone=False)
    assert dict(resends.give_up_ms(clock.now_ms)) == {}


def test_flood_of_refusals_is_counted_completely_and_logged_in_part(
    registry: CollectorRegistry, logger: MemoryLogger, recent: RecentRefusals
) -> None:
    reporter = reporting(registry, logger, recent)
    for _ in range(50):
        reporter.refused(Malformed(Refusal.MALFORMED), finished())
    assert received(registry) == {("s", "malformed"): 50}
    assert len(logger.lines) == 2


def test_unknown_account_or_method_makes_no_new_label(
    registry: CollectorRegistry, logger: MemoryLogger, recent: RecentRefusals
) -> None:
    reporter = reporting(registry, logger, recent)
    for method in ("BREW", "MELT"):
        reporter.refused(NoSuchAccount(Refusal.UNKNOWN_ACCOUNT), finished(known=False, method=method))
    assert received(registry) == {("unknown", "unknown_account"): 2}
    labels = {"http_request_method": "_OTHER", "http_route": "/notify/{account}", "http_response_status_code": "400"}
    assert registry.get_sample_value("http_server_request_duration_seconds_count", labels) == 2
    assert recent.all() == []


def test_requests_beyond_the_quota_do_not_displace_refusals_that_name_an_order(
    registry: CollectorRegistry, logger: MemoryLogger, recent: RecentRefusals
) -> None:
    reporter = reporting(registry, logger, recent)
    reporter.refused(Unauthentic(Refusal.BAD_SIGNATURE), finished(body=b"out_trade_no=O-9&sign=x"))
    reporter.refused(Throttled(), finished())
    assert [each.order for each in recent.all()] == ["O-9"]
    assert received(registry) == {("s", "bad_signature"): 1, ("s", "throttled"): 1}


def test_viewers_see_accepted_and_refused_requests_only_while_they_watch(
    registry: CollectorRegistry, logger: MemoryLogger, recent: RecentRefusals
) -> None:
    viewers = Watching(is_watched=False)
    reporter = reporting(registry, logger, recent, viewers=viewers)
    for is_watched in (False, True):
        viewers.is_watched = is_watched
        reporter.accepted("s", AUTHENTIC, is_stale=False, began_s=0.0, is_gone=False)
        ambiguous = Authentic("k", b"digest", b"n-2", is_ambiguous=True)
        reporter.accepted("s", ambiguous, is_stale=False, began_s=0.0, is_gone=False)
        reporter.refused(Unauthentic(Refusal.BAD_SIGNATURE), finished(body=b"out_trade_no=O-2"))
        reporter.refused(Throttled(), finished(body=b"out_trade_no=O-3"))
    accepted, no_number, refused = viewers.seen
    assert accepted == {"account": "s", "scope": "s", "order": "O-1", "notification_id": "n-1"}
    assert no_number["order"] == ""
    assert (refused["order"], refused["outcome"], refused["reason"]) == ("O-2", "bad_signature", "bad_signature")
