"""Check a Return: the text with which the buyer comes back from Alipay. A Return never changes an order.

A Return can be authentic and old, and a buyer can close the window before it is sent. So the answer has two halves: the
claims of the text, and the order's state by Alipay's notifications. Merchants must ship by the second.
"""

from collections.abc import Mapping
from typing import Protocol

from aiohttp import web
from msgspec import Struct

from schemas import scopes
from schemas.accounts import Account
from workers.admin import responses, shapes
from workers.queries import OrdersPort

TEXT_CHARACTERS_MAX = 16 * 1024


class Returned(Struct, frozen=True, kw_only=True):
    """A checked Return. If it is not authentic, its claims are untrusted text.

    `ignored` names parameters that are none of Alipay's and were not signed, because a framework added them.
    """

    authentic: bool
    reason: str
    result_status: str
    meaning: str
    claims: dict[str, str]
    ignored: tuple[str, ...] = ()


class CheckReturn(Protocol):
    """Checks a Return's signature with the account's keys. Never raises for the content of the text."""

    def __call__(self, text: str, account: Account) -> Returned: ...


class ReturnText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The in-app result, or the query of the redirect, exactly as received."""

    result: str | None = None
    query: str | None = None


class ReturnAnswer(Returned, frozen=True, kw_only=True):
    """The checked Return, and the state of the order that its claims name."""

    order: shapes.OrderAnswer | None


class ReturnsPart:
    """The API for Returns."""

    def __init__(self, *, accounts: Mapping[str, Account], check: CheckReturn, orders: OrdersPort) -> None:
        self._accounts = accounts
        self._check = check
        self._orders = orders

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/api/returns/{account}", self.check)]

    async def check(self, request: web.Request) -> web.Response:
        """Return whether a Return is authentic, its claims, and the order's state."""
        name = request.match_info["account"]
        responses.known_account(self._accounts, name)
        text = _text(await responses.body(request, ReturnText))
        account = responses.known_account(self._accounts, name)  # once more: a reload may have replaced it meanwhile
        returned = self._check(text, account)
        number = returned.claims.get("out_trade_no", "")
        # The result of the Open Platform's app names no merchant, so the caller may.
        named = returned.claims.get("auth_app_id") or request.query.get("auth_app_id")
        scope = scopes.of(account, named or returned.claims.get("app_id", ""))
        page = await self._orders.order_page(scope, number) if number else None
        return responses.json(
            ReturnAnswer(
                authentic=returned.authentic,
                reason=returned.reason,
                result_status=returned.result_status,
                meaning=returned.meaning,
                claims=returned.claims,
                ignored=returned.ignored,
                order=None if page is None else shapes.summary(page),
            )
        )


def _text(given: ReturnText) -> str:
    text = given.result if given.query is None else given.query
    if text is None or (given.result is not None and given.query is not None):
        raise responses.bad_request('send either {"result": "…"} (in-app) or {"query": "…"} (redirect)')
    if not text or len(text) > TEXT_CHARACTERS_MAX:
        raise responses.bad_request(f"a Return must have 1 to {TEXT_CHARACTERS_MAX} characters")
    return text
