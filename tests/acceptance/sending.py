"""Sending notifications as Alipay does: again and again until the answer is `success`, whoever dies meanwhile."""

import asyncio
from collections.abc import Callable, Iterable

import aiohttp

from deploy.sandbox.corpus import Item

SUCCESS = (b"success", b'{"result":{"resultCode":"SUCCESS","resultStatus":"S","resultMessage":"success"}}')


class History:
    """What became of every item, by its index: the statuses of its attempts, 0 where there was no answer."""

    def __init__(self) -> None:
        self.acknowledged: list[Item] = []
        self.attempts: dict[int, list[int]] = {}
        self.over = 0  # how many items will not be sent again

    def tried(self, index: int, status: int) -> None:
        self.attempts.setdefault(index, []).append(status)

    @property
    def statuses(self) -> set[int]:
        return {status for statuses in self.attempts.values() for status in statuses}


async def send_all(
    items: Iterable[Item],
    url: Callable[[], str],
    *,
    at_once: int = 64,
    give_up_after: int = 400,
    history: History | None = None,
) -> History:
    """Send every item until it is acknowledged; one that has to be refused is sent until it has been answered.

    A `history` that is given can be looked at meanwhile; it is what is returned.
    """
    history = History() if history is None else history
    queue: asyncio.Queue[tuple[int, Item] | None] = asyncio.Queue(maxsize=4 * at_once)
    timeout = aiohttp.ClientTimeout(total=10)
    connector = aiohttp.TCPConnector(limit=at_once)

    async def sender(session: aiohttp.ClientSession) -> None:
        while (next_one := await queue.get()) is not None:
            index, item = next_one
            for _ in range(give_up_after):
                status, body = await _post(session, url() + item.path, item)
                history.tried(index, status)
                if status == 200 and body in SUCCESS:
                    history.acknowledged.append(item)
                    break
                if item.refused and 400 <= status < 500:
                    break
                await asyncio.sleep(0.05)
            history.over += 1

    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session, asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(sender(session))
        for pair in enumerate(items):
            await queue.put(pair)
        for _ in range(at_once):
            await queue.put(None)
    return history


async def _post(session: aiohttp.ClientSession, url: str, item: Item) -> tuple[int, bytes]:
    try:
        async with session.post(url, data=item.body, headers=dict(item.headers)) as answer:
            return answer.status, await answer.read()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return 0, b""
