"""The admin API as the verification asks it: patient with a worker that restarts, and with nothing else."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from deploy.load.api import AdminFeed, Api, UnreadableAnswer
from deploy.load.judge import ABSENT
from tests.unit.deploy.load.samples import ORDER
from tests.unit.deploy.sandbox.receiver import serving

PAGE = {
    "account": "demo-cn", "order": "L1-0-0000000", "status": "PAID", "closed_because": None, "version": 1,
    "trade": "T1", "amount_minor": 1280, "currency": "CNY", "refunded_minor": 0, "flags": [], "something_new": {"a": 1},
    "timeline": [
        {"kind": "notification", "notification_id": "n1", "disposition": "applied", "reason": "changed", "version": 1,
         "position": "0-1"},
        {"kind": "event", "id": "e", "version": 1, "type": "t"},
        {"kind": "refused", "reason": "bad_signature", "at": "2026-01-01T00:00:00Z"},
    ],
}  # fmt: skip


class Admin:
    """Answers with the test's page and events, after `busy` answers of 503."""

    def __init__(self) -> None:
        self.page: object = PAGE
        self.status = 200
        self.busy = 0
        self.last = 0
        self.asked = 0

    async def order(self, _request: web.Request) -> web.Response:
        self.asked += 1
        if self.busy:
            self.busy -= 1
            return web.json_response({"error": "unavailable", "detail": "the store is away"}, status=503)
        return web.json_response(self.page, status=self.status)

    async def events(self, request: web.Request) -> web.Response:
        self.asked += 1
        after, limit = int(request.query["after"]), int(request.query["limit"])
        numbers = range(after + 1, min(self.last, after + limit) + 1)
        keys = (
            "account",
            "order",
            "status",
            "closed_because",
            "trade",
            "amount_minor",
            "currency",
            "refunded_minor",
            "flags",
        )
        shown = [
            {"topic": "t", "number": each, "data": {key: PAGE[key] for key in keys} | {"version": each}}
            for each in numbers
        ]
        return web.json_response({"events": shown, "next": numbers[-1] if numbers else after})


@asynccontextmanager
async def asking(admin: Admin, *, within_s: float = 5.0) -> AsyncIterator[Api]:
    app = web.Application()
    app.router.add_get("/api/orders/{account}/{order}", admin.order)
    app.router.add_get("/api/events", admin.events)
    async with serving(app) as url, Api(url, until=time.monotonic() + within_s) as api:
        yield api


async def test_page_is_read_and_unknown_entries_are_skipped() -> None:
    async with asking(Admin()) as api:
        page = await api.order(ORDER)
    assert (page.status, page.version, len(page.records)) == ("PAID", 1, 1)


async def test_unknown_order_has_an_empty_page() -> None:
    admin = Admin()
    admin.page, admin.status = {"error": "unknown_order", "detail": "nothing is known of it"}, 404
    async with asking(admin) as api:
        assert await api.order(ORDER) == ABSENT


async def test_unavailable_store_is_asked_again() -> None:
    admin = Admin()
    admin.busy = 2
    async with asking(admin) as api:
        assert (await api.order(ORDER)).status == "PAID"
    assert admin.asked == 3


async def test_store_that_stays_unavailable_is_an_error_at_the_deadline() -> None:
    admin = Admin()
    admin.busy = 1000
    async with asking(admin, within_s=0.3) as api:
        with pytest.raises(UnreadableAnswer, match="the store is away"):
            await api.order(ORDER)


@pytest.mark.parametrize(("status", "page"), [(200, []), (200, {"status": "PAID"}), (401, {}), (404, {})])
async def test_answer_of_another_api_is_an_error_at_once(status: int, page: object) -> None:
    admin = Admin()
    admin.status, admin.page = status, page
    async with asking(admin) as api:
        with pytest.raises(UnreadableAnswer):
            await api.order(ORDER)
    assert admin.asked == 1


@pytest.mark.parametrize("last", [0, 1, 2, 3, 4, 5, 63, 64, 65, 123_457])
async def test_end_of_the_feed_is_found_with_few_requests(last: int) -> None:
    admin = Admin()
    admin.last = last
    async with asking(admin) as api:
        assert await api.last_event() == last
    assert admin.asked < 40


async def test_feed_gives_each_event_after_the_mark_once() -> None:
    admin = Admin()
    admin.last = 2500
    async with asking(admin) as api:
        feed = AdminFeed(api, after=10)
        versions = [event.version for _ in range(4) for event, _ in await feed.read()]
    assert versions == list(range(11, 2501))
