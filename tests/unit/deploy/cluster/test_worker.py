"""The worker's start: refusals, the warning about forgeable confirmations, and the choice of locks."""

from contextlib import AsyncExitStack
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from deploy.cluster import settings, worker
from deploy.cluster.client_log import ClientLog
from deploy.cluster.settings import ClusterSettings, UnreadableFile
from deploy.embedded.locks import LocalLocks
from deploy.logs import LogWriter
from workers.admin.probes import is_ready
from workers.app import Worker
from workers.kafka.events import KafkaEvents
from workers.kafka.source import KafkaSource
from workers.postgres.store import PostgresOrderStore
from workers.redis.locks import RedisLocks
from workers.restarts import LoopName


def configured(accounts: Path, **values: Any) -> ClusterSettings:
    return settings.load({}, accounts=accounts, kafka="127.0.0.1:1", admin_port=0, **values)


async def start(accounts: Path, log: StringIO, **values: Any) -> str:
    """Start a worker without a store, which is refused; return the log."""
    log_writer = LogWriter(log)
    log_writer.start()
    with pytest.raises(UnreadableFile, match="ALIPAY_NOTIFY_POSTGRES is not set"):
        async with worker.running(configured(accounts, **values), log_writer, CollectorRegistry()):
            pass
    log_writer.close()
    return log.getvalue()


async def test_missing_receipt_key_is_warned_about_for_accounts_with_notify_verify(
    accounts: Path, log: StringIO
) -> None:
    line = await start(accounts, log)
    assert "can fake a confirmation" in line
    assert '"account":"shop"' in line


async def test_receipt_key_silences_the_warning(accounts: Path, log: StringIO, tmp_path: Path) -> None:
    (tmp_path / "receipt-key").write_text("k" * 40)
    assert await start(accounts, log, receipt_key_file=tmp_path / "receipt-key") == ""


@pytest.mark.parametrize(
    ("redis", "kind"),
    [
        ("", LocalLocks),
        ("redis://127.0.0.1:1/0", RedisLocks),
        ("redis+sentinel://127.0.0.1:1/main", RedisLocks),
        ("redis+cluster://127.0.0.1:1", RedisLocks),
    ],
)
async def test_locks_are_in_redis_if_it_is_configured(accounts: Path, redis: str, kind: type) -> None:
    async with AsyncExitStack() as stack:
        assert isinstance(await worker._locks(configured(accounts, redis=redis), stack), kind)


async def test_redis_address_that_the_client_refuses_is_a_start_error(accounts: Path) -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(UnreadableFile):
            await worker._locks(configured(accounts, redis="redis://127.0.0.1:99999/0"), stack)


async def test_worker_that_stopped_itself_is_not_ready() -> None:
    well = SimpleNamespace(trouble=None)
    stopped = SimpleNamespace(trouble="20 dead letters in a row", loops_trouble="")
    checks = await worker._health(
        cast(PostgresOrderStore, well),
        cast(KafkaSource, well),
        cast(KafkaEvents, well),
        cast(KafkaEvents, well),
        cast(Worker, stopped),
        ClientLog(),
        None,
    )()
    assert [check.name for check in checks if check.is_needed and not check.ok] == ["worker"]


async def test_missing_event_topics_do_not_make_a_worker_unready() -> None:
    well, failing = SimpleNamespace(trouble=None, loops_trouble=""), SimpleNamespace(trouble="no such topic")
    checks = await worker._health(
        cast(PostgresOrderStore, well),
        cast(KafkaSource, well),
        cast(KafkaEvents, well),
        cast(KafkaEvents, failing),
        cast(Worker, well),
        ClientLog(),
        None,
    )()
    assert [(check.name, check.ok, check.is_needed) for check in checks] == [
        ("kafka", True, True),
        ("store", True, True),
        ("worker", True, True),
        ("loops", True, False),
        ("events", False, False),
    ]


async def test_failed_sweeper_is_named_and_does_not_make_a_worker_unready() -> None:
    well = SimpleNamespace(trouble=None)
    failing = SimpleNamespace(trouble="", loops_trouble="sweeper failed: KeyError")
    checks = await worker._health(
        cast(PostgresOrderStore, well),
        cast(KafkaSource, well),
        cast(KafkaEvents, well),
        cast(KafkaEvents, well),
        cast(Worker, failing),
        ClientLog(),
        None,
    )()
    assert [check.detail for check in checks if not check.ok] == ["sweeper failed: KeyError"]
    assert is_ready(checks)


@pytest.mark.parametrize(
    ("loop", "let_go"),
    [("consumer", "source"), ("sweeper", "sweeping"), ("replayer", "sweeping"), ("relay", "sending")],
)
async def test_failed_loop_gives_back_what_it_holds(loop: str, let_go: str) -> None:
    given_back: list[str] = []

    def giving(name: str) -> Any:
        async def give(*_: float) -> None:
            given_back.append(name)

        return SimpleNamespace(stop=give, step_aside=give)

    store = SimpleNamespace(leadership=giving("sweeping"), sending=giving("sending"))
    await worker._let_go(cast(KafkaSource, giving("source")), cast(PostgresOrderStore, store), LoopName(loop))
    assert given_back == [let_go]
