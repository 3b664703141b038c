"""Runbooks: one for each alert, in four parts, with commands that exist."""

import re
from pathlib import Path

import pytest
import typer.main

from deploy.cli import main
from deploy.monitoring import alerts
from tests.house import test_documents
from tests.support.paths import ROOT

RUNBOOKS = sorted((ROOT / "deploy/runbooks").glob("*.md"))
HEADINGS = ["Meaning", "Impact", "How to look", "What to do"]
WORDS_MAX = 200  # read at three in the morning

each_runbook = pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    assert [path.stem for path in RUNBOOKS] == sorted(alert.name for alert in alerts.table())


@each_runbook
def test_runbook_has_its_title_and_four_parts_with_text(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# AlipayNotify{path.stem}\n")
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    assert parts[1::2] == HEADINGS
    assert all(len(part.split()) >= 3 for part in parts[2::2])
    assert len(text.split()) <= WORDS_MAX


@each_runbook
def test_runbook_names_only_commands_settings_and_alerts_that_exist(path: Path) -> None:
    test_documents.test_every_command_exists_with_its_options(path)
    test_documents.test_every_environment_variable_is_a_setting(path)
    test_documents.test_every_link_and_file_name_leads_somewhere(path)
    text = path.read_text(encoding="utf-8")
    inline = re.findall(r"`(alipay-notify [^`]+)`", text)
    assert inline or "    alipay-notify " in text or "    curl " in text, "nothing to call"
    root = typer.main.get_command(main.application())
    for line in inline:
        command = root
        for word in line.split()[1:]:
            commands = getattr(command, "commands", None)
            if commands is None:
                break
            assert word in commands, line
            command = commands[word]
        options = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", line)) <= options, line


def test_page_about_monitoring_names_every_alert() -> None:
    text = (ROOT / "deploy/docs/monitoring.md").read_text(encoding="utf-8")
    assert [alert.name for alert in alerts.table() if not re.search(rf"\b{alert.name}\b", text)] == [
        "AckBudgetBurnSlow",
        "EndToEndBudgetBurnSlow",
    ]
