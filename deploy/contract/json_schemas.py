"""The JSON Schemas of events and notices, from the structs that are sent."""

import json
from typing import Any

import msgspec

from schemas.event_names import EventNames
from schemas.events import HeldNotice, NotedNotice, OrderEvent

SHAPES: dict[str, type] = {
    "order_event.v1.json": OrderEvent,
    "held_notice.v1.json": HeldNotice,
    "noted_notice.v1.json": NotedNotice,
}


def documents(names: EventNames) -> dict[str, str]:
    """Return the text of each schema by its file name. Its `$id` is the URL in the header `ce_dataschema`."""
    return {file: _document(shape, names.schema_base + file) for file, shape in SHAPES.items()}


def _document(shape: type, url: str) -> str:
    (schema,), components = msgspec.json.schema_components([shape], ref_template="#/$defs/{name}")
    title = str(schema["$ref"]).rpartition("/")[2]
    document: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": url,
        **components.pop(title),
        "$defs": dict(sorted(components.items())),
    }
    return as_text(document)


def as_text(document: object) -> str:
    """Return the document as JSON for people and for comparisons by line."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
