"""Client of the admin API for the commands: one request, one answer, and errors that name the next step.

A read that the server is too busy for (503 with `Retry-After`) is repeated for a while. A write is not: it may be done
already.

It uses only the standard library's HTTP client, which loads in a few milliseconds and ignores proxy settings: a proxy
must not be asked for an address on loopback.
"""

from __future__ import annotations

import getpass
import json
import re
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit

import typer

from deploy import exits
from deploy.cli import terminal
from schemas import retry_after, times

DEFAULT_URL = "http://127.0.0.1:9464"
TIMEOUT_S = 10.0
PATIENCE_S = 60.0  # from the first of the requests that are repeated to the begin of the last
FIRST_WAIT_S, WAIT_MAX_S = 0.5, 8.0
_PASSING = (0, 502, 503, 504)  # statuses; 0 is no answer
PAGE = 1000  # rows of one request
_HELD_ID = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")

# By the code of the error answer.
_NEXT_STEPS = {
    "unknown_path": (
        "Perhaps this is the admin port of a receiver or a worker, or of another release: give that of `up` or "
        "`console` with --admin URL or ALIPAY_NOTIFY_ADMIN."
    ),
    "unknown_order": "`alipay-notify find NUMBER` looks in all accounts.",
    "unknown_held": "`alipay-notify held list` shows the ids.",
    "unknown_replay": "`alipay-notify held tasks` shows the ids.",
    "unknown_endpoint": "`alipay-notify callbacks list` shows the names.",
    "unknown_bill": "`alipay-notify bill list` shows the numbers.",
    "unavailable": "`alipay-notify doctor` looks for the cause.",
}

Url = Annotated[
    str,
    typer.Option(
        "--admin", metavar="URL", envvar="ALIPAY_NOTIFY_ADMIN", help="Address of the admin API.", show_default=True
    ),
]


def read_token(path: str) -> str:
    """Return the token in this file. It is no option, because every user of the machine can read command lines."""
    return _token_file(path).decode("ascii").strip()


def read_admin_token(path: str) -> str:
    """Return the operator's token in this file: alone, or as the line `NAME: TOKEN`."""
    from workers.admin import operators

    found = operators.parse(_token_file(path))
    if len(found) > 1:
        raise typer.BadParameter(
            f"the token file {path} has the tokens of several operators: write your line to a file of your own"
        )
    return found[0].token.decode("ascii") if found else ""


def _token_file(path: str) -> bytes:
    if not path:
        return b""
    try:
        content = Path(path).read_bytes()
        content.decode("ascii")
    except (OSError, UnicodeError) as error:
        raise typer.BadParameter(f"the token file {path} cannot be read: {type(error).__name__}") from None
    return content


Why = Annotated[str, typer.Option("--reason", "--why", help="The reason, for the audit record.")]
AuthAppId = Annotated[
    str, typer.Option(metavar="NUMBER", help="The merchant, if the account serves several.", show_default=False)
]
Token = Annotated[
    str,
    typer.Option(
        "--token-file",
        metavar="FILE",
        envvar="ALIPAY_NOTIFY_ADMIN_TOKEN_FILE",
        help="File with your admin token, if the server requires one.",
        show_default=False,
        callback=read_admin_token,
    ),
]


class AdminApiError(Exception):
    """The admin API did not answer, or refused; the text is for the operator.

    `status` is 0 without an answer. `retry_after_s` is how long a busy server asks to wait; `None` if it does not.
    """

    def __init__(self, text: str, *, status: int = 0, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after_s = retry_after_s


class AdminClient:
    """The admin API at one address."""

    _sleep = staticmethod(time.sleep)

    def __init__(self, url: str, *, token: str = "") -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._has_answered = False
        self._operator: str | None = None

    def operator(self) -> str:
        """Return the operator's name for audit rows: that of the token, or the user's if the token has none.

        The server is asked once. If it does not answer, the write that follows fails with the cause.
        """
        if self._operator is None:
            try:
                self._operator = self.get("operator")["operator"] or user()
            except (AdminApiError, KeyError):
                self._operator = user()
        return self._operator

    def get(self, *path: str, **query: str | int | None) -> dict[str, Any]:
        """Return the answer to a GET request; a query parameter that is `None` is left out.

        Raises:
            AdminApiError: no answer, an answer of another program, or an error status.
        """
        given = {name: value for name, value in query.items() if value is not None}
        target = _path(path) + (f"?{urlencode(given)}" if given else "")
        return self._request("GET", target, None, TIMEOUT_S)

    def send(
        self,
        method: str,
        *path: str,
        body: Mapping[str, object],
        query: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> dict[str, Any]:
        """Return the answer to a write.

        Raises:
            AdminApiError: no answer, an answer of another program, or an error status.
        """
        target = _path(path) + (f"?{urlencode(query)}" if query else "")
        return self._request(method, target, json.dumps(body).encode(), timeout_s)

    def _request(self, method: str, path: str, body: bytes | None, timeout_s: float) -> dict[str, Any]:
        gives_up_s, wait_s = time.monotonic() + PATIENCE_S, FIRST_WAIT_S
        while True:
            try:
                answer = self._answer(method, path, body, timeout_s)
            except AdminApiError as error:
                pause_s = max(wait_s, error.retry_after_s or 0.0)
                if not self._is_passing(method, error) or time.monotonic() + pause_s > gives_up_s:
                    raise
                if wait_s == FIRST_WAIT_S:  # one line for each request
                    text = f"{str(error).rstrip('.')}; asking again, for up to {PATIENCE_S:g} s"
                    terminal.note(text)
            else:
                self._has_answered = True
                return answer
            self._sleep(pause_s)
            wait_s = min(2 * wait_s, WAIT_MAX_S)

    def _is_passing(self, method: str, error: AdminApiError) -> bool:
        """Return whether a request with this error is to be repeated."""
        return method == "GET" and error.retry_after_s is not None

    def _answer(self, method: str, path: str, body: bytes | None, timeout_s: float) -> dict[str, Any]:
        try:
            status, wait, content = self._exchange(method, path, body, timeout_s)
        except (OSError, HTTPException) as error:
            raise AdminApiError(
                f"No server answers at {self._url} ({type(error).__name__}). Start one with `alipay-notify up`, or "
                "give its address with --admin URL or ALIPAY_NOTIFY_ADMIN."
            ) from None
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise AdminApiError(
                f"The server at {self._url} is not the admin API (it answered {status}). Give the address of the admin "
                "port with --admin URL or ALIPAY_NOTIFY_ADMIN."
            )
        if status >= 400:
            text = _error_text(answer, status, has_token=bool(self._token))
            raise AdminApiError(text, status=status, retry_after_s=_retry_after_s(status, wait))
        return answer

    def _exchange(self, method: str, path: str, body: bytes | None, timeout_s: float) -> tuple[int, str | None, bytes]:
        """Return the status, the header `Retry-After`, and the body."""
        connection, base = self._connection(timeout_s)
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, base + path, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, response.headers.get("Retry-After"), response.read()
        finally:
            connection.close()

    def _connection(self, timeout_s: float) -> tuple[HTTPConnection, str]:
        """Return a connection that is not opened yet, and the path prefix of the address."""
        try:
            parts = urlsplit(self._url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = None
        if host is None or parts.scheme not in ("http", "https"):
            raise AdminApiError(f"{self._url} is not a URL like {DEFAULT_URL}", status=400)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        return kind(host, port, timeout=timeout_s), parts.path


class PatientClient(AdminClient):
    """The admin API for a command of very many requests, each of which may be repeated.

    One without an answer is, for `PATIENCE_S`: a server that restarts must not end the work of an hour. A server that
    has not answered yet is not waited for.
    """

    def _is_passing(self, method: str, error: AdminApiError) -> bool:
        return (self._has_answered and error.status in _PASSING) or super()._is_passing(method, error)


def listed(api: AdminClient, *path: str, rows: str, limit: int | None, **filters: str | None) -> dict[str, Any]:
    """Return the answer of the last page that was asked for, with the rows of all of them; no limit is all.

    `next` in it is null if there are no more.

    Raises:
        AdminApiError: as `AdminClient.get`.
    """
    found: list[Any] = []
    cursor: str | None = None
    while True:
        wanted = PAGE if limit is None else min(PAGE, limit - len(found))
        answer = api.get(*path, **filters, limit=wanted, cursor=cursor)
        found += answer[rows]
        cursor = answer["next"]
        if cursor is None or (limit is not None and len(found) >= limit):
            return answer | {rows: found}


def fail(error: AdminApiError) -> NoReturn:
    """Print the error and exit: 2 if the request itself was wrong, else 1."""
    terminal.fail(error, exits.WRONG_USAGE if error.status == 400 else exits.FAILED)


def owner(shown: Mapping[str, Any]) -> str:
    """Return the account of an order or held notification, and the merchant if the account serves several."""
    return f"{shown['account']}/{shown['auth_app_id']}" if shown.get("auth_app_id") else str(shown["account"])


def user() -> str:
    """Return the user that runs the command."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def act(
    api: AdminClient,
    *path: str,
    reason: str,
    given: Mapping[str, object] | None = None,
    query: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Send an operator's act with its reason and the operator's name; if it is refused, print why and exit."""
    body = {**(given or {}), "reason": reason, "by": api.operator()}
    try:
        return api.send("POST", *path, body=body, query=query)
    except AdminApiError as error:
        fail(error)


def _path(parts: tuple[str, ...]) -> str:
    return "/api/" + "/".join(quote(part, safe="") for part in parts)


def _retry_after_s(status: int, wait: str | None) -> float | None:
    if status != 503 or wait is None:
        return None
    return retry_after.wait_ms(wait, now_ms=int(time.time() * 1000), most_ms=times.HOUR_MS) / 1000


def _error_text(answer: Mapping[str, Any], status: int, *, has_token: bool) -> str:
    """Return the server's text, and the next step unless the text names one."""
    detail, code = str(answer.get("detail") or f"the API answered {status}"), str(answer.get("error"))
    if status == 401:
        step = "The token that was given is another one: check" if has_token else "Give the token's file with"
        return f"{detail}. {step} --token-file FILE or ALIPAY_NOTIFY_ADMIN_TOKEN_FILE."
    step = _NEXT_STEPS.get(code, "")
    return f"{detail}. {step}" if step and "alipay-notify" not in detail else detail


def checked_held_id(id_: str) -> str:
    """Return the id of a held notification.

    Raises:
        typer.BadParameter: it is none.
    """
    if _HELD_ID.fullmatch(id_) is None:
        raise typer.BadParameter(
            f"{id_!r} is not an id like 0-1234; `alipay-notify held list` shows the ids", param_hint="ID"
        )
    return id_
