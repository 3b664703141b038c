"""The sender of the request in hand: the operator of the token that it carries, and the name for its audit row.

A browser signs in at `/sign-in` by its own password prompt, with the token as the password. It keeps it for this
address and sends it along until its window is closed, so no page and no script holds a token.
"""

from contextvars import ContextVar
from urllib.parse import urlsplit

from aiohttp import web
from msgspec import Struct

from workers.admin import responses
from workers.admin.operators import Operator
from workers.admin.responses import ApiError

NAME_CHARACTERS_MAX = 60
# A browser asks its user for a password only if it is offered Basic.
CHALLENGE = 'Basic realm="admin token as the password", charset="UTF-8"'


class Visitor(Struct, frozen=True, kw_only=True):
    """The sender of a request. `name` is empty if the token has none; `here` is the request's path with its query."""

    needs_token: bool = False
    is_signed_in: bool = False
    name: str = ""
    here: str = "/"

    @property
    def may_write(self) -> bool:
        return self.is_signed_in or not self.needs_token


_UNKNOWN = Visitor()
_VISITOR: ContextVar[Visitor] = ContextVar("visitor", default=_UNKNOWN)


def visitor() -> Visitor:
    """Return the sender of the request in hand."""
    return _VISITOR.get()


def set_visitor(request: web.Request, operator: Operator | None, *, needs_token: bool) -> None:
    """Set the sender for this request; the guard calls it before anything else."""
    _VISITOR.set(
        Visitor(
            needs_token=needs_token,
            is_signed_in=operator is not None,
            name="" if operator is None else operator.name,
            here=request.path_qs,
        )
    )


def acting(request: web.Request, given: str) -> str:
    """Return the operator for the audit row: the name of the token, else the given one; and the client's address.

    Only a name of a token has `token` beside the address. A given name is not verified, and cannot end like that.

    Raises:
        ApiError: the token has a name, and another one is given.
    """
    address, name, shown = request.remote or "unknown", visitor().name, given.strip()[:NAME_CHARACTERS_MAX]
    if name:
        if shown and shown.lower() != name.lower():
            raise ApiError(403, "another_name", f"this token is that of {name}: leave out by, or give this name")
        return f"{name} (token, {address})"
    printable = "".join([each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown])
    return f"{printable or 'api'} ({address})"


class OperatorAnswer(Struct, frozen=True, kw_only=True):
    """The operator of the request. `operator` is null without a token, or if the token has no name."""

    operator: str | None
    signed_in: bool
    token_needed: bool


class SignInPart:
    """The sign-in of a browser, and the API for the name of the operator."""

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/sign-in", self.sign_in), web.get("/api/operator", self.show)]

    async def sign_in(self, request: web.Request) -> web.Response:
        """Redirect to the page `then` if the request carries a token, but not that of `instead_of`."""
        present = visitor()
        if present.needs_token and (
            not present.is_signed_in or (present.name and present.name == request.query.get("instead_of"))
        ):
            detail = "sign in with an admin token as the password, and any name"
            raise ApiError(401, "no_token", detail, challenge=CHALLENGE)
        raise web.HTTPFound(_own_page(request.query.get("then", "/")))

    async def show(self, _: web.Request) -> web.Response:
        """Return the name of the token that the request carries."""
        present = visitor()
        return responses.json(
            OperatorAnswer(
                operator=present.name or None, signed_in=present.is_signed_in, token_needed=present.needs_token
            )
        )


def _own_page(text: str) -> str:
    """Return the path if it is one of this port, else that of the first page: no link may lead elsewhere by it."""
    is_plain = text.isascii() and text.isprintable() and "\\" not in text
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    is_own = is_plain and text.startswith("/") and not text.startswith("//") and not (parts.scheme or parts.netloc)
    return text if is_own else "/"
