"""Every label value comes from a closed set, and its counter exists before the first event."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from ingest.kafka.in_flight import ProducerFault
from ingest.keys import Key, KeyRing
from ingest.metrics import ReceiverMetrics
from schemas.accounts import SignType
from schemas.dispositions import Outcome, Refusal
from tests.support import alipay


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> ReceiverMetrics:
    metrics = ReceiverMetrics(registry)
    metrics.accounts_in_use([ring("old")])
    return metrics


def ring(*ids: str, expiries: Sequence[datetime | None] = (None, None), account: str = "s") -> KeyRing:
    material = alipay.rsa_key().public_key()
    return KeyRing(
        account, SignType.RSA2, tuple(Key(id_, material, at) for id_, at in zip(ids, expiries, strict=False))
    )


def test_each_outcome_has_a_counter_before_it_happens(registry: CollectorRegistry, metrics: ReceiverMetrics) -> None:
    for outcome in Outcome:
        labels = {"account": "s", "outcome": outcome.value}
        assert registry.get_sample_value("alipay_notify_received_total", labels) == 0


def test_keys_in_use_have_counters_at_zero(registry: CollectorRegistry, metrics: ReceiverMetrics) -> None:
    metrics.accounts_in_use([ring("old", "new")])
    metrics.verified("s", "new")
    name = "alipay_notify_key_verifications_total"
    assert registry.get_sample_value(name, {"account": "s", "key_id": "old"}) == 0
    assert registry.get_sample_value(name, {"account": "s", "key_id": "new"}) == 1


def test_expiry_of_a_removed_certificate_is_no_longer_shown(
    registry: CollectorRegistry, metrics: ReceiverMetrics
) -> None:
    expiries = (datetime.fromtimestamp(1, UTC), datetime.fromtimestamp(2, UTC))
    metrics.accounts_in_use([ring("old", "new", expiries=expiries)])
    metrics.accounts_in_use([ring("new", expiries=expiries[1:])])
    shown = {
        sample.labels["key_id"]: sample.value
        for family in registry.collect()
        if family.name == "alipay_notify_public_key_expiry_timestamp_seconds"
        for sample in family.samples
    }
    assert shown == {"new": 2.0}


def test_account_added_by_a_reload_is_counted_and_a_removed_one_keeps_its_counts(
    registry: CollectorRegistry, metrics: ReceiverMetrics
) -> None:
    metrics.accepted("s", 0.1)
    metrics.accounts_in_use([ring("new", account="added")])
    metrics.accepted("added", 0.1)
    metrics.accepted("s", 0.1)  # a request that began before the reload
    name = "alipay_notify_received_total"
    assert registry.get_sample_value(name, {"account": "added", "outcome": "accepted"}) == 1
    assert registry.get_sample_value(name, {"account": "s", "outcome": "accepted"}) == 2
    assert (
        registry.get_sample_value("alipay_notify_key_verifications_total", {"account": "added", "key_id": "new"}) == 0
    )


@pytest.mark.parametrize("reason", list(Refusal))
def test_only_refusals_for_the_signature_count_as_signature_failures(
    registry: CollectorRegistry, metrics: ReceiverMetrics, reason: Refusal
) -> None:
    metrics.not_authentic("s", reason)
    labels = {"account": "s", "reason": reason.value}
    expected = 1 if reason.value in ("missing_sign", "unsupported_sign_type", "unknown_key", "bad_signature") else None
    assert registry.get_sample_value("alipay_notify_signature_failures_total", labels) == expected


@pytest.mark.parametrize(("is_durable", "result"), [(True, "ok"), (False, "error")])
def test_append_duration_is_observed_by_result(
    registry: CollectorRegistry, metrics: ReceiverMetrics, is_durable: bool, result: str
) -> None:
    metrics.appended(0.5, durable=is_durable)
    name = "alipay_notify_append_duration_seconds"
    assert registry.get_sample_value(f"{name}_count", {"result": result}) == 1
    assert registry.get_sample_value(f"{name}_sum", {"result": result}) == 0.5


def test_each_reason_to_replace_a_producer_has_a_counter_at_zero(
    registry: CollectorRegistry, metrics: ReceiverMetrics
) -> None:
    name = "alipay_notify_producer_rebuilds_total"
    assert registry.get_sample_value(name, {"reason": "silent"}) is None, "the embedded engine has no producers"
    metrics.producing()
    assert [registry.get_sample_value(name, {"reason": fault.value}) for fault in ProducerFault] == [0] * len(
        ProducerFault
    )
    metrics.rebuilt(ProducerFault.SILENT)
    assert registry.get_sample_value(name, {"reason": "silent"}) == 1


def test_under_replicated_partitions_are_shown_by_topic(registry: CollectorRegistry, metrics: ReceiverMetrics) -> None:
    name = "alipay_notify_under_replicated_partitions"
    for partitions in (12, 0):
        metrics.replicated({"log": partitions})
        assert registry.get_sample_value(name, {"topic": "log"}) == partitions


def test_retiring_keys_have_counters_and_show_their_end(registry: CollectorRegistry, metrics: ReceiverMetrics) -> None:
    former = KeyRing("s", SignType.RSA, ring("former").keys, until="x", until_ms=2000)
    metrics.accounts_in_use([KeyRing("s", SignType.RSA2, ring("own").keys, retiring=(former,))])
    name, labels = "alipay_notify_retiring_key_until_timestamp_seconds", {"account": "s", "key_id": "former"}
    assert registry.get_sample_value(name, {**labels, "sign_type": "RSA"}) == 2.0
    assert registry.get_sample_value("alipay_notify_key_verifications_total", labels) == 0


def test_moment_at_which_alipay_gives_up_is_read_at_each_scrape(
    registry: CollectorRegistry, metrics: ReceiverMetrics
) -> None:
    name = "alipay_notify_refused_gives_up_timestamp_seconds"
    earliest_ms = {"s": 1_760_000_000_500, "t": 5000}
    assert registry.get_sample_value(name, {"account": "s"}) is None
    metrics.watch_give_up(lambda: earliest_ms)
    assert registry.get_sample_value(name, {"account": "s"}) == 1_760_000_000.5
    del earliest_ms["s"]
    told = [registry.get_sample_value(name, {"account": account}) for account in ("s", "t")]
    assert told == [None, 5]
