"""The schemas of events only grow: against the frozen versions, and the rule itself on small cases."""

import copy
import json
from typing import Any

import jsonschema
import pytest

from schemas.event_names import SCHEMA_BASE, SCHEMA_FILES
from tests.house import schema_changes
from tests.support.paths import ROOT

FROZEN = sorted((ROOT / "schemas/frozen").glob("*.json"))
EXAMPLES = sorted((ROOT / "schemas/examples").glob("*.json"))
ORDER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "status": {"$ref": "#/$defs/Status"},
        "amount": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "flags": {"type": "array", "items": {"enum": ["a", "b"]}},
        "at": {"type": "string", "format": "date-time"},
        "fields": {"type": "object", "additionalProperties": {"type": "string"}},
        "cause": {"anyOf": [{"$ref": "#/$defs/Cause"}, {"type": "null"}]},
        "rare": {"type": "string"},
    },
    "required": ["status", "amount", "flags"],
    "$defs": {
        "Status": {"enum": ["PAID", "WAITING"]},
        "Cause": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The order's schema with one other value, or without the member if it is `None`."""
    document = copy.deepcopy(ORDER)
    *parents, last = path.split("/")
    place = document
    for each in parents:
        place = place[each]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return document


def test_every_schema_has_a_frozen_version() -> None:
    assert {path.name for path in FROZEN} == {*SCHEMA_FILES.values()}


@pytest.mark.parametrize("frozen", FROZEN, ids=lambda path: path.stem)
def test_schema_only_adds_to_its_frozen_version(frozen: Any) -> None:
    """Freeze the present one with the release that brings an addition, so that the next one cannot take it back."""
    before, after = (json.loads(path.read_text()) for path in (frozen, ROOT / "schemas" / frozen.name))
    assert schema_changes.losses(before, after) == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_valid_by_the_schema_that_it_names(example: Any) -> None:
    record = json.loads(example.read_text())
    url = record["headers"]["ce_dataschema"]
    assert url.startswith(SCHEMA_BASE)
    for folder in ("schemas", "schemas/frozen"):
        schema = json.loads((ROOT / folder / url.removeprefix(SCHEMA_BASE)).read_text())
        jsonschema.validate(record["value"], schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("properties/rare", None, ".rare: the property is gone"),
        ("properties/amount", {"type": "integer"}, ".amount: the type was integer or null and is integer"),
        ("properties/rare", {"type": ["string", "null"]}, ".rare: the type was string and is null or string"),
        (
            "properties/amount",
            {"anyOf": [{"type": "number"}, {"type": "null"}]},
            ".amount: the type was integer or null and is null or number",
        ),
        ("properties/rare", {"type": "string", "maxLength": 9}, ".rare: maxLength has changed"),
        ("properties/rare", {"type": "string", "enum": ["x"]}, ".rare: only some values are left"),
        ("properties/at/format", None, ".at: format has changed"),
        ("properties/flags/items", {"type": "integer"}, ".flags[]: the type was string and is integer"),
        (
            "properties/fields/additionalProperties",
            {"type": "integer"},
            ".fields.*: the type was string and is integer",
        ),
        ("properties/fields/additionalProperties", None, ".fields: other further properties are allowed than before"),
        ("additionalProperties", False, ": other further properties are allowed than before"),
        (
            "required",
            ["status", "amount", "flags", "rare"],
            ".rare: the property is newly required, and records in the",
        ),
        ("required", ["status", "amount"], ".flags: the property is no longer always there"),
        ("$defs/Status/enum", ["PAID"], ".status: the value 'WAITING' is gone"),
        ("$defs/Status", {"type": "string"}, ".status: the values are no longer listed"),
        ("$defs/Cause/required", ["id", "new"], ".cause.new: the property is newly required, and records in the"),
        ("$defs/Cause/properties/id", None, ".cause.id: the property is gone"),
    ],
)
def test_loss_is_reported(path: str, value: Any, told: str) -> None:
    (loss,) = schema_changes.losses(ORDER, changed(path, value))
    assert loss.startswith(told)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("properties/more", {"type": "string"}),
        ("$defs/Status/enum", ["PAID", "WAITING", "NEW"]),
        ("$defs/Cause/properties/more", {"type": "string"}),
        ("properties/rare", {"type": "string", "description": "in other words"}),
        ("title", "Order"),
    ],
)
def test_addition_is_none(path: str, value: Any) -> None:
    assert schema_changes.losses(ORDER, changed(path, value)) == []
