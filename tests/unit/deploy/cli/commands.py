"""Run a command in the test's own process, against an admin server or an environment."""

import json
from collections.abc import Mapping
from tempfile import NamedTemporaryFile
from typing import Any

from typer.testing import CliRunner, Result

from deploy.cli import main
from tests.support.admin import TOKEN
from tests.unit.deploy.cli.admin_server import Server


def run(environ: Mapping[str, str | None], *arguments: str) -> Result:
    """Run the program with this environment, in which `None` unsets a variable, on a wide terminal."""
    return CliRunner().invoke(main.application(), list(arguments), env={"COLUMNS": "220", "NO_COLOR": "1", **environ})


def run_here(*arguments: str) -> Result:
    """Run the program with the environment of the tests."""
    return run({}, *arguments)


def against(server: Server | str, *arguments: str, token: str = TOKEN, columns: int | None = 220) -> Result:
    """Run the program with a server's address and the token's file in its environment; no columns are a pipe."""
    url = server if isinstance(server, str) else server.url
    with NamedTemporaryFile("w") as file:
        file.write(token + "\n")
        file.flush()
        token_file = file.name if token else ""
        environ = {"ALIPAY_NOTIFY_ADMIN": url, "ALIPAY_NOTIFY_ADMIN_TOKEN_FILE": token_file}
        return run(environ | {"COLUMNS": None if columns is None else str(columns)}, *arguments)


def parsed(result: Result) -> Any:
    """Return the JSON on the command's stdout."""
    return json.loads(result.stdout)
