"""A herd: many notifications that come at once, and those that are refused again at once, by Alipay's schedule."""

import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from deploy.load import generator
from deploy.load.generator import LoadLimits, Schedule, SendAttempt, Target
from deploy.sandbox.delivery import PROFILES
from tests.faults.steady import Answer
from tests.support.flood_corpus import Item
from tests.support.processes import Engine

AT_ONCE_PER_S = 1e6
CHINESE = PROFILES["cn-4m"]


class AsAlipay:
    """Sends each request again by the schedule, so many times as fast; the policy of a `generator`."""

    def __init__(self, requests: Sequence[bytes], scale: float) -> None:
        self._requests = requests
        self._scale = scale

    def delay_s(self, attempt: SendAttempt) -> float | None:
        gap_s = CHINESE.gap_after(attempt.number)
        return None if gap_s is None else gap_s / self._scale

    def request(self, index: int, number: int) -> bytes:
        return self._requests[index]


async def send(engine: Engine, items: Sequence[Item], *, connections: int, scale: float) -> list[SendAttempt]:
    """Send all at once, and again until they are accepted or Alipay would give up. Return all attempts."""
    public = urlsplit(engine.public)
    assert public.hostname is not None
    assert public.port is not None
    requests = [_request(item) for item in items]
    last_s = CHINESE.offset_s(CHINESE.deliveries) / scale
    return await generator.run(
        requests,
        Target(host=public.hostname, port=public.port),
        schedule=Schedule(start=time.monotonic(), rate=AT_ONCE_PER_S),
        limits=LoadLimits(connections=connections, timeout_s=60.0, drain_s=2 * last_s + 60),
        retries=AsAlipay(requests, scale),
    )


def answers(items: Sequence[Item], attempts: Sequence[SendAttempt]) -> list[Answer]:
    """Return the attempts as the answers to their notifications."""
    return [Answer(items[each.index], each.status, each.ended - each.began) for each in attempts]


def _request(item: Item) -> bytes:
    headers = {**dict(item.headers), "Host": "x", "Content-Length": str(len(item.body))}
    lines = [f"POST {item.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + item.body
