"""Build and sign the questions about an order, with the merchant's own key, as Alipay's gateways take them.

    alipay.trade.query    Open Platform   a form
    single_trade_query    old gateway     a form
    inquiryPayment        Antom           JSON, signed in its headers

A question moves no money, so it may be asked again at any time.
"""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ingest.checkout import payments, requests
from ingest.checkout.merchant_keys import MerchantKey
from schemas import antom, times
from schemas.accounts import Account, Family
from schemas.answers import QUESTIONS

_FORM = "application/x-www-form-urlencoded;charset=utf-8"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One signed question: a POST of `body` to `url`."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """Return the path that an answer of Antom signs."""
        return urlsplit(self.url).path


def ask(account: Account, order: str, key: MerchantKey, *, now: datetime, app_auth_token: str = "") -> Question:
    """Return the signed question about this order of the account.

    `app_auth_token` names the merchant that a service provider asks for; only the Open Platform has such tokens.

    Raises:
        BadRequest: the order number cannot be asked about: it is too long, for example.
    """
    if account.family is Family.ANTOM:
        return _of_antom(account, order, key, now)
    if account.family is Family.OPENAPI:
        body = _of_open_platform(account, order, key, now, app_auth_token)
    else:
        body = _of_old_gateway(account, order, key)
    url = account.gateway_url or payments.GATEWAYS[account.family]
    return Question(url=url, headers={"Content-Type": _FORM}, body=body.encode("ascii"))


def _of_open_platform(account: Account, order: str, key: MerchantKey, now: datetime, app_auth_token: str) -> str:
    assert isinstance(key.key, rsa.RSAPrivateKey)
    params = {
        "app_id": account.app_id or "",
        "method": QUESTIONS[Family.OPENAPI],
        "format": "JSON",
        "charset": "utf-8",
        "sign_type": account.sign_type.value,
        "timestamp": now.astimezone(times.BEIJING).strftime("%Y-%m-%d %H:%M:%S"),
        "version": "1.0",
        "app_cert_sn": key.app_cert_sn,
        "alipay_root_cert_sn": key.root_cert_sn,
        "app_auth_token": app_auth_token,
        "biz_content": msgspec.json.encode({"out_trade_no": order}).decode(),
    }
    return requests.app_pay_order_string(params, key=key.key)


def _of_old_gateway(account: Account, order: str, key: MerchantKey) -> str:
    params = {
        "service": QUESTIONS[Family.MAPI],
        "partner": account.partner or account.seller_id or "",
        "out_trade_no": order,
    }
    return requests.query(params, key=key.key, sign_type=account.sign_type.value)


def _of_antom(account: Account, order: str, key: MerchantKey, now: datetime) -> Question:
    assert isinstance(key.key, rsa.RSAPrivateKey)
    assert account.gateway_url is not None
    body = msgspec.json.encode({"paymentRequestId": order})
    client_id, moment = account.client_id or "", now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = antom.signed_text(urlsplit(account.gateway_url).path.encode(), client_id.encode(), moment.encode(), body)
    signed = base64.b64encode(key.key.sign(text, padding.PKCS1v15(), hashes.SHA256())).decode()
    headers = {
        "Content-Type": "application/json; charset=UTF-8",
        "client-id": client_id,
        "request-time": moment,
        "signature": f"algorithm=RSA256,keyVersion=1,signature={quote(signed, safe='')}",
    }
    return Question(url=account.gateway_url, headers=headers, body=body)
