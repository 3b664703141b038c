"""The `alipay-notify` command: puts the commands together, each from its own module.

A module declares its options when it is imported and imports what does the work when its command runs, so that
`--help` answers at once. To add a command: a module with `register(app)`, and its name here.
"""

import importlib
import re

import typer

from deploy import exits

# In the order in which the help lists them.
COMMANDS = (
    "up",
    "roles",
    "sandbox",
    "trigger",
    "load",
    "order",
    "held",
    "replay",
    "verify",
    "keys",
    "doctor",
    "topics",
    "db",
    "config",
    "schema",
)

SHORT_MAX = 60  # what fits beside a command's name in eighty columns

_HELP = """The merchant's side of Alipay's payment notifications: verified, durable, applied once.

    alipay-notify up --demo              see it work: engine, console and a simulated Alipay, on loopback
    alipay-notify order show NO          was it paid? everything that happened to one order
    alipay-notify held list              notifications that wait for somebody's decision
    alipay-notify verify FILE            why a signature fails
    alipay-notify doctor                 what is wrong here, and what to do
"""


def application() -> typer.Typer:
    """The program with all its commands."""
    app = typer.Typer(
        name="alipay-notify",
        help=_HELP,
        epilog=exits.EPILOG,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for name in COMMANDS:
        importlib.import_module(f"deploy.cli.{name}").register(app)
    _keep_examples(app)
    return app


def _keep_examples(app: typer.Typer) -> None:
    """Have the indented lines of every help printed as they are: click would fill them up like a paragraph."""
    app.info.help = _kept(app.info.help)
    for command in app.registered_commands:
        command.short_help = _short(command.help)
        command.help = _kept(command.help)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _keep_examples(group.typer_instance)


def _short(text: str | None) -> str | None:
    """The first sentence, or as much of it as stands on its own, for the list of commands."""
    if not text:
        return None
    sentence = re.split(r"(?<=[.?])\s", text.strip(), maxsplit=1)[0]
    return sentence if len(sentence) <= SHORT_MAX else re.split(r"[:,]\s", sentence, maxsplit=1)[0]


def _kept(text: object) -> str | None:
    if not isinstance(text, str):
        return None
    paragraphs = text.split("\n\n")
    return "\n\n".join(f"\b\n{part}" if part.startswith("    ") else part for part in paragraphs)


def main() -> None:
    """The entry point."""
    application()()


if __name__ == "__main__":
    main()
