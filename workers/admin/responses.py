"""How the admin port speaks: JSON in, JSON out, and every refusal with a code for programs and a text for people.

Refusal
├── 400 bad_request      the text says what is wrong and what would be right
├── 401 no_token         a write without the token, or with another one
├── 403 cross_site       a write that another site's page sent, or a name that is not ours
├── 404 unknown_…        nothing is known by that name
├── 405 method
├── 409 conflict         the state that the question supposes is not there any more
├── 413 / 415            too much, or not JSON
└── 503 unavailable      the store does not answer, or too many wait: ask again
"""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec
from aiohttp import web

T = TypeVar("T")

BODY_BYTES_MAX = 64 * 1024
BODY_DEADLINE_S = 5.0
WAIT_MAX_S = 60.0
LIMIT_MAX = 1000
NAME_CHARACTERS_MAX = 60

_WAIT = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(ms|s)?", re.ASCII)
_AGO = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_AGO_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

_encode = msgspec.json.Encoder().encode


class ApiError(Exception):
    """A question that gets no answer but this."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


def bad_request(detail: str) -> ApiError:
    return ApiError(400, "bad_request", detail)


def json(answer: object, *, status: int = 200) -> web.Response:
    """The answer as JSON; nothing of it may be kept by a cache."""
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=_encode(answer), status=status, content_type="application/json", headers=headers)


def refused(refusal: ApiError) -> web.Response:
    """The refusal as JSON."""
    response = json({"error": refusal.code, "detail": refusal.detail}, status=refusal.status)
    if refusal.status == 503:
        response.headers["Retry-After"] = "1"
    if refusal.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def body(request: web.Request, shape: type[T]) -> T:
    """The request's body, which has to be JSON of this shape and nothing else; no body at all is the empty object.

    Raises:
        ApiError: 415 for another media type, 408 where it does not arrive, 400 with what is wrong.
    """
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            content = await request.read()
    except TimeoutError:
        raise ApiError(408, "too_slow", f"the body did not arrive within {BODY_DEADLINE_S:g} s") from None
    if content and request.content_type != "application/json":
        raise ApiError(415, "media_type", "the body must be JSON: Content-Type: application/json")
    try:
        return msgspec.json.decode(content or b"{}", type=shape)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise bad_request(f"the body is not what is expected here: {error}") from None


def wait_s(request: web.Request) -> float:
    """How long the asker would wait: `20s`, `500ms` or `20`; more than a minute is taken as a minute, nothing as 0.

    Raises:
        ApiError: another form.
    """
    text = request.query.get("wait", "0")
    match = _WAIT.fullmatch(text)
    if match is None:
        raise bad_request("wait has the form 20s, 500ms or 20")
    seconds = float(match[1]) / (1000 if match[2] == "ms" else 1)
    return min(seconds, WAIT_MAX_S)


def whole_number(request: web.Request, name: str, *, default: int, most: int | None = None) -> int:
    """A query parameter that counts something.

    Raises:
        ApiError: not a number, negative, or above `most`.
    """
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18) or (most is not None and int(text) > most):
        raise bad_request(f"{name} is a whole number" + (f" up to {most}" if most is not None else ""))
    return int(text)


def by(request: web.Request, told: str) -> str:
    """Who it was, as far as can be told: the name they gave, and where from."""
    shown = told.strip()[:NAME_CHARACTERS_MAX]
    name = "".join([each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in shown])
    return f"{name or 'api'} ({request.remote or 'unknown'})"


def moment_ms(text: str, *, now_ms: int) -> int:
    """A moment as `24h` (so long ago; s, m, h, d) or as ISO 8601 with a zone, in epoch milliseconds.

    Raises:
        ApiError: neither.
    """
    match = _AGO.fullmatch(text)
    if match is not None:
        ago = timedelta(**{_AGO_UNITS[match[2]]: int(match[1])})
        return max(0, now_ms - int(ago.total_seconds() * 1000))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise bad_request("a moment has the form 24h, or 2026-01-31T08:00:00Z")
    return int(moment.astimezone(UTC).timestamp() * 1000)
