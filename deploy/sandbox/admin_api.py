"""Client of the receiver's admin API, for the demo shop and for scenarios."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import aiohttp

_LONG_POLL_S = 20
_TIMEOUT_S = 5.0


class AdminUnavailableError(Exception):
    """The admin API gave no usable answer."""


class AdminApi:
    """The part of the admin API that a shop needs, and a test of what became of its notifications."""

    def __init__(self, *, http: aiohttp.ClientSession, url: str, token: str = "") -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def register(
        self, account: str, order: str, expectation: Mapping[str, object], auth_app_id: str = ""
    ) -> None:
        """Register an order with its amount and the refunds that were requested.

        `auth_app_id` is a service provider's merchant.
        """
        await self._ask("PUT", _order_path(account, order), json=expectation, params=_of_merchant(auth_app_id))

    async def check_return(self, account: str, query: str) -> bool:
        """Return whether Alipay signed the Return."""
        answer = await self._ask("POST", f"/api/returns/{account}", json={"query": query})
        return answer.get("authentic") is True

    async def newer_order(self, account: str, order: str, *, than: int) -> dict[str, Any]:
        """Return the order, as soon as its version is above `than` or the wait is over."""
        return await self._ask(
            "GET",
            _order_path(account, order),
            params={"wait": f"{_LONG_POLL_S}s", "version": str(than)},
            timeout_s=_LONG_POLL_S + _TIMEOUT_S,
        )

    async def order(self, account: str, order: str, auth_app_id: str = "") -> dict[str, Any]:
        """Return the order as it is now; an order that does not exist is empty."""
        return await self._ask("GET", _order_path(account, order), params=_of_merchant(auth_app_id), missing_ok=True)

    async def held(self, account: str, reason: str) -> list[dict[str, Any]]:
        """Return the account's notifications that are held for this reason."""
        answer = await self._ask("GET", "/api/held", params={"account": account, "reason": reason})
        return list(answer.get("held") or ())

    async def find(self, number: str) -> dict[str, Any]:
        """Return the orders (`matches`) and notifications that are found by this number."""
        return await self._ask("GET", "/api/find", params={"number": number})

    async def _ask(
        self, method: str, path: str, *, json: object = None, params: Mapping[str, str] | None = None,
        timeout_s: float = _TIMEOUT_S, missing_ok: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Send one request and return the answer's JSON.

        Raises:
            AdminUnavailableError: there was no answer, or an error.
        """
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._http.request(
                method, self._url + path, json=json, params=params, headers=self._headers, timeout=timeout
            ) as response:
                if response.status == 404 and missing_ok:
                    return {}
                if response.status >= 300:
                    raise AdminUnavailableError(f"the payment service answered {response.status}")
                answer = await response.json() if response.content_type == "application/json" else {}
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise AdminUnavailableError("the payment service cannot be reached") from error
        return answer if isinstance(answer, dict) else {}


def _of_merchant(auth_app_id: str) -> dict[str, str]:
    return {"auth_app_id": auth_app_id} if auth_app_id else {}


def _order_path(account: str, order: str) -> str:
    return f"/api/orders/{account}/{quote(order, safe='')}"
