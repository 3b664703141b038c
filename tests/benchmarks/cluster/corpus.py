"""Signed payments of the Open Platform, each of an order of its own: for the wire, and as a receiver logs them."""

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from deploy.sandbox.world import World
from schemas import record_format
from schemas.record_format import Record, RecordContents
from tests.benchmarks import end_to_end
from tests.benchmarks.cluster import cores

HOST = "pay.merchant.example"
PART = 2500  # signed in one go by one process


async def requests(world: World, count: int, *, seed: int) -> list[bytes]:
    """So many requests, ready for the wire, signed by as many processes as there are cores."""
    context = multiprocessing.get_context("spawn")
    loop = asyncio.get_running_loop()
    with cores.on(cores.ALL), ProcessPoolExecutor(len(cores.ALL), mp_context=context) as pool:
        parts = await asyncio.gather(
            *(
                loop.run_in_executor(pool, _signed, world.directory, min(PART, count - first), seed + first)
                for first in range(0, count, PART)
            )
        )
    return [request for part in parts for request in part]


def _signed(world: Path, count: int, seed: int) -> list[bytes]:
    return end_to_end.requests(World.load(world), HOST, count=count, seed=seed)


def order_of(request: bytes) -> str:
    """Its order's number."""
    return _number(request.partition(b"\r\n\r\n")[2]).decode()


def records(made: Sequence[bytes], receipt_key: bytes) -> list[Record]:
    """The records that a receiver would have appended for these requests."""
    received_at_ms = time.time_ns() // 1_000_000
    return [_record(request.partition(b"\r\n\r\n")[2], receipt_key, received_at_ms) for request in made]


def _record(body: bytes, receipt_key: bytes, received_at_ms: int) -> Record:
    sealed = RecordContents(
        account=end_to_end.ACCOUNT,
        family="openapi",
        received_at_ms=received_at_ms,
        path=f"/notify/{end_to_end.ACCOUNT}".encode(),
        content_type=b"application/x-www-form-urlencoded; charset=utf-8",
        key_id="key",
        confirmed=False,
        body=body,
    )
    return record_format.encode(sealed, _number(body), record_format.receipt(sealed, receipt_key))


def _number(body: bytes) -> bytes:
    return body.partition(b"out_trade_no=")[2].partition(b"&")[0]
