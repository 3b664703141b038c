"""The merchant's accounts at Alipay: the values that `schemas.accounts_toml` reads from the content of `accounts.toml`.

An account pins everything that a message must not choose for itself: its family, its algorithm, its keys, and the
identities that it must name. It knows the names of key files only; `ingest.keys` reads them.
"""

import re
from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, structs

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
    retry_profile: str | None = None  # of Alipay (`schemas.retry_profiles`); that of the family if none
    merchant_key_file: str | None = None  # the merchant's private key, which signs Requests
    merchant_certificate_file: str | None = None
    notify_url: str | None = None  # of Requests that name none
    gateway_url: str | None = None  # of the family's production if there is none
    app_auth_token_file: str | None = None  # by which a service provider asks for its merchant `auth_app_id`
    queries: bool = False  # ask Alipay about orders that are not paid after a time

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
