"""What a server says of itself over HTTP, asked as a load balancer would ask: one request, a short wait.

Free loopback ports, from below the range that the kernel gives to outgoing connections.

A server that is killed and started again comes back on its old port. Were that port in the kernel's own range, a client
that keeps trying to reach the dead server could be given the very port it calls, and be connected to itself: then the
server cannot come back. So the ports are drawn from a range where that does not happen.
"""

import asyncio
import random
import socket
from collections.abc import Sequence

ASK_WITHIN_S = 2.0


async def is_ok(port: int, path: str) -> bool:
    """Whether a server on this loopback port answers 200 for the path."""
    return " 200 " in (await _answer(port, path)).partition("\n")[0]


async def body(port: int, path: str) -> str:
    """What it answers 200 with; empty where it does not."""
    head, _, rest = (await _answer(port, path)).partition("\r\n\r\n")
    return rest if " 200 " in head.partition("\n")[0] else ""


async def _answer(port: int, path: str) -> str:
    """All of the answer; nothing where there is none in time."""
    try:
        async with asyncio.timeout(ASK_WITHIN_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {LOOPBACK}\r\n\r\n".encode("ascii"))
                return (await reader.read()).decode("utf-8", "replace")
            finally:
                writer.close()
    except OSError:  # a time-out is one
        return ""


LOOPBACK = "127.0.0.1"
FIRST, LAST = 20_000, 29_999  # below 32768, where Linux's range begins, and above what well-known services use
TRIES_MAX = 1_000
CONNECT_WITHIN_S = 2.0


class NoPort(Exception):
    """So many ports were tried in vain that something else must be wrong."""


def free(count: int, chance: random.Random | None = None) -> list[int]:
    """That many different ports on which nobody listened just now. Drawn, so that stacks that start together differ."""
    chance = chance or random.SystemRandom()
    found: list[int] = []
    for _ in range(TRIES_MAX):
        if len(found) == count:
            return found
        port = chance.randint(FIRST, LAST)
        if port not in found and is_free(port):
            found.append(port)
    raise NoPort(f"none free of {TRIES_MAX} ports tried from {FIRST} to {LAST}")


def preferred(wanted: Sequence[int]) -> list[int]:
    """Those that are wanted, as far as they are free, and others in the place of the rest."""
    others = iter(free(len(wanted)))
    return [port if is_free(port) else next(others) for port in wanted]


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as sock:
        # As servers do it: a connection that is only waiting out its time does not count.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def parts(address: str) -> tuple[str, int]:
    """Host and port of `host:port`. Raises ValueError where it is no such thing."""
    host, _, port = address.strip().rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"not a host and a port: {address}")
    return host.strip("[]"), int(port)


async def answers(host: str, port: int) -> bool:
    """Whether anything accepts connections there."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_WITHIN_S)
    except OSError:  # a time-out is one
        return False
    writer.close()
    return True
