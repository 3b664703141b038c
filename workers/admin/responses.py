"""Answers and inputs of the admin API: JSON in, JSON out, and errors with a code for programs and a text for people.

ApiError
├── 400 bad_request      the text names the parameter and its right form
├── 401 no_token         without the token, or with another one; reads need it beyond loopback
├── 403 cross_site       a write from another site's page; foreign_name: a host name that is not ours;
│                        another_name: `by` is not the name of the token
├── 404 unknown_…        there is no such order, account, held notification or path
├── 405 method
├── 408 too_slow         the body did not arrive in time
├── 409 conflict         the state has changed, for example: already resolved
├── 413 / 415            too large, or not JSON
├── 500 our_fault        see the log line admin_failed
└── 503 unavailable      the store does not answer: try again; too_many_waiters: too many long polls;
                         read_too_slow: the answer took longer than operators' reads may
"""

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec
from aiohttp import web

from schemas import times

T = TypeVar("T")

API_BODY_BYTES_MAX = 64 * 1024
BODY_DEADLINE_S = 5.0
WAIT_MAX_S = 60.0
LIMIT_MAX = 1000

_WAIT = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(ms|s)?", re.ASCII)
_AGO = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_AGO_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

_encode = msgspec.json.Encoder().encode


class ApiError(Exception):
    """An error answer to a request."""

    def __init__(self, status: int, code: str, detail: str, *, challenge: str = "Bearer") -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.challenge = challenge  # the header WWW-Authenticate of a 401


def bad_request(detail: str) -> ApiError:
    """Return the error for a wrong parameter or body."""
    return ApiError(400, "bad_request", detail)


def known_account(accounts: Mapping[str, T], name: str) -> T:
    """Return the account that a path names.

    Raises:
        ApiError: there is none now; a reload may have removed it.
    """
    account = accounts.get(name)
    if account is None:
        raise ApiError(404, "unknown_account", f"there is no account {name} in accounts.toml")
    return account


def json(answer: object, *, status: int = 200) -> web.Response:
    """Return the answer as JSON that no cache may keep."""
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=_encode(answer), status=status, content_type="application/json", headers=headers)


def refused(error: ApiError) -> web.Response:
    """Return the error as JSON."""
    response = json({"error": error.code, "detail": error.detail}, status=error.status)
    if error.status == 503:
        response.headers["Retry-After"] = "1"
    if error.status == 401:
        response.headers["WWW-Authenticate"] = error.challenge
    return response


def asks_for_html(request: web.Request) -> bool:
    """Return whether the header Accept names HTML; programs send `*/*`, or JSON."""
    accepted = request.headers.get("Accept", "").lower().split(",")
    return any(each.partition(";")[0].strip() == "text/html" for each in accepted)


async def body(request: web.Request, shape: type[T]) -> T:
    """Return the request's body, which must be JSON of exactly this shape; an empty body is the empty object.

    Raises:
        ApiError: 415 for another media type, 408 if it does not arrive in time, 400 for another shape.
    """
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            content = await request.read()
    except TimeoutError:
        raise ApiError(408, "too_slow", f"the body did not arrive within {BODY_DEADLINE_S:g} s") from None
    if content and request.content_type != "application/json":
        raise ApiError(415, "media_type", "the body must be JSON, with the header Content-Type: application/json")
    try:
        return msgspec.json.decode(content or b"{}", type=shape)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise bad_request(f"the JSON body is wrong: {error}") from None


def wait_s(request: web.Request) -> float:
    """Return the seconds to wait: from `20s`, `500ms` or `20`, at most a minute, 0 if there is no `wait`.

    Raises:
        ApiError: `wait` has another form.
    """
    text = request.query.get("wait", "0")
    match = _WAIT.fullmatch(text)
    if match is None:
        raise bad_request("wait must look like 20s, 500ms or 20")
    seconds = float(match[1]) / (1000 if match[2] == "ms" else 1)
    return min(seconds, WAIT_MAX_S)


def whole_number(request: web.Request, name: str, *, default: int, most: int | None = None) -> int:
    """Return a query parameter that is a whole number from 0 to `most`.

    Raises:
        ApiError: it is not such a number.
    """
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18) or (most is not None and int(text) > most):
        raise bad_request(f"{name} must be a whole number" + (f" up to {most}" if most is not None else ""))
    return int(text)


def yes_or_no(given: Mapping[str, str], name: str) -> bool:
    """Return a parameter that is `true` or `1`, or `false`, `0`, empty or absent.

    Raises:
        ApiError: it is something else; a filter that is not understood must not show what it should hide.
    """
    text = given.get(name, "")
    if text not in ("true", "1", "false", "0", ""):
        raise bad_request(f"{name} must be true or false")
    return text in ("true", "1")


def later_ms(text: str, *, now_ms: int) -> int:
    """Return the epoch milliseconds of `4h` (from now; units s, m, h, d) or of an ISO 8601 time with a zone.

    Raises:
        ApiError: the text has another form.
    """
    match = _AGO.fullmatch(text)
    if match is None:
        return moment_ms(text, now_ms=now_ms)
    return now_ms + int(timedelta(**{_AGO_UNITS[match[2]]: int(match[1])}).total_seconds() * 1000)


def moment_ms(text: str, *, now_ms: int) -> int:
    """Return the epoch milliseconds of `24h` (ago; units s, m, h, d) or of an ISO 8601 time with a zone.

    Raises:
        ApiError: the text has another form.
    """
    match = _AGO.fullmatch(text)
    if match is not None:
        ago = timedelta(**{_AGO_UNITS[match[2]]: int(match[1])})
        return max(0, now_ms - int(ago.total_seconds() * 1000))
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError(text)
        return times.to_epoch_ms(moment.astimezone(UTC))
    except (ValueError, OverflowError):  # the first and the last hours of the calendar are none in UTC
        raise bad_request("a time must look like 24h (ago), or 2026-01-31T08:00:00Z") from None
