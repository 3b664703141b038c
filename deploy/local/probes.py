"""What a server says of itself over HTTP, asked as a load balancer would ask: one request, a short wait."""

import asyncio

from deploy.local import ports

ASK_WITHIN_S = 2.0


async def is_ok(port: int, path: str) -> bool:
    """Whether a server on this loopback port answers 200 for the path."""
    try:
        async with asyncio.timeout(ASK_WITHIN_S):
            reader, writer = await asyncio.open_connection(ports.LOOPBACK, port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {ports.LOOPBACK}\r\n\r\n".encode("ascii"))
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, ValueError):  # a time-out is the one, a line beyond all bounds the other
        return False
