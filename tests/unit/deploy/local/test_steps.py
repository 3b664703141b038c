"""How a start is told."""

import pytest

from deploy.local import steps


def test_without_a_terminal_each_step_is_a_line_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    with steps.shown() as shown:
        with shown.doing("Redis"):
            assert capsys.readouterr().err == ""
        shown.end()
    told = capsys.readouterr()
    assert told.err.startswith("Redis: ready in 0.")
    assert told.out == ""


def test_a_step_that_fails_is_never_said_to_be_ready(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), steps.shown() as shown, shown.doing("Redis"):
        raise RuntimeError
    assert capsys.readouterr().err == ""


def test_at_a_terminal_steps_are_shown_while_they_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with steps.shown() as shown:
        with shown.doing("Kafka, [3] brokers"):
            pass
        shown.end()
    told = capsys.readouterr()
    assert "Kafka, [3] brokers" in told.err
    assert told.out == ""
