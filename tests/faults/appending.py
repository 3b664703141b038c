"""Thirty appends, one after the other, in a process whose disk the test lets fail.

    python -m tests.faults.appending DIRECTORY

Prints `ready`, then for each append `ack ID` or `refused ID`.
"""

import asyncio
import sys
from pathlib import Path

from deploy.embedded.journal import Journal
from ingest.errors import Unavailable
from tests.support import log_records

APPENDS = 30


async def run(directory: Path) -> None:
    journal = await Journal.open(directory / "journal.sqlite3", now_ms=log_records.Time())
    print("ready", flush=True)
    for number in range(APPENDS):
        try:
            await journal.append(log_records.record("N", id_=f"n{number}"))
        except Unavailable:
            print(f"refused n{number}", flush=True)
        else:
            print(f"ack n{number}", flush=True)
    await journal.close()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1])))
