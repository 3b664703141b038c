"""The files that Prometheus reads: configuration and targets."""

from pathlib import Path

import msgspec

from deploy.local import prometheus
from deploy.local.processes import Process
from deploy.local.prometheus import Prometheus
from tests.unit.deploy.local import samples


async def healthy() -> bool:
    return True


def test_shipped_configuration_is_copied_and_yesterdays_targets_are_gone(tmp_path: Path) -> None:
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "yesterday.json").touch()
    file, targets = prometheus._lay_out(tmp_path, prometheus.CONFIGURATION)
    shipped = {path.name for path in (prometheus.CONFIGURATION.parent / "rules").glob("*.yml")}
    assert {path.name for path in (tmp_path / "rules").iterdir()} == shipped == {"alerts.yml", "objectives.yml"}
    assert file.read_bytes() == prometheus.CONFIGURATION.read_bytes()
    assert targets.parent == tmp_path / "targets"
    assert list(targets.parent.iterdir()) == []


def test_given_rules_replace_the_shipped_ones(tmp_path: Path) -> None:
    prometheus._lay_out(tmp_path, prometheus.CONFIGURATION)
    prometheus._lay_out(tmp_path, prometheus.CONFIGURATION, {"mine.yml": "groups: []"})
    assert [path.name for path in (tmp_path / "rules").iterdir()] == ["mine.yml"]


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
