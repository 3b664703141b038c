"""The client of the admin API: its token, and errors that name the next step."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from deploy.cli import admin, main
from deploy.cli.admin import AdminApiError, AdminClient, PatientClient
from tests.support.admin import TOKEN, form
from tests.unit.deploy.cli import admin_server
from tests.unit.deploy.cli.admin_server import Server
from tests.unit.deploy.cli.commands import against

REGISTER = ("order", "register", "A1", "--account", "shop", "--amount", "12.80")


class _AnotherProgram(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>a shop</html>")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own name
        pass


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a web server until the block ends; yield its address."""
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def another_program() -> Iterator[str]:
    """The address of a web server that is not the admin API."""
    with _serving(_AnotherProgram) as url:
        yield url


class _Busy(BaseHTTPRequestHandler):
    """Answers 503 so many times, and then well."""

    refusals: ClassVar[list[dict[str, str]]] = []  # the headers of each
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.command)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = self.refusals.pop(0) if self.refusals else None
        self.send_response(200 if headers is None else 503)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b'{"held": []}' if headers is None else b'{"detail": "the store does not answer"}')

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own name
        pass


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that answers as `_Busy.refusals` says."""
    monkeypatch.setattr(_Busy, "refusals", [])
    monkeypatch.setattr(_Busy, "requests", [])
    with _serving(_Busy) as url:
        yield url


AGAIN = {"Retry-After": "2"}


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client has waited, which are none."""
    found: list[float] = []
    monkeypatch.setattr(AdminClient, "_sleep", staticmethod(found.append))
    return found


def test_read_that_a_server_is_too_busy_for_is_repeated_ever_more_rarely(
    busy: str, waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    _Busy.refusals += [AGAIN, {"Retry-After": "0"}, {"Retry-After": "0"}, {"Retry-After": "20"}]
    assert AdminClient(busy).get("held") == {"held": []}
    assert waits == [2, 1, 2, 20]
    assert capsys.readouterr().err == "the store does not answer; asking again, for up to 60 s\n"


@pytest.mark.parametrize("refusal", [{}, {"Retry-After": "61"}, {"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}])
def test_read_is_not_repeated_unasked_or_after_a_minute(busy: str, waits: list[float], refusal: dict[str, str]) -> None:
    _Busy.refusals.append(refusal)
    with pytest.raises(AdminApiError) as ended:
        AdminClient(busy).get("held")
    assert (ended.value.status, waits) == (503, [])


def test_write_is_not_repeated(busy: str, waits: list[float]) -> None:
    _Busy.refusals += [AGAIN]
    with pytest.raises(AdminApiError):
        AdminClient(busy).send("POST", "held", "0-1", "discard", body={})
    assert (waits, _Busy.requests) == ([], ["POST"])


def test_l10_token_is_read_only_from_a_file(server: Server) -> None:
    assert against(server, *REGISTER, "--token", TOKEN, token="").exit_code == 2
    environ = {"ALIPAY_NOTIFY_ADMIN": server.url, "ALIPAY_NOTIFY_ADMIN_TOKEN": TOKEN}
    assert CliRunner().invoke(main.application(), list(REGISTER), env=environ).exit_code == 1
    assert against(server, *REGISTER).exit_code == 0


def test_unreadable_token_file_is_wrong_usage(server: Server) -> None:
    lost = against(server, *REGISTER, "--token-file", "/nowhere/token")
    assert (lost.exit_code, "/nowhere/token cannot be read" in lost.stderr) == (2, True)


def test_write_without_a_token_names_the_option_for_it(server: Server) -> None:
    without = against(server, *REGISTER, token="")
    assert (without.exit_code, "--token-file" in without.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments", [("order", "show", "A1"), ("held", "list"), ("held", "discard", "0-1", "--reason", "r")]
)
def test_stopped_server_exits_with_1_and_names_the_command_to_start_it(arguments: tuple[str, ...]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        stopped = against(url, *arguments)
    assert stopped.exit_code == 1
    assert "alipay-notify up" in stopped.stderr
    assert "Traceback" not in stopped.output


def test_another_program_at_the_address_is_recognised(another_program: str) -> None:
    refused = against(another_program, "held", "list")
    assert refused.exit_code == 1
    assert f"{another_program} is not the admin API" in refused.stderr
    assert "ALIPAY_NOTIFY_ADMIN" in refused.stderr


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:99999", "http://[::1", "ftp://127.0.0.1"])
def test_malformed_address_is_wrong_usage(url: str) -> None:
    refused = against(url, "held", "list")
    assert refused.exit_code == 2
    assert refused.stderr == f"{url} is not a URL like http://127.0.0.1:9464\n"


def test_wrong_token_is_told_apart_from_a_missing_one(server: Server) -> None:
    wrong = against(server, *REGISTER, token="another-token-of-these-tests")
    assert (wrong.exit_code, "The token that was given is another one" in wrong.stderr) == (1, True)


@pytest.mark.parametrize(
    ("command", "step"),
    [
        (("held", "show", "0-99"), "held list"),
        (("held", "tasks", "show", "9"), "held tasks"),
        (("order", "show", "A9", "--account", "shop"), "alipay-notify find"),
        (("callbacks", "deliveries", "nobody"), "callbacks list"),
        (("bill", "show", "9"), "bill list"),
    ],
)
def test_unknown_thing_is_answered_with_the_command_that_lists_them(
    server: Server, command: tuple[str, ...], step: str
) -> None:
    refused = against(server, *command)
    assert (refused.exit_code, step in refused.stderr) == (1, True)


def test_user_without_a_name_is_recorded_as_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise OSError("no such user")

    monkeypatch.setattr("getpass.getuser", fail)
    assert admin.user() == "unknown"


@pytest.mark.parametrize("command", [("held", "list"), ("held", "show", "0-1"), ("order", "show", "A1")])
def test_reads_of_another_machine_need_the_token_and_carry_it(command: tuple[str, ...]) -> None:
    with admin_server.running(reads_need_token=True) as server:
        server.do(server.world.deliver(form("B1"), "strict"))
        server.do(server.world.deliver(form("A1")))
        refused = against(server, *command, token="")
        assert (refused.exit_code, "--token-file" in " ".join(refused.stderr.split())) == (1, True)
        assert against(server, *command).exit_code in (0, 3)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes] | Exception]:
    """What the server answers to the next requests, one after the other."""
    found: list[tuple[int, bytes] | Exception] = []

    def answered(*_: object) -> tuple[int, str | None, bytes]:
        answer = found.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer[0], None, answer[1]

    monkeypatch.setattr(AdminClient, "_exchange", answered)
    monkeypatch.setattr(admin, "FIRST_WAIT_S", 0.001)
    return found


def test_patient_client_repeats_a_request_without_an_answer(answers: list[tuple[int, bytes] | Exception]) -> None:
    api = PatientClient(admin.DEFAULT_URL)
    unavailable = (503, b'{"error": "unavailable", "detail": "try again"}')
    answers += [(200, b"{}"), ConnectionResetError(), TimeoutError(), (502, b"<html>"), unavailable, (200, b'{"a": 1}')]
    assert api.get("bills") == {}
    assert api.send("POST", "bills", body={}) == {"a": 1}
    answers += [(409, b'{"error": "conflict", "detail": "it is finished"}')]
    with pytest.raises(AdminApiError, match="it is finished"):
        api.get("bills")


def test_patient_client_waits_for_no_server_that_never_answered_and_not_for_ever(
    answers: list[tuple[int, bytes] | Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = PatientClient(admin.DEFAULT_URL)
    answers += [ConnectionRefusedError(), (200, b"{}"), ConnectionRefusedError()]
    with pytest.raises(AdminApiError, match="No server answers"):
        api.get("bills")
    assert api.get("bills") == {}
    monkeypatch.setattr(admin, "PATIENCE_S", 0.0)
    with pytest.raises(AdminApiError, match="No server answers"):
        api.get("bills")
