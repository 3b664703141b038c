"""An engine whose surroundings fail it: no descriptors, no time to run, nobody who reads its log or its metrics.

Whatever is accepted is in the journal, and every request is answered.
"""

import asyncio
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from deploy.sandbox.world import World
from tests.faults import steady
from tests.faults.steady import ANSWER_WITHIN_S
from tests.support.processes import Engine, eventually

BLOCKED_S = 1.5
DESCRIPTORS = 128
MEMORY_MAX = 256 << 20
SHARE_OF_TIME = 0.2
STARVED_S = 8.0


async def test_blocked_event_loop_is_seen_and_misses_no_deadline(
    world: World, engine: Engine, tmp_path: Path, measured: Callable[[str, float], None]
) -> None:
    engine.start("tests.faults.breaking", BREAK_AT="block", BREAK_AFTER="20", BREAK_S=str(BLOCKED_S))
    sending = asyncio.create_task(steady.send(engine, steady.genuine(world, orders=40), spread_s=3.0))
    lags = []
    while not sending.done():
        lags.append((await asyncio.to_thread(engine.metrics))["alipay_notify_event_loop_lag_seconds"])
        await asyncio.sleep(0.1)
    answers = await sending
    assert {answer.status for answer in answers} == {200}
    assert max(lags) > BLOCKED_S / 4, "the delay of its last timer has to show it"
    measured("worst answer", max(answer.took_s for answer in answers))
    assert steady.is_kept(engine, tmp_path, answers)


async def test_port_without_descriptors_serves_again_when_some_are_free(
    world: World, engine: Engine, tmp_path: Path
) -> None:
    engine.start()
    resource.prlimit(engine.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    public = urlsplit(engine.public)
    with ExitStack() as open_sockets:
        for _ in range(3 * DESCRIPTORS):
            one = open_sockets.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex((public.hostname, public.port))
        await asyncio.sleep(2)
        assert engine.log.stat().st_size < 1 << 20, "it must not write a line for each connection it cannot take"
    first, *others = steady.genuine(world, orders=20)

    async def is_served() -> bool:
        (answer,) = await steady.send(engine, [first], spread_s=0)
        return answer.status == 200

    async with asyncio.timeout(30):
        while not await is_served():  # noqa: ASYNC110 - only asking can tell
            await asyncio.sleep(0.1)
    answers = await steady.send(engine, others, spread_s=1.0)
    assert {answer.status for answer in answers} == {200}
    assert steady.is_kept(engine, tmp_path, answers)


async def test_flood_of_unfinished_bodies_keeps_the_memory_bounded(
    world: World, engine: Engine, tmp_path: Path, measured: Callable[[str, float], None]
) -> None:
    engine.start()
    public = urlsplit(engine.public)
    head = b"POST /notify/demo-cn HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    unfinished = head + b"Content-Length: 65536\r\n\r\n" + b"a" * 65_000
    connections = []
    for _ in range(1_000):
        reader, writer = await asyncio.open_connection(public.hostname, public.port)
        writer.write(unfinished)
        connections.append((reader, writer))
    answers = await steady.send(engine, steady.genuine(world, orders=20), spread_s=1.0)
    for _, writer in connections:
        writer.transport.abort()
    peak = steady.peak_bytes(engine.pid)
    measured("peak, MiB", peak / (1 << 20))
    assert peak < MEMORY_MAX
    assert {answer.status for answer in answers} <= {200, 503}
    again = await steady.send(engine, steady.genuine(world, orders=20, seed=20), spread_s=1.0)
    assert {answer.status for answer in again} == {200}
    assert steady.is_kept(engine, tmp_path, answers + again)


async def test_starved_engine_answers_everything(
    world: World, engine: Engine, tmp_path: Path, measured: Callable[[str, float], None]
) -> None:
    engine.start()
    async with starved(engine.pid):
        answers = await steady.send(engine, steady.genuine(world, orders=80), spread_s=STARVED_S)
    assert {answer.status for answer in answers} <= {200, 503}
    measured("worst answer", max(answer.took_s for answer in answers))
    measured("share accepted", sum(answer.status == 200 for answer in answers) / len(answers))
    again = await steady.send(engine, steady.genuine(world, orders=20, seed=20), spread_s=1.0)
    assert {answer.status for answer in again} == {200}
    assert steady.is_kept(engine, tmp_path, answers + again)


@asynccontextmanager
async def starved(pid: int) -> AsyncIterator[None]:
    """Let the process run for a share of the time only."""

    async def turns() -> None:
        try:
            while True:
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(0.1 * (1 - SHARE_OF_TIME))
                os.kill(pid, signal.SIGCONT)
                await asyncio.sleep(0.1 * SHARE_OF_TIME)
        finally:
            os.kill(pid, signal.SIGCONT)

    turning = asyncio.create_task(turns())
    try:
        yield
    finally:
        turning.cancel()
        await asyncio.gather(turning, return_exceptions=True)


async def test_log_that_nobody_reads_delays_no_answer(world: World, engine: Engine, tmp_path: Path) -> None:
    os.mkfifo(engine.log)
    unread = os.open(engine.log, os.O_RDWR | os.O_NONBLOCK)
    try:
        engine.start(ALIPAY_NOTIFY_LOG_QUEUE_MAX="100")
        answers = await steady.send(engine, steady.genuine(world, orders=200), spread_s=3.0)
        assert {answer.status for answer in answers} == {200}
        assert max(answer.took_s for answer in answers) < ANSWER_WITHIN_S

        def dropped() -> float:
            return engine.metrics()["alipay_notify_log_lines_dropped_total"]

        assert await asyncio.to_thread(eventually, dropped), "a pipe holds 64 KiB, and this is more"
        assert steady.is_kept(engine, tmp_path, answers)
    finally:
        os.close(unread)


async def test_scrapers_that_read_one_byte_a_second_delay_no_answer(
    world: World, engine: Engine, tmp_path: Path, measured: Callable[[str, float], None]
) -> None:
    engine.start()
    admin = urlsplit(engine.admin)
    undisturbed = await steady.send(engine, steady.genuine(world, orders=60), spread_s=2.0)
    scrapers = [asyncio.create_task(dawdle(admin.hostname or "", admin.port or 0)) for _ in range(20)]
    answers = await steady.send(engine, steady.genuine(world, orders=60, seed=20), spread_s=2.0)
    for scraper in scrapers:
        scraper.cancel()
    await asyncio.gather(*scrapers, return_exceptions=True)
    assert {answer.status for answer in answers} == {200}
    assert max(answer.took_s for answer in answers) < ANSWER_WITHIN_S
    measured("worst answer", max(answer.took_s for answer in answers))
    measured("worst answer without them", max(answer.took_s for answer in undisturbed))
    assert steady.is_kept(engine, tmp_path, undisturbed + answers)


async def dawdle(host: str, port: int) -> None:
    """Ask for the metrics again and again, and read a byte of them a second."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, (host, port))
        await loop.sock_sendall(connection, b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 50)
        while True:
            assert await loop.sock_recv(connection, 1)
            await asyncio.sleep(1)
