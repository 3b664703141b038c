"""The generated monitoring files."""

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
