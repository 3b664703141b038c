"""The text for Prometheus: the client library's own, with the loop free while thousands of accounts are rendered."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from ingest.keys import Key, KeyRing
from ingest.metrics import ReceiverMetrics
from schemas.accounts import SignType
from schemas.dispositions import Outcome
from schemas.series import PIECE_SERIES
from tests.support import alipay
from workers.admin import exposition
from workers.admin.exposition import OPENMETRICS, PLAIN, Exposition, TextFormat
from workers.metrics import WorkerMetrics

ACCOUNTS = 1000


def registry(accounts: int) -> CollectorRegistry:
    """A registry with the metrics of a receiver and a worker."""
    registry = CollectorRegistry()
    WorkerMetrics(registry, {}, now_ms=lambda: 0).step("claim", 0.2)
    metrics, key = ReceiverMetrics(registry), Key("alipay.pem", alipay.rsa_key().public_key())
    metrics.accounts_in_use([KeyRing(f"a{number}", SignType.RSA2, (key,)) for number in range(accounts)])
    metrics.accepted("a7", 0.01)
    return registry


async def test_text_is_that_of_the_client_library() -> None:
    shown = registry(10)
    assert b"".join(await Exposition(shown).text()) == generate_latest(shown)


async def test_openmetrics_text_is_that_of_the_client_library_and_parses() -> None:
    shown = registry(10)
    text = b"".join(await Exposition(shown).text(OPENMETRICS))
    assert text == openmetrics.generate_latest(shown)  # type: ignore[no-untyped-call]
    families = {family.name: family.type for family in text_string_to_metric_families(text.decode())}  # type: ignore[no-untyped-call]
    assert families["alipay_notify_received"] == "counter"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/html,application/xhtml+xml", PLAIN),
        ("text/plain;version=0.0.4", PLAIN),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OPENMETRICS),
        # A version that the sender makes up is not repeated to it.
        ("application/openmetrics-text;version=7.0.0", OPENMETRICS),
    ],
)
def test_format_is_negotiated(accept: str, wanted: TextFormat) -> None:
    assert exposition.negotiated(accept) is wanted


async def test_loop_runs_between_the_pieces() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    text = b"".join(await Exposition(registry(ACCOUNTS)).text())
    counting.cancel()
    assert text.count(b"alipay_notify_received_total{") == (ACCOUNTS + 1) * len(Outcome)
    assert turns >= ACCOUNTS * len(Outcome) / PIECE_SERIES


async def test_scrapes_at_the_same_time_share_one_text_and_a_later_one_is_new() -> None:
    shown = CollectorRegistry()
    metrics = ReceiverMetrics(shown)
    metrics.accounts_in_use([KeyRing("a", SignType.RSA2, (Key("k", alipay.rsa_key().public_key()),))])
    exposition = Exposition(shown)
    first, second = await asyncio.gather(exposition.text(), exposition.text())
    assert first is second
    metrics.accepted("a", 0.01)
    later = b"".join(await exposition.text())
    assert b'alipay_notify_received_total{account="a",outcome="accepted"} 1.0' in later


async def test_scrape_that_is_cancelled_leaves_the_others_their_text() -> None:
    exposition = Exposition(registry(100))
    first, second = asyncio.create_task(exposition.text()), asyncio.create_task(exposition.text())
    await asyncio.sleep(0)
    first.cancel()
    assert b"alipay_notify_received_total" in b"".join(await second)
    assert b"alipay_notify_received_total" in b"".join(await exposition.text())
