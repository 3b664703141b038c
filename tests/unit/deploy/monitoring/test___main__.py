"""The command that writes the files, into another directory."""

from pathlib import Path

from deploy.monitoring import __main__ as command
from deploy.monitoring import files
from deploy.monitoring.rules import Links


def test_files_are_written_below_the_directory(tmp_path: Path) -> None:
    command.main(runbooks=Links().runbooks, grafana="", to=tmp_path)
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {path.relative_to(files.DEPLOY) for path in files.generated()}
    assert (tmp_path / "prometheus/rules/alerts.yml").read_bytes() == files.ALERTS.read_bytes()
