"""The steps of a start on stderr."""

import pytest

from deploy.local import steps


def test_without_a_terminal_each_finished_step_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with steps.shown() as shown:
        with shown.doing("Redis"):
            assert capsys.readouterr().err == ""
        shown.end()
    output = capsys.readouterr()
    assert output.err.startswith("Redis: ready in 0.")
    assert output.out == ""


def test_failed_step_is_not_shown_as_ready(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), steps.shown() as shown, shown.doing("Redis"):
        raise RuntimeError
    assert capsys.readouterr().err == ""


def test_at_a_terminal_steps_are_shown_live(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with steps.shown() as shown:
        with shown.doing("Kafka, [3] brokers"):
            pass
        shown.end()
    output = capsys.readouterr()
    assert "Kafka, [3] brokers" in output.err
    assert output.out == ""
