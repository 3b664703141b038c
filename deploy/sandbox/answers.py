"""Answer a merchant's questions about its orders, as Alipay's three gateways do.

    alipay.trade.query    Open Platform, /gateway.do
    single_trade_query    old gateway, /gateway.do
    inquiryPayment        Antom, /ams/api/v1/payments/inquiryPayment

This code is independent of the one that reads the answers (`schemas.answers`), as the signer is of the verifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from urllib.parse import unquote

import msgspec
from aiohttp import web

from deploy.sandbox import gateway, serials, signing
from deploy.sandbox.gateway import RefusedRequestError
from deploy.sandbox.notifications import MessageKind, UnsignedNotification
from deploy.sandbox.trades import Trades
from deploy.sandbox.world import ANTOM_QUESTION, SandboxAccount, World

OPEN_METHOD, OLD_SERVICE = "alipay.trade.query", "single_trade_query"
_NOT_OF_A_TRADE = frozenset({
    "notify_id", "notify_time", "notify_type", "notify_action_type", "sign_type", "sign", "charset", "version",
    "app_id", "auth_app_id", "refund_fee", "refund_status", "gmt_refund", "out_biz_no", "fund_bill_list",
})  # fmt: skip
_ANTOM_STATUS = {
    MessageKind.WAITING: "PROCESSING",
    MessageKind.PAID: "SUCCESS",
    MessageKind.AUTHORIZED: "SUCCESS",
    MessageKind.CLOSED: "FAIL",
}


class TradeQueries:
    """The routes and services that answer questions."""

    def __init__(self, world: World, trades: Trades) -> None:
        self._world = world
        self._trades = trades

    def routes(self) -> list[web.RouteDef]:
        """Return Antom's route; the others are services of the gateway."""
        return [web.post(ANTOM_QUESTION, self._antom)]

    def is_question(self, params: Mapping[str, str]) -> bool:
        """Return whether these parameters are a question."""
        return params.get("method") == OPEN_METHOD or params.get("service") == OLD_SERVICE

    def answer(self, params: Mapping[str, str]) -> web.Response:
        """Answer a question that came as a form."""
        return self._open(params) if params.get("method") == OPEN_METHOD else self._old(params)

    def _open(self, params: Mapping[str, str]) -> web.Response:
        try:
            request = gateway.verified(params, self._world)
        except RefusedRequestError as refused:
            return _open_answer({"code": "40002", "msg": "Invalid Arguments", "sub_code": f"isv.{refused.code}"}, None)
        account, order = request.account, request.required("out_trade_no")
        last = self._trades.of(account.identity.name, order, auth_app_id=account.identity.auth_app_id)
        if last is None:
            error = {"code": "40004", "msg": "Business Failed", "sub_code": "ACQ.TRADE_NOT_EXIST"}
            return _open_answer(error, account)
        trade = _trade_of(last)
        if "gmt_payment" in trade:
            trade["send_pay_date"] = trade.pop("gmt_payment")
        return _open_answer({"code": "10000", "msg": "Success"} | trade, account)

    def _old(self, params: Mapping[str, str]) -> web.Response:
        try:
            request = gateway.verified(params, self._world)
            account, order = request.account, request.required("out_trade_no")
        except RefusedRequestError as refused:
            return _old_answer(f"<is_success>F</is_success><error>{refused.code}</error>")
        last = self._trades.of(account.identity.name, order)
        if last is None:
            return _old_answer("<is_success>F</is_success><error>TRADE_NOT_EXIST</error>")
        trade = _trade_of(last)
        signed = account.signer.sign(signing.canonical(trade.items(), charset="utf-8"))
        children = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in trade.items())
        return _old_answer(
            f"<is_success>T</is_success><response><trade>{children}</trade></response>"
            f"<sign>{signed}</sign><sign_type>{account.signer.sign_type}</sign_type>"
        )

    async def _antom(self, request: web.Request) -> web.Response:
        body = await request.read()
        client_id = request.headers.get("client-id", "")
        accounts = self._world.accounts.values()
        account = next((one for one in accounts if client_id and one.identity.client_id == client_id), None)
        if account is None or not self._is_signed(account, request, body):
            return web.json_response({"result": _result("F", "INVALID_SIGNATURE")})
        order = str(msgspec.json.decode(body).get("paymentRequestId", ""))
        last = self._trades.of(account.identity.name, order)
        message: dict[str, object] = {"result": _result("F", "ORDER_NOT_EXIST")}
        if last is not None:
            message = _payment(last)
        return _antom_answer(message, account)

    def _is_signed(self, account: SandboxAccount, request: web.Request, body: bytes) -> bool:
        key = self._world.merchant_keys.get(account.identity.name)
        _, _, signature = request.headers.get("signature", "").partition("signature=")
        content = signing.antom_content(
            method="POST",
            path=request.path,
            client_id=account.identity.client_id,
            request_time=request.headers.get("request-time", ""),
            body=body,
        )
        return key is not None and signing.verify(content, unquote(signature), sign_type="RSA256", key=key)


def _trade_of(last: UnsignedNotification) -> dict[str, str]:
    """Return the fields of a notification's trade, without those of the notification itself."""
    return {name: value for name, value in last.fields if name not in _NOT_OF_A_TRADE and value}


def _payment(last: UnsignedNotification) -> dict[str, object]:
    status = _ANTOM_STATUS.get(last.facts.kind, "SUCCESS")
    message: dict[str, object] = {"result": _result("S", "SUCCESS"), "paymentStatus": status}
    amount: dict[str, str] = {}
    for name, value in last.fields:
        if name.startswith("paymentAmount."):
            amount[name.removeprefix("paymentAmount.")] = value
        elif "." not in name and name != "notifyType":
            message[name] = value
    return message | {"paymentAmount": amount}


def _result(status: str, code: str) -> dict[str, str]:
    return {"resultStatus": status, "resultCode": code, "resultMessage": code.lower()}


def _open_answer(inner: Mapping[str, str], account: SandboxAccount | None) -> web.Response:
    raw = msgspec.json.encode(inner)
    message: dict[str, object] = {"alipay_trade_query_response": msgspec.Raw(raw)}
    if account is not None:
        message["sign"] = account.signer.sign(raw)
    return web.Response(body=msgspec.json.encode(message), content_type="application/json", charset="utf-8")


def _old_answer(inner: str) -> web.Response:
    document = f'<?xml version="1.0" encoding="utf-8"?>\n<alipay>{inner}</alipay>'
    return web.Response(text=document, content_type="text/xml")


def _antom_answer(message: Mapping[str, object], account: SandboxAccount) -> web.Response:
    body, moment = msgspec.json.encode(message), serials.header_moment(datetime.now(UTC))
    content = signing.antom_content(
        method="POST", path=ANTOM_QUESTION, client_id=account.identity.client_id, request_time=moment, body=body
    )
    headers = {
        "client-id": account.identity.client_id,
        "response-time": moment,
        "signature": signing.antom_header(account.signer.sign(content), key_version=account.key_version),
    }
    return web.Response(body=body, content_type="application/json", headers=headers)
