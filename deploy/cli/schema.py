"""`alipay-notify schema export`: write the contract of events, generated from the code that sends them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy import exits
from deploy.cli import terminal

if TYPE_CHECKING:
    from schemas.event_names import EventNames

_HELP = """Write the JSON Schemas of events and notices, examples, and the AsyncAPI document of the topics.

Later versions may add properties, so consumers must ignore unknown ones. To publish them, name the place:

    alipay-notify schema export --dir contracts
    alipay-notify schema export --dir public \\
        --schema-base https://shop.example/schemas/
    alipay-notify schema export --check --dir schemas
"""
_EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a file is not up to date (--check)."


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help="Export the contract of events: schemas, examples, AsyncAPI.", no_args_is_help=True)
    group.command("export", help=_HELP, epilog=_EPILOG)(export)
    app.add_typer(group, name="schema")


def export(
    directory: Annotated[Path, typer.Option("--dir", help="Folder of the files.")] = Path("schemas"),
    check: Annotated[bool, typer.Option("--check", help="Compare with the files there; write nothing.")] = False,
    schema_base: Annotated[
        str | None,
        typer.Option("--schema-base", envvar="ALIPAY_NOTIFY_SCHEMA_BASE", help="URL of the folder, with a slash."),
    ] = None,
    type_prefix: Annotated[
        str | None,
        typer.Option("--type-prefix", envvar="ALIPAY_NOTIFY_EVENT_TYPE_PREFIX", help="First part of event types."),
    ] = None,
    topic_prefix: Annotated[
        str | None,
        typer.Option("--topic-prefix", envvar="ALIPAY_NOTIFY_TOPIC_PREFIX", help="First part of topics' names."),
    ] = None,
) -> None:
    """Write the files, or compare them."""
    stale = []
    for name, text in _wanted(schema_base, type_prefix, topic_prefix).items():
        path = directory / name
        try:
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            elif not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(str(path))
        except OSError as error:
            terminal.fail(f"{path}: {error.strerror}")
        else:
            typer.echo(f"{path}{' is not up to date' if str(path) in stale else ''}")
    raise typer.Exit(exits.FOUND_WRONG if stale else exits.DONE)


def _wanted(schema_base: str | None, type_prefix: str | None, topic_prefix: str | None) -> dict[str, str]:
    """Return the files with these names; a wrong one is wrong usage."""
    from schemas import event_names, topics
    from schemas.event_names import EventNames

    names = EventNames(
        type_prefix=EventNames().type_prefix if type_prefix is None else type_prefix,
        schema_base=EventNames().schema_base if schema_base is None else schema_base,
    )
    faults = event_names.faults(names.type_prefix, names.schema_base)
    try:
        if not faults:
            return documents(names, topics.PREFIX if topic_prefix is None else topic_prefix)
    except ValueError as error:
        faults.append(str(error))
    raise typer.BadParameter("; ".join(faults))


def documents(names: EventNames | None = None, topic_prefix: str | None = None) -> dict[str, str]:
    """Return the text of each file by its name."""
    from deploy.contract import examples, json_schemas
    from schemas import topics
    from schemas.event_names import EventNames

    names, prefix = names or EventNames(), topic_prefix or topics.PREFIX
    files = json_schemas.documents(names) | examples.documents(names, prefix=prefix)
    if find_spec("yaml") is None:
        terminal.note("asyncapi.yaml is left out: it needs the extra `cluster`")
        return files
    from deploy.contract import asyncapi

    return files | {asyncapi.FILE: asyncapi.document(names, prefix=prefix)}
