"""Alipay's gateway: parse a merchant's Request, verify that merchant, and answer notify_verify.

This module checks the Request only; the cashier acts on it. A Request is verified if its partner is known, each name
occurs once, and the signature over all parameters is that partner's.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

import msgspec

from deploy.sandbox import field_sets, signing
from deploy.sandbox.world import SandboxAccount, World

PAY_SERVICES = ("create_forex_trade_wap", "create_forex_trade")
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
            minor = field_sets.minor_units(self.required(name), self.required("currency"))
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
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise RefusedRequestError("ILLEGAL_ARGUMENT", f"{name} must be a complete http or https URL")
        if parts.query or parts.fragment:
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
        charset = dict(parse_qsl(encoded, max_num_fields=_PARAMETERS_MAX)).get("_input_charset", "utf-8").lower()
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


def verified(params: Mapping[str, str], world: World) -> VerifiedRequest:
    """Verify the partner and the signature of a Request.

    Raises:
        RefusedRequestError: the partner is unknown, or the signature is not the partner's.
    """
    name = next((name for name in world.merchant_keys if _partner(world, name) == params.get("partner")), None)
    if name is None:
        raise RefusedRequestError("ILLEGAL_PARTNER", "no merchant has this partner number")
    account = world.account(name)
    sign_type = params.get("sign_type", "")
    if sign_type != account.identity.sign_type:
        raise RefusedRequestError("ILLEGAL_SIGN_TYPE", f"this merchant signs with {account.identity.sign_type}")
    charset = params.get("_input_charset", "utf-8").lower()
    content = signing.canonical(params.items(), charset=charset)
    if not signing.verify(content, params.get("sign", ""), sign_type=sign_type, key=world.merchant_keys[name]):
        raise RefusedRequestError(
            "ILLEGAL_SIGN", "the signature does not match the text below", signed_text=content.decode(charset)
        )
    return VerifiedRequest(account=account, params=params)


def _partner(world: World, name: str) -> str:
    return world.account(name).identity.partner
