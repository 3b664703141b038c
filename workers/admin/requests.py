"""Sign the Request that sends a buyer to Alipay, with the merchant's own key.

Each signature is made in the merchant's name, so this needs the admin token on a port that is otherwise open, too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from aiohttp import web
from msgspec import Struct, structs

from schemas.accounts import Account
from schemas.payment_request import PaymentRequest, SignedPayment
from workers.admin import orders, responses, sign_in
from workers.admin.responses import ApiError
from workers.settlement.plan import Registration

RMB_ALONE = (
    "an order in RMB may be reported in the currency of the settlement: give amount too, the sum that you expect "
    'there, or register the order yourself with {"amounts": []}'
)


class UnsignableRequest(ValueError):
    """The payment has a fault, which Alipay would show to the buyer. The message has all faults."""


class NoMerchantKey(Exception):
    """The account has no key of the merchant, or one that cannot be used. The message names the file or setting."""


class SignRequest(Protocol):
    """Signs Requests with the merchants' keys. May read files."""

    def __call__(self, request: PaymentRequest, account: Account, /) -> SignedPayment:
        """Return the signed Request.

        Raises:
            UnsignableRequest, NoMerchantKey: nothing is signed.
        """


class RequestBody(PaymentRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payment. If `register`, its order is registered too; `by` is the operator's name for that audit row."""

    register: bool = False
    by: str = ""


class RequestAnswer(Struct, frozen=True, kw_only=True):
    """A signed Request: `url` for the buyer's browser, or `order_string` for Alipay's SDK in the app."""

    account: str
    order: str
    product: str
    url: str | None
    order_string: str | None
    registered: bool


class RequestsPart:
    """The API for Requests. `register` is `OrdersPart.record`."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        sign: SignRequest,
        register: Callable[[str, str, Registration, str], Awaitable[bool]],
        has_token: bool,
    ) -> None:
        self._accounts = accounts
        self._sign = sign
        self._register = register
        self._has_token = has_token

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/api/requests/{account}", self.sign)]

    async def sign(self, request: web.Request) -> web.Response:
        """Return a signed Request; register its order before the buyer can pay it, if that is wanted."""
        if not self._has_token:
            raise ApiError(
                403, "token_needed", "signing Requests needs an admin token: set ALIPAY_NOTIFY_ADMIN_TOKEN_FILE"
            )
        name = request.match_info["account"]
        account = responses.known_account(self._accounts, name)
        body = _of_merchant(await responses.body(request, RequestBody), request.query.get("auth_app_id", ""))
        if body.register and body.rmb and not body.amount:
            raise responses.bad_request(RMB_ALONE)
        by = sign_in.acting(request, body.by)
        try:
            # In a thread: the first Request reads the key, which takes some 50 ms.
            signed = await asyncio.to_thread(self._sign, body, account)
        except UnsignableRequest as faults:
            raise responses.bad_request(str(faults)) from None
        except NoMerchantKey as missing:
            raise ApiError(409, "no_merchant_key", str(missing)) from None
        if body.register:
            registration = Registration(amounts=signed.amounts)
            scope = orders.registered_scope(account, body.auth_app_id)
            await self._register(scope, body.order, registration, by)
        answer = RequestAnswer(
            account=name,
            order=body.order,
            product=body.product,
            url=signed.url,
            order_string=signed.order_string,
            registered=body.register,
        )
        return responses.json(answer)


def _of_merchant(body: RequestBody, named: str) -> RequestBody:
    """Return the payment with the merchant that the query names; the body may name it as well."""
    if named and body.auth_app_id not in ("", named):
        raise responses.bad_request("auth_app_id in the query and in the body differ")
    return structs.replace(body, auth_app_id=named) if named else body
