"""`schema export`: the committed files are current, and a deployment can write them with its own names."""

import json
from pathlib import Path

import pytest

from deploy.cli import schema
from tests.support.paths import ROOT
from tests.unit.deploy.cli.commands import run


def test_committed_files_are_current_and_no_other_is_there() -> None:
    documents = schema.documents()
    for name, text in documents.items():
        assert (ROOT / "schemas" / name).read_text(encoding="utf-8") == text, "run `alipay-notify schema export`"
    there = {f"examples/{path.name}" for path in (ROOT / "schemas/examples").iterdir()}
    assert there == {name for name in documents if name.startswith("examples/")}


def test_check_exits_with_3_if_a_file_is_not_up_to_date(tmp_path: Path) -> None:
    assert run({}, "schema", "export", "--dir", str(tmp_path)).exit_code == 0
    assert run({}, "schema", "export", "--check", "--dir", str(tmp_path)).exit_code == 0
    (tmp_path / "order_event.v1.json").write_text("{}")
    stale = run({}, "schema", "export", "--check", "--dir", str(tmp_path))
    assert (stale.exit_code, "order_event.v1.json is not up to date" in stale.stdout) == (3, True)
    assert (tmp_path / "order_event.v1.json").read_text() == "{}"


def test_folder_that_cannot_be_written_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run({}, "schema", "export", "--dir", str(tmp_path / "file" / "below")).exit_code == 1


def test_files_have_the_names_of_the_deployment(tmp_path: Path) -> None:
    environ = {
        "ALIPAY_NOTIFY_EVENT_TYPE_PREFIX": "com.example.pay",
        "ALIPAY_NOTIFY_SCHEMA_BASE": "https://example.com/schemas/",
        "ALIPAY_NOTIFY_TOPIC_PREFIX": "shop",
    }
    assert run(environ, "schema", "export", "--dir", str(tmp_path)).exit_code == 0
    example = json.loads((tmp_path / "examples/order_event.paid.json").read_text())
    assert (example["topic"], example["value"]["type"]) == ("shop.order.event.v1", "com.example.pay.order.paid.v1")
    document = json.loads((tmp_path / "order_event.v1.json").read_text())
    assert document["$id"] == example["headers"]["ce_dataschema"] == "https://example.com/schemas/order_event.v1.json"
    assert "address: shop.order.state.v1" in (tmp_path / "asyncapi.yaml").read_text()


@pytest.mark.parametrize("wrong", [("--type-prefix", "com.alipay"), ("--schema-base", "x"), ("--topic-prefix", "A_b")])
def test_wrong_name_is_wrong_usage(tmp_path: Path, wrong: tuple[str, str]) -> None:
    assert run({}, "schema", "export", "--dir", str(tmp_path), *wrong).exit_code == 2
    assert not [*tmp_path.iterdir()]


def test_without_yaml_all_but_asyncapi_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "find_spec", lambda name: None)
    done = run({}, "schema", "export", "--dir", str(tmp_path))
    assert (done.exit_code, "asyncapi.yaml is left out" in done.stderr) == (0, True)
    assert (tmp_path / "order_event.v1.json").exists()
    assert not (tmp_path / "asyncapi.yaml").exists()
