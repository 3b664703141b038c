"""What a server says of itself over HTTP, asked as a load balancer would ask: one request, a short wait."""

import asyncio

from deploy.local import ports

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
            reader, writer = await asyncio.open_connection(ports.LOOPBACK, port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {ports.LOOPBACK}\r\n\r\n".encode("ascii"))
                return (await reader.read()).decode("utf-8", "replace")
            finally:
                writer.close()
    except OSError:  # a time-out is one
        return ""
