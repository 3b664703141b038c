"""Families with series for each account: a registry reads them as its client library's own, and they come in pieces."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from schemas.series import PIECE_SERIES, HistogramFamily, SeriesFamily
from schemas.telemetry import MetricFamily

REQUESTS = MetricFamily(name="requests", kind="counter", help="Requests, by outcome.", labels=("account", "outcome"))
EXPIRY = MetricFamily(name="expiry_seconds", kind="gauge", help="A\nbackslash: \\", labels=("account", "key_id"))
DURATION = MetricFamily(
    name="duration_seconds", kind="histogram", help="A\nduration.", labels=("method",), buckets=(0.005, 0.1, 1, 10)
)
AWKWARD = ("two words", 'a "quote"', "a\\backslash", "a\nline", "支付宝", "")
VALUES = (0, 1, 2.5, 1e6, 123456789012345, 1e22, float("inf"))


def text(family: SeriesFamily) -> str:
    return "".join(family.pieces())


def parsed(exposition: str) -> dict[str, float | str]:
    """The lines of an exposition by their text up to the value, without the series of creation times."""
    lines = exposition.splitlines()
    shown = [line for line in lines if not line.startswith("#") and "_created" not in line]
    comments: dict[str, float | str] = {line: "" for line in lines if line.startswith("#") and "_created" not in line}
    return comments | {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in shown}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("label", AWKWARD)
def test_text_is_that_of_the_client_library(label: str, value: float) -> None:
    registry = CollectorRegistry()
    theirs = Counter(REQUESTS.name, REQUESTS.help, REQUESTS.labels, registry=registry)
    gauge = Gauge(EXPIRY.name, EXPIRY.help, EXPIRY.labels, registry=registry)
    ours, expiry = SeriesFamily(REQUESTS), SeriesFamily(EXPIRY)
    theirs.labels("shop", label).inc(value)
    ours.of("shop", label).inc(value)
    gauge.labels(label, "k").set(value)
    expiry.of(label, "k").set(value)
    assert parsed(text(ours) + text(expiry)) == parsed(generate_latest(registry).decode())


def test_registry_reads_a_family_and_refuses_a_second_one_of_its_name() -> None:
    registry = CollectorRegistry()
    family = SeriesFamily(REQUESTS)
    registry.register(family)
    family.of("shop", "accepted").inc(3)
    assert registry.get_sample_value("requests_total", {"account": "shop", "outcome": "accepted"}) == 3
    assert parsed(generate_latest(registry).decode()) == parsed(text(family))
    with pytest.raises(ValueError, match="requests"):
        registry.register(SeriesFamily(REQUESTS))


def test_wrong_number_of_labels_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        SeriesFamily(REQUESTS).of("shop")


def test_totals_add_up_the_series_with_one_last_label() -> None:
    family = SeriesFamily(REQUESTS)
    for number in range(10):
        family.of(f"a{number}", "accepted").inc(number)
        family.of(f"a{number}", "gone").inc()
    assert (family.total("accepted"), family.total("gone"), family.total("malformed")) == (45, 10, 0)
    family.remove("a9", "accepted")
    family.remove("never", "accepted")
    assert family.total("accepted") == 36
    assert 'account="a9",outcome="accepted"' not in text(family)
    family.of("a9", "accepted").inc()
    assert family.total("accepted") == 37


def test_series_that_appear_between_two_pieces_do_no_harm() -> None:
    family = SeriesFamily(REQUESTS)
    for number in range(2 * PIECE_SERIES + 1):
        family.of(f"a{number}", "accepted")
    pieces, read = family.pieces(), []
    for piece in pieces:
        read.append(piece)
        family.of(f"new{len(read)}", "accepted").inc()
        family.remove(f"a{len(read)}", "accepted")
    lines = [piece.count("\n") for piece in read]
    assert lines == [2, PIECE_SERIES, PIECE_SERIES, 1], "the header, and pieces of bounded size"


@given(st.lists(st.one_of(st.sampled_from((0.0, 0.005, 0.1, 1.0, 10.0)), st.floats(0, 20))))
def test_histogram_is_that_of_the_client_library(values: list[float]) -> None:
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    told = Histogram(DURATION.name, DURATION.help, DURATION.labels, registry=theirs, buckets=DURATION.buckets)
    family = HistogramFamily(DURATION)
    ours.register(family)
    for method in ("POST", 'a "quote"'):
        counted, again = told.labels(method), family.of(method)
        for value in values:
            counted.observe(value)
            again.observe(value)
    assert parsed(generate_latest(ours).decode()) == parsed(generate_latest(theirs).decode())
    assert ours.get_sample_value("duration_seconds_count", {"method": "POST"}) == len(values)


def test_histogram_wants_all_its_labels() -> None:
    with pytest.raises(ValueError, match="labels"):
        HistogramFamily(DURATION).of()


def test_exemplar_is_shown_at_its_bucket_by_openmetrics_alone() -> None:
    registry = CollectorRegistry()
    family = HistogramFamily(DURATION)
    registry.register(family)
    histogram = family.of("POST")
    for value, trace_id in ((0.05, "old"), (0.07, "new"), (99.0, "slow")):
        histogram.observe(value)
        histogram.exemplify(value, trace_id, at_s=1_790_000_000.5)
    plain, shown = generate_latest(registry).decode(), openmetrics.generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    assert "trace_id" not in plain
    exemplars = re.findall(r'le="([^"]+)"[^}]*\} (\S+) # \{trace_id="(\w+)"\} (\S+) (\S+)', shown)
    assert exemplars == [
        ("0.1", "2.0", "new", "0.07", "1790000000.5"), ("+Inf", "3.0", "slow", "99.0", "1790000000.5"),
    ]  # fmt: skip
    assert list(text_string_to_metric_families(shown))  # type: ignore[no-untyped-call]
