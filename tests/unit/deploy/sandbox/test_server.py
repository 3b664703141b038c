"""The sandbox's server: scenarios started from its page, and posts from other sites."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from msgspec import structs

from deploy.sandbox import server
from deploy.sandbox.delivery import Attempt, DeliveryJob, Sender
from tests.support.waiting import until
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


class RefusedSender:
    """A sender whose first attempts are refused, and whose further ones are a day away, or fail."""

    def __init__(self, attempt: Attempt, error: Exception | None = None) -> None:
        self._attempt, self._error = attempt, error
        self.waiting = 0

    async def attempt(self, job: DeliveryJob, *, number: int) -> Attempt:
        return self._attempt

    async def resend(self, job: DeliveryJob, *, after: Attempt) -> tuple[Attempt, ...]:
        if self._error is not None:
            raise self._error
        self.waiting += 1
        await asyncio.sleep(86_400)
        return ()


async def test_refused_deliveries_that_wait_for_the_schedule_keep_no_slot(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, attempt = await paid(town)
    sender = RefusedSender(structs.replace(attempt, outcome="refused", again_in_s=86_400.0))
    monkeypatch.setattr(town.sandbox, "_sender", cast(Sender, sender))
    monkeypatch.setattr(server, "_PLAYS_AT_ONCE_MAX", 2)
    monkeypatch.setattr(server, "_RESENDING_MAX", 3)
    for _ in range(5):
        assert town.sandbox.start_delivery(job, 1)
        await until(lambda: not town.sandbox._plays)
    await until(lambda: sender.waiting == 3)


async def test_delivery_that_fails_is_reported(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    job, attempt = await paid(town)
    sender = RefusedSender(structs.replace(attempt, again_in_s=1.0), KeyError("a bug"))
    monkeypatch.setattr(town.sandbox, "_sender", cast(Sender, sender))
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    assert town.sandbox.start_delivery(job, 1)
    await until(lambda: bool(reported))
    assert isinstance(reported[0]["exception"], KeyError)


async def paid(town: Town) -> tuple[DeliveryJob, Attempt]:
    """The delivery of a payment at the cashier."""
    await town.pay()
    await until(lambda: bool(town.sandbox._recent.newest()))
    (one,) = town.sandbox._recent.newest()
    return one.job, one.attempt
