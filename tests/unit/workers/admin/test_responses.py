"""Inputs of the admin API: bodies, waits, numbers, times and operators; and the form of its answers."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request
from msgspec import Struct

from workers.admin import responses
from workers.admin.responses import ApiError

NOW_MS = 1_769_846_400_000  # 2026-01-31T08:00:00Z


class Shape(Struct, forbid_unknown_fields=True):
    reason: str = ""


def request(query: str = "", *, content: bytes = b"", media_type: str = "application/json") -> web.Request:
    """A request whose body has arrived."""
    loop = asyncio.get_running_loop()
    payload = StreamReader(make_mocked_request("GET", "/").protocol, limit=2**16, loop=loop)
    payload.feed_data(content)
    payload.feed_eof()
    return make_mocked_request("POST", f"/?{query}", headers={"Content-Type": media_type}, payload=payload)


@pytest.mark.parametrize(
    ("text", "seconds"), [("20s", 20), ("500ms", 0.5), ("20", 20), ("0.25s", 0.25), ("61s", 60), ("0", 0)]
)
async def test_wait_is_given_in_seconds_or_milliseconds(text: str, seconds: float) -> None:
    assert responses.wait_s(request(f"wait={text}")) == seconds
    assert responses.wait_s(request()) == 0


@pytest.mark.parametrize("text", ["soon", "-1", "1m", "1e3", "\u0661s", ""])
async def test_other_waits_are_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(ApiError, match="20s, 500ms or 20"):
        responses.wait_s(request(f"wait={text}"))


def test_only_a_clear_yes_or_no_is_taken() -> None:
    assert [responses.yes_or_no({"flagged": each}, "flagged") for each in ("true", "1")] == [True, True]
    assert [responses.yes_or_no(given, "flagged") for given in ({"flagged": "false"}, {"flagged": ""}, {})] == [
        False
    ] * 3
    with pytest.raises(ApiError, match="flagged must be true or false"):
        responses.yes_or_no({"flagged": "yes"}, "flagged")


async def test_whole_number_is_limited() -> None:
    assert responses.whole_number(request("limit=7"), "limit", default=1, most=7) == 7
    assert responses.whole_number(request(), "limit", default=1, most=7) == 1
    for text in ("8", "-1", "1.0", "\u0661", "1" * 19):
        with pytest.raises(ApiError, match="limit must be a whole number up to 7"):
            responses.whole_number(request(f"limit={text}"), "limit", default=1, most=7)


@pytest.mark.parametrize(
    ("text", "epoch_ms"),
    [
        ("24h", NOW_MS - 86_400_000),
        ("30s", NOW_MS - 30_000),
        ("2026-01-31T08:00:00Z", NOW_MS),
        ("2026-01-31T16:00:00+08:00", NOW_MS),
        ("2004-01-24T22:03:32.758Z", 1_074_981_812_758),
        ("999999d", 0),
    ],
)
def test_time_is_a_span_before_now_or_an_iso_time(text: str, epoch_ms: int) -> None:
    assert responses.moment_ms(text, now_ms=NOW_MS) == epoch_ms


@pytest.mark.parametrize(
    "text",
    ["yesterday", "2026-01-31T08:00:00", "2026-01-31", "24", "0001-01-01T00:00:00+08:00", "9999-12-31T23:59:59-08:00"],
)
def test_other_times_are_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(ApiError, match="24h"):
        responses.moment_ms(text, now_ms=NOW_MS)


async def test_body_is_parsed_strictly_and_may_be_empty() -> None:
    assert await responses.body(request(content=b'{"reason": "r"}'), Shape) == Shape("r")
    assert await responses.body(request(), Shape) == Shape()
    for content in (b"{", b"[]", b'{"because": "r"}', b"\xff", b"[" * 5000):
        with pytest.raises(ApiError) as refused:
            await responses.body(request(content=content), Shape)
        assert refused.value.status == 400
    with pytest.raises(ApiError) as refused:
        await responses.body(request(content=b"{}", media_type="text/plain"), Shape)
    assert refused.value.status == 415


async def test_body_that_does_not_arrive_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "BODY_DEADLINE_S", 0.001)
    payload = StreamReader(make_mocked_request("GET", "/").protocol, limit=2**16, loop=asyncio.get_running_loop())
    slow = make_mocked_request("POST", "/", headers={"Content-Type": "application/json"}, payload=payload)
    with pytest.raises(ApiError) as refused:
        await responses.body(slow, Shape)
    assert (refused.value.status, refused.value.code) == (408, "too_slow")


def test_errors_are_json_with_the_headers_of_their_status() -> None:
    unavailable = responses.refused(ApiError(503, "unavailable", "try again"))
    assert (unavailable.status, unavailable.headers["Retry-After"]) == (503, "1")
    assert unavailable.body == b'{"error":"unavailable","detail":"try again"}'
    assert responses.refused(ApiError(401, "no_token", "")).headers["WWW-Authenticate"] == "Bearer"
    assert responses.bad_request("x").status == 400


def test_no_answer_may_be_cached() -> None:
    assert responses.json({}).headers["Cache-Control"] == "no-store"
