"""The retry schedules add up to what the protocol reference says of them.

The sender takes only the exact answer, and comes back by its schedule until it has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import aiohttp
import msgspec
import pytest
from aiohttp import web

from deploy.sandbox import delivery, scenario
from deploy.sandbox.delivery import PROFILES, Attempt, DeliveryHistory, Errand, Sender
from deploy.sandbox.issued import IssuedIds
from deploy.sandbox.world import World
from tests.unit.deploy.sandbox.receiver import Answer, Receiver, always, receiving

H, M = 3600, 60


@pytest.mark.parametrize(
    ("name", "deliveries", "last_s"),
    [
        ("cn-4m", 8, 24 * H + 24 * M),
        ("global-2m", 8, 24 * H + 22 * M),
        ("odoo", 8, 24 * H + 27 * M),
        ("alt-5s", 9, 24 * H + 27 * M + 5),
        ("antom", 9, 24 * H + 22 * M),
        ("antom-sandbox", 1, 0),
        ("cn-immediate3", 10, 24 * H + 24 * M),
    ],
)
def test_each_profile_makes_its_deliveries_in_its_time(name: str, deliveries: int, last_s: float) -> None:
    profile = PROFILES[name]
    assert profile.deliveries == deliveries
    assert profile.offset_s(deliveries) == last_s
    assert profile.gap_after(deliveries) is None


def test_deliveries_beyond_the_schedule_still_have_moments_of_their_own() -> None:
    offsets = [PROFILES["once"].offset_s(number) for number in range(1, 5)]
    assert offsets == [0, 240, 480, 720]


def test_the_offsets_of_the_chinese_schedule_are_those_measured() -> None:
    minutes = [PROFILES["cn-4m"].offset_s(number) / M for number in range(1, 9)]
    assert minutes == [0, 4, 14, 24, 84, 204, 564, 1464]


NOW = datetime(2026, 3, 18, 6, 30, tzinfo=UTC)
ANTOM_YES = '{"result":{"resultCode":"SUCCESS","resultStatus":"S","resultMessage":"success"}}'


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Pauses:
    """A clock that only notes how long it was asked to wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def errand(world: World, receiver_url: str, *, account: str = "demo-md5", name: str = "paid") -> Errand:
    courses = scenario.Planner(Random(1)).plan(
        scenario.load_all()[name], world.account(account), now=NOW, base_url=receiver_url
    )
    return courses[0][0].errand


def sender(
    http: aiohttp.ClientSession, *, profile: str = "once", pauses: Pauses | None = None, **more: object
) -> Sender:
    settings = {"issued": IssuedIds(), "sleep": pauses or Pauses(), "timeout_s": 1.0} | more
    return Sender(http=http, profile=PROFILES[profile], **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "answer", "antom", "outcome"),
    [
        (200, b"success", False, "ok"),
        (200, b"success\n", False, "refused"),
        (200, b"SUCCESS", False, "refused"),
        (200, b"\xef\xbb\xbfsuccess", False, "refused"),
        (200, b"", False, "refused"),
        (200, b"fail", False, "refused"),
        (201, b"success", False, "refused"),
        (302, b"success", False, "refused"),
        (503, b"success", False, "refused"),
        (200, ANTOM_YES.encode(), True, "ok"),
        (200, b"success", True, "refused"),
        (200, b'{"result":{"resultStatus":"F"}}', True, "refused"),
        (200, b'{"result":"S"}', True, "refused"),
        (200, b"[]", True, "refused"),
        (200, b"\xff", True, "refused"),
        (500, ANTOM_YES.encode(), True, "refused"),
    ],
)
def test_only_the_exact_answer_is_an_answer(status: int, answer: bytes, antom: bool, outcome: str) -> None:
    judged, why = delivery.judge(status, answer, antom=antom)
    assert judged == outcome
    assert bool(why) is (outcome == "refused")


async def test_success_ends_it(world: World, http: aiohttp.ClientSession) -> None:
    async with receiving() as receiver:
        attempts = await sender(http, profile="cn-4m").deliver(errand(world, receiver.url))
    assert [one.outcome for one in attempts] == ["ok"]
    assert len(receiver.bodies) == 1
    assert receiver.headers[0]["content-type"] == "application/x-www-form-urlencoded; charset=gbk"


async def test_a_refused_notification_comes_by_the_schedule_with_a_new_time_and_the_same_id(
    world: World, http: aiohttp.ClientSession
) -> None:
    pauses = Pauses()
    async with receiving(always(503, "fail")) as receiver:
        attempts = await sender(http, profile="cn-4m", pauses=pauses, time_scale=60).deliver(
            errand(world, receiver.url)
        )
    assert len(attempts) == 8
    assert pauses.seconds == [gap / 60 for gap in PROFILES["cn-4m"].gaps_s]
    forms = receiver.forms()
    assert len({one["notify_id"] for one in forms}) == 1
    assert len({one["sign"] for one in forms}) == 8
    assert [one["notify_time"][5:16] for one in forms[:3]] == ["03-18 14:30", "03-18 14:34", "03-18 14:44"]
    assert attempts[-1].again_in_s is None


async def test_it_stops_at_the_first_success(world: World, http: aiohttp.ClientSession) -> None:
    async def third_time(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="success" if len(receiver.bodies) == 3 else "fail")

    async with receiving(third_time) as receiver:
        attempts = await sender(http, profile="global-2m").deliver(errand(world, receiver.url))
    assert [one.outcome for one in attempts] == ["refused", "refused", "ok"]


async def test_a_redirect_is_not_followed(world: World, http: aiohttp.ClientSession) -> None:
    async with receiving(always(302, "", location="/elsewhere")) as receiver:
        (attempt,) = await sender(http).deliver(errand(world, receiver.url))
    assert attempt.outcome == "refused"
    assert receiver.paths == ["/notify/demo-md5"]


async def test_no_answer_in_time_is_silence(world: World, http: aiohttp.ClientSession) -> None:
    async def sleeps(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response(text="success")

    async with receiving(sleeps) as receiver:
        (attempt,) = await sender(http, timeout_s=0.05).deliver(errand(world, receiver.url))
    assert (attempt.outcome, attempt.status) == ("silent", None)
    assert "0.05" in attempt.why
    assert not attempt.as_expected


async def test_nobody_there_is_silence(world: World, http: aiohttp.ClientSession) -> None:
    (attempt,) = await sender(http).deliver(errand(world, "http://127.0.0.1:1"))
    assert attempt.outcome == "silent"


async def test_an_endless_answer_is_not_read_to_its_end(world: World, http: aiohttp.ClientSession) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x" * 65536)
        return response

    async with receiving(endless) as receiver:
        (attempt,) = await sender(http, timeout_s=5.0).deliver(errand(world, receiver.url))
    assert attempt.outcome == "refused"
    assert len(attempt.answer) <= 120


async def test_a_forger_does_not_come_back(world: World, http: aiohttp.ClientSession) -> None:
    async with receiving(always(401, "fail")) as receiver:
        (attempt,) = await sender(http, profile="cn-4m").deliver(errand(world, receiver.url, name="forged_signature"))
    assert attempt.as_expected
    assert attempt.again_in_s is None


@asynccontextmanager
async def asking(issued: IssuedIds, partner: str) -> AsyncIterator[tuple[Receiver, list[str]]]:
    """A merchant who asks about each id before he answers, and what he was told."""
    told: list[str] = []

    async def asks(_request: web.Request) -> web.StreamResponse:
        told.append(issued.confirm(partner=partner, notify_id=receiver.forms()[-1]["notify_id"]))
        return web.Response(text="success")

    async with receiving(asks) as receiver:
        yield receiver, told


async def test_the_id_can_be_verified_while_the_merchant_thinks_and_not_after(
    world: World, http: aiohttp.ClientSession
) -> None:
    issued = IssuedIds()
    partner = world.account("demo-web").identity.partner
    async with asking(issued, partner) as (receiver, told):
        await sender(http, issued=issued).deliver(errand(world, receiver.url, account="demo-web"))
        forged = errand(world, receiver.url, account="demo-web", name="forged_signature")
        await sender(http, issued=issued).deliver(forged)
    assert told == ["true", "false"]
    notify_id = receiver.forms()[0]["notify_id"]
    assert issued.confirm(partner=partner, notify_id=notify_id) == "false"


async def test_the_copies_of_a_duplicate_can_all_be_verified(world: World, http: aiohttp.ClientSession) -> None:
    issued = IssuedIds()
    async with asking(issued, world.account("demo-web").identity.partner) as (receiver, told):
        courses = scenario.Planner(Random(1)).plan(
            scenario.load_all()["duplicate_x8"], world.account("demo-web"), now=NOW, base_url=receiver.url
        )
        await scenario.play(courses, sender(http, issued=issued, profile="cn-4m"))
    assert told == ["true"] * 8
    assert len({one["sign"] for one in receiver.forms()}) == 8
    assert len({one["notify_id"] for one in receiver.forms()}) == 1


async def test_retries_of_one_step_do_not_hold_up_the_next(world: World, http: aiohttp.ClientSession) -> None:
    async def refuses_the_first(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="fail" if len(receiver.bodies) == 1 else "success")

    async with receiving(refuses_the_first) as receiver:
        courses = scenario.Planner(Random(1)).plan(
            scenario.load_all()["full_refund"], world.account("demo-cn"), now=NOW, base_url=receiver.url
        )
        await scenario.play(courses, sender(http, profile="cn-4m"))
    assert [one["trade_status"] for one in receiver.forms()] == ["TRADE_SUCCESS", "TRADE_CLOSED", "TRADE_SUCCESS"]


async def test_no_more_requests_are_open_than_allowed(world: World, http: aiohttp.ClientSession) -> None:
    open_now, most = 0, 0

    async def counts(_request: web.Request) -> web.StreamResponse:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.01)
        open_now -= 1
        return web.Response(text="success")

    async with receiving(counts) as receiver:
        courses = scenario.Planner(Random(1)).plan(
            scenario.load_all()["burst"], world.account("demo-md5"), now=NOW, base_url=receiver.url
        )
        await scenario.play(courses, sender(http, concurrency=4))
    assert len(receiver.bodies) == 50
    assert most <= 4


@pytest.mark.parametrize(("answer", "last"), [(always(), "ok"), (always(401, "fail"), "refused")])
async def test_the_history_tells_of_each_attempt_before_and_after(
    world: World, http: aiohttp.ClientSession, tmp_path: Path, answer: Answer, last: str
) -> None:
    notification: list[Attempt] = []
    async with receiving(answer) as receiver:
        with closing(DeliveryHistory(tmp_path / "history")) as history:
            await sender(http, history=history, watcher=notification.append).deliver(errand(world, receiver.url))
    facts = [msgspec.json.decode(line) for line in (tmp_path / "history").read_bytes().splitlines()]
    assert [one["what"] for one in facts] == ["call", last]
    assert facts[0]["id"] == facts[1]["id"] == notification[0].notify_id
    assert facts[0]["mono_ns"] <= facts[1]["mono_ns"]
    assert not facts[0]["forged"]


async def test_antom_is_signed_for_its_path_and_answered_in_json(world: World, http: aiohttp.ClientSession) -> None:
    async with receiving(always(200, ANTOM_YES)) as receiver:
        (attempt,) = await sender(http).deliver(errand(world, receiver.url, account="demo-antom"))
    assert attempt.outcome == "ok"
    check_antom(world, receiver)


def check_antom(world: World, receiver: Receiver) -> None:
    """The signature as Antom's own documents say, with nothing but `cryptography`."""
    from base64 import b64decode
    from urllib.parse import unquote

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    headers = receiver.headers[0]
    key = load_pem_public_key((world.accounts_file.parent / "keys" / "antom-rsa256.pem").read_bytes())
    assert isinstance(key, rsa.RSAPublicKey)
    signature = b64decode(unquote(headers["signature"].split("signature=")[1]))
    text = f"POST /notify/demo-antom\n{headers['client-id']}.{headers['request-time']}.".encode() + receiver.bodies[0]
    key.verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
