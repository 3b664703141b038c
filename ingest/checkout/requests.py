"""Build and sign the requests that send a buyer to Alipay, with the merchant's own private key.

    app_order_string        old gateway, app (Native): the text that the app passes to Alipay's SDK
    redirect_url            old gateway, website and H5 (`create_forex_trade`, `create_forex_trade_wap`)
    app_pay_order_string    Open Platform, app (`alipay.trade.app.pay`)
    page_url                Open Platform, browser (`alipay.trade.page.pay`, `alipay.trade.wap.pay`)

`ingest.checkout.payments` fills in their parameters from an account.

These functions refuse parameters that Alipay would refuse on a page for the buyer, or that would lead to a notification
that cannot be verified: an amount given twice, a notify_url with a query (which would become part of the notification's
signed text), a subject with `&total_fee=` (which makes the signed text ambiguous).
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ingest.checkout import merchant_keys
from ingest.checkout.merchant_keys import SigningKey
from ingest.key_files import BadKey, Md5Secret
from schemas import money
from schemas.accounts import CHARSETS
from schemas.form import DECIDING_NAMES

URL_CHARACTERS_MAX = 200  # for notify_url and return_url, by the old gateway's documents
GATEWAY_URL_CHARACTERS_MAX = 8 * 1024  # browsers and proxies truncate longer addresses
AMOUNT_MINOR_MAX = 100_000_000  # 1,000,000.00
_LENGTHS = {"out_trade_no": 64, "subject": 256, "body": 512, "partner": 16, "currency": 3, "passback_params": 512}
_WEBSITE = ("service", "partner", "_input_charset", "out_trade_no", "subject", "currency")
_REQUIRED = {
    "mobile.securitypay.pay": ("service", "partner", "_input_charset", "out_trade_no", "subject"),
    "create_forex_trade": _WEBSITE,
    "create_forex_trade_wap": _WEBSITE,
}

# The texts that a notification repeats. In others, such as return_url, parameters' names do no harm.
_FREE_TEXTS = ("out_trade_no", "subject", "body", "passback_params", "extra_common_param")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_DECIDING_NAME_IN_VALUE = re.compile("&(" + "|".join(sorted(name.decode() for name in DECIDING_NAMES)) + ")=")
_HASHES: dict[str, hashes.HashAlgorithm] = {"RSA": hashes.SHA1(), "RSA2": hashes.SHA256()}  # noqa: S303


class BadRequest(ValueError):
    """The request would not work. `faults` has one text for each problem, with the parameter's name."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def app_order_string(params: Mapping[str, str], *, key: rsa.RSAPrivateKey, sign_type: str = "RSA") -> str:
    """Return the old gateway's order string: `name="value"` in the order of `params`, signed with the quotes.

    Raises:
        BadRequest: with all faults of `params`.
    """
    faults = _faults(params)
    faults += [f'{name} contains a ", which would end its value' for name in params if '"' in params[name]]
    charset = params.get("_input_charset", "utf-8")
    _check(faults, params, key=key, sign_type=sign_type, charset=charset)
    text = "&".join(f'{name}="{value}"' for name, value in params.items() if value)
    sign = quote(_signature(text.encode(charset), key, sign_type), safe="")
    return f'{text}&sign="{sign}"&sign_type="{sign_type}"'


def redirect_url(
    gateway: str, params: Mapping[str, str], *, key: SigningKey, sign_type: str = "RSA", charset: str = "utf-8"
) -> str:
    """Return the address for the buyer's browser: `params` and `_input_charset`, sorted, signed, percent-encoded.

    The merchant's server calls the gateway's other services (`forex_refund` ...) with such an address too. `sign_type`
    is RSA or RSA2 with a private key, and MD5 with a shared secret.

    Raises:
        BadRequest: with all faults of `params`.
    """
    if not _is_web_address(gateway):
        raise BadRequest(["the gateway must be an http or https address"])
    return _bounded(f"{gateway}?{query(params, key=key, sign_type=sign_type, charset=charset)}")


def query(params: Mapping[str, str], *, key: SigningKey, sign_type: str = "RSA", charset: str = "utf-8") -> str:
    """Return the signed parameters of `redirect_url` without the gateway's address, as a form has them.

    Raises:
        BadRequest: with all faults of `params`.
    """
    given = {"_input_charset": charset, **params}
    faults = _faults(given)
    if given["_input_charset"].lower() != charset.lower():
        faults.append(f"_input_charset differs from the charset of the text, {charset}")
    _check(faults, given, key=key, sign_type=sign_type, charset=charset)
    signed = sorted((name, value) for name, value in given.items() if value)
    text = "&".join(f"{name}={value}" for name, value in signed).encode(charset)
    return urlencode([*signed, ("sign", _signature(text, key, sign_type)), ("sign_type", sign_type)], encoding=charset)


def page_url(gateway: str, params: Mapping[str, str], *, key: rsa.RSAPrivateKey) -> str:
    """Return the address for the buyer's browser, with the Open Platform's parameters as in `app_pay_order_string`.

    Raises:
        BadRequest: with all faults of `params`.
    """
    if not _is_web_address(gateway):
        raise BadRequest(["the gateway must be an http or https address"])
    return _bounded(f"{gateway}?{app_pay_order_string(params, key=key)}")


def app_pay_order_string(params: Mapping[str, str], *, key: rsa.RSAPrivateKey) -> str:
    """Return the Open Platform's order string. `params` are those of its documents, `biz_content` is JSON text.

    `sign_type` is one of the parameters, and is signed with them.

    Raises:
        BadRequest: with all faults of `params`.
    """
    required = ("app_id", "method", "charset", "sign_type", "timestamp", "version", "biz_content")
    faults = _shape_faults(params) + [f"{name} is missing" for name in required if not params.get(name)]
    faults += _address_faults(params)
    charset, sign_type = params.get("charset", "utf-8"), params.get("sign_type", "RSA2")
    _check(faults, params, key=key, sign_type=sign_type, charset=charset)
    signed = sorted((name, value) for name, value in params.items() if value)
    text = "&".join(f"{name}={value}" for name, value in signed).encode(charset)
    return urlencode([*signed, ("sign", _signature(text, key, sign_type))], encoding=charset)


def load_private_key(path: Path) -> rsa.RSAPrivateKey:
    """Load the merchant's private key: unencrypted PEM, or base64 as Alipay's key tool writes it.

    Raises:
        BadKey: not an RSA private key of at least 1024 bits. The message does not contain the file's content.
        OSError: the file cannot be read.
    """
    try:
        return merchant_keys.private_key(path.read_bytes())
    except BadKey as bad:
        raise BadKey(f"{path.name} {bad}") from None


def _bounded(address: str) -> str:
    if len(address) > GATEWAY_URL_CHARACTERS_MAX:
        raise BadRequest([f"the address has more than {GATEWAY_URL_CHARACTERS_MAX} characters: shorten the text"])
    return address


def _signature(text: bytes, key: SigningKey, sign_type: str) -> str:
    if isinstance(key, Md5Secret):
        return hashlib.md5(text + key.secret, usedforsecurity=False).hexdigest()
    return base64.b64encode(key.sign(text, padding.PKCS1v15(), _HASHES[sign_type])).decode()


def _check(faults: list[str], params: Mapping[str, str], *, key: SigningKey, sign_type: str, charset: str) -> None:
    """Add the faults of key and charset, and raise if there are any."""
    if isinstance(key, Md5Secret) and sign_type != "MD5":
        faults.append("sign_type must be MD5 with a shared secret")
    if isinstance(key, rsa.RSAPrivateKey) and sign_type not in _HASHES:
        faults.append("sign_type must be RSA or RSA2 with a private key")
    if charset.lower() not in CHARSETS:
        faults.append(f"the charset must be one of {', '.join(CHARSETS)}")
    else:
        faults += [f"{name} cannot be encoded in {charset}" for name in params if not _fits(params[name], charset)]
    if faults:
        raise BadRequest(faults)


def _faults(params: Mapping[str, str]) -> list[str]:
    """Return the faults of parameters for the old gateway. Payments are checked more closely than other services."""
    required = _REQUIRED.get(params.get("service", ""))
    faults = _shape_faults(params) + _address_faults(params)
    faults += [f"{name} is missing" for name in required or ("service", "partner") if not params.get(name)]
    return faults + (_amount_faults(params) if required else [])


def _shape_faults(params: Mapping[str, str]) -> list[str]:
    faults = [f"{name} is not a valid parameter name" for name in params if _NAME.fullmatch(name) is None]
    if "sign" in params:
        faults.append("sign must not be given: it is added here")
    for name, value in params.items():
        if any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
            faults.append(f"{name} contains a control character")
        if len(value) > _LENGTHS.get(name, len(value)):
            faults.append(f"{name} is longer than {_LENGTHS[name]} characters")
    for name, text in _free_texts(params):
        if found := _DECIDING_NAME_IN_VALUE.search(text):
            faults.append(
                f"{name} contains &{found[1]}=, so its notification would be ambiguous: write it without the &"
            )
    return faults


def _free_texts(params: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the texts that the notification will repeat, also those in `biz_content`."""
    yield from ((name, params[name]) for name in _FREE_TEXTS if name in params)
    if content := params.get("biz_content"):
        try:
            inner = msgspec.json.decode(content, type=dict[str, object])
        except msgspec.DecodeError:
            yield "biz_content", content
        else:
            yield from ((name, str(inner[name])) for name in _FREE_TEXTS if name in inner)


def _address_faults(params: Mapping[str, str]) -> list[str]:
    faults = []
    for name in ("notify_url", "return_url"):
        address = params.get(name)
        if not address:
            continue
        if not _is_web_address(address):
            faults.append(f"{name} must be a complete http or https address")
        if len(address) > URL_CHARACTERS_MAX:
            faults.append(f"{name} is longer than {URL_CHARACTERS_MAX} characters")
        if name == "notify_url" and ("?" in address or "#" in address):
            faults.append("notify_url must have no query: it would become part of the notification's signed text")
    return faults


def _amount_faults(params: Mapping[str, str]) -> list[str]:
    """Require exactly one of the two amounts, in the settlement currency or in RMB."""
    given = [name for name in ("total_fee", "rmb_fee") if params.get(name)]
    if len(given) != 1:
        return ["give exactly one amount: total_fee in the settlement currency, or rmb_fee in RMB"]
    name = given[0]
    currency = "CNY" if name == "rmb_fee" else params.get("currency") or "CNY"
    try:
        amount = money.parse_major(params[name], currency)
    except money.BadMoney as bad:
        return [f"{name}: {bad}"]
    if not 0 < amount.minor <= AMOUNT_MINOR_MAX:
        return [f"{name} must be above 0 and at most {money.major(AMOUNT_MINOR_MAX, currency)}"]
    return []


def _is_web_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and address.isascii() and " " not in address


def _fits(value: str, charset: str) -> bool:
    try:
        value.encode(charset)
    except UnicodeEncodeError:
        return False
    return True
