"""The client of the admin API: what it asks, and how it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from deploy.sandbox.admin_api import AdminApi, AdminUnavailableError
from tests.unit.deploy.sandbox.receiver import serving


@asynccontextmanager
async def answering(status: int, answer: object) -> AsyncIterator[tuple[AdminApi, list[str]]]:
    asked: list[str] = []

    async def take(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.path_qs} {request.headers.get('Authorization', '')}")
        return web.json_response(answer, status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", take)
    async with serving(app) as url, aiohttp.ClientSession() as http:
        yield AdminApi(http=http, url=url, token="s3cret"), asked


async def test_each_question_goes_to_its_path_with_the_token() -> None:
    async with answering(200, {"held": [{"id": "1"}], "notifications": [{"order": "O"}], "authentic": True}) as (
        api,
        asked,
    ):
        await api.register("shop", "O/1", {"amount": "1.00"})
        assert await api.held("shop", "ambiguous") == [{"id": "1"}]
        assert (await api.find("N 1"))["notifications"] == [{"order": "O"}]
        assert await api.check_return("shop", "a=b")
        await api.newer_order("shop", "O-1", than=3)
    assert [each.removesuffix(" Bearer s3cret") for each in asked] == [
        "PUT /api/orders/shop/O%2F1",
        "GET /api/held?account=shop&reason=ambiguous",
        "GET /api/find?number=N+1",
        "POST /api/returns/shop",
        "GET /api/orders/shop/O-1?wait=20s&version=3",
    ]


async def test_order_that_does_not_exist_is_empty() -> None:
    async with answering(404, {"error": "unknown_order"}) as (api, _):
        assert await api.order("shop", "O-1") == {}
        with pytest.raises(AdminUnavailableError, match="404"):
            await api.held("shop", "ambiguous")


async def test_missing_server_is_an_error() -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(AdminUnavailableError, match="cannot be reached"):
            await AdminApi(http=http, url="http://127.0.0.1:9").order("shop", "O-1")
