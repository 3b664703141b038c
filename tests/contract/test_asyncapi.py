"""`schemas/asyncapi.yaml` before AsyncAPI's own parser: the document, Kafka's bindings, and what it refers to."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from tests.support.node import FOLDER, environment
from tests.support.paths import ROOT

DOCUMENT = ROOT / "schemas/asyncapi.yaml"
# What is wrong, and what the parser has to say of it.
WRONG = {
    ("partitions: 12", "partitions: many"): '"partitions" property type must be integer',
    ("order_event.v1.json", "order_event.v9.json"): "no such file",
}
ERROR = 0
WITHIN_S = 120


@pytest.fixture(scope="module")
def told(node: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What the parser says of the document, and of one for each wrong text."""
    folder = tmp_path_factory.mktemp("wrong")
    for file in (ROOT / "schemas").glob("*.json"):
        shutil.copy(file, folder)
    text = DOCUMENT.read_text(encoding="utf-8")
    wrong = [folder / f"{number}.yaml" for number, _ in enumerate(WRONG)]
    for file, (right, instead) in zip(wrong, WRONG, strict=True):
        assert right in text
        file.write_text(text.replace(right, instead))
    argv = [node, FOLDER / "asyncapi.cjs", DOCUMENT, *wrong]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    return answers


def test_parser_has_nothing_to_say_and_finds_every_topic(told: list[Any]) -> None:
    assert told[0] == {"channels": [*topics.ALL], "diagnostics": []}


def test_parser_reports_what_is_wrong(told: list[Any]) -> None:
    for answer, message in zip(told[1:], WRONG.values(), strict=True):
        assert message in " ".join(each["message"] for each in answer["diagnostics"] if each["severity"] == ERROR)
