"""The public port: aiohttp's low-level server, with the receiver's limits, deadlines and drain.

There is no router, because `Reception` looks up the whole path. A refusal is answered with the fixed text of its
account's family. An unexpected exception is answered 503, not 500, after which Alipay resends.

To drain, readiness goes off first. The port keeps serving, with `Connection: close` in each answer, until the load
balancer has noticed. Then it stops listening, finishes requests in flight, and closes. The caller handles signals.
"""

import asyncio
import socket

import aiohttp.http_parser
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from ingest.clock import Clock
from ingest.errors import Refused, Unavailable
from ingest.http import responses
from ingest.http.connection import BrokenBody, Connection, ConnectionLimits, OpenConnections
from ingest.http.deadlines import Deadlines
from ingest.http.request import Incoming
from ingest.http.responses import Reply, Stamp, fixed
from ingest.receive import Gone, Reception
from ingest.reporting import FinishedRequest, Reporting
from ingest.settings import ReceiverSettings
from schemas.accounts import Account, Family
from schemas.form import BODY_BYTES_MAX

# asyncio accepts up to `backlog` connections in one turn of the loop. Thousands at once would block the loop for half a
# second, so this is smaller than the kernel's backlog (setting BACKLOG).
ACCEPTED_AT_ONCE = 32
CLOSING_STATUSES = frozenset({400, 408, 413, 415})  # the rest of such a request is not read


class WrongParser(RuntimeError):
    """aiohttp uses its Python parser, which has had vulnerabilities that the C parser has not."""


class Receiver:
    """The public port of one process."""

    def __init__(self, *, settings: ReceiverSettings, reception: Reception, reporting: Reporting, clock: Clock) -> None:
        self._settings = settings
        self._reception = reception
        self._reporting = reporting
        self._clock = clock
        self._deadlines = Deadlines(limit_s=settings.request_deadline_s)
        self._stamp = Stamp()
        self._refusals = {family: responses.refusals(family) for family in (*Family, None)}
        self._successes: dict[str, tuple[Account, responses.Answer]] = {}
        self._limits = ConnectionLimits(
            keepalive_s=settings.keepalive_s,
            lingering_s=settings.lingering_s,
            write_deadline_s=settings.write_deadline_s,
        )
        self._connections = OpenConnections(connections_max=settings.connections_max)
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self.is_accepting = False

    @property
    def port(self) -> int:
        """The port in use, once started. It differs from the setting if that is 0."""
        assert self._listener is not None
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen and serve. When this returns, requests are answered.

        Raises:
            WrongParser: aiohttp has no C parser.
            OSError: the address cannot be bound.
        """
        assert_c_parser()
        loop = asyncio.get_running_loop()
        self._deadlines.start()
        self._server = web.Server(self._handle, request_factory=self._incoming, handler_cancellation=False)
        listening = _listening(self._settings)
        self._listener = await loop.create_server(self.new_connection, sock=listening, backlog=ACCEPTED_AT_ONCE)
        listening.listen(self._settings.backlog)
        self.is_accepting = True

    async def drain(self) -> None:
        """Turn readiness off, and keep serving for the drain delay."""
        self.is_accepting = False
        await asyncio.sleep(self._settings.drain_delay_s)

    async def stop(self) -> None:
        """Drain, stop listening, finish requests in flight, and close. Safe to call twice or without `start`."""
        if self._listener is None or self._server is None:
            self._deadlines.stop()
            return
        await self.drain()
        self._listener.close()
        self._server.pre_shutdown()
        await self._server.shutdown(self._settings.shutdown_timeout_s)
        await self._listener.wait_closed()
        self._deadlines.stop()
        self._listener = self._server = None

    def new_connection(self) -> Connection:
        """Return a protocol for one connection, with the configured limits."""
        assert self._server is not None
        return Connection(
            self._server,
            limits=self._limits,
            open_connections=self._connections,
            faults=self._reporting,
            loop=asyncio.get_running_loop(),
        )

    def _incoming(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> Incoming:
        loop = asyncio.get_running_loop()
        incoming = Incoming(message, payload, protocol, writer, task, loop, client_max_size=BODY_BYTES_MAX)
        incoming.body_deadline_s = self._settings.body_deadline_s
        return incoming

    async def _handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(incoming, Incoming)
        began_s = self._clock.monotonic_s()
        task = asyncio.current_task()
        assert task is not None
        self._deadlines.watch(task, asyncio.get_running_loop().time())
        try:
            accepted = await self._reception.receive(incoming)
        except Refused as refusal:
            return self._refuse(incoming, refusal, began_s)
        except BrokenBody:
            self._reporting.parse_error()
            incoming.drop_rest()
            return Reply(fixed(400), closing=True, stamp=self._stamp)
        except Gone:
            return self._leave(incoming, began_s)
        except asyncio.CancelledError:
            if not self._deadlines.has_expired(task):
                raise
            task.uncancel()
            return self._refuse(incoming, Unavailable("the request deadline has passed"), began_s)
        except Exception as error:
            self._reporting.our_fault(error)
            return self._refuse(incoming, Unavailable(), began_s)
        finally:
            self._deadlines.release(task)
        is_gone = incoming.transport is None or incoming.transport.is_closing()
        self._reporting.accepted(
            accepted.account.name,
            accepted.authentic,
            is_stale=accepted.is_stale,
            began_s=began_s,
            is_gone=is_gone,
        )
        return Reply(self._success(accepted.account), closing=not self.is_accepting, stamp=self._stamp)

    def _success(self, account: Account) -> responses.Answer:
        known = self._successes.get(account.name)
        if known is None or known[0] is not account:  # a reload may have changed the account's client id
            known = self._successes[account.name] = (account, responses.success(account))
        return known[1]

    def _refuse(self, incoming: Incoming, refusal: Refused, began_s: float) -> Reply:
        finished = self._finished(incoming, refusal.status, began_s)
        self._reporting.refused(refusal, finished)
        answer = self._refusals[finished.account.family if finished.account else None][refusal.status]
        incoming.drop_rest()
        is_last = refusal.status in CLOSING_STATUSES or not incoming.content.is_eof()
        return Reply(answer, closing=is_last or not self.is_accepting, stamp=self._stamp)

    def _leave(self, incoming: Incoming, began_s: float) -> Reply:
        self._reporting.gone(self._finished(incoming, 400, began_s))
        return Reply(fixed(400), closing=True, stamp=self._stamp)

    def _finished(self, incoming: Incoming, status: int, began_s: float) -> FinishedRequest:
        account = self._reception.account_at(incoming.target)
        return FinishedRequest(
            account=account, method=incoming.method, status=status, began_s=began_s, body=incoming.body
        )


def _listening(settings: ReceiverSettings) -> socket.socket:
    """Bind the public port."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    address = (settings.host, settings.port)
    return socket.create_server(address, family=family, backlog=settings.backlog, reuse_port=settings.reuse_port)


def assert_c_parser() -> None:
    """Return if aiohttp uses its C parser.

    Raises:
        WrongParser: it does not.
    """
    if aiohttp.http_parser.HttpRequestParser is aiohttp.http_parser.HttpRequestParserPy:
        raise WrongParser("aiohttp has no C parser: install it from a binary wheel")
