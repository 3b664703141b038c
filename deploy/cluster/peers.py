"""The receivers and workers as a console sees them: it asks each of them for its state, again and again, by HTTP.

The list of addresses is a setting, because nothing else is common to all: a receiver has no access to the order store,
and its acknowledgements must not come to depend on one. A name may stand for many addresses, such as that of a headless
service; it is looked up every few seconds. Everything goes on in the background, with a deadline and a limit on each
answer, and the pages show the last answers.

A question waits at the process for up to `ASK_S`, so the answers are heartbeats. A process that stops in good order
answers at once that it stops, and is shown no more; one that does not answer for `GONE_S` is shown as gone.
"""

import asyncio
import ipaddress
import socket
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from msgspec import Struct, structs
from yarl import URL

from workers.admin.process_state import ProcessCounts, ProcessState, RefusedLine
from workers.admin.processes import SeenProcess
from workers.tail import Tail

ASK_S = 3.0
ANSWER_S = 4.0  # for an answer, beyond the wait
RETRY_S = 1.0
PAUSE_MIN_S = 0.05  # between two questions, whatever the other side answers
GONE_S = 10.0  # three heartbeats
LOOK_UP_S = 5.0
FORGET_S = 600.0  # a gone process whose address is no longer listed
PEERS_MAX = 64
ANSWER_BYTES_MAX = 4 * 1024 * 1024
REFUSED_MAX = 1000  # of each receiver, as many as it keeps itself

_decode = msgspec.json.Decoder(ProcessState).decode


class PeerAddress(Struct, frozen=True, order=True):
    """An address of the setting: a name or an address, and the port of the admin API."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class NoAnswer(Exception):
    """A peer has answered something else than its state."""


class Peer:
    """One process, by its address."""

    def __init__(self, address: PeerAddress, began_s: float) -> None:
        self.address = address
        self.state: ProcessState | None = None
        self.seen_s = began_s  # of the last answer; before the first one, when it was first asked
        self.seen_at_ms: int | None = None
        self.trouble = ""
        self.refused: deque[RefusedLine] = deque(maxlen=REFUSED_MAX)

    @property
    def has_stopped(self) -> bool:
        return self.state is not None and self.state.is_stopping

    def question(self, wait_s: float, *, console: str, watch: bool) -> dict[str, str]:
        """Return the parameters of the next question."""
        query = {"wait": f"{wait_s:.3f}", "console": console}
        if watch:
            query["watch"] = "true"
        if self.state is not None:
            query["run_id"] = self.state.run_id
            query["refused_after"] = str(self.state.refused_added)
            query["tail_after"] = str(self.state.tail_added)
        return query


class Peers:
    """All processes of the setting, as `workers.admin.processes.Processes` and as the requests that they refused."""

    def __init__(
        self,
        addresses: Sequence[PeerAddress],
        *,
        tail: Tail,
        now_ms: Callable[[], int],
        token: bytes | None = None,
        ask_s: float = ASK_S,
        answer_s: float = ANSWER_S,
        gone_s: float = GONE_S,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._addresses = tuple(dict.fromkeys(addresses))
        self._tail = tail
        self._now_ms = now_ms
        self._headers = {} if token is None else {"Authorization": f"Bearer {token.decode()}"}
        self._ask_s = ask_s
        self._answer_s = answer_s
        self._gone_s = gone_s
        self._monotonic_s = monotonic_s
        self._peers: dict[PeerAddress, dict[str, Peer]] = {address: {} for address in self._addresses}
        self._unknown: dict[PeerAddress, str] = {}  # names that have led to no address
        self._counts = ProcessCounts()

    @property
    def are_known(self) -> bool:
        return bool(self._addresses)

    async def seen(self) -> Sequence[SeenProcess]:
        """Return all that run or are gone, in the order of the setting."""
        now_s, found = self._monotonic_s(), []
        for address in self._addresses:
            peers = sorted(self._peers[address].values(), key=lambda peer: peer.address)
            if not peers and address in self._unknown:
                trouble = self._unknown[address]
                found.append(
                    SeenProcess(address=str(address), state=None, seen_at_ms=None, is_gone=True, trouble=trouble)
                )
            found += [self._shown(peer, now_s) for peer in peers if not peer.has_stopped]
        return found

    def counts(self) -> ProcessCounts:
        """Return their counts since this console first asked them, over their restarts."""
        return self._counts

    def of_order(self, scope: str, order: str) -> Sequence[RefusedLine]:
        """Return the refused requests that claimed to be about this order, oldest first; by account, all merchants'."""
        return _by_time(line for line in self._refused() if scope in (line.account, line.scope) and line.order == order)

    def newest(self, limit: int) -> Sequence[RefusedLine]:
        """Return the newest refused requests, oldest first."""
        return _by_time(self._refused())[-limit:]

    async def run(self) -> None:
        """Ask them for ever."""
        async with ClientSession(
            connector=TCPConnector(limit=2 * PEERS_MAX),
            cookie_jar=DummyCookieJar(),
            headers=self._headers,
            timeout=ClientTimeout(total=self._ask_s + self._answer_s, connect=self._answer_s),
        ) as session:
            await _together([self._follow(session, address) for address in self._addresses])

    async def _follow(self, session: ClientSession, address: PeerAddress) -> None:
        """Look up the name for ever, and ask each address that it leads to."""
        asking: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                hosts = await self._look_up(address)
                for host in asking.keys() - hosts if hosts is not None else ():
                    asking.pop(host).cancel()
                for host in hosts or ():
                    peer = self._peer(address, host)
                    if peer is not None and host not in asking:
                        asking[host] = asyncio.create_task(self._ask_always(session, peer))
                self._forget(address, asking)
                if asking:
                    done, _ = await asyncio.wait(asking.values(), timeout=LOOK_UP_S, return_when="FIRST_COMPLETED")
                    for task in done:
                        task.result()  # it never ends by itself, so this raises
                else:
                    await asyncio.sleep(LOOK_UP_S)
        finally:
            for task in asking.values():
                task.cancel()
            await asyncio.gather(*asking.values(), return_exceptions=True)

    async def _look_up(self, address: PeerAddress) -> set[str] | None:
        """Return the addresses of the name, of one IP version; `None` if the answer is unknown."""
        if _is_ip(address.host):
            return {address.host}
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self._unknown[address] = f"the name is not known: {error}"
            return None
        # A process that has both would be listed twice, and one that listens on one of them would be gone by the other.
        hosts = {family: {str(sockaddr[0]) for kind, *_, sockaddr in found if kind == family} for family in _FAMILIES}
        return hosts[socket.AF_INET] or hosts[socket.AF_INET6]

    def _peer(self, address: PeerAddress, host: str) -> Peer | None:
        """Return the peer at this address; `None` if there are too many."""
        peers = self._peers[address]
        if host not in peers:
            if sum(map(len, self._peers.values())) >= PEERS_MAX:
                return None
            peers[host] = Peer(PeerAddress(host, address.port), self._monotonic_s())
        return peers[host]

    def _forget(self, address: PeerAddress, asking: dict[str, asyncio.Task[None]]) -> None:
        """Forget the peers whose address the name no longer has, if they have stopped or are gone for long."""
        peers, now_s = self._peers[address], self._monotonic_s()
        for host in peers.keys() - asking.keys():
            if peers[host].has_stopped or now_s - peers[host].seen_s > FORGET_S:
                del peers[host]

    async def _ask_always(self, session: ClientSession, peer: Peer) -> None:
        while True:
            watch = self._tail.is_watched
            try:
                state = await self._ask(session, peer, watch=watch)
            except (ClientError, TimeoutError, OSError, msgspec.MsgspecError, NoAnswer) as error:
                peer.trouble = _reason(error)
                await asyncio.sleep(RETRY_S)
            else:
                self._answered(peer, state, watched=watch)
                await asyncio.sleep(RETRY_S if state.is_stopping else PAUSE_MIN_S)

    async def _ask(self, session: ClientSession, peer: Peer, *, watch: bool) -> ProcessState:
        """Return the peer's state.

        Raises:
            NoAnswer: it answers something else, or too much.
        """
        url = URL.build(scheme="http", host=peer.address.host, port=peer.address.port, path="/api/process")
        query = peer.question(self._ask_s, console=self._tail.run_id, watch=watch)
        async with session.get(url, params=query, allow_redirects=False) as answer:
            if answer.status != 200:
                raise NoAnswer(f"it answers {answer.status}")
            body = bytearray()
            async for chunk in answer.content.iter_chunked(65536):
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    raise NoAnswer("its answer is too large")
        return _decode(bytes(body))

    def _answered(self, peer: Peer, state: ProcessState, *, watched: bool) -> None:
        before = peer.state
        is_same = before is not None and before.run_id == state.run_id
        if before is not None:
            self._counts = _sum(self._counts, state.counts, before.counts if is_same else ProcessCounts())
        peer.refused.extend(state.refused)
        if watched:
            asked_after = before.tail_added if before is not None and is_same else state.tail_added - len(state.tail)
            missed = max(0, state.tail_added - asked_after - len(state.tail))
            process = state.identity.instance
            self._tail.add([structs.replace(entry, process=process) for entry in state.tail], missed=missed)
        # The lines are kept elsewhere now.
        peer.state = structs.replace(state, refused=(), tail=())
        peer.seen_s, peer.seen_at_ms, peer.trouble = self._monotonic_s(), self._now_ms(), ""

    def _shown(self, peer: Peer, now_s: float) -> SeenProcess:
        return SeenProcess(
            address=str(peer.address),
            state=peer.state,
            seen_at_ms=peer.seen_at_ms,
            is_gone=now_s - peer.seen_s > self._gone_s,
            trouble=peer.trouble,
        )

    def _refused(self) -> Iterator[RefusedLine]:
        return (line for peers in self._peers.values() for peer in peers.values() for line in peer.refused)


_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def _by_time(lines: Iterable[RefusedLine]) -> list[RefusedLine]:
    return sorted(lines, key=lambda line: line.received_at_ms)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, NoAnswer):
        return str(error)
    if isinstance(error, msgspec.MsgspecError):
        return f"its answer is of another release: {error}"
    return f"{type(error).__name__}: {error}"[:200]


def _sum(total: ProcessCounts, after: ProcessCounts, before: ProcessCounts) -> ProcessCounts:
    """Return the total with the rise from `before` to `after`."""
    names = ProcessCounts.__struct_fields__
    risen = {name: max(0.0, getattr(after, name) - getattr(before, name)) for name in names}
    return ProcessCounts(**{name: getattr(total, name) + risen[name] for name in names})


async def _together(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)
