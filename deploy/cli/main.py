"""The `alipay-notify` program: assembles the commands, each from a module of its own.

A command's module declares options when it is imported, and imports the code that does the work only when the command
runs, so that `--help` answers at once. To add a command: write a module with `register(app)` and add its name here.
"""

import importlib
import re
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from deploy import exits
from deploy.cli import terminal

# In the order of the help text.
COMMANDS = (
    "up",
    "init",
    "roles",
    "sandbox",
    "trigger",
    "load",
    "order",
    "find",
    "request",
    "held",
    "audit",
    "whoami",
    "listen",
    "events",
    "replay",
    "callbacks",
    "bill",
    "verify",
    "shadow",
    "keys",
    "doctor",
    "topics",
    "db",
    "config",
    "schema",
    "export",
)

SHORT_MAX = 60  # characters that fit beside a command's name in eighty columns
_UsageError: Any = typer.BadParameter.__mro__[1]  # the error of all wrong usage, for which typer has no public name
_EXAMPLE = re.compile(r"^    alipay-notify (?:.*\\\n)*.*$", re.MULTILINE)

_HELP = """Receive, verify and process Alipay's payment notifications.

    alipay-notify up --demo        engine, console and a simulated Alipay
    alipay-notify init             write accounts.toml
    alipay-notify order show NO    was it paid? the history of one order
    alipay-notify held list        notifications that wait for a decision
    alipay-notify verify FILE      why a signature check fails (验签失败)
    alipay-notify doctor           find problems of this installation
"""


class _Program(TyperGroup):
    """The program, whose errors about wrong usage are wrapped on a terminal like all others."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except _UsageError as wrong:
            if not _is_terminal():
                raise
            text = terminal.wrapped(wrong.format_message(), after="Error: ")
            raise _UsageError(text, ctx=wrong.ctx) from None


def _is_terminal() -> bool:
    return sys.stderr.isatty()


def application() -> typer.Typer:
    """Return the program with all its commands."""
    app = typer.Typer(
        name="alipay-notify",
        cls=_Program,
        help=_HELP,
        epilog=exits.EPILOG,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_program)
    for name in COMMANDS:
        importlib.import_module(f"{__package__}.{name}").register(app)
    _keep_examples(app)
    return app


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from deploy import process

        typer.echo(f"alipay-notify {process.version_text()}")
        raise typer.Exit


def _program(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Hold the options of the program itself."""


def _keep_examples(app: typer.Typer) -> None:
    r"""Mark the indented paragraphs of all help texts with `\b`, so that click does not reflow them."""
    app.info.help = _unwrapped(_with_examples(app))
    for command in app.registered_commands:
        command.short_help = _short(command.help)
        command.help = _unwrapped(command.help)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _keep_examples(group.typer_instance)


def _with_examples(group: typer.Typer) -> str | None:
    """Return the help of a group of commands; without examples of its own, with the first of each command."""
    text = group.info.help
    if not isinstance(text, str) or _EXAMPLE.search(text):
        return text if isinstance(text, str) else None
    found = [_EXAMPLE.search(command.help or "") for command in group.registered_commands if not command.hidden]
    examples = "\n".join(match[0] for match in found if match is not None)
    return f"{text}\n\n{examples}\n" if examples else text


def _short(text: str | None) -> str | None:
    """Return the first sentence for the list of commands, cut at a comma or colon if it is too long."""
    if not text:
        return None
    sentence = re.split(r"(?<=[.?])\s", text.strip(), maxsplit=1)[0]
    return sentence if len(sentence) <= SHORT_MAX else re.split(r"[:,]\s", sentence, maxsplit=1)[0]


def _unwrapped(text: object) -> str | None:
    if not isinstance(text, str):
        return None
    paragraphs = text.split("\n\n")
    return "\n\n".join(f"\b\n{part}" if part.startswith("    ") else part for part in paragraphs)


def main() -> None:
    """Run the program."""
    application()()


if __name__ == "__main__":
    main()
