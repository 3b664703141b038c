"""`alipay-notify schema export`: write the JSON Schemas of events, generated from the structs that are sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy import exits
from deploy.cli import terminal

BASE = "urn:alipay-notify:schema:"

_HELP = """Write the JSON Schemas of order events and of notices about held and noted notifications.

One file each. Later versions may add properties, so consumers must ignore unknown ones.

    alipay-notify schema export --dir contracts
    alipay-notify schema export --check --dir schemas
"""
_EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a file is not up to date (--check)."


NOTED_EXAMPLE = {
    "id": "noted:shop-cn:2026113000222080911099990000031417",
    "record_id": "3-1041",
    "account": "shop-cn",
    "order": "",
    "notification_id": "2026113000222080911099990000031417",
    "kind": "agreement",
    "type": "dut_user_unsign",
    "status": "UNSIGN",
    "numbers": [
        {"kind": "agreement", "number": "20265225715271617440"},
        {"kind": "external_agreement", "number": "CONTRACT-31"},
    ],
    "fields": {"status": "UNSIGN", "unsign_time": "2026-11-30 08:00:00"},
    "sent_at": "2026-11-30T08:00:01+08:00",
    "received_at": "2026-11-30T00:00:01.208Z",
    "at": "2026-11-30T00:00:01.320Z",
}


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help="Export the JSON Schemas of events.", no_args_is_help=True)
    group.command("export", help=_HELP, epilog=_EPILOG)(export)
    app.add_typer(group, name="schema")


def export(
    directory: Annotated[Path, typer.Option("--dir", help="Folder of the files.")] = Path("schemas"),
    check: Annotated[bool, typer.Option("--check", help="Compare with the files there; write nothing.")] = False,
) -> None:
    """Write the files, or compare them."""
    stale = []
    for name, text in documents().items():
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


def documents() -> dict[str, str]:
    """Return the text of each schema by its file name."""
    from schemas.events import HeldNotice, NotedNotice, OrderEvent

    return {
        "order_event.v1.json": _document(OrderEvent, "order_event.v1"),
        "held_notice.v1.json": _document(HeldNotice, "held_notice.v1"),
        "noted_notice.v1.json": _document(NotedNotice, "noted_notice.v1", example=NOTED_EXAMPLE),
    }


def _document(shape: Any, name: str, *, example: Mapping[str, Any] | None = None) -> str:
    import msgspec

    (schema,), components = msgspec.json.schema_components([shape], ref_template="#/$defs/{name}")
    title = str(schema["$ref"]).rpartition("/")[2]
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": BASE + name,
        **components.pop(title),
        "$defs": dict(sorted(components.items())),
        **({} if example is None else {"examples": [example]}),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
