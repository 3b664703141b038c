"""The JSON Schemas: every field, open for further ones, and named by the place where they are published."""

import json
import re

import msgspec
import pytest

from deploy.contract import json_schemas
from schemas.event_names import SCHEMA_FILES, EventNames

NAMES = EventNames(schema_base="https://example.com/schemas/")


@pytest.mark.parametrize("file", json_schemas.SHAPES)
def test_schema_names_every_field_and_allows_further_ones(file: str) -> None:
    document = json.loads(json_schemas.documents(NAMES)[file])
    assert set(document["properties"]) == {
        field.encode_name for field in msgspec.structs.fields(json_schemas.SHAPES[file])
    }
    assert "additionalProperties" not in document
    references = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(document)))
    assert references == document["$defs"].keys()


def test_id_of_a_schema_is_its_place() -> None:
    documents = json_schemas.documents(NAMES)
    assert documents.keys() == {*SCHEMA_FILES.values()}
    assert all(json.loads(text)["$id"] == f"https://example.com/schemas/{file}" for file, text in documents.items())
