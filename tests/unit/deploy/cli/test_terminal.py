"""Output of commands: tables, JSON, and texts that cannot control a terminal."""

import json

import pytest
import typer

from deploy.cli import terminal


def test_control_characters_are_escaped() -> None:
    assert terminal.plain("a\x1b[31m\n\u202eb 票") == "a\\u001b[31m\\u000a\\u202eb 票"
    assert terminal.plain(None) == ""


def test_table_prints_cells_as_text_without_markup(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.table("Title", ("name", "value"), [("[bold]a[/bold]", "\x1b[31m")])
    printed = capsys.readouterr().out
    assert "[bold]a[/bold]" in printed
    assert "\\u001b[31m" in printed
    assert "\x1b" not in printed


def test_rows_stay_on_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    terminal.table("", ("id", "detail"), [("0-1", "x" * 120)])
    assert any("0-1" in line and "x" * 120 in line for line in capsys.readouterr().out.splitlines())


def test_json_keeps_characters_and_order(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.as_json({"b": "票", "a": None})
    printed = capsys.readouterr().out
    assert "票" in printed
    assert list(json.loads(printed)) == ["b", "a"]


@pytest.mark.parametrize(("text", "shown"), [("2026-01-31T08:00:00.123Z", "2026-01-31 08:00:00"), (None, "")])
def test_moment_is_shown_in_whole_seconds(text: str | None, shown: str) -> None:
    assert terminal.moment(text) == shown


def test_values_are_joined_by_commas() -> None:
    assert (terminal.joined(["a", 1]), terminal.joined(None)) == ("a, 1", "")


def test_failure_is_printed_on_stderr_with_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        terminal.fail("wrong \x1b[31m", 2)
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == "wrong \\u001b[31m\n"


def test_progress_is_silent_if_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress("replaying", 2) as advance:
        advance(2)
    assert capsys.readouterr().err.strip() == ""


def test_notes_are_plain_in_a_pipe_and_wrapped_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "No server answers here. Start one with `alipay-notify up`, or give its address with --admin URL."
    terminal.note(text, label="  - ")
    assert capsys.readouterr().err == f"  - {text}\n"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    terminal.note(text, label="  - ")
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines)) <= 40
    assert " ".join(" ".join(lines).split()) == f"- {text}"


def test_named_values_stand_beside_their_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    terminal.pairs("Fields", {"trade_no": "2" * 28, "subject\x1b": "门票 [bold]", "n" * 40: "x"})
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "",
        "Fields",
        f"  {'trade_no':<28} {'2' * 28}",
        f"  {'subject' + chr(92) + 'u001b':<28} 门票 [bold]",
        f"  {'n' * 40} x",
    ]
