"""Look up the addresses of host names, so that a name server that hangs delays the callbacks to that host alone.

asyncio's own look-ups share a few threads with everything else that the process does in threads. Here each host has at
most one, which all that ask for it wait for; it is not waited for when the process ends.
"""

import asyncio
import socket
import threading

from aiohttp.abc import AbstractResolver, ResolveResult

Host = tuple[str, int, int]


class HostNames(AbstractResolver):
    """Resolves names by the machine's own resolver."""

    def __init__(self) -> None:
        self._running: dict[Host, asyncio.Future[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return all addresses of the host.

        Raises:
            OSError: it has none, or none can be found now.
        """
        wanted = (host, port, int(family))
        running = self._running.get(wanted)
        if running is None:
            running = self._running[wanted] = _looked_up(host, port, int(family))
            running.add_done_callback(lambda _: self._running.pop(wanted))
        # One that gives up waiting must not end the look-up of the others.
        return await asyncio.shield(running)

    async def close(self) -> None: ...


def _looked_up(host: str, port: int, family: int) -> asyncio.Future[list[ResolveResult]]:
    """Start the look-up in a thread of its own."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[ResolveResult]] = loop.create_future()
    answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # all that wait may have given up

    def run() -> None:
        try:
            found = addresses(host, port, family)
        except (OSError, UnicodeError) as error:
            failure = error if isinstance(error, OSError) else OSError(f"{host} is no host name")
            _tell(loop, answer, failure)
        else:
            _tell(loop, answer, found)

    threading.Thread(target=run, name=f"look up {host}", daemon=True).start()
    return answer


def _tell(
    loop: asyncio.AbstractEventLoop, answer: asyncio.Future[list[ResolveResult]], found: list[ResolveResult] | OSError
) -> None:
    def tell() -> None:
        if answer.done():
            return
        if isinstance(found, OSError):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    if not loop.is_closed():
        try:
            loop.call_soon_threadsafe(tell)
        except RuntimeError:
            return  # the loop was closed at this moment: the process ends


def addresses(host: str, port: int, family: int) -> list[ResolveResult]:
    """Return all addresses of the host. It may take minutes.

    Raises:
        OSError, UnicodeError: there are none, or the name is none.
    """
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=port,
            family=kind,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for kind, _, protocol, _, address in found
    ]
