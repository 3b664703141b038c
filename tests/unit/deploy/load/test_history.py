"""The file of attempts: a call before each end, whole lines, also of several senders."""

import json
from pathlib import Path

from deploy.load.history import History
from deploy.load.open_loop import Call
from tests.unit.deploy.load.telling import attempt, told


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_attempt_is_a_call_and_an_end(tmp_path: Path) -> None:
    path = tmp_path / "attempts"
    history = History(path, [told("n1")])
    history.called(Call(0, 1, 0.0))
    history.ended(attempt(0, "refused", 503))
    history.called(Call(0, 2, 0.0))
    history.ended(attempt(0, number=2))
    history.close()
    assert [(one["what"], one["id"], one["attempt"]) for one in lines(path)] == [
        ("call", "n1", 1), ("refused", "n1", 1), ("call", "n1", 2), ("ok", "n1", 2),
    ]  # fmt: skip
    assert lines(path)[1]["status"] == 503


def test_senders_share_a_file_without_mixing_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "attempts"
    histories = [History(path, [told(f"n{number}")]) for number in range(3)]
    for _ in range(2000):
        for history in histories:
            history.called(Call(0, 1, 0.0))
    for history in histories:
        history.close()
    assert len(lines(path)) == 6000
