"""Read the accounts from the content of `accounts.toml`.

All faults of the file are reported at once, by account, without the bytes of secrets. `schemas.account_rules` has the
contradictions between settings that can each be read.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from msgspec import structs

from schemas import account_rules, times
from schemas.accounts import (
    ANY_AUTH_APP_ID,
    AUTH_APP_ID,
    NAME,
    Account,
    BadAccounts,
    CaptureMode,
    Family,
    Orders,
    RetiringAlgorithm,
    SignType,
)


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
    return account, account_rules.contradictions(account)


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
        return times.to_epoch_ms(start) + times.DAY_MS
    return None


_TEXTS = (
    "seller_id partner app_id auth_app_id first_auth_app_id client_id public_path md5_key_file merchant_key_file "
    "merchant_certificate_file app_auth_token_file notify_url gateway_url notify_verify_url charset currency "
    "retry_profile"
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
    faults += [
        f"{key} must be true or false"
        for key in ("notify_verify", "queries")
        if not isinstance(converted.get(key, False), bool)
    ]
    for key, kind in (("sign_type", SignType), ("orders", Orders), ("capture", CaptureMode)):
        if key in converted:
            converted[key] = _choice(kind, converted[key])
            if converted[key] is None:
                faults.append(f"{key} must be one of {', '.join(kind)}")
    return converted


def _choice(kind: Any, value: Any) -> Any:
    return kind(value) if isinstance(value, str) and value in set(kind) else None
