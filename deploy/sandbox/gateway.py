"""Alipay's gateway: parse a merchant's Request, verify that merchant, and answer notify_verify.

This module checks the Request only; the cashier acts on it. A Request is verified if its partner or application is
known, each name occurs once, and the signature over all parameters is that merchant's. The Open Platform's Requests get
the names of the old gateway here, so that the cashier knows one kind.

A price in RMB (`rmb_fee`) is settled, and reported, in the Request's currency. `RMB_PER_UNIT` is the rate: the same for
every currency, so that a merchant can register the sum beforehand. Alipay's documents leave open which
of the two it reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from deploy.sandbox import field_sets, identities, signing
from deploy.sandbox.world import SandboxAccount, World
from schemas.currencies import EXPONENTS

PAY_SERVICES = ("create_forex_trade_wap", "create_forex_trade")
PAY_METHODS = ("alipay.trade.page.pay", "alipay.trade.wap.pay")
APP_SERVICE = "mobile.securitypay.pay"
APP_METHOD = "alipay.trade.app.pay"
REFUND_SERVICE = "forex_refund"
VERIFY_SERVICE = "notify_verify"

_PARAMETERS_MAX = 100
_URL_CHARACTERS_MAX = 200
RMB_PER_UNIT = 8
_RMB = "CNY"
_QUOTED_PAIR = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="([^"]*)"')  # a value may contain &
_CHARSETS = frozenset({"utf-8", "gbk", "gb2312", "gb18030"})


class RefusedRequestError(Exception):
    """The Request is refused. `code` is Alipay's error code; `hint` helps the merchant's developer."""

    def __init__(self, code: str, hint: str, *, signed_text: str = "") -> None:
        super().__init__(f"{code}: {hint}")
        self.code = code
        self.hint = hint
        self.signed_text = signed_text


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """The price in a Request: the sum that is settled, and the price in RMB if the merchant gave that."""

    amount_minor: int
    currency: str
    rmb_minor: int = 0


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
        return _RMB if is_domestic else self.required("currency")

    @property
    def charset(self) -> str:
        """Return the charset of the Request's text."""
        return (self.params.get("_input_charset") or self.params.get("charset") or "utf-8").lower()

    @property
    def price(self) -> Price:
        """Return the price.

        Raises:
            RefusedRequestError: it is missing, zero, not in Alipay's format, or given in both ways.
        """
        if not self.params.get("rmb_fee"):
            return Price(amount_minor=self.amount_minor("total_fee"), currency=self.currency)
        if self.params.get("total_fee"):
            raise RefusedRequestError("ILLEGAL_ARGUMENT", "give total_fee or rmb_fee, not both")
        rmb, currency = self.amount_minor("rmb_fee", _RMB), self.required("currency")
        settled = (rmb * 10 ** EXPONENTS.get(currency, 2) * 2 // (100 * RMB_PER_UNIT) + 1) // 2
        if settled == 0:
            raise RefusedRequestError("ILLEGAL_ARGUMENT", f"rmb_fee is less than the smallest sum in {currency}")
        return Price(amount_minor=settled, currency=currency, rmb_minor=rmb)

    def required(self, name: str) -> str:
        """Return a required parameter.

        Raises:
            RefusedRequestError: it is missing or empty.
        """
        value = self.params.get(name, "")
        if not value:
            raise RefusedRequestError("ILLEGAL_ARGUMENT", f"the parameter {name} is missing")
        return value

    def amount_minor(self, name: str, currency: str = "") -> int:
        """Return an amount in the smallest unit, by default of the Request's currency.

        Raises:
            RefusedRequestError: it is missing, zero, or not in Alipay's format.
        """
        try:
            minor = field_sets.minor_units(self.required(name), currency or self.currency)
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
        charset = _charset(given.get("_input_charset") or given.get("charset") or "utf-8")
        pairs = parse_qsl(
            encoded, keep_blank_values=True, encoding=charset, errors="strict", max_num_fields=_PARAMETERS_MAX
        )
    except ValueError as error:
        raise RefusedRequestError("ILLEGAL_ARGUMENT", "the parameters cannot be parsed") from error
    if len({name for name, _ in pairs}) != len(pairs):
        raise RefusedRequestError("ILLEGAL_ARGUMENT", "a parameter occurs twice")
    return dict(pairs)


def opened_by_app(text: str, world: World) -> tuple[VerifiedRequest, str]:
    """Verify the order string that an app opens, of either family. Return its Request, and its signed part.

    Raises:
        RefusedRequestError: it is no order string of a payment by app, or the merchant did not sign it.
    """
    if '="' in text:
        params, content = order_string(text)
        if params.get("service") != APP_SERVICE:
            raise RefusedRequestError("ILLEGAL_SERVICE", f"an app's order string is for {APP_SERVICE}")
        return verified(params, world, content=content), content
    params = parameters(text.strip())
    if params.get("method") != APP_METHOD:
        raise RefusedRequestError("ILLEGAL_SERVICE", f"an app's order string is for {APP_SERVICE} or {APP_METHOD}")
    return verified(params, world), text.strip()


def order_string(text: str) -> tuple[dict[str, str], str]:
    """Return the parameters of the old gateway's order string, and the part of it that is signed.

    Raises:
        RefusedRequestError: it is no order string.
    """
    content, _, signature = text.strip().rpartition('&sign="')
    whole = f'{content}&sign="{signature}'
    pairs = _QUOTED_PAIR.findall(whole)
    is_whole = "&".join(f'{name}="{value}"' for name, value in pairs) == whole
    if not content or not is_whole or len({name for name, _ in pairs}) != len(pairs):
        raise RefusedRequestError("ILLEGAL_ARGUMENT", 'an order string is name="value" pairs with sign and sign_type')
    params = dict(pairs)
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
    charset = _charset(params.get("_input_charset", "utf-8"))
    with _encodable(charset):
        signed = content.encode(charset) if content else signing.canonical(params.items(), charset=charset)
    return _checked(params, world, name, signed, charset)


def _charset(name: str) -> str:
    if name.lower() not in _CHARSETS:
        raise RefusedRequestError("ILLEGAL_CHARSET", "Alipay does not support this _input_charset")
    return name.lower()


@contextmanager
def _encodable(charset: str) -> Iterator[None]:
    """Refuse a Request whose text its own charset cannot encode."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise RefusedRequestError("ILLEGAL_ARGUMENT", f"a text cannot be encoded in {charset}") from error


def _verified_open(params: Mapping[str, str], world: World) -> VerifiedRequest:
    accounts = {name: world.account(name) for name in world.merchant_keys}
    name = next((name for name, each in accounts.items() if each.identity.app_id == params.get("app_id")), None)
    if name is None:
        raise RefusedRequestError("INVALID_APP_ID", "no merchant has this app_id")
    charset = _charset(params.get("charset", "utf-8"))
    # The Open Platform signs sign_type in Requests, unlike in notifications.
    with _encodable(charset):
        signed = signing.canonical(params.items(), charset=charset, left_out=("sign",))
    request = _checked(params, world, name, signed, charset)
    if world.certificate_numbers.get(name) not in (None, _certificates(params)):
        raise RefusedRequestError(
            "INVALID_CERTIFICATE", "app_cert_sn and alipay_root_cert_sn are not those of the merchant's certificates"
        )
    request = msgspec.structs.replace(request, account=_on_behalf(request.account, params.get("app_auth_token", "")))
    try:
        content = msgspec.json.decode(params.get("biz_content", ""), type=_BizContent)
    except msgspec.MsgspecError as error:
        raise RefusedRequestError("INVALID_PARAMETER", f"biz_content: {error}") from error
    renamed = {
        "out_trade_no": content.out_trade_no, "total_fee": content.total_amount, "subject": content.subject,
        "currency": content.trans_currency or request.account.identity.currency,
    }  # fmt: skip
    return msgspec.structs.replace(request, params={**params, **renamed})


def _certificates(params: Mapping[str, str]) -> tuple[str, str]:
    return params.get("app_cert_sn", ""), params.get("alipay_root_cert_sn", "")


def _on_behalf(account: SandboxAccount, token: str) -> SandboxAccount:
    """Return the account for the merchant that a service provider acts for; those of merchants as they are.

    Raises:
        RefusedRequestError: a service provider's token is of none of its merchants.
    """
    merchants = account.identity.merchants
    if not merchants:
        return account
    for number, merchant in enumerate(merchants, start=1):
        if identities.auth_token(merchant) == token:
            return account.of_merchant(number)
    known = ", ".join(map(identities.auth_token, merchants))
    raise RefusedRequestError("INVALID_APP_AUTH_TOKEN", f"a service provider's app_auth_token is one of {known}")


class _BizContent(msgspec.Struct, frozen=True):
    out_trade_no: str
    total_amount: str = ""
    subject: str = ""
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
