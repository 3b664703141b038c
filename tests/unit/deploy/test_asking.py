"""What a gateway answers, and what becomes of it: only what is verified and about this order is news."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.asking import Asker
from ingest import accounts_in_use
from ingest.accounts_in_use import AccountsInUse
from schemas import accounts_toml, answers, record_format
from schemas.accounts import Account
from tests.support import alipay
from workers.reconciliation import Answered, AnswerKind

PATH = "/ams/api/v1/payments/inquiryPayment"
PAID = {
    "code": "10000", "msg": "Success", "out_trade_no": "A-1", "trade_no": "2026", "trade_status": "TRADE_SUCCESS",
    "total_amount": "12.80", "send_pay_date": "2026-11-30 10:00:00",
}  # fmt: skip
PAYMENT = {
    "result": {"resultStatus": "S", "resultCode": "SUCCESS"}, "paymentStatus": "SUCCESS", "paymentRequestId": "A-1",
    "paymentId": "P-1", "paymentAmount": {"value": "1280", "currency": "HKD"},
}  # fmt: skip
Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gateway:
    """A server that answers as it is told, and a merchant who asks it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.reply: Reply = self._unset
        self.asked: list[web.Request] = []
        self.accounts = AccountsInUse({})

    async def _unset(self, request: web.Request) -> web.StreamResponse:
        raise AssertionError("no reply is set")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        return await self.reply(request)

    def says(self, body: bytes | str, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        async def reply(request: web.Request) -> web.StreamResponse:
            whole = body.encode() if isinstance(body, str) else body
            return web.Response(body=whole, status=status, headers=headers)

        self.reply = reply

    def configured(self, url: str) -> None:
        key = alipay.written(self.directory, "m.key", alipay.private_pem(alipay.rsa_key("merchant")))
        alipays = alipay.written(self.directory, "a.pem", alipay.pem(alipay.rsa_key()))
        common = {"queries": True, "merchant_key_file": key, "gateway_url": url + "/gateway.do"}
        tables = {
            "cn": common | {"family": "openapi", "sign_type": "RSA2", "app_id": "2021", "keys": [alipays],
                            "seller_id": "2088"},
            "old": common | {"family": "mapi", "sign_type": "RSA2", "partner": "2088", "seller_id": "2088",
                             "keys": [alipays]},
            "hk": common | {"family": "antom", "client_id": "C", "keys": {"1": alipays}, "gateway_url": url + PATH},
        }  # fmt: skip
        self.accounts = AccountsInUse(accounts_in_use.load(accounts_toml.parse({"accounts": tables}), self.directory))

    async def ask(self, name: str = "cn", order: str = "A-1", *, total_s: float = 20.0) -> Answered:
        async with ClientSession() as session:
            asker = Asker(
                session, self.accounts, self.directory, receipts=lambda contents: b"mac", now_ms=lambda: 7,
                total_s=total_s,
            )  # fmt: skip
            return await asker(self.account(name), order)

    def account(self, name: str) -> Account:
        return self.accounts[name]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    gateway = Gateway(tmp_path)
    app = web.Application()
    app.add_routes([web.post("/gateway.do", gateway.handle), web.post(PATH, gateway.handle)])
    async with TestServer(app) as server:
        gateway.configured(str(server.make_url("")).rstrip("/"))
        yield gateway


def of_open(signer: rsa.RSAPrivateKey | None = None, **changes: str) -> bytes:
    inner = json.dumps({name: value for name, value in (PAID | changes).items() if value}).encode()
    sign = alipay.signature(inner, signer or alipay.rsa_key(), "RSA2")
    return b'{"alipay_trade_query_response":%b,"sign":"%b"}' % (inner, sign.encode())


def of_old(**changes: str) -> bytes:
    trade = {"out_trade_no": "A-1", "trade_no": "2026", "trade_status": "TRADE_SUCCESS", "total_fee": "12.80",
             "seller_id": "2088"} | changes  # fmt: skip
    sign = alipay.signature(alipay.canonical(trade), alipay.rsa_key(), "RSA2")
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in trade.items())
    return (
        f"<alipay><is_success>T</is_success><response><trade>{inner}</trade></response>"
        f"<sign>{sign}</sign><sign_type>RSA2</sign_type></alipay>"
    ).encode()


def of_antom(gateway: Gateway, *, client_id: str = "C", **changes: object) -> None:
    body = json.dumps(PAYMENT | changes).encode()
    headers = alipay.antom_headers(body, alipay.rsa_key(), path=PATH, client_id=client_id)
    headers["response-time"] = headers.pop("request-time")
    gateway.says(body, headers=headers)


async def test_verified_answer_is_news_with_its_record(gateway: Gateway) -> None:
    gateway.says(of_open())
    answer = await gateway.ask()
    assert answer.kind is AnswerKind.NEWS
    assert answer.record is not None
    contents = record_format.decode(answer.record)
    assert (contents.is_answer, contents.confirmed, contents.receipt) == (True, True, b"mac")
    assert (answer.record.key, contents.body, contents.key_id) == (b"cn:A-1", of_open(), "a.pem")
    gateway.says(of_old())
    assert (await gateway.ask("old")).kind is AnswerKind.NEWS
    of_antom(gateway)
    assert (await gateway.ask("hk")).kind is AnswerKind.NEWS


async def test_what_is_not_paid_yet_or_not_known_is_no_news(gateway: Gateway) -> None:
    gateway.says(of_open(trade_status="WAIT_BUYER_PAY", send_pay_date=""))
    assert (await gateway.ask()).kind is AnswerKind.UNPAID
    of_antom(gateway, paymentStatus="PROCESSING")
    assert (await gateway.ask("hk")).kind is AnswerKind.UNPAID
    gateway.says(b"<alipay><is_success>F</is_success><error>TRADE_NOT_EXIST</error></alipay>")
    assert (await gateway.ask("old")).kind is AnswerKind.NOT_FOUND
    gateway.says(b'{"alipay_trade_query_response":{"code":"40004","sub_code":"ACQ.TRADE_NOT_EXIST"}}')
    assert (await gateway.ask()).kind is AnswerKind.NOT_FOUND


async def test_answer_that_is_not_alipays_is_unauthentic(gateway: Gateway) -> None:
    unsigned = of_open().partition(b',"sign"')[0] + b"}"
    edited = of_open().replace(b"12.80", b"0.01")
    for body in (unsigned, edited, of_open(alipay.rsa_key("stranger"))):
        gateway.says(body)
        answer = await gateway.ask()
        assert (answer.kind, answer.record) == (AnswerKind.UNAUTHENTIC, None)
        assert "keys in accounts.toml" in answer.detail
    gateway.says(of_old().replace(b"12.80", b"0.01"))
    assert (await gateway.ask("old")).kind is AnswerKind.UNAUTHENTIC
    gateway.says(json.dumps(PAYMENT))
    assert (await gateway.ask("hk")).kind is AnswerKind.UNAUTHENTIC


async def test_unsigned_state_is_not_believed_either(gateway: Gateway) -> None:
    gateway.says(of_open(trade_status="WAIT_BUYER_PAY").replace(b"12.80", b"0.01"))
    assert (await gateway.ask()).kind is AnswerKind.UNAUTHENTIC


async def test_answer_about_another_order_or_merchant_is_not_ours(gateway: Gateway) -> None:
    gateway.says(of_open())
    assert (await gateway.ask(order="A-2")).kind is AnswerKind.NOT_OURS
    gateway.says(of_open(seller_id="2099"))
    assert (await gateway.ask()).kind is AnswerKind.NOT_OURS
    gateway.says(of_old(seller_id="2099"))
    assert (await gateway.ask("old")).kind is AnswerKind.NOT_OURS
    of_antom(gateway, client_id="D")
    assert (await gateway.ask("hk")).kind is AnswerKind.NOT_OURS


@pytest.mark.parametrize("body", [b"", b"<html>Sorry</html>", b"[]", of_open() + b"x", b" " * (answers.BYTES_MAX + 1)])
async def test_other_bodies_are_unreadable(gateway: Gateway, body: bytes) -> None:
    gateway.says(body)
    for name in ("cn", "old", "hk"):
        assert (await gateway.ask(name)).kind is AnswerKind.UNREADABLE


async def test_endless_answer_is_cut(gateway: Gateway) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    gateway.reply = endless
    answer = await gateway.ask()
    assert (answer.kind, str(answers.BYTES_MAX) in answer.detail) == (AnswerKind.UNREADABLE, True)


@pytest.mark.parametrize(("code", "kind"), [("ACQ.SYSTEM_ERROR", AnswerKind.NO_ANSWER), ("20000", AnswerKind.NO_ANSWER),
                                            ("isv.invalid-app-id", AnswerKind.REFUSED)])  # fmt: skip
async def test_error_is_a_busy_gateway_or_tells_what_to_check(gateway: Gateway, code: str, kind: AnswerKind) -> None:
    gateway.says(json.dumps({"alipay_trade_query_response": {"code": "40002", "sub_code": code}}))
    answer = await gateway.ask()
    assert (answer.kind, code in answer.detail) == (kind, True)
    assert kind is AnswerKind.NO_ANSWER or "merchant_key_file" in answer.detail


async def test_gateway_that_is_away_gives_no_answer(gateway: Gateway) -> None:
    for status in (302, 404, 429, 503):
        gateway.says(of_open(), status=status, headers={"Location": "/elsewhere"} if status == 302 else None)
        assert (await gateway.ask()).kind is AnswerKind.NO_ANSWER

    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    gateway.reply = silent
    assert (await gateway.ask(total_s=0.2)).kind is AnswerKind.NO_ANSWER

    async def broken(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    gateway.reply = broken
    assert (await gateway.ask()).kind is AnswerKind.NO_ANSWER


async def test_missing_key_and_impossible_number_are_told_without_a_question(gateway: Gateway) -> None:
    assert (await gateway.ask("old", "A" * 65)).kind is AnswerKind.UNASKABLE
    (gateway.directory / "m.key").unlink()
    answer = await gateway.ask()
    assert (answer.kind, "m.key" in answer.detail) == (AnswerKind.REFUSED, True)
    assert gateway.asked == []
