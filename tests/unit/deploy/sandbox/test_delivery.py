"""Retry schedules, and the sender that delivers by them until the answer is exactly right."""

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

from deploy.sandbox import delivery, planning, playing, scenario_files
from deploy.sandbox.delivery import PROFILES, Attempt, DeliveryHistory, DeliveryJob, Sender
from deploy.sandbox.dropping import Dropping
from deploy.sandbox.issued import IssuedIds
from deploy.sandbox.trades import Trades
from deploy.sandbox.world import World
from schemas import retry_profiles
from tests.unit.deploy.sandbox.receiver import Answer, Receiver, always, receiving


def test_one_delivery_alone_can_be_sent_as_by_no_profile_of_alipay() -> None:
    offsets = [PROFILES["once"].offset_s(number) for number in range(1, 5)]
    assert (offsets, PROFILES["once"].deliveries) == ([0, 240, 480, 720], 1)
    assert "once" not in retry_profiles.PROFILES


NOW = datetime(2026, 3, 18, 6, 30, tzinfo=UTC)
ANTOM_YES = '{"result":{"resultCode":"SUCCESS","resultStatus":"S","resultMessage":"success"}}'


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Pauses:
    """A sleep that returns at once and records the seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def job(world: World, receiver_url: str, *, account: str = "demo-md5", name: str = "paid") -> DeliveryJob:
    courses = planning.Planner(Random(1)).plan(
        scenario_files.load_all()[name], world.account(account), now=NOW, base_url=receiver_url
    )
    return courses[0].steps[0].job


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
def test_only_the_exact_answer_is_accepted(status: int, answer: bytes, antom: bool, outcome: str) -> None:
    judged, why = delivery.judge(status, answer, antom=antom)
    assert judged == outcome
    assert bool(why) is (outcome == "refused")


async def test_success_ends_the_delivery(world: World, http: aiohttp.ClientSession) -> None:
    async with receiving() as receiver:
        attempts = await sender(http, profile="cn-4m").deliver(job(world, receiver.url))
    assert [one.outcome for one in attempts] == ["ok"]
    assert len(receiver.bodies) == 1
    assert receiver.headers[0]["content-type"] == "application/x-www-form-urlencoded; charset=gbk"


async def test_refused_notification_is_retried_with_the_same_id_and_a_new_time(
    world: World, http: aiohttp.ClientSession
) -> None:
    pauses = Pauses()
    async with receiving(always(503, "fail")) as receiver:
        attempts = await sender(http, profile="cn-4m", pauses=pauses, time_scale=60).deliver(job(world, receiver.url))
    assert len(attempts) == 8
    assert pauses.seconds == [gap / 60 for gap in PROFILES["cn-4m"].gaps_s]
    forms = receiver.forms()
    assert len({one["notify_id"] for one in forms}) == 1
    assert len({one["sign"] for one in forms}) == 8
    assert [one["notify_time"][5:16] for one in forms[:3]] == ["03-18 14:30", "03-18 14:34", "03-18 14:44"]
    assert attempts[-1].again_in_s is None


@pytest.mark.parametrize(("account", "profile"), [("demo-md5", "cn-4m"), ("demo-cn", "cn-4m"), ("demo-antom", "antom")])
async def test_without_a_profile_each_notification_is_retried_by_that_of_its_family(
    world: World, http: aiohttp.ClientSession, account: str, profile: str
) -> None:
    pauses = Pauses()
    async with receiving(always(503, "fail")) as receiver:
        sending = Sender(http=http, profile=None, issued=IssuedIds(), sleep=pauses)
        attempts = await sending.deliver(job(world, receiver.url, account=account))
    assert len(attempts) == PROFILES[profile].deliveries
    assert pauses.seconds == [gap for gap in PROFILES[profile].gaps_s if gap]
    assert [round((one.sent_at - attempts[0].sent_at).total_seconds()) for one in attempts[:3]] == [
        PROFILES[profile].offset_s(number) for number in (1, 2, 3)
    ]


async def test_retries_stop_at_the_first_success(world: World, http: aiohttp.ClientSession) -> None:
    async def third_time(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="success" if len(receiver.bodies) == 3 else "fail")

    async with receiving(third_time) as receiver:
        attempts = await sender(http, profile="global-2m").deliver(job(world, receiver.url))
    assert [one.outcome for one in attempts] == ["refused", "refused", "ok"]


async def test_redirect_is_not_followed(world: World, http: aiohttp.ClientSession) -> None:
    async with receiving(always(302, "", location="/elsewhere")) as receiver:
        (attempt,) = await sender(http).deliver(job(world, receiver.url))
    assert attempt.outcome == "refused"
    assert receiver.paths == ["/notify/demo-md5"]


async def test_missing_answer_is_silent(world: World, http: aiohttp.ClientSession) -> None:
    async def sleeps(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response(text="success")

    async with receiving(sleeps) as receiver:
        (attempt,) = await sender(http, timeout_s=0.05).deliver(job(world, receiver.url))
    assert (attempt.outcome, attempt.status) == ("silent", None)
    assert "0.05" in attempt.why
    assert not attempt.as_expected


async def test_refused_connection_is_silent(world: World, http: aiohttp.ClientSession) -> None:
    (attempt,) = await sender(http).deliver(job(world, "http://127.0.0.1:1"))
    assert attempt.outcome == "silent"


async def test_endless_answer_is_not_read_to_its_end(world: World, http: aiohttp.ClientSession) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x" * 65536)
        return response

    async with receiving(endless) as receiver:
        (attempt,) = await sender(http, timeout_s=5.0).deliver(job(world, receiver.url))
    assert attempt.outcome == "refused"
    assert len(attempt.answer) <= 120


async def test_forgery_is_not_retried(world: World, http: aiohttp.ClientSession) -> None:
    async with receiving(always(401, "fail")) as receiver:
        (attempt,) = await sender(http, profile="cn-4m").deliver(job(world, receiver.url, name="forged_signature"))
    assert attempt.as_expected
    assert attempt.again_in_s is None


@asynccontextmanager
async def asking(issued: IssuedIds, partner: str) -> AsyncIterator[tuple[Receiver, list[str]]]:
    """A merchant that verifies each id before it answers, and the answers of notify_verify."""
    answers: list[str] = []

    async def asks(_request: web.Request) -> web.StreamResponse:
        answers.append(issued.confirm(partner=partner, notify_id=receiver.forms()[-1]["notify_id"]))
        return web.Response(text="success")

    async with receiving(asks) as receiver:
        yield receiver, answers


async def test_id_is_confirmed_until_the_merchant_has_answered(world: World, http: aiohttp.ClientSession) -> None:
    issued = IssuedIds()
    partner = world.account("demo-web").identity.partner
    async with asking(issued, partner) as (receiver, answers):
        await sender(http, issued=issued).deliver(job(world, receiver.url, account="demo-web"))
        forged = job(world, receiver.url, account="demo-web", name="forged_signature")
        await sender(http, issued=issued).deliver(forged)
    assert answers == ["true", "false"]
    notify_id = receiver.forms()[0]["notify_id"]
    assert issued.confirm(partner=partner, notify_id=notify_id) == "false"


async def test_all_copies_of_a_duplicate_are_confirmed(world: World, http: aiohttp.ClientSession) -> None:
    issued = IssuedIds()
    async with asking(issued, world.account("demo-web").identity.partner) as (receiver, answers):
        courses = planning.Planner(Random(1)).plan(
            scenario_files.load_all()["duplicate_x8"], world.account("demo-web"), now=NOW, base_url=receiver.url
        )
        await playing.play(courses, sender(http, issued=issued, profile="cn-4m"))
    assert answers == ["true"] * 8
    assert len({one["sign"] for one in receiver.forms()}) == 8
    assert len({one["notify_id"] for one in receiver.forms()}) == 1


async def test_retries_of_one_step_do_not_hold_up_the_next(world: World, http: aiohttp.ClientSession) -> None:
    async def refuses_the_first(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="fail" if len(receiver.bodies) == 1 else "success")

    async with receiving(refuses_the_first) as receiver:
        courses = planning.Planner(Random(1)).plan(
            scenario_files.load_all()["full_refund"], world.account("demo-cn"), now=NOW, base_url=receiver.url
        )
        await playing.play(courses, sender(http, profile="cn-4m"))
    assert [one["trade_status"] for one in receiver.forms()] == ["TRADE_SUCCESS", "TRADE_CLOSED", "TRADE_SUCCESS"]


async def test_concurrency_limits_the_open_requests(world: World, http: aiohttp.ClientSession) -> None:
    open_now, most = 0, 0

    async def counts(_request: web.Request) -> web.StreamResponse:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.01)
        open_now -= 1
        return web.Response(text="success")

    async with receiving(counts) as receiver:
        courses = planning.Planner(Random(1)).plan(
            scenario_files.load_all()["burst"], world.account("demo-md5"), now=NOW, base_url=receiver.url
        )
        await playing.play(courses, sender(http, concurrency=4))
    assert len(receiver.bodies) == 50
    assert most <= 4


@pytest.mark.parametrize(("answer", "last"), [(always(), "ok"), (always(401, "fail"), "refused")])
async def test_history_has_a_line_before_and_after_each_attempt(
    world: World, http: aiohttp.ClientSession, tmp_path: Path, answer: Answer, last: str
) -> None:
    attempts: list[Attempt] = []
    async with receiving(answer) as receiver:
        with closing(DeliveryHistory(tmp_path / "history")) as history:
            await sender(http, history=history, observer=lambda attempt, _: attempts.append(attempt)).deliver(
                job(world, receiver.url)
            )
    facts = [msgspec.json.decode(line) for line in (tmp_path / "history").read_bytes().splitlines()]
    assert [one["what"] for one in facts] == ["call", last]
    assert facts[0]["id"] == facts[1]["id"] == attempts[0].notify_id
    assert facts[0]["mono_ns"] <= facts[1]["mono_ns"]
    assert not facts[0]["forged"]


async def test_antom_delivery_is_signed_for_its_path_and_answered_in_json(
    world: World, http: aiohttp.ClientSession
) -> None:
    async with receiving(always(200, ANTOM_YES)) as receiver:
        (attempt,) = await sender(http).deliver(job(world, receiver.url, account="demo-antom"))
    assert attempt.outcome == "ok"
    check_antom(world, receiver)


def check_antom(world: World, receiver: Receiver) -> None:
    """Verify the signature by Antom's documents, with `cryptography` alone."""
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


async def test_lost_notification_is_known_at_alipay_and_not_sent_again(
    http: aiohttp.ClientSession, world: World
) -> None:
    trades, dropping = Trades(), Dropping(1.0, lambda: 0.0)
    lost = job(world, "http://127.0.0.1:1")
    attempts = await sender(http, profile="cn-4m", trades=trades, dropping=dropping).deliver(lost)
    assert [(each.outcome, each.again_in_s) for each in attempts] == [("silent", None)]
    assert "on purpose" in attempts[0].why
    assert trades.of("demo-md5", lost.notification.order) == lost.notification
