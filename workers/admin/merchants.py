"""The merchant that a request to the API names, by an account and, at service providers' accounts, by `auth_app_id`."""

from collections.abc import Mapping

from schemas import scopes
from schemas.accounts import AUTH_APP_ID, Account
from workers.admin import responses


def scope_of(account: Account, auth_app_id: str) -> str:
    """Return the scope that a request names by its account and `auth_app_id`.

    Raises:
        ApiError: an account with several merchants needs one of them; another account has no such merchant.
    """
    if not account.auth_app_ids:
        if auth_app_id in ("", account.auth_app_id or account.app_id):
            return account.name
        raise responses.bad_request(f"account {account.name} does not serve the merchant {auth_app_id}")
    if not auth_app_id and account.first_auth_app_id is None:
        raise responses.bad_request(f"account {account.name} serves several merchants: add ?auth_app_id=NUMBER")
    if auth_app_id and AUTH_APP_ID.fullmatch(auth_app_id) is None:
        raise responses.bad_request("auth_app_id is not the number of an application")
    return scopes.of(account, auth_app_id)


def filtered_scope(accounts: Mapping[str, Account], name: str | None, auth_app_id: str | None) -> str | None:
    """Return the scope of a filter by account and merchant; `None` if it names no merchant.

    Raises:
        ApiError: as `scope_of`; or the filter names a merchant and no account.
    """
    if not auth_app_id:
        return None
    if not name:
        raise responses.bad_request("auth_app_id needs account: a merchant may be one of several accounts")
    account = accounts.get(name)
    return scopes.joined(name, auth_app_id) if account is None else scope_of(account, auth_app_id)
