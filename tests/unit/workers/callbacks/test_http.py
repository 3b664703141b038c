"""One attempt at a callback, to a real server on loopback."""

import asyncio
import base64
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import structs
from standardwebhooks import Webhook

from workers.callbacks import addresses
from workers.callbacks.addresses import Allowed
from workers.callbacks.endpoints import Endpoint
from workers.callbacks.http import BODY_BYTES_MAX, HttpPoster
from workers.callbacks.messages import Message
from workers.callbacks.schedule import RETRY_AFTER_MS_MAX, CallbackAnswer, CallbackOutcome

SECRET = b"s" * 24
MESSAGE = Message(id="shop:N1:1", body=b'{"type":"x"}')
LOOPBACK = Allowed(addresses.networks("127.0.0.0/8"))

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """A receiver of callbacks; `answer` may be replaced."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.answer: Handler = self.accept
        self.port = 0

    async def accept(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return await self.answer(request)

    def endpoint(self, host: str = "127.0.0.1", timeout_s: float = 10.0) -> Endpoint:
        return Endpoint(name="shop", url=f"http://{host}:{self.port}/hook", secrets=(SECRET,), timeout_s=timeout_s)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", served.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    served.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    yield served
    await runner.cleanup()


async def post(
    endpoint: Endpoint, allowed: Allowed = LOOPBACK, resolver: AbstractResolver | None = None
) -> CallbackAnswer:
    async with HttpPoster(allowed, now_ms=lambda: int(time.time() * 1000), resolver=resolver) as poster:
        return await poster.post(endpoint, MESSAGE)


async def test_receiver_can_verify_what_arrives(server: Server) -> None:
    assert await post(server.endpoint()) == CallbackAnswer(outcome=CallbackOutcome.DELIVERED, status=204)
    ((headers, body),) = server.requests
    assert Webhook(base64.b64encode(SECRET).decode()).verify(body, headers) == {"type": "x"}
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, CallbackOutcome.DELIVERED),
        (299, CallbackOutcome.DELIVERED),
        (400, CallbackOutcome.REFUSED),
        (410, CallbackOutcome.GONE),
        (429, CallbackOutcome.REFUSED),
        (500, CallbackOutcome.REFUSED),
    ],
)
async def test_status_decides(server: Server, status: int, outcome: CallbackOutcome) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "7"})

    server.answer = answer
    found = await post(server.endpoint())
    assert (found.outcome, found.status) == (outcome, status)
    assert found.retry_after_ms == (7000 if outcome is CallbackOutcome.REFUSED else 0)


async def test_redirect_is_not_followed(server: Server) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": f"http://127.0.0.1:{server.port}/elsewhere"})

    server.answer = answer
    assert (await post(server.endpoint())).outcome is CallbackOutcome.REFUSED
    assert len(server.requests) == 1


async def test_answer_that_never_comes_is_a_timeout(server: Server) -> None:
    async def silent(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    server.answer = silent
    assert (await post(server.endpoint(timeout_s=1.0))).outcome is CallbackOutcome.TIMEOUT


async def test_status_decides_whatever_becomes_of_the_body(server: Server) -> None:
    async def drops(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(600):
            await response.write(b"x")
            await asyncio.sleep(0.1)
        return response

    async def breaks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        assert request.transport is not None
        request.transport.close()
        return response

    for answer in (drops, breaks):
        server.answer = answer
        found = await post(server.endpoint(timeout_s=1.0))
        assert (found.outcome, found.status) == (CallbackOutcome.DELIVERED, 200)


@pytest.mark.parametrize(
    ("text", "wait_ms"),
    [
        ("31536000", RETRY_AFTER_MS_MAX),
        ("Wed, 21 Oct 2099 07:28:00 GMT", RETRY_AFTER_MS_MAX),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("-1", 0),
        ("soon", 0),
    ],
)
async def test_wait_that_an_endpoint_asks_for_is_bounded(server: Server, text: str, wait_ms: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": text})

    server.answer = answer
    assert (await post(server.endpoint())).retry_after_ms == wait_ms


async def test_connection_that_was_closed_while_idle_is_no_failure() -> None:
    """The server answers the first request of each connection, and closes it when the second one comes."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(MESSAGE.body)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await reader.read(1)
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        endpoint = Endpoint(name="shop", url=f"http://127.0.0.1:{port}/hook", secrets=(SECRET,))
        async with HttpPoster(LOOPBACK, now_ms=lambda: int(time.time() * 1000)) as poster:
            found = [await poster.post(endpoint, MESSAGE) for _ in range(3)]
    assert [each.outcome for each in found] == [CallbackOutcome.DELIVERED] * 3
    assert connections == 3


async def test_new_connection_that_is_closed_without_an_answer_is_tried_once() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(MESSAGE.body)
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        endpoint = Endpoint(name="shop", url=f"http://127.0.0.1:{port}/hook", secrets=(SECRET,))
        assert (await post(endpoint)).outcome is CallbackOutcome.UNREACHABLE
    assert connections == 1


async def test_endless_body_is_left_after_the_limit(server: Server) -> None:
    written = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(headers={"Content-Encoding": "gzip"})
        await response.prepare(request)
        for _ in range(10_000):
            await response.write(b"x" * BODY_BYTES_MAX)
            written += BODY_BYTES_MAX
        return response

    server.answer = answer
    assert (await post(server.endpoint(timeout_s=30.0))).outcome is CallbackOutcome.DELIVERED
    assert written < 10_000 * BODY_BYTES_MAX


async def test_closed_port_is_unreachable_and_garbage_too(server: Server) -> None:
    async def garbage(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"nonsense\r\n\r\n")
        await writer.drain()
        writer.close()

    other = await asyncio.start_server(garbage, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    url = structs.replace(server.endpoint(), url=f"http://127.0.0.1:{port}/")
    assert (await post(url)).outcome is CallbackOutcome.UNREACHABLE
    other.close()
    await other.wait_closed()
    found = await post(url)
    assert (found.outcome, found.status) == (CallbackOutcome.UNREACHABLE, 0)
    assert found.detail


async def test_answer_of_wild_bytes_leaves_a_text_that_a_store_can_keep() -> None:
    async def wild(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 \x00\xff\xfe\x1b[31m 200 \r\n\x00\r\n\r\n")
        await writer.drain()
        writer.close()

    other = await asyncio.start_server(wild, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}/"
    found = await post(Endpoint(name="shop", url=url, secrets=(SECRET,)))
    assert found.outcome is CallbackOutcome.UNREACHABLE
    assert found.detail
    assert found.detail.isprintable()
    found.detail.encode()
    other.close()
    await other.wait_closed()


class ChangingNames(AbstractResolver):
    """A name server that first gives a public address, and then one on loopback."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = self.answers.pop(0)
        return [ResolveResult(hostname=host, host=found, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None: ...


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1"])
async def test_own_machine_is_refused_however_it_is_written(server: Server, host: str) -> None:
    assert (await post(server.endpoint(host), Allowed())).outcome in (
        CallbackOutcome.FORBIDDEN,
        CallbackOutcome.UNREACHABLE,
    )
    assert server.requests == []


async def test_connection_goes_to_the_address_that_was_checked(server: Server) -> None:
    names = ChangingNames("127.0.0.1", "10.0.0.1")
    assert (await post(server.endpoint("shop.example"), resolver=names)).outcome is CallbackOutcome.DELIVERED
    assert names.answers == ["10.0.0.1"]  # asked once
    refused = await post(server.endpoint("shop.example"), Allowed(), ChangingNames("127.0.0.1"))
    assert (refused.outcome, len(server.requests)) == (CallbackOutcome.FORBIDDEN, 1)
    assert "127.0.0.1" in refused.detail


async def test_proxy_of_the_environment_is_not_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert (await post(server.endpoint())).outcome is CallbackOutcome.DELIVERED
