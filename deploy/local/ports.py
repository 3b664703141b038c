"""Choose free ports on loopback, and ask what listens there: by TCP, or by one HTTP request as a load balancer does.

A server that is killed and started again uses its old port. If that port were in the kernel's range for outgoing
connections, a client that keeps connecting to the dead server could be given the same port as its source, and so be
connected to itself. Then the server could not start again. So ports are drawn from below that range.
"""

import asyncio
import random
import socket
from collections.abc import Sequence

LOOPBACK = "127.0.0.1"
FIRST, LAST = 20_000, 29_999  # below 32768, the start of Linux's range, and above the ports of well-known services
TRIES_MAX = 1_000
CONNECT_WITHIN_S = 2.0
ASK_WITHIN_S = 2.0


class NoPort(Exception):
    """No port was free in many tries."""


def free(count: int, chance: random.Random | None = None) -> list[int]:
    """Return different ports that were free just now. They are random, so that stacks that start together differ.

    Raises:
        NoPort: too few of the tried ports are free.
    """
    chance = chance or random.SystemRandom()
    found: list[int] = []
    for _ in range(TRIES_MAX):
        if len(found) == count:
            return found
        port = chance.randint(FIRST, LAST)
        if port not in found and is_free(port):
            found.append(port)
    raise NoPort(f"no free port: {TRIES_MAX} were tried from {FIRST} to {LAST} on {LOOPBACK}")


def preferred(wanted: Sequence[int]) -> list[int]:
    """Return the wanted ports, with a free port in place of each that is taken."""
    others = iter(free(len(wanted)))
    return [port if is_free(port) else next(others) for port in wanted]


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port now."""
    with socket.socket() as sock:
        # Servers set this too: then a closed connection in TIME_WAIT does not block the port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def parts(address: str) -> tuple[str, int]:
    """Return host and port of `host:port`. Raises ValueError for any other text."""
    host, _, port = address.strip().rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"not a host and a port: {address}")
    return host.strip("[]"), int(port)


async def answers(host: str, port: int) -> bool:
    """Return whether a server accepts connections at the address."""
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):  # `wait_for` may swallow a cancellation in Python 3.11
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # TimeoutError is a subclass
        return False
    writer.close()
    return True


async def is_ok(port: int, path: str) -> bool:
    """Return whether a server on this loopback port answers 200 for the path."""
    return " 200 " in (await _answer(port, path)).partition("\n")[0]


async def body(port: int, path: str) -> str:
    """Return the body of a 200 answer, or an empty string."""
    head, _, rest = (await _answer(port, path)).partition("\r\n\r\n")
    return rest if " 200 " in head.partition("\n")[0] else ""


async def _answer(port: int, path: str) -> str:
    """Return the whole answer, or an empty string if there is none in time."""
    try:
        async with asyncio.timeout(ASK_WITHIN_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {LOOPBACK}\r\n\r\n".encode("ascii"))
                return (await reader.read()).decode("utf-8", "replace")
            finally:
                writer.close()
    except OSError:  # TimeoutError is a subclass
        return ""
