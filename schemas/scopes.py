"""The scope of an order: its account, and at accounts of service providers the merchant that it belongs to.

Order numbers are unique within a scope. Records, store rows, event ids and locks are keyed by the scope text, such as
`shop` or `isv/2021000000000001`; an account's name has no slash. Answers and events show the two parts by themselves.
"""

import re
from collections.abc import Mapping

from msgspec import UNSET, UnsetType

from schemas.accounts import AUTH_APP_ID, Account, Family

_CLAIMED = re.compile(rb"(?:^|&)auth_app_id=([^&]*)")


def of(account: Account, auth_app_id: str) -> str:
    """Return the scope of a merchant. At accounts with one merchant or none, it is the account's name."""
    if not account.auth_app_ids or auth_app_id == account.first_auth_app_id or not is_merchant(auth_app_id):
        return account.name
    return f"{account.name}/{auth_app_id}"


def is_merchant(auth_app_id: str) -> bool:
    """Return whether this can be the number of an application."""
    return AUTH_APP_ID.fullmatch(auth_app_id) is not None


def former(account: Account) -> tuple[str, ...]:
    """Return the scopes that orders of this account may have had under other settings of its merchants."""
    if account.family is not Family.OPENAPI:
        return ()
    if not account.auth_app_ids:
        return (f"{account.name}/{account.auth_app_id or account.app_id}",)
    first = account.first_auth_app_id
    return (account.name,) if first is None else (account.name, f"{account.name}/{first}")


def of_form(account: Account, fields: Mapping[bytes, bytes]) -> str:
    """Return the scope of a form's order."""
    if not account.auth_app_ids:
        return account.name
    return of(account, merchant(fields).decode("ascii", "replace"))


def merchant(fields: Mapping[bytes, bytes]) -> bytes:
    """Return the application that a form's merchant authorised with. Without `auth_app_id` it is the provider's own."""
    return fields.get(b"auth_app_id") or fields.get(b"app_id") or b""


def claimed(account: Account, body: bytes) -> str:
    """Return the scope that an unauthentic body claims. Never raises."""
    found = _CLAIMED.search(body) if account.auth_app_ids else None
    return of(account, found[1].decode("ascii", "replace")) if found else account.name


def account_of(scope: str) -> str:
    """Return the account's name."""
    return scope.partition("/")[0]


def merchant_of(scope: str) -> str:
    """Return the merchant's `auth_app_id`; empty if the scope is a whole account."""
    return scope.partition("/")[2]


def split(scope: str) -> tuple[str, str | UnsetType]:
    """Return the account's name and the merchant's `auth_app_id`, which is unset if the scope is a whole account."""
    account, _, auth_app_id = scope.partition("/")
    return account, auth_app_id or UNSET


def joined(account: str, auth_app_id: str | UnsetType) -> str:
    """Return the scope with these two parts, as `split` returns them."""
    return account if auth_app_id is UNSET else f"{account}/{auth_app_id}"
