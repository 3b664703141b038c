"""An engine's two files under load, in a process of its own that the test kills.

    python -m tests.faults.under_load DIRECTORY ACKS ROUND

Appends and settles without end. Every acknowledged append leaves one line in the file ACKS, written after the
acknowledgement: these appends were promised.
"""

import asyncio
import os
import sys
from itertools import count
from pathlib import Path

from deploy.embedded.directory import open_files
from deploy.embedded.locks import LocalLocks
from deploy.embedded.source import JournalSource
from tests.support import begun, log_records
from workers.consumer import Consumer
from workers.errors import InfrastructureDown
from workers.outbox_relay import Relay

SENDERS = 40
STATUSES = ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED")


class Silent:
    """Observer of everything that ignores all."""

    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None: ...

    def lock_outcome(self, outcome: str, count: int) -> None: ...

    def lock_span(self, span: str, seconds: float) -> None: ...

    def step(self, name: str, seconds: float) -> None: ...


async def run(directory: Path, acks: int, round_: str) -> None:
    async with open_files(directory, now_ms=log_records.Time()) as files:
        work = log_records.processing(files.store, log_records.Time())
        relay = Relay(work.emit, observer=Silent())
        consumer = Consumer(
            source=JournalSource(files.journal, cursor=files.cursor),
            locks=LocalLocks(),
            process=work.process,
            wake_relay=relay.wake,
            observer=Silent(),
            token=b"w",
            fatal=begun.without_notes(),
        )
        numbers = count()

        async def send() -> None:
            for number in numbers:
                order, status = f"{round_}-{number // 3}", STATUSES[number % 3]
                await files.journal.append(log_records.record(order, status))
                os.write(acks, f"{order}-{status}\n".encode())

        await asyncio.gather(consumer.run(), relay.run(), *(send() for _ in range(SENDERS)))


if __name__ == "__main__":
    place, acknowledged, name = sys.argv[1:]
    asyncio.run(run(Path(place), os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), name))
