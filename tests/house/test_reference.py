"""What is generated is current, and what the README says to type exists."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from deploy import reference
from deploy.cli import main
from tests.support.paths import ROOT


@pytest.mark.parametrize("path", reference.pages(), ids=lambda path: path.name)
def test_a_generated_page_is_what_the_code_says(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == reference.pages()[path], "run: python -m deploy.reference"


def test_every_command_in_the_readme_exists_with_its_options() -> None:
    root = typer.main.get_command(main.application())
    said = re.findall(r"alipay-notify ((?:[a-z]+ ?){1,2})((?:.*?)) *(?:#|$)", _readme_code(), re.MULTILINE)
    assert len(said) >= 10
    for words, rest in said:
        command: Any = root
        for word in words.split():
            commands = getattr(command, "commands", None)
            if commands is not None:
                assert word in commands, f"no command {word} in alipay-notify {words}"
                command = commands[word]
        options = {option for parameter in command.params for option in parameter.opts}
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in options, f"alipay-notify {words} has no {option}"


def test_every_file_the_readme_points_to_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([^)#:]+)\)", text)
    named = re.findall(r"`((?:schemas|ingest|workers|deploy|tests)/[\w./]+)`", text)
    assert len(linked) > 4
    assert [path for path in {*linked, *named} if not (ROOT / path).exists()] == []


def test_every_target_the_readme_calls_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)`?", (ROOT / "README.md").read_text(encoding="utf-8"))) <= targets


def _readme_code() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if line.startswith("    "))
