"""What is told of each request: exactly one outcome, labels from closed sets, one line at most."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ingest.authenticate import Authentic
from ingest.clock import SystemClock
from ingest.errors import Malformed, NoSuchAccount, Unauthentic, Unavailable
from ingest.kafka.in_flight import ProducerFault
from ingest.metrics import ReceiverMetrics, TimedLog
from ingest.receive import Accepted
from ingest.recent_refusals import RecentRefusals
from ingest.reporting import FinishedRequest, Reporting
from schemas import accounts
from schemas.dispositions import Outcome, Refusal
from schemas.record_format import Record

SHOP = accounts.parse({"accounts": {"s": {"family": "openapi", "sign_type": "RSA2", "app_id": "1", "keys": ["k"]}}})[
    "s"
]
ACCEPTED = Accepted(SHOP, Authentic("k", b"O-1", b"n-1"), False)


class Kept:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, /, **fields: Any) -> None:
        self.lines.append((event, fields))

    warning = error = info


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def recent() -> RecentRefusals:
    return RecentRefusals()


def reporting(registry: CollectorRegistry, kept: Kept, recent: RecentRefusals, *, sample: int = 1) -> Reporting:
    return Reporting(
        metrics=ReceiverMetrics(registry, ["s"]),
        logger=kept,
        recent=recent,
        clock=SystemClock(),
        accepted_sample=sample,
        refusals_per_s=2,
    )


def ended(*, known: bool = True, method: str = "POST", body: bytes | None = None) -> FinishedRequest:
    return FinishedRequest(account=SHOP if known else None, method=method, status=400, began_s=0.0, body=body)


def received(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {
        (sample.labels["account"], sample.labels["outcome"]): sample.value
        for sample in samples
        if sample.name == "alipay_notify_received_total" and sample.value
    }


def test_an_accepted_notification_has_one_outcome_and_one_line(
    registry: CollectorRegistry, kept: Kept, recent: RecentRefusals
) -> None:
    reporting(registry, kept, recent).accepted(ACCEPTED, began_s=0.0, is_gone=False)
    assert received(registry) == {("s", "accepted"): 1}
    assert registry.get_sample_value("alipay_notify_key_verifications_total", {"account": "s", "key_id": "k"}) == 1
    ((event, fields),) = kept.lines
    assert (event, fields["out_trade_no"], fields["notify_id"]) == ("notification", b"O-1", b"n-1")


def test_one_whose_sender_left_is_counted_as_gone(
    registry: CollectorRegistry, kept: Kept, recent: RecentRefusals
) -> None:
    reporting(registry, kept, recent).accepted(ACCEPTED, began_s=0.0, is_gone=True)
    assert received(registry) == {("s", "gone"): 1}


def test_accepted_lines_can_be_sampled(registry: CollectorRegistry, kept: Kept, recent: RecentRefusals) -> None:
    telling = reporting(registry, kept, recent, sample=10)
    for _ in range(30):
        telling.accepted(ACCEPTED, began_s=0.0, is_gone=False)
    assert len(kept.lines) == 3
    assert received(registry) == {("s", "accepted"): 30}


def test_a_refusal_is_counted_remembered_and_told(
    registry: CollectorRegistry, kept: Kept, recent: RecentRefusals
) -> None:
    body = b"out_trade_no=O-9&sign=x"
    reporting(registry, kept, recent).refused(Unauthentic(Refusal.BAD_SIGNATURE), ended(body=body))
    assert received(registry) == {("s", "bad_signature"): 1}
    labels = {"account": "s", "reason": "bad_signature"}
    assert registry.get_sample_value("alipay_notify_signature_failures_total", labels) == 1
    assert [request.reason for request in recent.of_order("s", "O-9")] == [Refusal.BAD_SIGNATURE]
    assert kept.lines[0][1]["reason"] == "bad_signature"


def test_a_flood_of_refusals_is_counted_whole_and_told_in_part(
    registry: CollectorRegistry, kept: Kept, recent: RecentRefusals
) -> None:
    telling = reporting(registry, kept, recent)
    for _ in range(50):
        telling.refused(Malformed(Refusal.MALFORMED), ended())
    assert received(registry) == {("s", "malformed"): 50}
    assert len(kept.lines) == 2


def test_what_a_sender_names_makes_no_label(registry: CollectorRegistry, kept: Kept, recent: RecentRefusals) -> None:
    telling = reporting(registry, kept, recent)
    for method in ("BREW", "MELT"):
        telling.refused(NoSuchAccount(Refusal.UNKNOWN_ACCOUNT), ended(known=False, method=method))
    assert received(registry) == {("unknown", "unknown_account"): 2}
    labels = {"http_request_method": "_OTHER", "http_route": "/notify/{account}", "http_response_status_code": "400"}
    assert registry.get_sample_value("http_server_request_duration_seconds_count", labels) == 2
    assert recent.all() == []


def test_every_outcome_has_its_counter_before_it_happens(registry: CollectorRegistry) -> None:
    ReceiverMetrics(registry, ["s"])
    for outcome in Outcome:
        labels = {"account": "s", "outcome": outcome.value}
        assert registry.get_sample_value("alipay_notify_received_total", labels) == 0


class Failing:
    def __init__(self, *, fails: bool) -> None:
        self._fails = fails

    async def append(self, record: Record) -> None:
        if self._fails:
            raise Unavailable


@pytest.mark.parametrize(("fails", "result"), [(False, "ok"), (True, "error")])
async def test_the_log_s_share_is_measured_by_its_result(registry: CollectorRegistry, fails: bool, result: str) -> None:
    log = TimedLog(Failing(fails=fails), ReceiverMetrics(registry, ["s"]), SystemClock())
    try:
        await log.append(Record(b"", b"", ()))
    except Unavailable:
        assert fails
    assert registry.get_sample_value("alipay_notify_append_duration_seconds_count", {"result": result}) == 1


def test_each_reason_to_replace_a_producer_is_counted_from_zero_on(registry: CollectorRegistry) -> None:
    metrics = ReceiverMetrics(registry, ["s"])
    name = "alipay_notify_producer_rebuilds_total"
    assert registry.get_sample_value(name, {"reason": "silent"}) is None, "the embedded engine has no producers"
    metrics.producing()
    assert [registry.get_sample_value(name, {"reason": fault.value}) for fault in ProducerFault] == [0] * len(
        ProducerFault
    )
    metrics.rebuilt(ProducerFault.SILENT)
    assert registry.get_sample_value(name, {"reason": "silent"}) == 1
