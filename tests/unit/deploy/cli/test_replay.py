"""`replay` of the log: its arguments, the dry run, the confirmation, and errors that end it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from deploy.cli import admin, main, replay
from deploy.cluster import replay as cluster_replay
from deploy.cluster.replay import Span, TooNarrow
from tests.unit.deploy.cli.commands import parsed, run
from workers.errors import InfrastructureDown, TooManyDeadLetters

ENVIRON = {"ALIPAY_NOTIFY_ACCOUNTS": "accounts.toml", "ALIPAY_NOTIFY_KAFKA": "k1:9092"}
NOW = datetime(2026, 1, 31, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (TooManyDeadLetters("20 dead records in a row"), "held list"),
        (TooNarrow("7 records lie right before the stretch"), "7 records"),
        (InfrastructureDown("Kafka: away"), "Kafka: away"),
    ],
)
def test_error_that_ends_the_replay_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception, part: str) -> None:
    async def fail(*_: Any, **__: Any) -> int:
        raise error

    monkeypatch.setattr(replay, "_replay", fail)
    failed = run(ENVIRON, "replay", "--from", "1h")
    assert failed.exit_code == 1
    assert part in failed.output
    assert "Traceback" not in failed.output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("36h", "2026-01-29T20:00:00+00:00"),
        ("7d", "2026-01-24T08:00:00+00:00"),
        ("0s", "2026-01-31T08:00:00+00:00"),
        ("2026-01-31T08:00+08:00", "2026-01-31T00:00:00+00:00"),
    ],
)
def test_times_are_spans_or_iso_times_with_a_zone(text: str, expected: str) -> None:
    assert replay.moment_ms(text, NOW, "--from") == datetime.fromisoformat(expected).timestamp() * 1000


@pytest.mark.parametrize("text", ["yesterday", "36", "2026-01-31T08:00", "-1h"])
def test_other_times_are_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        replay.moment_ms(text, NOW, "--from")


@pytest.mark.parametrize("arguments", [(), ("--from", "1h", "--to", "2h"), ("--from", "1h", "--yes")])
def test_wrong_arguments_are_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert run(ENVIRON, "replay", *arguments).exit_code == 2


class Cluster:
    """A log of one partition with unprocessed records, and the audit rows that a replay writes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.unprocessed = 2
        self.notes: list[tuple[Any, ...]] = []
        self.replayed = 0
        monkeypatch.setattr(cluster_replay, "prepared", self._prepared)
        monkeypatch.setattr(cluster_replay, "log_reader", self._reading)
        monkeypatch.setattr(cluster_replay, "replay", self._replay)

    @asynccontextmanager
    async def _prepared(self, settings: object) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(store=self, process=None, results=lambda: {"applied": self.replayed})

    @asynccontextmanager
    async def _reading(self, kafka: object, topic: str) -> AsyncIterator["Cluster"]:
        yield self

    async def spans(self, store: object, *, from_ms: int, to_ms: int) -> Sequence[Span]:
        return [Span(partition=0, first=0, end=self.unprocessed, settled=0)]

    async def note(self, verb: str, subjects: Sequence[str], *, by: str, why: str) -> None:
        self.notes.append((verb, by, why))

    async def _replay(self, stretch: object, spans: Sequence[Span], process: object, **options: Any) -> None:
        assert self.notes, "the audit row is written before the first record"
        self.replayed = sum(each.unsettled for each in spans)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


def test_dry_run_counts_unprocessed_records_and_exits_with_3(cluster: Cluster) -> None:
    dry = run(ENVIRON, "replay", "--from", "1h", "--output", "json")
    assert dry.exit_code == 3
    assert (parsed(dry)["dry_run"], parsed(dry)["unsettled"]) == (True, 2)
    assert not cluster.notes


def test_dry_run_without_unprocessed_records_exits_with_0(cluster: Cluster) -> None:
    cluster.unprocessed = 0
    assert run(ENVIRON, "replay", "--from", "1h").exit_code == 0


def test_replay_is_recorded_with_user_and_reason(cluster: Cluster) -> None:
    done = run(ENVIRON, "replay", "--from", "1h", "--yes", "--why", "restored", "--output", "json")
    assert (done.exit_code, parsed(done)["results"]) == (0, {"applied": 2})
    assert cluster.notes == [("replay-log", admin.user(), "restored")]


def test_replay_of_many_records_needs_their_number_typed(cluster: Cluster) -> None:
    cluster.unprocessed = replay.CONFIRM_ABOVE + 1
    refused = run(ENVIRON, "replay", "--from", "1h", "--yes", "--why", "restored")
    assert (refused.exit_code, cluster.notes, cluster.replayed) == (1, [], 0)
    assert "echo 1001 |" in refused.stderr
    for given, code, replayed in (("1000", 1, 0), ("1,001", 0, 1001)):
        command = ["replay", "--from", "1h", "--yes", "--why", "restored"]
        done = CliRunner().invoke(main.application(), command, input=f"{given}\n", env=ENVIRON)
        assert (done.exit_code, cluster.replayed) == (code, replayed)
