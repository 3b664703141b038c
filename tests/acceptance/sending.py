"""Send notifications as Alipay does: each is retried until the answer is `success`, while processes are killed.

A refused or unanswered notification is retried later and the others go on. So a receiver that comes back meets a burst,
as with Alipay's own schedule.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.flood_corpus import Item

SUCCESS = (b"success", b'{"result":{"resultCode":"SUCCESS","resultStatus":"S","resultMessage":"success"}}')
SILENT = 0
GAPS_S = (0.05, 0.1, 0.2, 0.4)
ANSWER_WITHIN_S = 10.0

Gate = Callable[[int], Awaitable[None]]


class History:
    """The statuses of every item's attempts, by index; `SILENT` means no answer.

    With a `file`, every answer and every fault is a line in it too.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.acknowledged: list[Item] = []
        self.attempts: dict[int, list[int]] = {}
        self.over = 0  # items that will not be sent again
        self.began: list[str] = []  # faults
        self.ended: list[str] = []
        self.slowest_s = 0.0  # of all answers
        self._file = None if file is None else file.open("w", encoding="utf-8")

    def tried(self, index: int, item: Item, status: int, *, seconds: float) -> None:
        self.attempts.setdefault(index, []).append(status)
        if status != SILENT:
            self.slowest_s = max(self.slowest_s, seconds)
        if self._file is not None:
            what = "silent" if status == SILENT else "ok" if status == 200 else "refused"
            self._write(what, id=item.notify_id, attempt=len(self.attempts[index]), status=status, seconds=seconds)

    def begin(self, fault: str) -> None:
        """Note that a fault begins."""
        self.began.append(fault)
        self._write("begin", fault=fault)

    def end(self, fault: str) -> None:
        """Note that the fault is over."""
        self.ended.append(fault)
        self._write("end", fault=fault)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def statuses(self) -> set[int]:
        return {status for statuses in self.attempts.values() for status in statuses}

    def count(self, status: int) -> int:
        """Return the number of attempts that ended with this status."""
        return sum(statuses.count(status) for statuses in self.attempts.values())

    def _write(self, what: str, **more: Any) -> None:
        if self._file is not None:
            fact = {"what": what, "wall": time.time(), "mono_ns": time.monotonic_ns(), "over": self.over, **more}
            self._file.write(json.dumps(fact) + "\n")


async def send_all(
    items: Sequence[Item],
    url: Callable[[], str],
    *,
    at_once: int = 64,
    gaps_s: Sequence[float] = GAPS_S,
    give_up_after: int = 400,
    gate: Gate | None = None,
    history: History | None = None,
) -> History:
    """Send every item until it is acknowledged, or until it is refused if it has to be.

    The attempts are `gaps_s` apart; the last gap repeats. The `gate` is awaited before the first attempt of each item.
    Returns the `history`, which the caller can pass in to watch the progress.
    """
    history = History() if history is None else history
    due: asyncio.Queue[int | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def sender(session: aiohttp.ClientSession) -> None:
        while (index := await due.get()) is not None:
            item = items[index]
            began_s = time.monotonic()
            status, body = await _post(session, url() + item.path, item)
            history.tried(index, item, status, seconds=time.monotonic() - began_s)
            tries = len(history.attempts[index])
            if status == 200 and body in SUCCESS:
                history.acknowledged.append(item)
            elif not (item.refused and 400 <= status < 500) and tries < give_up_after:
                loop.call_later(gaps_s[min(tries, len(gaps_s)) - 1], due.put_nowait, index)
                continue
            history.over += 1

    timeout, connector = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S), aiohttp.TCPConnector(limit=at_once)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session, asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(sender(session))
        await _feed(due, len(items), gate, ahead=2 * at_once)
        while history.over < len(items):  # noqa: ASYNC110 - the history is only a count
            await asyncio.sleep(0.01)
        for _ in range(at_once):
            due.put_nowait(None)
    return history


async def _feed(due: asyncio.Queue[int | None], count: int, gate: Gate | None, *, ahead: int) -> None:
    """Make one item after the other due, at most `ahead` of the senders."""
    for index in range(count):
        if gate is not None:
            await gate(index)
        while due.qsize() >= ahead:  # noqa: ASYNC110 - a bounded queue would block the retries
            await asyncio.sleep(0.005)
        due.put_nowait(index)


async def _post(session: aiohttp.ClientSession, url: str, item: Item) -> tuple[int, bytes]:
    try:
        async with session.post(url, data=item.body, headers=dict(item.headers)) as answer:
            return answer.status, await answer.read()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return SILENT, b""
