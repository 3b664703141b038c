"""The merchant's accounts at Alipay, parsed from the content of `accounts.toml`.

An account pins everything that a message must not choose for itself: its family, its algorithm, its keys, and the
identities that it must name. All faults of the file are reported at once, by account, without the bytes of secrets.
This module knows the names of key files only; `ingest.keys` reads them.
"""

import re
from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct, structs

from schemas import antom, times
from schemas.currencies import EXPONENTS

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?", re.ASCII)
NOTIFY_VERIFY_URL = "https://mapi.alipay.com/gateway.do"
AUTH_APP_ID = re.compile(r"[0-9A-Za-z]{1,32}", re.ASCII)  # the number of an application
ANY_AUTH_APP_ID = ("any",)


class Family(StrEnum):
    """The Alipay product whose rules a notification follows."""

    MAPI = "mapi"  # the old gateway: cross-border in-app and website payment
    OPENAPI = "openapi"
    ANTOM = "antom"


class SignType(StrEnum):
    """The signature algorithm of an account, with its hash and padding."""

    MD5 = "MD5"
    DSA = "DSA"
    RSA = "RSA"  # SHA-1
    RSA2 = "RSA2"  # SHA-256
    RSA256 = "RSA256"  # SHA-256, under Antom's name


class Orders(StrEnum):
    """The treatment of a payment for an unknown order."""

    ANY = "any"  # the notification creates the order
    REGISTERED = "registered"  # the notification is parked until the merchant registers the order


class CaptureMode(StrEnum):
    """The meaning of an Antom payment that is only authorised, which has an `authExpiryTime`."""

    AUTOMATIC = "automatic"  # paid: Antom captures it
    MANUAL = "manual"  # reserved until CAPTURE_RESULT reports a capture


SIGN_TYPES: dict[Family, tuple[SignType, ...]] = {
    Family.MAPI: (SignType.RSA, SignType.RSA2, SignType.MD5, SignType.DSA),
    Family.OPENAPI: (SignType.RSA2, SignType.RSA),
    Family.ANTOM: (SignType.RSA256,),
}
CHARSETS = ("utf-8", "gbk", "gb2312", "gb18030")


class BadAccounts(ValueError):
    """The accounts cannot be used. `faults` has one text for each problem, with the account's name."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class RetiringAlgorithm(Struct, frozen=True, kw_only=True):
    """An account's former algorithm with its own keys, which verify what was received before `until_ms`."""

    sign_type: SignType
    until: str  # as in the file
    until_ms: int
    keys: dict[str, str] = {}
    md5_key_file: str | None = None


class Account(Struct, frozen=True, kw_only=True):
    """One merchant identity. `keys` maps ids to files; an id is Antom's key version, else the file's own name."""

    name: str
    family: Family
    sign_type: SignType
    keys: dict[str, str] = {}
    certificates: tuple[str, ...] = ()
    root_certificates: tuple[str, ...] = ()
    md5_key_file: str | None = None
    retiring: tuple[RetiringAlgorithm, ...] = ()
    seller_id: str | None = None
    partner: str | None = None
    app_id: str | None = None
    auth_app_id: str | None = None
    auth_app_ids: tuple[str, ...] = ()  # of a service provider's merchants; `ANY_AUTH_APP_ID` stands for all
    first_auth_app_id: str | None = None  # the merchant whose orders keep the keys of an account with one merchant
    client_id: str | None = None
    public_path: str | None = None
    notify_verify: bool = False
    notify_verify_url: str = NOTIFY_VERIFY_URL
    currency: str = "CNY"  # of amounts whose message does not name one
    currencies: tuple[str, ...] = ()  # that an unregistered order may be priced in, besides `currency`
    charset: str = "utf-8"
    orders: Orders = Orders.ANY
    capture: CaptureMode = CaptureMode.AUTOMATIC
    merchant_key_file: str | None = None  # the merchant's private key, which signs Requests
    merchant_certificate_file: str | None = None
    notify_url: str | None = None  # of Requests that name none
    gateway_url: str | None = None  # of the family's production if there is none

    @property
    def has_secret(self) -> bool:
        """Whether the signature alone shows that a form is for this account: its key signs for no other merchant."""
        return self.sign_type is SignType.MD5 and not self.retiring

    def under(self, former: RetiringAlgorithm) -> "Account":
        """Return this account with a retiring algorithm and its keys as its only ones."""
        return structs.replace(
            self,
            sign_type=former.sign_type,
            keys=former.keys,
            md5_key_file=former.md5_key_file,
            certificates=(),
            root_certificates=(),
            retiring=(),
        )

    def serves(self, auth_app_id: str) -> bool:
        """Return whether this is a merchant of a service provider's account."""
        return self.auth_app_ids == ANY_AUTH_APP_ID or auth_app_id in self.auth_app_ids

    def is_named_in(self, fields: Mapping[bytes, bytes]) -> bool:
        """Return whether a form of the old gateway names this account as its merchant."""
        partner = self.partner or self.seller_id
        named = ((b"seller_id", self.seller_id), (b"partner_id", partner), (b"pay_user_id", partner))
        return any(own is not None and fields.get(name) == own.encode() for name, own in named)


def parse(configuration: Mapping[str, Any]) -> dict[str, Account]:
    """Return the accounts under `[accounts.*]`, by name.

    Raises:
        BadAccounts: with all faults, not only the first.
    """
    faults: list[str] = []
    tables = configuration.get("accounts")
    if not isinstance(tables, Mapping) or not tables:
        raise BadAccounts(["no [accounts.NAME] table: add one for each account"])
    faults += [f"unknown table [{name}]: only [accounts.NAME] is read" for name in configuration if name != "accounts"]
    accounts = {}
    for name, table in tables.items():
        account, found = _account(name, table)
        faults += [f"account {name}: {fault}" for fault in found]
        if account is not None:
            accounts[name] = account
    if faults:
        raise BadAccounts(faults)
    return accounts


def _account(name: str, table: Any) -> tuple[Account | None, list[str]]:
    if NAME.fullmatch(name) is None:
        return None, ["a name must be lower-case letters, digits and inner hyphens, because it is part of the URL"]
    if not isinstance(table, Mapping):
        return None, ["must be a table"]
    family = _choice(Family, table.get("family"))
    if family is None:
        return None, [f"family must be one of {', '.join(Family)}"]
    settings = {key: value for key, value in table.items() if key not in ("family", "keys", "retiring")}
    settings.setdefault("sign_type", SignType.RSA256.value if family is Family.ANTOM else None)
    settings.setdefault("public_path", f"/notify/{name}" if family is Family.ANTOM else None)
    keys, faults = _keys(table.get("keys", []))
    auth_app_ids = _auth_app_ids(settings, faults)
    retiring = _retiring(table.get("retiring", []), faults)
    converted = _converted(settings, faults)
    if faults:
        return None, faults
    converted |= {"keys": keys, "retiring": retiring, "auth_app_ids": auth_app_ids}
    account = Account(name=name, family=family, **converted)
    return account, _contradictions(account)


def _keys(given: Any) -> tuple[dict[str, str], list[str]]:
    if isinstance(given, Mapping):
        return {str(version): str(path) for version, path in given.items()}, []
    if isinstance(given, list) and all(isinstance(path, str) for path in given):
        return {path: path for path in given}, []
    return {}, ["keys must be a list of files, or a table of key version = file"]


def _auth_app_ids(settings: dict[str, Any], faults: list[str]) -> tuple[str, ...]:
    """Take a service provider's `auth_app_id`, a list or "any", out of the settings; leave that of one merchant."""
    given = settings.get("auth_app_id")
    if given == "any":
        del settings["auth_app_id"]
        return ANY_AUTH_APP_ID
    if not isinstance(given, list):
        return ()
    del settings["auth_app_id"]
    if not given or not all(isinstance(each, str) and AUTH_APP_ID.fullmatch(each) for each in given):
        faults.append('auth_app_id must be an application\'s number, a list of such numbers, or "any"')
        return ()
    if len(set(given)) < len(given):
        faults.append("auth_app_id has a number twice")
    return tuple(given)


_OF_RETIRING = frozenset({"sign_type", "keys", "md5_key_file", "until"})
_DAY_MS = 86_400_000


def _retiring(given: Any, faults: list[str]) -> tuple[RetiringAlgorithm, ...]:
    """Return the entries that can be read, and add the faults of the others."""
    if not isinstance(given, list) or not all(isinstance(table, Mapping) for table in given):
        faults.append("retiring must be tables [[accounts.NAME.retiring]] with sign_type, keys and until")
        return ()
    entries = []
    for number, table in enumerate(given, 1):
        keys, found = _keys(table.get("keys", []))
        found += [f"unknown setting {key}" for key in sorted(table.keys() - _OF_RETIRING)]
        sign_type, until_ms = _choice(SignType, table.get("sign_type")), _end_ms(table.get("until"))
        if sign_type is None:
            found.append(f"sign_type must be one of {', '.join(SignType)}")
        if until_ms is None:
            found.append("until must be a date (its end in UTC+8) or a date-time with its zone, without quotes")
        file = table.get("md5_key_file")
        if file is not None and (not isinstance(file, str) or not file):
            found.append("md5_key_file must be a text in quotes, not empty")
        if not found and sign_type is not None and until_ms is not None:
            until = str(table["until"])
            entries.append(
                RetiringAlgorithm(sign_type=sign_type, until=until, until_ms=until_ms, keys=keys, md5_key_file=file)
            )
        faults += [f"retiring entry {number}: {fault}" for fault in found]
    return tuple(entries)


def _end_ms(given: Any) -> int | None:
    """Return the first millisecond after a TOML date in UTC+8, or that of a TOML date-time with a zone."""
    if isinstance(given, datetime):
        return None if given.tzinfo is None else times.to_epoch_ms(given)
    if isinstance(given, date):
        start = datetime(given.year, given.month, given.day, tzinfo=times.BEIJING)
        return times.to_epoch_ms(start) + _DAY_MS
    return None


_TEXTS = (
    "seller_id partner app_id auth_app_id first_auth_app_id client_id public_path md5_key_file merchant_key_file "
    "merchant_certificate_file notify_url gateway_url notify_verify_url charset currency"
).split()
_NO_SETTINGS = frozenset({"name", "retiring", "auth_app_ids"})


def _converted(settings: dict[str, Any], faults: list[str]) -> dict[str, Any]:
    """Return the settings as `Account` takes them, and add to `faults` those that cannot be converted."""
    known = {field.name for field in structs.fields(Account)} - _NO_SETTINGS
    faults += [f"unknown setting {key}" for key in settings if key not in known]
    converted = dict(settings)
    for key in _TEXTS:
        if converted.get(key) is not None and (not isinstance(converted[key], str) or not converted[key]):
            faults.append(f"{key} must be a text in quotes, not empty")
    for key, entries in (("certificates", "files"), ("root_certificates", "files"), ("currencies", "currency codes")):
        given = converted.get(key, [])
        if not isinstance(given, list) or not all(isinstance(entry, str) for entry in given):
            faults.append(f"{key} must be a list of {entries}")
        else:
            converted[key] = tuple(given)
    if not isinstance(converted.get("notify_verify", False), bool):
        faults.append("notify_verify must be true or false")
    for key, kind in (("sign_type", SignType), ("orders", Orders), ("capture", CaptureMode)):
        if key in converted:
            converted[key] = _choice(kind, converted[key])
            if converted[key] is None:
                faults.append(f"{key} must be one of {', '.join(kind)}")
    return converted


def _choice(kind: Any, value: Any) -> Any:
    return kind(value) if isinstance(value, str) and value in set(kind) else None


def _contradictions(account: Account) -> list[str]:
    faults = []
    if account.sign_type not in SIGN_TYPES[account.family]:
        allowed = ", ".join(SIGN_TYPES[account.family])
        faults.append(f"sign_type {account.sign_type} does not exist for family {account.family}: use {allowed}")
    faults += [
        f"currency {currency} is not a currency of ISO 4217 with decimals"
        for currency in (account.currency, *account.currencies)
        if currency not in EXPONENTS
    ]
    if account.charset not in CHARSETS:
        faults.append(f"charset must be one of {', '.join(CHARSETS)}")
    return (
        faults + _key_faults(account) + _retiring_faults(account) + _identity_faults(account) + _request_faults(account)
    )


def _key_faults(account: Account) -> list[str]:
    if account.sign_type is SignType.MD5:
        extra = account.keys or account.certificates
        faults = [] if account.md5_key_file else ["sign_type MD5 needs md5_key_file"]
        return faults + (["an MD5 account has no public keys or certificates"] if extra else [])
    faults = ["md5_key_file belongs to sign_type MD5"] if account.md5_key_file else []
    if account.certificates and account.family is not Family.OPENAPI:
        faults.append("certificates belong to family openapi")
    if account.root_certificates and not account.certificates:
        faults.append("root_certificates needs certificates")
    if not account.keys and not account.certificates:
        faults.append("no key: name at least one file with a public key of Alipay in keys")
    return faults


def _retiring_faults(account: Account) -> list[str]:
    faults = []
    taken = {account.sign_type}
    for number, former in enumerate(account.retiring, 1):
        found = _key_faults(account.under(former))
        if former.sign_type not in SIGN_TYPES[account.family]:
            found.append(f"sign_type {former.sign_type} does not exist for family {account.family}")
        elif former.sign_type in taken:
            found.append(f"sign_type {former.sign_type} is already that of the account or of another entry")
        taken.add(former.sign_type)
        faults += [f"retiring entry {number}: {fault}" for fault in found]
    return faults


def _request_faults(account: Account) -> list[str]:
    """Return the faults of the settings for signing Requests."""
    faults = []
    if account.merchant_key_file and account.family is Family.ANTOM:
        faults.append("family antom has no Requests to sign: remove merchant_key_file")
    elif account.merchant_key_file and account.sign_type is SignType.MD5:
        faults.append("sign_type MD5 signs Requests with md5_key_file: remove merchant_key_file")
    elif account.merchant_key_file and account.sign_type is SignType.DSA:
        faults.append("Requests cannot be signed with DSA: remove merchant_key_file")
    if account.merchant_certificate_file:
        if account.family is not Family.OPENAPI:
            faults.append("merchant_certificate_file belongs to family openapi")
        elif not account.merchant_key_file or not account.root_certificates:
            faults.append("merchant_certificate_file needs merchant_key_file and root_certificates")
    faults += [
        f"{name} must be a complete https address (http for a sandbox), without a query"
        for name, address in (("notify_url", account.notify_url), ("gateway_url", account.gateway_url))
        if address is not None and not _is_address(address)
    ]
    return faults


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("https", "http") and bool(parts.hostname) and not parts.query and parts.port != 0
    except ValueError:
        return False


def _identity_faults(account: Account) -> list[str]:
    if account.family is Family.ANTOM:
        faults = [] if account.client_id else ["family antom needs client_id"]
        if account.public_path is None or not account.public_path.startswith("/") or "?" in account.public_path:
            faults.append("public_path must begin with / and have no query: it is the path that Antom signs")
        if account.notify_verify:
            faults.append("family antom has no notify_verify: remove the setting")
        faults += [f"key version {v} must be a plain number" for v in account.keys if not antom.is_key_version(v)]
        return faults
    faults = [] if account.capture is CaptureMode.AUTOMATIC else ["capture belongs to family antom"]
    faults += _merchant_faults(account)
    if not _is_address(account.notify_verify_url):
        faults.append("notify_verify_url must be a complete https address (http for a sandbox), without a query")
    if account.notify_verify and not account.partner:
        faults.append("notify_verify needs partner, your own 2088 number")
    if account.family is Family.OPENAPI:
        return faults if account.app_id else [*faults, "family openapi needs app_id"]
    if not account.seller_id and not account.notify_verify:
        faults.append(
            "needs seller_id, or notify_verify = true (website notifications name no seller): Alipay signs for all "
            "merchants with one key, so the signature does not show that a notification is yours"
        )
    return faults


def _merchant_faults(account: Account) -> list[str]:
    first = account.first_auth_app_id
    if not account.auth_app_ids:
        return [] if first is None else ["first_auth_app_id needs several merchants in auth_app_id"]
    faults = []
    if account.family is not Family.OPENAPI:
        faults.append("a list in auth_app_id, or any, belongs to family openapi")
    if first is not None and not account.serves(first):
        faults.append("first_auth_app_id must be in auth_app_id")
    return faults
