"""Alipay's gateway: reads a merchant's Request, checks whose it is, and answers notify_verify.

Only the text is judged here; what is to be done with an honest Request is for the cashier. A Request is honest when its
partner is known, every name occurs once, and the signature over all of it is that partner's.
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
    """The Request is not honoured. `code` is the word Alipay uses; `hint` helps whoever wrote the Request."""

    def __init__(self, code: str, hint: str, *, signed_text: str = "") -> None:
        super().__init__(f"{code}: {hint}")
        self.code = code
        self.hint = hint
        self.signed_text = signed_text


class HonestRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A Request whose signature is that of the account's merchant."""

    account: SandboxAccount
    params: Mapping[str, str]

    def required(self, name: str) -> str:
        """A parameter that the service cannot do without.

        Raises:
            RefusedRequestError: it is absent or empty.
        """
        value = self.params.get(name, "")
        if not value:
            raise RefusedRequestError("ILLEGAL_ARGUMENT", f"the parameter {name} is missing")
        return value

    def amount_minor(self, name: str) -> int:
        """An amount, in the smallest unit.

        Raises:
            RefusedRequestError: it is missing, zero, or not written as Alipay wants amounts.
        """
        try:
            minor = field_sets.minor_units(self.required(name), self.required("currency"))
        except ValueError as error:
            raise RefusedRequestError("ILLEGAL_ARGUMENT", f"{name}: {error}") from error
        if minor == 0:
            raise RefusedRequestError("ILLEGAL_ARGUMENT", f"{name} must be more than zero")
        return minor

    def address(self, name: str) -> str:
        """A URL that Alipay will call or send the buyer to.

        Raises:
            RefusedRequestError: it is not a plain http(s) URL without a query of its own, or too long.
        """
        url = self.required(name)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise RefusedRequestError("ILLEGAL_ARGUMENT", f"{name} must be a complete http or https URL")
        if parts.query or parts.fragment:
            raise RefusedRequestError("ILLEGAL_ARGUMENT", f"{name} must have no query: its parameters would be signed")
        if len(url) > _URL_CHARACTERS_MAX:
            raise RefusedRequestError("ILLEGAL_ARGUMENT", f"{name} is longer than {_URL_CHARACTERS_MAX} characters")
        return url


def parameters(encoded: str) -> dict[str, str]:
    """The parameters of a query or form, each once.

    Raises:
        RefusedRequestError: it does not read as one.
    """
    try:
        charset = dict(parse_qsl(encoded, max_num_fields=_PARAMETERS_MAX)).get("_input_charset", "utf-8").lower()
        if charset not in _CHARSETS:
            raise RefusedRequestError("ILLEGAL_CHARSET", "_input_charset is not one Alipay knows")
        pairs = parse_qsl(
            encoded, keep_blank_values=True, encoding=charset, errors="strict", max_num_fields=_PARAMETERS_MAX
        )
    except ValueError as error:
        raise RefusedRequestError("ILLEGAL_ARGUMENT", "the parameters cannot be read") from error
    if len({name for name, _ in pairs}) != len(pairs):
        raise RefusedRequestError("ILLEGAL_ARGUMENT", "a parameter occurs twice")
    return dict(pairs)


def honest(params: Mapping[str, str], world: World) -> HonestRequest:
    """The Request, now that its signature has been checked.

    Raises:
        RefusedRequestError: nobody knows the partner, or the signature is not the partner's.
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
            "ILLEGAL_SIGN", "the signature does not fit the text below", signed_text=content.decode(charset)
        )
    return HonestRequest(account=account, params=params)


def _partner(world: World, name: str) -> str:
    return world.account(name).identity.partner
