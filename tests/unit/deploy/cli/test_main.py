"""The program itself: its version, its help, and how fast the help comes."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from deploy import process
from deploy.cli import main

COLUMNS = 80


def commands(group: TyperGroup, *names: str) -> Iterator[tuple[str, ...]]:
    """Every command of the program, as the words that run it; older names, which are hidden, are left out."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if isinstance(command, TyperGroup):
            yield from commands(command, *names, name)
        else:
            yield (*names, name)


PROGRAM = typer.main.get_command(main.application())
assert isinstance(PROGRAM, TyperGroup)
COMMANDS = list(commands(PROGRAM))
GROUPS = [(), *sorted({words[:1] for words in COMMANDS if len(words) > 1})]


def help_of(*words: str) -> str:
    return CliRunner().invoke(main.application(), [*words, "--help"], env={"COLUMNS": str(COLUMNS)}).stdout


def test_version_is_printed_and_exits_with_0() -> None:
    shown = CliRunner().invoke(main.application(), ["--version"])
    assert (shown.exit_code, shown.stdout) == (0, f"alipay-notify {process.version_text()}\n")


def test_unknown_command_is_wrong_usage() -> None:
    assert CliRunner().invoke(main.application(), ["nonsense"]).exit_code == 2


@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
def test_lists_of_commands_are_whole_sentences_in_eighty_columns(words: tuple[str, ...]) -> None:
    assert "..." not in help_of(*words).partition("Commands:")[2]


@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
def test_help_of_groups_has_examples_in_eighty_columns(words: tuple[str, ...]) -> None:
    text = help_of(*words)
    assert re.search(rf"^ +alipay-notify {' '.join(words)}\b", text, re.MULTILINE)
    assert [line for line in text.splitlines() if len(line) > COLUMNS] == []


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_has_examples_and_exit_codes_in_eighty_columns(words: tuple[str, ...]) -> None:
    text = help_of(*words)
    assert re.search(rf"^ +(ALIPAY_NOTIFY_\S+ )*alipay-notify {' '.join(words)}\b", text, re.MULTILINE)
    assert "Exit codes" in text
    assert [line for line in text.splitlines() if len(line) > COLUMNS] == []


def test_help_imports_no_large_library() -> None:
    code = (
        "import sys\n"
        "from deploy.cli import main\n"
        "main.application()\n"
        "large = {'aiohttp', 'aiokafka', 'cryptography', 'msgspec', 'rich.table'} & set(sys.modules)\n"
        "assert not large, large\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_wrong_usage_is_wrapped_on_a_terminal(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    monkeypatch.setattr(main, "_is_terminal", lambda: is_terminal)
    refused = CliRunner().invoke(
        main.application(), ["listen", "--forward-to", "127.0.0.1:1"], env={"COLUMNS": "40", "NO_COLOR": "1"}
    )
    (error,) = re.findall(r"Error: .*\Z", refused.stderr, re.DOTALL)
    assert (refused.exit_code, max(map(len, error.splitlines())) <= 40) == (2, is_terminal)
    assert "give a complete address: http://… or https://…" in " ".join(error.split())
