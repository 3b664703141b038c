"""`alipay-notify whoami`: the name that the operator's actions have in the audit."""

from __future__ import annotations

import typer

from deploy.cli import admin, terminal
from deploy.cli.admin import AdminApiError, AdminClient

_HELP = """Show by which name your actions are recorded.

It is the name of your token. If the token has none, or the server needs none, it is the user of this machine, which is
not verified.

    alipay-notify whoami
    alipay-notify whoami --token-file ~/.alipay-notify-token --output json
"""
_EPILOG = "Exit codes: 0 shown, 1 failed (no answer, or the server needs another token), 2 wrong usage."


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("whoami", help=_HELP, epilog=_EPILOG)(whoami)


def whoami(url: admin.Url = admin.DEFAULT_URL, token: admin.Token = "", output: terminal.Output = "table") -> None:
    """Print the operator's name; exit with 1 if the token is not one of the server's."""
    try:
        answer = AdminClient(url, token=token).get("operator")
    except AdminApiError as error:
        admin.fail(error)
    if output == "json":
        terminal.as_json(answer)
    elif answer["operator"]:
        typer.echo(f"{answer['operator']}, by the name of your token")
    elif answer["signed_in"]:
        typer.echo(f"{admin.user()}, the user of this machine: your token has no name")
    elif not answer["token_needed"]:
        typer.echo(f"{admin.user()}, the user of this machine: the server needs no token")
    if answer["token_needed"] and not answer["signed_in"]:
        given = "The token that was given is another one: check" if token else "Writes need a token: give its file with"
        terminal.fail(f"{given} --token-file FILE or ALIPAY_NOTIFY_ADMIN_TOKEN_FILE.")
