"""The commands' way to the admin API: one request, one answer, and an error that says what to do.

Only the standard library's client: it is loaded in a few milliseconds, and no proxy of the environment is asked for an
address on loopback.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit

import typer

from deploy import exits
from deploy.cli import terminal

DEFAULT_URL = "http://127.0.0.1:9464"
TIMEOUT_S = 10.0

Url = Annotated[
    str, typer.Option("--admin", metavar="URL", envvar="ALIPAY_NOTIFY_ADMIN", help="The admin API.", show_default=True)
]


def _read(path: str) -> str:
    """The token in this file. On a command line, or in an environment, every user of the machine could read it."""
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise typer.BadParameter(f"the token file {path} cannot be read: {type(error).__name__}") from None


Token = Annotated[
    str,
    typer.Option(
        "--token-file",
        metavar="FILE",
        envvar="ALIPAY_NOTIFY_ADMIN_TOKEN_FILE",
        help="The file with the admin token, where one is set.",
        show_default=False,
        callback=_read,
    ),
]


class Trouble(Exception):
    """The API gave no good answer; the text is for the person who asked."""

    def __init__(self, text: str, *, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class AdminClient:
    """The admin API at one address."""

    def __init__(self, url: str, *, token: str = "") -> None:
        self._url = url.rstrip("/")
        self._token = token

    def get(self, *path: str, **query: str | int | None) -> dict[str, Any]:
        """What the API says; a query parameter that is `None` is left out.

        Raises:
            Trouble: nobody answers there, or not with what was asked for.
        """
        given = {name: value for name, value in query.items() if value is not None}
        return self._ask("GET", _path(path) + (f"?{urlencode(given)}" if given else ""), None, TIMEOUT_S)

    def send(self, method: str, *path: str, body: Mapping[str, object], timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """What the API says to a write.

        Raises:
            Trouble: nobody answers there, or it was refused.
        """
        return self._ask(method, _path(path), json.dumps(body).encode(), timeout_s)

    def _ask(self, method: str, path: str, body: bytes | None, timeout_s: float) -> dict[str, Any]:
        try:
            status, content = self._exchange(method, path, body, timeout_s)
        except (OSError, HTTPException) as error:
            raise Trouble(
                f"No server answers at {self._url} ({type(error).__name__}). Start one with `alipay-notify up`, or say "
                "where it is: --admin URL or ALIPAY_NOTIFY_ADMIN."
            ) from None
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Trouble(f"{self._url} answers {status}, and not as the admin API does: is it the right port?")
        if status >= 400:
            raise Trouble(_refusal(answer, status), status=status)
        return answer

    def _exchange(self, method: str, path: str, body: bytes | None, timeout_s: float) -> tuple[int, bytes]:
        connection, base = self._connection(timeout_s)
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, base + path, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _connection(self, timeout_s: float) -> tuple[HTTPConnection, str]:
        """A connection to the address, not yet opened, and the path before every path."""
        try:
            parts = urlsplit(self._url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = None
        if host is None or parts.scheme not in ("http", "https"):
            raise Trouble(f"{self._url} is not a URL like {DEFAULT_URL}", status=400)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        return kind(host, port, timeout=timeout_s), parts.path


def fail(trouble: Trouble) -> NoReturn:
    """Tell the trouble and end: a question that could not be right was wrong usage."""
    terminal.fail(trouble, exits.WRONG_USAGE if trouble.status == 400 else exits.FAILED)


def me() -> str:
    """Who sits here, for the audit row."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _path(parts: tuple[str, ...]) -> str:
    return "/api/" + "/".join(quote(part, safe="") for part in parts)


def _refusal(answer: Mapping[str, Any], status: int) -> str:
    detail = str(answer.get("detail") or f"the API answered {status}")
    if status == 401:
        return f"{detail}: --token-file FILE or ALIPAY_NOTIFY_ADMIN_TOKEN_FILE."
    return detail
