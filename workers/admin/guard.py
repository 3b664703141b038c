"""Check every request to the admin port before a handler sees it, and log every write, also a refused one.

The Host header is always checked. Writes need a token, if there are any; so do reads if the port is bound beyond
loopback, except probes and metrics. Without a token the port may only be bound to loopback. The token names the
operator (`sign_in`).
"""

import asyncio
import base64
import binascii
import ipaddress
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from aiohttp import web
from msgspec import Struct

from workers.admin import operators, responses, sign_in
from workers.admin.operators import BadTokens, Operator
from workers.admin.responses import ApiError
from workers.errors import InfrastructureDown, ReadTooSlow, RecordRefused
from workers.long_poll import TooManyWaiters

READS = frozenset({"GET", "HEAD"})
SAME_SITE = frozenset({"same-origin", "none"})
NARROWER = "ask for less (an account, a reason, a shorter time), or try again"
NO_ANSWER = "the order store does not answer; try again"
UNKEEPABLE = "the request contains a text or number that the order store cannot keep"
INTERNAL_ERROR = "internal error; see the log line admin_failed"
PROBES = frozenset({"/livez", "/readyz"})  # load balancers ask under any name, and the answers name no order
OPEN = PROBES | {"/metrics"}  # need no token

ErrorPage = Callable[[ApiError], web.Response]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AuditLog(Protocol):
    """The log of writes and errors."""

    def info(self, event: str, /, **fields: object) -> None: ...


class OpenAdmin(ValueError):
    """The admin port would be open to other machines without a usable token."""


class Access(Struct, frozen=True, kw_only=True):
    """The requests that an admin port accepts.

    `names` are the host names, in lower case, under which the port is reached besides localhost and addresses.
    """

    operators: tuple[Operator, ...] = ()
    names: frozenset[str] = frozenset()
    reads_need_token: bool = False

    @property
    def first_token(self) -> bytes | None:
        """The token that this process itself carries to others of the deployment; `None` if there is none."""
        return self.operators[0].token if self.operators else None


LOOPBACK_ONLY = Access()  # for a port on loopback without a token


def access(*, host: str, token_file: Path | None, names: str = "") -> Access:
    """Return what a port that is bound to `host` accepts; `names` are separated by commas.

    Raises:
        OpenAdmin: the tokens cannot be used, or `host` is not loopback and there is no token.
    """
    try:
        known = operators.read(token_file) if token_file else ()
    except BadTokens as bad:
        raise OpenAdmin(str(bad)) from None
    is_loopback = _is_loopback(host)
    if not known and not is_loopback:
        raise OpenAdmin(
            f"the admin port may not be bound to {host} without a token: set ALIPAY_NOTIFY_ADMIN_TOKEN_FILE, or bind "
            "it to 127.0.0.1 with ALIPAY_NOTIFY_ADMIN_HOST"
        )
    return Access(
        operators=known,
        names=frozenset(name.strip().lower() for name in names.split(",") if name.strip()),
        reads_need_token=not is_loopback,
    )


class Guard:
    """Middleware that checks host, origin and token, and sets the visitor."""

    def __init__(self, *, access: Access, log: AuditLog, error_page: ErrorPage | None = None) -> None:
        self._access = access
        self._log = log
        self._error_page = error_page

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Return the handler's answer, or an error answer that shows nothing of the internals."""
        operator = operators.of_token(self._access.operators, _token_of(request))
        sign_in.set_visitor(request, operator, needs_token=bool(self._access.operators))
        try:
            self._check_host(request)
            if request.method in READS:
                self._check_read(request)
            else:
                self._check_write(request)
            response = await handler(request)
        except ApiError as refusal:
            response = self._refused(request, refusal)
        except TooManyWaiters as error:
            response = self._refused(request, ApiError(503, "too_many_waiters", str(error)))
        except RecordRefused:
            response = self._refused(request, responses.bad_request(UNKEEPABLE))
        except ReadTooSlow as error:
            response = self._refused(request, ApiError(503, "read_too_slow", f"{error}; {NARROWER}"))
        except InfrastructureDown:
            response = self._refused(request, ApiError(503, "unavailable", NO_ANSWER))
        except web.HTTPException as error:
            response = self._of_http(request, error)
        except (asyncio.CancelledError, ConnectionResetError):
            raise
        except Exception as error:
            self._log.info("admin_failed", route=_route(request), error=type(error).__name__)
            response = self._refused(request, ApiError(500, "our_fault", INTERNAL_ERROR))
        if request.method not in READS:
            # A refused write leaves no audit row: this line names its operator.
            by = {"by": operator.name} if operator is not None and operator.name else {}
            self._log.info("admin_write", route=_route(request), method=request.method, status=response.status, **by)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return response

    def _refused(self, request: web.Request, error: ApiError) -> web.Response:
        """Return the error as JSON, or as a page for a browser that asks for one."""
        response = responses.refused(error)
        if self._error_page is None or request.method not in READS or not responses.asks_for_html(request):
            return response
        page = self._error_page(error)
        for name in ("Retry-After", "WWW-Authenticate"):
            if name in response.headers:
                page.headers[name] = response.headers[name]
        return page

    def _of_http(self, request: web.Request, error: web.HTTPException) -> web.Response:
        code = {404: "unknown_path", 405: "method", 413: "too_large"}.get(error.status, "bad_request")
        details = {404: "there is no such path", 413: f"the body is larger than {responses.API_BODY_BYTES_MAX} bytes"}
        if isinstance(error, web.HTTPMethodNotAllowed):
            allowed = ", ".join(sorted(error.allowed_methods))
            response = self._refused(request, ApiError(405, code, f"this path allows only {allowed}"))
            response.headers["Allow"] = allowed
            return response
        if error.status < 400:
            return web.Response(status=error.status, headers={"Location": error.headers.get("Location", "/")})
        return self._refused(request, ApiError(error.status, code, details.get(error.status, error.reason)))

    def _check_host(self, request: web.Request) -> None:
        # A foreign page can let its own name resolve to this address (DNS rebinding) and then read the answers as its
        # own. A request for an address or for localhost cannot come about that way.
        host = request.headers.get("Host", "")
        if host and request.path not in PROBES and not self._is_own(host):
            raise ApiError(
                403,
                "foreign_name",
                "the Host header must be an IP address, localhost, or a name in ALIPAY_NOTIFY_ADMIN_NAMES",
            )

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name == "localhost" or name in self._access.names or _as_address(name) is not None

    def _check_read(self, request: web.Request) -> None:
        if self._access.reads_need_token and request.path not in OPEN and not sign_in.visitor().is_signed_in:
            raise ApiError(
                401,
                "no_token",
                "reads from other machines need the admin token: in the header Authorization: Bearer TOKEN, or in a "
                "browser as the password, with any name",
                challenge=sign_in.CHALLENGE,
            )

    def _check_write(self, request: web.Request) -> None:
        # A browser on the operator's machine reaches loopback too, on behalf of any page that it shows.
        origin = request.headers.get("Origin")
        if request.headers.get("Sec-Fetch-Site", "none") not in SAME_SITE:
            raise ApiError(403, "cross_site", "a page of another site may not write to this port")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
            raise ApiError(403, "cross_site", "a page of another site may not write to this port")
        if isinstance(request.match_info.http_exception, web.HTTPMethodNotAllowed):
            return  # the answer 405 is more helpful than 401
        visitor = sign_in.visitor()
        if visitor.needs_token and not visitor.is_signed_in:
            raise ApiError(401, "no_token", "writes need the admin token in the header Authorization: Bearer TOKEN")


def _token_of(request: web.Request) -> bytes:
    """Return the token that the request carries as a bearer, or as the password of a browser's sign-in."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("utf-8", "replace")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""


def _route(request: web.Request) -> str:
    """Return the path's pattern, so that a sender's text does not reach the log line."""
    resource = request.match_info.route.resource
    return "none" if resource is None else resource.canonical


def _is_loopback(host: str) -> bool:
    address = _as_address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _as_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
