"""The filter and the page of a list of orders, as the API, the console and its CSV take them from a query. Pure."""

from collections.abc import Mapping

from aiohttp import web

from schemas import money
from schemas.accounts import Account
from schemas.currencies import EXPONENTS
from schemas.orders import Status
from workers.admin import cursors, merchants, responses
from workers.queries import AmountRange, OrderQuery

PREFIX_CHARACTERS_MAX = 64  # Alipay's own limit for out_trade_no


def query(request: web.Request, accounts: Mapping[str, Account], *, now_ms: int, limit: int = 50) -> OrderQuery:
    """Return the filter and the page in a request's query; an empty parameter is the same as none.

    Raises:
        ApiError: an unknown status, a wrong amount, time, number or cursor, or a merchant without its account.
    """
    given = {name: text.strip() for name, text in request.query.items() if text.strip()}
    account, since, before = given.get("account"), given.get("since"), given.get("before")
    prefix = given.get("prefix", "")
    if len(prefix) > PREFIX_CHARACTERS_MAX:
        raise responses.bad_request(f"prefix may have at most {PREFIX_CHARACTERS_MAX} characters")
    return OrderQuery(
        account=account,
        scope=merchants.filtered_scope(accounts, account, given.get("auth_app_id")),
        status=_status(given.get("status")),
        is_flagged=responses.yes_or_no(given, "flagged"),
        since_ms=None if since is None else responses.moment_ms(since, now_ms=now_ms),
        before_ms=None if before is None else responses.moment_ms(before, now_ms=now_ms),
        amounts=_amounts(given, accounts),
        prefix=prefix,
        after=cursors.order_place(request),
        limit=responses.whole_number(request, "limit", default=limit, most=responses.LIMIT_MAX),
    )


def _status(text: str | None) -> Status | None:
    if text is None:
        return None
    if text not in set(Status):
        raise responses.bad_request(f"status must be one of {', '.join(Status)}")
    return Status(text)


def _amounts(given: Mapping[str, str], accounts: Mapping[str, Account]) -> AmountRange | None:
    """Return the range of amounts in its currency: the given one, or the only one that the accounts have."""
    least, most = given.get("amount_min"), given.get("amount_max")
    currency = given.get("currency")
    if least is None and most is None and currency is None:
        return None
    if currency is None:
        asked = [account for name, account in accounts.items() if given.get("account") in (None, name)]
        currencies = {each for account in asked for each in (account.currency, *account.currencies)}
        if len(currencies) != 1:
            raise responses.bad_request("amount_min and amount_max need a currency")
        currency = currencies.pop()
    if not money.is_code(currency):
        raise responses.bad_request("currency must be three capital letters")
    return AmountRange(
        currency=currency,
        from_minor=_minor("amount_min", least, currency),
        to_minor=_minor("amount_max", most, currency),
    )


def _minor(name: str, text: str | None, currency: str) -> int | None:
    """Return the amount in the smallest unit; people may leave out decimals, as in 12 or 12.8."""
    if text is None:
        return None
    whole, _, decimals = text.partition(".")
    wanted = EXPONENTS.get(currency, 0)
    try:
        return money.parse_major(f"{whole}.{decimals.ljust(wanted, '0')}" if wanted else text, currency).minor
    except money.BadMoney as error:
        raise responses.bad_request(f"{name}: {error}") from None
