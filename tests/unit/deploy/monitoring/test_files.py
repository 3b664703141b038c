"""The generated monitoring files."""

import msgspec
import pytest

from deploy.monitoring import files
from deploy.monitoring.rules import Links


@pytest.mark.parametrize("path", files.generated(), ids=lambda path: path.name)
def test_committed_file_equals_the_tables(path: object) -> None:
    assert isinstance(path, type(files.ALERTS))
    assert path.read_text(encoding="utf-8") == files.generated()[path], "run: python -m deploy.monitoring"


def test_links_are_in_the_alerts() -> None:
    text = files.generated(Links(runbooks="https://w.example"))[files.ALERTS]
    assert 'runbook_url: "https://w.example/AckBudgetBurn.md"' in text


def test_provisioning_names_the_kind_of_source_that_the_boards_ask_for() -> None:
    provisioning = files.DEPLOY / "grafana" / "provisioning"
    (source,) = msgspec.yaml.decode((provisioning / "datasources" / "prometheus.yaml").read_bytes())["datasources"]
    assert source["type"] == "prometheus"
    (provider,) = msgspec.yaml.decode((provisioning / "dashboards" / "alipay-notify.yaml").read_bytes())["providers"]
    assert provider["type"] == "file"
    assert {path.name for path in (files.DEPLOY / "grafana" / "dashboards").iterdir()} == {
        path.name for path in files.BOARDS.values()
    }
