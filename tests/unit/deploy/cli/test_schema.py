"""`schema export`: the committed schemas are current, complete, and open for new properties."""

import json
import re
from pathlib import Path

import jsonschema
import msgspec

from deploy.cli import schema
from schemas import events
from schemas.events import NotedNotice, OrderEvent
from tests.support.paths import ROOT
from tests.unit.deploy.cli.commands import run


def test_committed_schemas_are_current() -> None:
    for name, text in schema.documents().items():
        assert (ROOT / "schemas" / name).read_text(encoding="utf-8") == text, "run `alipay-notify schema export`"


def test_check_exits_with_3_if_a_file_is_not_up_to_date(tmp_path: Path) -> None:
    assert run({}, "schema", "export", "--dir", str(tmp_path)).exit_code == 0
    assert run({}, "schema", "export", "--check", "--dir", str(tmp_path)).exit_code == 0
    (tmp_path / "order_event.v1.json").write_text("{}")
    stale = run({}, "schema", "export", "--check", "--dir", str(tmp_path))
    assert (stale.exit_code, "order_event.v1.json is not up to date" in stale.stdout) == (3, True)
    assert (tmp_path / "order_event.v1.json").read_text() == "{}"


def test_example_of_a_noted_notice_is_valid() -> None:
    document = json.loads(schema.documents()["noted_notice.v1.json"])
    jsonschema.validate(document["examples"][0], document, format_checker=jsonschema.FormatChecker())
    notice = msgspec.convert(document["examples"][0], NotedNotice)
    assert events.outgoing_noted(notice).key == b"shop-cn:20265225715271617440"


def test_folder_that_cannot_be_written_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run({}, "schema", "export", "--dir", str(tmp_path / "file" / "below")).exit_code == 1


def test_schema_names_every_field_and_allows_further_ones() -> None:
    document = json.loads(schema.documents()["order_event.v1.json"])
    assert set(document["properties"]) == set(OrderEvent.__struct_fields__)
    assert "additionalProperties" not in document
    references = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(document)))
    assert references == document["$defs"].keys()
