"""The sandbox's server: scenarios started from its page, and posts from other sites."""

from __future__ import annotations

import asyncio

from tests.unit.deploy.sandbox.town import Town


async def test_scenario_started_from_the_page_appears_in_its_list(town: Town) -> None:
    form = {"scenario": "paid", "account": "demo-cn"}
    async with town.buyer.http.post(f"{town.buyer.base}/scenarios", data=form) as response:
        assert response.status == 200
    async with asyncio.timeout(5):
        while ">demo-cn</td>" not in await town.buyer.go("/recent"):  # noqa: ASYNC110 - it happens behind a socket
            await asyncio.sleep(0.01)
    assert "status 404" in town.buyer.page, "the stand-in merchant has no such account"


async def test_posts_from_another_site_are_refused(town: Town) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    async with town.buyer.http.post(f"{town.buyer.base}/scenarios", headers=headers) as response:
        assert response.status == 403
