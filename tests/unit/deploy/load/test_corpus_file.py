"""The corpus for other senders: a line has all that a client needs, and nothing that it writes itself."""

import json
from datetime import UTC, datetime
from pathlib import Path

from deploy.load import corpus_file, pool
from deploy.load.mix import Mix
from deploy.load.pool import Share
from deploy.sandbox.world import World
from tests.unit.deploy.load.reading import body


def test_every_request_is_a_line_in_the_order_of_sending(load_world: World, tmp_path: Path) -> None:
    accounts = [load_world.account(name) for name in ("demo-cn", "demo-antom", "demo-md5")]
    requests = pool.make(
        Share(seed=2), total=40, accounts=accounts, mixed=Mix(forgeries=0.2), host="h", now=datetime.now(UTC)
    )
    path = tmp_path / "corpus.jsonl"
    assert corpus_file.write(path, requests, base="http://h:1") == 40
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["body"].encode() for line in lines] == [body(one) for one in requests]
    assert {line["url"] for line in lines} <= {f"http://h:1/notify/{one.identity.name}" for one in accounts}
    assert sum(line["refused"] for line in lines) == 8
    assert not {"Host", "Content-Length"} & {name for line in lines for name in line["headers"]}
    assert all("Content-Type" in line["headers"] for line in lines)
