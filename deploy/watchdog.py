"""End a process that stands still, so that its service manager starts a fresh one and other workers take over.

An event loop that stands answers no request, no probe and no broker, and cannot end itself. A thread sees it: it writes
where the loop's thread stands, and ends the process with `exits.STOPPED_ITSELF`. It counts its own short sleeps and not
the clock, so that a process that was stopped for a while, or got no processor, does not count as standing. A single
call into C that keeps even this thread from running is ended by `faulthandler`, a minute after the limit and with exit
code 1.

The store's thread of the embedded engine is watched too: when it has decided a batch for far longer than that may take
(`workers.time_limit`), and could not be interrupted, no batch will be settled any more.
"""

import asyncio
import contextlib
import faulthandler
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from deploy import exits
from ingest.log_port import Logger
from schemas.telemetry import Field
from workers.time_limit import TimeLimit

LOOK_EVERY_S = 1.0
ARM_EVERY = 5  # looks
WITHOUT_GIL_S = 60.0  # beyond the limit, because this one counts by the clock
WRITE_S = 2.0  # for the last lines, if standard error is read slowly

EndProcess = Callable[[int], object]


@asynccontextmanager
async def watching(limit_s: float, logger: Logger, *, end: EndProcess = os._exit) -> AsyncIterator[None]:
    """Watch the running event loop until the block ends; not at all with a limit of 0."""
    if not limit_s:
        yield
        return
    loop = asyncio.get_running_loop()
    watch = _Watch(limit_s, loop.call_soon_threadsafe, lambda why: end_standing(why, logger, end=end))
    watch.start()
    try:
        yield
    finally:
        watch.stop()


class _Watch:
    """The thread. `ask` has the loop call a function soon, `standing` is called once if it does not."""

    def __init__(
        self, limit_s: float, ask: Callable[[Callable[[], object]], object], standing: Callable[[str], None]
    ) -> None:
        self._limit_s = limit_s
        self._ask = ask
        self._standing = standing
        self._answered = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    def _run(self) -> None:
        looks, stood_s = 0, 0.0
        self._answered.set()
        while not self._stopping.is_set():
            if self._answered.is_set():
                self._answered.clear()
                stood_s = 0.0
                with contextlib.suppress(RuntimeError):  # the loop is closed: the block is ending
                    self._ask(self._answered.set)
            elif stood_s >= self._limit_s:
                self._standing(f"the event loop has stood still for {stood_s:g} s")
                return
            if looks % ARM_EVERY == 0:
                _arm(self._limit_s + WITHOUT_GIL_S)
            looks += 1
            self._stopping.wait(LOOK_EVERY_S)
            stood_s += LOOK_EVERY_S


async def end_when_overdue(limit: TimeLimit, limit_s: float, logger: Logger, *, end: EndProcess = os._exit) -> None:
    """End the process when code has run so much longer than its own limit; never with a limit of 0."""
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if limit_s and (overdue_s := limit.overdue_s) >= limit_s:
            end_standing(f"a batch cannot be decided: its limit passed {overdue_s:.0f} s ago", logger, end=end)


def end_standing(why: str, logger: Logger, *, end: EndProcess) -> None:
    """Write where each thread stands, and end the process. A log that is not read delays that only briefly."""
    logger.error("process stands still", **{Field.ERROR: why})
    writing = threading.Thread(target=_dump, daemon=True)
    writing.start()
    writing.join(WRITE_S)
    end(exits.STOPPED_ITSELF)


def _dump() -> None:
    threading.Event().wait(WRITE_S / 4)  # until the log line above is written
    with contextlib.suppress(Exception):  # standard error may be closed, or be no file
        faulthandler.dump_traceback(sys.stderr, all_threads=True)


def _arm(seconds: float) -> None:
    with contextlib.suppress(Exception):  # as above
        faulthandler.dump_traceback_later(seconds, exit=True)
