"""The exported requests and the history of attempts.

An exported line has everything that a client needs, without the headers that clients write themselves. The history has
a call before each end, and whole lines even with several senders.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

from deploy.load import corpus, files
from deploy.load.corpus import Mix, Share
from deploy.load.files import RunHistory
from deploy.load.generator import Call
from deploy.sandbox.world import World
from tests.unit.deploy.load.parsing import body
from tests.unit.deploy.load.samples import attempt, notification


def test_exported_requests_are_lines_in_the_order_of_sending(load_world: World, tmp_path: Path) -> None:
    accounts = [load_world.account(name) for name in ("demo-cn", "demo-antom", "demo-md5")]
    requests = corpus.make(
        Share(seed=2), total=40, accounts=accounts, mix=Mix(forgeries=0.2), host="h", now=datetime.now(UTC)
    )
    path = tmp_path / "corpus.jsonl"
    assert files.export_requests(path, requests, base="http://h:1") == 40
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["body"].encode() for line in lines] == [body(one) for one in requests]
    assert {line["url"] for line in lines} <= {f"http://h:1/notify/{one.identity.name}" for one in accounts}
    assert sum(line["refused"] for line in lines) == 8
    assert not {"Host", "Content-Length"} & {name for line in lines for name in line["headers"]}
    assert all("Content-Type" in line["headers"] for line in lines)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_history_has_a_call_and_an_end_for_each_attempt(tmp_path: Path) -> None:
    path = tmp_path / "attempts"
    history = RunHistory(path, [notification("n1")])
    history.called(Call(0, 1, 0.0))
    history.ended(attempt(0, "refused", 503))
    history.called(Call(0, 2, 0.0))
    history.ended(attempt(0, number=2))
    history.close()
    assert [(one["what"], one["id"], one["attempt"]) for one in lines(path)] == [
        ("call", "n1", 1), ("refused", "n1", 1), ("call", "n1", 2), ("ok", "n1", 2),
    ]  # fmt: skip
    assert lines(path)[1]["status"] == 503


def test_senders_share_a_history_file_without_mixing_lines(tmp_path: Path) -> None:
    path = tmp_path / "attempts"
    histories = [RunHistory(path, [notification(f"n{number}")]) for number in range(3)]
    for _ in range(2000):
        for history in histories:
            history.called(Call(0, 1, 0.0))
    for history in histories:
        history.close()
    assert len(lines(path)) == 6000
