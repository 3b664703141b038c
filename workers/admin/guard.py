"""Who may do what on the admin port, decided before any handler sees the request.

Reading is for whoever can reach the port. Writing takes the token, and never comes from another site's page: a browser
on the operator's machine reaches loopback too, on behalf of any page it shows. For the same reason a port without a
token answers only to addresses and to `localhost`: a name that a foreign page had resolve to us is neither (that is
DNS rebinding). Without a token the port may only be bound to loopback.

Every write leaves a line in the log, the refused ones too.
"""

import asyncio
import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from aiohttp import web

from workers.admin import responses
from workers.admin.responses import ApiError
from workers.errors import InfrastructureDown, RecordRefused
from workers.long_poll import TooManyWaiters

READS = frozenset({"GET", "HEAD"})
SAME_SITE = frozenset({"same-origin", "none"})
TOKEN_CHARACTERS_MIN = 16

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AuditLog(Protocol):
    """Where the lines go."""

    def info(self, event: str, /, **fields: object) -> None: ...


class OpenAdmin(ValueError):
    """The admin port would be open to others than the people of this machine."""


def read_token(path: Path) -> str:
    """The token in a file, without the line's end.

    Raises:
        OpenAdmin: the file cannot be read, or its token could be guessed.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise OpenAdmin(f"the token file {path} cannot be read: {type(error).__name__}") from None
    if len(token) < TOKEN_CHARACTERS_MIN:
        raise OpenAdmin(f"the token in {path} is shorter than {TOKEN_CHARACTERS_MIN} characters")
    return token


def check_bind(host: str, *, has_token: bool) -> None:
    """Returns where the port may be bound to `host`.

    Raises:
        OpenAdmin: not loopback, and no token.
    """
    if not has_token and not _is_loopback(host):
        raise OpenAdmin(
            f"the admin port may be bound to {host} only with a token for writes: set a token file, or bind 127.0.0.1"
        )


class Guard:
    """The middleware. The token has no repr, and is compared in constant time."""

    def __init__(self, *, token: str | None, log: AuditLog) -> None:
        self._token = None if token is None else token.encode()
        self._log = log

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The handler's answer, or the refusal's. What goes wrong inside is not told outside."""
        try:
            self._check_host(request)
            if request.method not in READS:
                self._check_write(request)
            response = await handler(request)
        except ApiError as refusal:
            response = responses.refused(refusal)
        except TooManyWaiters as error:
            response = responses.refused(ApiError(503, "too_many_waiters", str(error)))
        except RecordRefused:
            response = responses.refused(
                responses.bad_request("this holds a text or a number that the store cannot keep")
            )
        except InfrastructureDown:
            response = responses.refused(ApiError(503, "unavailable", "the store does not answer now; ask again"))
        except web.HTTPException as error:
            response = _of_http(error)
        except (asyncio.CancelledError, ConnectionResetError):
            raise
        except Exception as error:
            self._log.info("admin_failed", route=_route(request), error=type(error).__name__)
            response = responses.refused(ApiError(500, "our_fault", "this is an error of ours; the log names it"))
        if request.method not in READS:
            self._log.info("admin_write", route=_route(request), method=request.method, status=response.status)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return response

    def _check_host(self, request: web.Request) -> None:
        host = request.headers.get("Host", "")
        if self._token is None and host and not _is_address(host):
            raise ApiError(403, "foreign_name", "without a token this port answers to addresses and localhost only")

    def _check_write(self, request: web.Request) -> None:
        origin = request.headers.get("Origin")
        if request.headers.get("Sec-Fetch-Site", "none") not in SAME_SITE:
            raise ApiError(403, "cross_site", "a page of another site may not write here")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
            raise ApiError(403, "cross_site", "a page of another site may not write here")
        if isinstance(request.match_info.http_exception, web.HTTPMethodNotAllowed):
            return  # there is nothing to write to: 405 says more than 401
        if self._token is not None and not hmac.compare_digest(_bearer(request), self._token):
            raise ApiError(401, "no_token", "this needs the header Authorization: Bearer TOKEN with the admin token")


def _bearer(request: web.Request) -> bytes:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip().encode("utf-8", "replace") if scheme.lower() == "bearer" else b""


def _of_http(error: web.HTTPException) -> web.Response:
    code = {404: "unknown_path", 405: "method", 413: "too_large"}.get(error.status, "bad_request")
    details = {404: "there is nothing at this path", 413: f"a body has at most {responses.BODY_BYTES_MAX} bytes"}
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        response = responses.refused(ApiError(405, code, f"this path takes {allowed}"))
        response.headers["Allow"] = allowed
        return response
    if error.status < 400:
        return web.Response(status=error.status, headers={"Location": error.headers.get("Location", "/")})
    return responses.refused(ApiError(error.status, code, details.get(error.status, error.reason)))


def _route(request: web.Request) -> str:
    """The path's pattern: what a sender chose stays out of the line."""
    resource = request.match_info.route.resource
    return "none" if resource is None else resource.canonical


def _is_address(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or _as_address(name) is not None


def _is_loopback(host: str) -> bool:
    address = _as_address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _as_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
