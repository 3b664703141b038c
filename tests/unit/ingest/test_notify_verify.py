"""Only the exact answers `true` and `false` count; any other is unknown."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import ClientSession, web

from ingest import notify_verify
from ingest.errors import NotConfirmed, Unavailable
from ingest.notify_verify import NotifyVerify
from schemas.accounts import NOTIFY_VERIFY_URL, Account
from tests.support import alipay

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gateway:
    """Alipay's gateway on a loopback socket. `answer` writes its response."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answer: Answer = lambda _: answered("true")
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        self.paths.append(request.path)
        return await self.answer(request)


async def answered(text: str | bytes, status: int = 200, **headers: str) -> web.Response:
    body = text.encode() if isinstance(text, str) else text
    return web.Response(status=status, body=body, headers=headers)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    made = Gateway()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/gateway.do"
    yield made
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as made:
        yield made


def account(gateway: Gateway) -> Account:
    return alipay.mapi(notify_verify=True, notify_verify_url=gateway.url)


async def test_true_confirms_and_the_query_has_service_partner_and_id(gateway: Gateway, session: ClientSession) -> None:
    await NotifyVerify(session).confirm(account(gateway), "2025031800222151207099990000010251")
    assert gateway.paths == ["/gateway.do"]
    assert gateway.asked == [
        {"service": "notify_verify", "partner": alipay.SELLER, "notify_id": "2025031800222151207099990000010251"}
    ]


@pytest.mark.parametrize("notify_id", ["a/b+c=d", "a&partner=1&service=x", "a%2Fb", "a b", "a#b?c", "../x", "a;b"])
async def test_id_is_escaped_inside_its_parameter(gateway: Gateway, session: ClientSession, notify_id: str) -> None:
    await NotifyVerify(session).confirm(account(gateway), notify_id)
    await NotifyVerify(session).confirm(account(gateway), notify_id.encode())
    assert gateway.asked == [{"service": "notify_verify", "partner": alipay.SELLER, "notify_id": notify_id}] * 2
    assert gateway.paths == ["/gateway.do"] * 2


async def test_false_denies(gateway: Gateway, session: ClientSession) -> None:
    gateway.answer = lambda _: answered("false")
    with pytest.raises(NotConfirmed) as caught:
        await NotifyVerify(session).confirm(account(gateway), "N")
    assert caught.value.status == 401


@pytest.mark.parametrize(
    "text",
    ["", "True", "TRUE", "true\n", " true", "truefalse", "not true", "invalid", "False", "false\n", "<html>true</html>",
     "true" * 1000, b"\xef\xbb\xbftrue", b"t\x00r\x00u\x00e\x00"],
)  # fmt: skip
async def test_any_other_answer_is_unknown(gateway: Gateway, session: ClientSession, text: str | bytes) -> None:
    gateway.answer = lambda _: answered(text)
    with pytest.raises(Unavailable) as caught:
        await NotifyVerify(session).confirm(account(gateway), "N")
    assert caught.value.status == 503


@pytest.mark.parametrize("status", [201, 204, 400, 403, 404, 500, 502, 503])
@pytest.mark.parametrize("text", ["true", "false"])
async def test_any_other_status_is_unknown(gateway: Gateway, session: ClientSession, status: int, text: str) -> None:
    gateway.answer = lambda _: answered("" if status == 204 else text, status)
    with pytest.raises(Unavailable):
        await NotifyVerify(session).confirm(account(gateway), "N")


async def test_redirects_are_not_followed(gateway: Gateway, session: ClientSession) -> None:
    gateway.answer = lambda _: answered("true", 302, Location=gateway.url.replace("gateway.do", "elsewhere"))
    with pytest.raises(Unavailable):
        await NotifyVerify(session).confirm(account(gateway), "N")
    assert gateway.paths == ["/gateway.do"]


async def test_endless_answer_is_not_read_to_its_end(gateway: Gateway, session: ClientSession) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"true" * 1000)

    gateway.answer = endless
    with pytest.raises(Unavailable):
        await asyncio.wait_for(NotifyVerify(session, total_s=60).confirm(account(gateway), "N"), 2)


def in_pieces(*pieces: bytes) -> Answer:
    """An answer that arrives piece by piece, each in a packet of its own."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0.02)
        return response

    return answer


async def test_whole_answer_counts_also_in_pieces(gateway: Gateway, session: ClientSession) -> None:
    gateway.answer = in_pieces(b"tr", b"u", b"e")
    await NotifyVerify(session).confirm(account(gateway), "N")
    gateway.answer = in_pieces(b"true", b" or not")
    with pytest.raises(Unavailable):
        await NotifyVerify(session).confirm(account(gateway), "N")


async def test_missing_answer_is_unknown(gateway: Gateway, session: ClientSession) -> None:
    never = asyncio.Event()

    async def silent(_: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    gateway.answer = silent
    with pytest.raises(Unavailable):
        await NotifyVerify(session, total_s=0.1).confirm(account(gateway), "N")
    never.set()


async def test_unreachable_gateway_is_unknown(session: ClientSession) -> None:
    for url in ("http://127.0.0.1:1/gateway.do", "http://[::bad/gateway.do", "ftp://127.0.0.1/x", ""):
        with pytest.raises(Unavailable):
            await NotifyVerify(session).confirm(alipay.mapi(notify_verify=True, notify_verify_url=url), "N")


@pytest.mark.parametrize("notify_id", ["", b"", b"\xff", "é", "a\nb", "a\x00"])
async def test_invalid_id_is_denied_without_a_request(
    gateway: Gateway, session: ClientSession, notify_id: str | bytes
) -> None:
    with pytest.raises(NotConfirmed):
        await NotifyVerify(session).confirm(account(gateway), notify_id)
    assert gateway.asked == []


def test_default_address_is_alipay_s_gateway_over_tls() -> None:
    url = notify_verify.url_of(alipay.mapi(notify_verify=True), "N")
    assert str(url.with_query(None)) == NOTIFY_VERIFY_URL
    assert url.scheme == "https"
