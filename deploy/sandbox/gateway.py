"""Alipay's gateway: parse a merchant's Request, verify that merchant, and answer notify_verify.

This module checks the Request only; the cashier acts on it. A Request is verified if its partner or application is
known, each name occurs once, and the signature over all parameters is that merchant's. The Open Platform's Requests get
the names of the old gateway here, so that the cashier knows one kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from deploy.sandbox import field_sets, signing
from deploy.sandbox.world import SandboxAccount, World

PAY_SERVICES = ("create_forex_trade_wap", "create_forex_trade")
PAY_METHODS = ("alipay.trade.page.pay", "alipay.trade.wap.pay")
APP_SERVICE = "mobile.securitypay.pay"
REFUND_SERVICE = "forex_refund"
VERIFY_SERVICE = "notify_verify"

_PARAMETERS_MAX = 100
_URL_CHARACTERS_MAX = 200
_CHARSETS = frozenset({"utf-8", "gbk", "gb2312", "gb18030"})


class RefusedRequestError(Exception):
    """The Request is refused. `code` is Alipay's error code; `hint` helps the merchant's developer."""

    def __init__(self, code: str, hint: str, *, signed_text: str = "") -> None:
        super().__init__(f"{code}: {hint}")
        self.code = code
        self.hint = hint
        self.signed_text = signed_text


class VerifiedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A Request with a valid signature of the account's merchant."""

    account: SandboxAccount
    params: Mapping[str, str]

    @property
    def currency(self) -> str:
        """Return the currency; a native Request without one is domestic.

        Raises:
            RefusedRequestError: it is missing.
        """
        is_domestic = self.params.get("service") == APP_SERVICE and "currency" not in self.params
        return "CNY" if is_domestic else self.required("currency")

    def required(self, name: str) -> str:
        """Return a required parameter.

        Raises:
            RefusedRequestError: it is missing or empty.
        """
        value = self.params.get(name, "")
        if not value:
            raise RefusedRequestError("ILLEGAL_ARGUMENT", f"the parameter {name} is missing")
        return value

    def amount_minor(self, name: str) -> int:
        """Return an amount in the smallest unit.

        Raises:
            RefusedRequestError: it is missing, zero, or not in Alipay's format.
        """
        try:
            minor = field_sets.minor_units(self.required(name), self.currency)
        except ValueError as error:
            raise RefusedRequestError("ILLEGAL_ARGUMENT", f"{name}: {error}") from error
        if minor == 0:
            raise RefusedRequestError("ILLEGAL_ARGUMENT", f"{name} must be more than zero")
        return minor

    def address(self, name: str) -> str:
        """Return a URL that Alipay will call or send the buyer to.

        Raises:
            RefusedRequestError: it is not an http(s) URL, has a query or a fragment, or is too long.
        """
        url = self.required(name)
        parts = urlsplit(url)
        has_query = bool(parts.query) and (name == "notify_url" or "method" not in self.params)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise RefusedRequestError("ILLEGAL_ARGUMENT", f"{name} must be a complete http or https URL")
        if has_query or parts.fragment:
            raise RefusedRequestError(
                "ILLEGAL_ARGUMENT", f"{name} must not have a query: its parameters would be signed"
            )
        if len(url) > _URL_CHARACTERS_MAX:
            raise RefusedRequestError("ILLEGAL_ARGUMENT", f"{name} is longer than {_URL_CHARACTERS_MAX} characters")
        return url


def parameters(encoded: str) -> dict[str, str]:
    """Parse the parameters of a query or form.

    Raises:
        RefusedRequestError: they cannot be parsed, or a name occurs twice.
    """
    try:
        given = dict(parse_qsl(encoded, max_num_fields=_PARAMETERS_MAX))
        charset = (given.get("_input_charset") or given.get("charset") or "utf-8").lower()
        if charset not in _CHARSETS:
            raise RefusedRequestError("ILLEGAL_CHARSET", "Alipay does not support this _input_charset")
        pairs = parse_qsl(
            encoded, keep_blank_values=True, encoding=charset, errors="strict", max_num_fields=_PARAMETERS_MAX
        )
    except ValueError as error:
        raise RefusedRequestError("ILLEGAL_ARGUMENT", "the parameters cannot be parsed") from error
    if len({name for name, _ in pairs}) != len(pairs):
        raise RefusedRequestError("ILLEGAL_ARGUMENT", "a parameter occurs twice")
    return dict(pairs)


def order_string(text: str) -> tuple[dict[str, str], str]:
    """Return the parameters of the old gateway's order string, and the part of it that is signed.

    Raises:
        RefusedRequestError: it is no order string.
    """
    content, _, signature = text.strip().partition("&sign=")
    pairs = [pair.partition("=") for pair in f"{content}&sign={signature}".split("&")]
    quoted = all(value[:1] == value[-1:] == '"' and len(value) > 1 for _, _, value in pairs)
    if not signature or not quoted or len({name for name, _, _ in pairs}) != len(pairs):
        raise RefusedRequestError("ILLEGAL_ARGUMENT", 'an order string is name="value" pairs with sign and sign_type')
    params = {name: value[1:-1] for name, _, value in pairs}
    return params | {"sign": unquote(params["sign"])}, content


def verified(params: Mapping[str, str], world: World, *, content: str = "") -> VerifiedRequest:
    """Verify the merchant and the signature of a Request. `content` is the signed part of an order string.

    Raises:
        RefusedRequestError: the merchant is unknown, or the signature is not the merchant's.
    """
    if "method" in params:
        return _verified_open(params, world)
    name = next((name for name in world.merchant_keys if _partner(world, name) == params.get("partner")), None)
    if name is None:
        raise RefusedRequestError("ILLEGAL_PARTNER", "no merchant has this partner number")
    charset = params.get("_input_charset", "utf-8").lower()
    signed = content.encode(charset) if content else signing.canonical(params.items(), charset=charset)
    return _checked(params, world, name, signed, charset)


def _verified_open(params: Mapping[str, str], world: World) -> VerifiedRequest:
    accounts = {name: world.account(name) for name in world.merchant_keys}
    name = next((name for name, each in accounts.items() if each.identity.app_id == params.get("app_id")), None)
    if name is None:
        raise RefusedRequestError("INVALID_APP_ID", "no merchant has this app_id")
    charset = params.get("charset", "utf-8").lower()
    # The Open Platform signs sign_type in Requests, unlike in notifications.
    signed = signing.canonical(params.items(), charset=charset, left_out=("sign",))
    request = _checked(params, world, name, signed, charset)
    try:
        content = msgspec.json.decode(params.get("biz_content", ""), type=_BizContent)
    except msgspec.MsgspecError as error:
        raise RefusedRequestError("INVALID_PARAMETER", f"biz_content: {error}") from error
    renamed = {
        "out_trade_no": content.out_trade_no, "total_fee": content.total_amount, "subject": content.subject,
        "currency": content.trans_currency or request.account.identity.currency,
    }  # fmt: skip
    return msgspec.structs.replace(request, params={**params, **renamed})


class _BizContent(msgspec.Struct, frozen=True):
    out_trade_no: str
    total_amount: str
    subject: str
    trans_currency: str = ""


def _checked(params: Mapping[str, str], world: World, name: str, signed: bytes, charset: str) -> VerifiedRequest:
    account = world.account(name)
    sign_type = params.get("sign_type", "")
    if sign_type != account.identity.sign_type:
        raise RefusedRequestError("ILLEGAL_SIGN_TYPE", f"this merchant signs with {account.identity.sign_type}")
    if not signing.verify(signed, params.get("sign", ""), sign_type=sign_type, key=world.merchant_keys[name]):
        raise RefusedRequestError(
            "ILLEGAL_SIGN", "the signature does not match the text below", signed_text=signed.decode(charset)
        )
    return VerifiedRequest(account=account, params=params)


def _partner(world: World, name: str) -> str:
    return world.account(name).identity.partner
