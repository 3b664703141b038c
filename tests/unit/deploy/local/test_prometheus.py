"""What Prometheus is told to scrape."""

from pathlib import Path

import msgspec

from deploy.local import prometheus
from deploy.local.processes import Process
from deploy.local.prometheus import Prometheus
from tests.unit.deploy.local import programs


async def healthy() -> bool:
    return True


def test_its_targets_are_read_from_a_file_that_may_change(tmp_path: Path) -> None:
    told = msgspec.json.decode(prometheus._configuration(tmp_path / "targets.json", [tmp_path / "rules.yml"]))
    assert told["scrape_configs"][0]["file_sd_configs"][0]["files"] == [str(tmp_path / "targets.json")]
    assert told["rule_files"] == [str((tmp_path / "rules.yml").resolve())]


def test_scraping_others_replaces_the_file_whole(tmp_path: Path) -> None:
    process = Process(programs.directory(tmp_path), programs.plan(""), healthy=healthy)
    server = Prometheus(port=9090, targets=tmp_path / "targets.json", process=process)
    server.scrape({"ingest": ["127.0.0.1:1", "127.0.0.1:2"], "worker": ["127.0.0.1:3"]})
    server.scrape({"ingest": ["127.0.0.1:4"]})
    assert msgspec.json.decode((tmp_path / "targets.json").read_bytes()) == [
        {"targets": ["127.0.0.1:4"], "labels": {"job": "ingest"}}
    ]
    assert [path.name for path in tmp_path.glob("*.json")] == ["targets.json"]
