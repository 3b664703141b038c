"""The public port: the receiver's limits, deadlines, answers and drain.

There is no router, because `Reception` looks up the whole path. A refusal is answered with the fixed text of its
account's family. An unexpected exception is answered 503, not 500, after which Alipay resends.

To drain, readiness goes off first. The port keeps serving, with `Connection: close` in each answer, until the load
balancer has noticed. Then it stops listening, finishes requests in flight, and closes. The caller handles signals.
"""

import asyncio
import socket
from functools import partial
from typing import Any

from ingest.clock import Clock
from ingest.errors import Refused, Throttled, Unavailable
from ingest.http import responses
from ingest.http.connection import Connection, ConnectionLimits, Surroundings
from ingest.http.deadlines import Deadlines
from ingest.http.open_connections import OpenConnections
from ingest.http.request import BrokenBody, Request
from ingest.http.responses import Reply, Stamp, fixed
from ingest.receive import Gone, Reception
from ingest.reporting import FinishedRequest, Reporting
from ingest.settings import ReceiverSettings
from schemas.accounts import Account, Family

# In one turn of the loop. Thousands at once would block the loop for half a second, so this is smaller than the backlog
# of the kernel (setting BACKLOG).
ACCEPTED_AT_ONCE = 128
CLOSING_STATUSES = frozenset({400, 408, 413, 415})  # the rest of such a request is not read
IDLE_SWEEP_S = 0.5


class Receiver:
    """The public port of one process."""

    def __init__(self, *, settings: ReceiverSettings, reception: Reception, reporting: Reporting, clock: Clock) -> None:
        self._settings = settings
        self._reception = reception
        self._reporting = reporting
        self._clock = clock
        self._refusals = {family: responses.refusals(family) for family in (*Family, None)}
        self._successes: dict[str, tuple[Account, responses.Answer]] = {}
        self._surroundings = Surroundings(
            service=self,
            limits=ConnectionLimits(
                keepalive_s=settings.keepalive_s,
                lingering_s=settings.lingering_s,
                write_deadline_s=settings.write_deadline_s,
            ),
            connections=OpenConnections(connections_max=settings.connections_max),
            requests=Deadlines(limit_s=settings.request_deadline_s),
            bodies=Deadlines(limit_s=settings.body_deadline_s),
            stamp=Stamp(),
        )
        self._listener: asyncio.Server | None = None
        self._accepting: set[asyncio.Task[Any]] = set()
        self._idle_timer: asyncio.TimerHandle | None = None
        self.is_accepting = False
        self.parse_error = reporting.parse_error
        self.our_fault = reporting.our_fault

    @property
    def port(self) -> int:
        """The port in use, once started. It differs from the setting if that is 0."""
        assert self._listener is not None
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen and serve. When this returns, requests are answered.

        Raises:
            OSError: the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        listening = _listening(self._settings)
        # asyncio's own loop accepts up to `backlog` connections in a turn, uvloop one.
        factory = self.new_connection if isinstance(loop, asyncio.BaseEventLoop) else partial(self._accept, listening)
        self._listener = await loop.create_server(factory, sock=listening, backlog=ACCEPTED_AT_ONCE)
        listening.listen(self._settings.backlog)
        self._surroundings.requests.start()
        self._surroundings.bodies.start()
        self._sweep_idle()
        self.is_accepting = True

    async def drain(self) -> None:
        """Turn readiness off, and keep serving for the drain delay."""
        self.is_accepting = False
        await asyncio.sleep(self._settings.drain_delay_s)

    async def stop(self) -> None:
        """Drain, stop listening, finish requests in flight, and close. Safe to call twice or without `start`."""
        listener, connections = self._listener, self._surroundings.connections
        if listener is None:
            return
        await self.drain()
        self._listener = None
        listener.close()
        if self._accepting:
            await asyncio.wait(self._accepting)
        for connection in connections:
            connection.close_if_idle()
        await connections.wait_until_none(within_s=self._settings.shutdown_timeout_s)
        for connection in connections:
            connection.abort()
        await listener.wait_closed()
        self._surroundings.requests.stop()
        self._surroundings.bodies.stop()
        if self._idle_timer is not None:
            self._idle_timer.cancel()

    def new_connection(self) -> Connection:
        """Return a protocol for one connection, with the configured limits."""
        return Connection(self._surroundings, asyncio.get_running_loop())

    def _accept(self, listening: socket.socket) -> Connection:
        """Return a protocol for a connection that the loop accepts, and accept those behind it in the same turn.

        One in each turn is too few: in an overload a turn takes many milliseconds, and new senders would wait in the
        kernel's queue until they gave up, instead of being answered 503.
        """
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPTED_AT_ONCE - 1):
            try:
                accepted, _ = listening.accept()
            except OSError:  # none waits; another error comes to the loop too, which reports it and waits
                break
            accepting = loop.create_task(loop.connect_accepted_socket(self.new_connection, accepted))
            self._accepting.add(accepting)
            accepting.add_done_callback(self._accepted)
        return self.new_connection()

    def _accepted(self, accepting: asyncio.Task[Any]) -> None:
        self._accepting.discard(accepting)
        error = None if accepting.cancelled() else accepting.exception()
        if error is not None and not isinstance(error, OSError):  # an `OSError`: the sender has left
            self._reporting.our_fault(error)

    def turned_away(self) -> None:
        """Report a connection that is answered 503 because there are too many."""
        began_s = self._clock.monotonic_s()
        nothing = FinishedRequest(account=None, method="", status=503, began_s=began_s, body=None)
        self._reporting.refused(Throttled(), nothing)

    def _sweep_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._idle_timer = loop.call_later(IDLE_SWEEP_S, self._sweep_idle)
        now_s = loop.time()
        for connection in self._surroundings.connections:
            connection.expire_if_idle(now_s)

    async def handle(self, request: Request, connection: Connection) -> Reply:
        """Receive one request, and return its answer."""
        began_s = self._clock.monotonic_s()
        try:
            accepted = await self._reception.receive(request, began_s)
        # What the request waited for has the failure, whose traceback has the request: in a circle they would stay in
        # memory until garbage is collected, which is seldom.
        except Refused as refusal:
            return self._refuse(request, refusal.with_traceback(None), began_s)
        except BrokenBody as broken:
            broken.__traceback__ = None
            self._reporting.parse_error()
            return Reply(fixed(400), closing=True)
        except Gone as gone:
            gone.__traceback__ = None
            self._reporting.gone(self._finished(request, 400, began_s))
            return Reply(fixed(400), closing=True)
        except Exception as error:
            self._reporting.our_fault(error)
            return self._refuse(request, Unavailable(), began_s)
        self._reporting.accepted(
            accepted.account.name,
            accepted.authentic,
            is_stale=accepted.is_stale,
            began_s=began_s,
            is_gone=connection.is_gone,
            trace=accepted.trace,
        )
        return Reply(self._success(accepted.account), closing=not self.is_accepting)

    def _success(self, account: Account) -> responses.Answer:
        known = self._successes.get(account.name)
        if known is None or known[0] is not account:  # a reload may have changed the account's client id
            known = self._successes[account.name] = (account, responses.success(account))
        return known[1]

    def _refuse(self, request: Request, refusal: Refused, began_s: float) -> Reply:
        finished = self._finished(request, refusal.status, began_s)
        self._reporting.refused(refusal, finished)
        answer = self._refusals[finished.account.family if finished.account else None][refusal.status]
        return Reply(answer, closing=refusal.status in CLOSING_STATUSES or not self.is_accepting)

    def _finished(self, request: Request, status: int, began_s: float) -> FinishedRequest:
        account = self._reception.account_at(request.target)
        return FinishedRequest(
            account=account, method=request.method, status=status, began_s=began_s, body=request.body
        )


def _listening(settings: ReceiverSettings) -> socket.socket:
    """Bind the public port."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    address = (settings.host, settings.port)
    listening = socket.create_server(address, family=family, backlog=settings.backlog, reuse_port=settings.reuse_port)
    listening.setblocking(False)
    return listening
