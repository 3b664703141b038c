"""The settings of an account in `accounts.toml`, described for the page of settings.

`schemas.accounts_toml` reads them.
"""

from collections.abc import Iterator
from enum import Enum

from msgspec import Struct, structs

from schemas.accounts import Account

_NOT_IN_THE_FILE = frozenset({"name", "auth_app_ids"})  # the table's name; and part of `auth_app_id`


class AccountSetting(Struct, frozen=True):
    """One setting. `families` are those that have it; `default` replaces that of `Account` on the page."""

    families: str
    meaning: str
    default: str = ""


SETTINGS: dict[str, AccountSetting] = {
    "family": AccountSetting(
        "all",
        "`mapi`: cross-border in-app and website payments of the old gateway; `openapi`: the Open Platform; `antom`.",
        "required",
    ),
    "sign_type": AccountSetting(
        "all",
        "Algorithm of Alipay's signatures; no message can choose another. mapi: `RSA`, `RSA2`, `MD5` or `DSA`; "
        "openapi: `RSA2` or `RSA`.",
        "required; antom: `RSA256`",
    ),
    "keys": AccountSetting(
        "all",
        "List of files with Alipay's public keys, as PEM or bare base64; each verifies. antom: a table of key version "
        "= file. Required without `certificates` and `md5_key_file`.",
    ),
    "certificates": AccountSetting("openapi", "List of files with Alipay's certificates, in certificate mode."),
    "root_certificates": AccountSetting(
        "openapi", "List of files with the root certificates, by which certificates are checked."
    ),
    "md5_key_file": AccountSetting("mapi", "File with the secret that you share with Alipay, of `sign_type` `MD5`."),
    "retiring": AccountSetting(
        "mapi, openapi",
        "Tables of former algorithms, each with `sign_type`, `keys` or `md5_key_file`, and `until` "
        "([how](operations.md#changing-the-algorithm)).",
    ),
    "seller_id": AccountSetting(
        "mapi, openapi",
        "The payee that notifications must name, a 2088 number. mapi: required without `notify_verify`.",
    ),
    "partner": AccountSetting(
        "mapi, openapi",
        "Your own 2088 number, for Requests and questions; required with `notify_verify`.",
        "`seller_id`",
    ),
    "app_id": AccountSetting("openapi", "The application that notifications must name.", "required"),
    "auth_app_id": AccountSetting(
        "openapi",
        "Of a service provider's application: its merchant; a list of merchants, or `any` for all "
        "([service providers](alipay.md#service-providers)).",
    ),
    "first_auth_app_id": AccountSetting(
        "openapi", "The merchant whose orders keep their keys, because the account had one merchant before."
    ),
    "client_id": AccountSetting("antom", "Your client id at Antom.", "required"),
    "public_path": AccountSetting(
        "antom", "Path of the address to which Antom sends: Antom signs it.", "`/notify/NAME`"
    ),
    "notify_verify": AccountSetting(
        "mapi, openapi",
        "`true`: ask Alipay about each notification before it is acknowledged, because it may name no payee. It needs "
        "`partner`.",
    ),
    "notify_verify_url": AccountSetting("mapi, openapi", "Where it is asked; another one only for a sandbox."),
    "currency": AccountSetting("all", "Currency of amounts whose message names none."),
    "currencies": AccountSetting(
        "openapi", "List of further currencies in which an order that is not registered may be priced."
    ),
    "charset": AccountSetting(
        "mapi, openapi", "Charset of forms that name none: `utf-8`, `gbk`, `gb2312` or `gb18030`."
    ),
    "orders": AccountSetting(
        "all",
        "`registered`: the payment of an unknown order waits until you register it. `any`: it makes the order, and its "
        "amount is believed.",
    ),
    "capture": AccountSetting(
        "antom",
        "Whether a card payment that is only authorised counts as paid: `automatic`, or `manual` "
        "([captures](alipay.md#authorised-is-not-captured)).",
    ),
    "retry_profile": AccountSetting(
        "all",
        "[Schedule](monitoring.md#before-alipay-gives-up) by which Alipay sends again.",
        "`cn-4m`; antom: `antom`",
    ),
    "merchant_key_file": AccountSetting(
        "all", "File with your private key, which signs Requests and questions ([how](operations.md#signing-requests))."
    ),
    "merchant_certificate_file": AccountSetting(
        "openapi", "File with your certificate, in certificate mode; with `merchant_key_file` and `root_certificates`."
    ),
    "notify_url": AccountSetting("mapi, openapi", "The `notify_url` of Requests that name none."),
    "gateway_url": AccountSetting(
        "all", "Where Requests and questions go. antom: required with `queries`.", "production; antom: none"
    ),
    "app_auth_token_file": AccountSetting(
        "openapi", "File with the token by which a service provider asks for its one merchant in `auth_app_id`."
    ),
    "queries": AccountSetting(
        "all", "`true`: ask Alipay about orders that are not paid after a time ([reconciliation](reconciliation.md))."
    ),
}

if SETTINGS.keys() != {field.name for field in structs.fields(Account)} - _NOT_IN_THE_FILE:
    raise AssertionError("each setting of an account is described once")


def table() -> Iterator[str]:
    """Return the lines of the page's table."""
    defaults = {field.name: field.default for field in structs.fields(Account) if not field.required}
    yield "| setting | families | default | meaning |"
    yield "|---|---|---|---|"
    for name, setting in SETTINGS.items():
        default = setting.default or _shown(defaults.get(name))
        yield f"| `{name}` | {setting.families} | {default} | {setting.meaning} |"


def _shown(default: object) -> str:
    match default:
        case bool():
            return f"`{str(default).lower()}`"
        case Enum():
            return f"`{default.value}`"
        case str():
            return f"`{default}`"
    return ""
