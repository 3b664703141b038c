"""The files that Prometheus reads: configuration, rules and targets."""

from pathlib import Path

import msgspec

from deploy.local import prometheus
from deploy.local.processes import Process
from deploy.local.prometheus import Prometheus
from tests.unit.deploy.local import samples


async def healthy() -> bool:
    return True


def test_shipped_configuration_is_copied_unchanged_with_its_rules(tmp_path: Path) -> None:
    rule = tmp_path / "some.yml"
    rule.write_text("groups: []\n")
    home = tmp_path / "home"
    (home / "rules").mkdir(parents=True)
    (home / "rules" / "yesterday.yml").touch()
    file, targets = prometheus._lay_out(home, prometheus.CONFIGURATION, [rule])
    assert file.read_bytes() == prometheus.CONFIGURATION.read_bytes()
    assert [path.name for path in (home / "rules").iterdir()] == ["some.yml"]
    assert targets.parent == home / "targets"


def test_new_targets_replace_the_file_atomically(tmp_path: Path) -> None:
    process = Process(samples.directory(tmp_path), samples.spec(""), healthy=healthy)
    server = Prometheus(port=9090, targets=tmp_path / "targets.json", process=process)
    server.scrape({"ingest": ["127.0.0.1:1", "127.0.0.1:2"], "worker": ["127.0.0.1:3"]})
    server.scrape({"ingest": ["127.0.0.1:4"]})
    (group,) = msgspec.json.decode((tmp_path / "targets.json").read_bytes())
    assert group["targets"] == ["127.0.0.1:4"]
    assert group["labels"]["job"] == "ingest"
    assert group["labels"]["__scrape_interval__"] == prometheus.EVERY
    assert [path.name for path in tmp_path.glob("targets*")] == ["targets.json"]
