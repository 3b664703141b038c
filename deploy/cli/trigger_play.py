"""Register, send and compare for `trigger`. Its imports are slow, so the command imports them when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from deploy.cli import terminal

if TYPE_CHECKING:
    from deploy.sandbox.delivery import Attempt
    from deploy.sandbox.planning import Course
    from deploy.sandbox.scenario import Scenario
    from deploy.sandbox.world import World
    from schemas.retry_profiles import Profile

_END_WITHIN_S = 15.0


class Admin(NamedTuple):
    """The admin API at which orders are registered and read."""

    url: str
    token: str


class Stage(NamedTuple):
    """How the scenario is sent."""

    world: World
    profile: Profile | None  # `None`: that of each family
    time_scale: float
    history: Path | None


def play(
    scenario: Scenario, courses: Sequence[Course], stage: Stage, *, admin: Admin | None, check: bool
) -> tuple[list[Attempt], list[str]]:
    """Register the orders, send everything, and return the attempts; with `check`, the differences from the end too."""
    import asyncio

    from deploy.sandbox.admin_api import AdminUnavailableError

    try:
        return asyncio.run(_play(scenario, courses, stage, admin, check=check))
    except AdminUnavailableError as error:
        url = admin.url if admin else ""
        terminal.fail(f"The admin API at {url} cannot register or show the order: {error}")
    except OSError as error:
        terminal.fail(f"The history cannot be written: {error}")


async def _play(
    scenario: Scenario, courses: Sequence[Course], stage: Stage, admin: Admin | None, *, check: bool
) -> tuple[list[Attempt], list[str]]:
    from contextlib import closing, nullcontext

    import aiohttp

    from deploy.sandbox import ending, playing
    from deploy.sandbox.admin_api import AdminApi
    from deploy.sandbox.delivery import DeliveryHistory, Sender
    from deploy.sandbox.issued import IssuedIds

    attempts: list[Attempt] = []
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        api = AdminApi(http=http, url=admin.url, token=admin.token) if admin else None
        if api is not None:
            await playing.register(scenario, courses, api, asked=True)
        with closing(DeliveryHistory(stage.history)) if stage.history else nullcontext() as facts:
            sender = Sender(
                http=http,
                profile=stage.profile,
                issued=IssuedIds(stage.world.directory / "issued.log"),
                time_scale=stage.time_scale,
                observer=lambda attempt, _: attempts.append(attempt),
                history=facts,
            )
            await playing.play(courses, sender)
        if api is None or not check:
            return attempts, []
        return attempts, await ending.differences(courses, api, within_s=_END_WITHIN_S)
