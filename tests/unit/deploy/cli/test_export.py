"""`export`: the files of the release in a folder, without a loss of what is there."""

from pathlib import Path

import pytest

from deploy.cli.export import Part
from tests.support.paths import ROOT
from tests.unit.deploy.cli.commands import parsed, run_here


def exported(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_all_parts_are_written_as_they_are_in_the_release(tmp_path: Path) -> None:
    assert run_here("export", str(tmp_path / "made/here")).exit_code == 0
    files = exported(tmp_path / "made/here")
    assert {path.split("/")[0] for path in files} == set(Part)
    for path, content in files.items():
        assert content == (ROOT / "deploy" / path).read_bytes()
    assert "kubernetes/overlays/example/kustomization.yaml" in files


def test_only_the_named_parts_are_written(tmp_path: Path) -> None:
    done = run_here("export", str(tmp_path), "--only", "grafana", "--only", "haproxy")
    assert done.exit_code == 0
    assert {path.split("/")[0] for path in exported(tmp_path)} == {"grafana", "haproxy"}
    assert f"{tmp_path}/haproxy/haproxy.cfg" in done.stdout.splitlines()


def test_file_that_differs_is_kept_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "haproxy").mkdir()
    (tmp_path / "haproxy/haproxy.cfg").write_text("mine")
    refused = run_here("export", str(tmp_path), "--only", "haproxy", "--only", "nginx")
    assert refused.exit_code == 1
    assert f"{tmp_path}/haproxy/haproxy.cfg" in refused.stderr
    assert exported(tmp_path) == {"haproxy/haproxy.cfg": b"mine"}


def test_force_overwrites_what_differs_and_leaves_the_rest(tmp_path: Path) -> None:
    run_here("export", str(tmp_path), "--only", "prometheus")
    rules = tmp_path / "prometheus/rules/alerts.yml"
    rules.write_text("mine")
    told = parsed(run_here("export", str(tmp_path), "--only", "prometheus", "--force", "--output", "json"))
    assert told["written"] == [str(rules)]
    assert rules.read_bytes() == (ROOT / "deploy/prometheus/rules/alerts.yml").read_bytes()
    assert len(told["unchanged"]) == len(exported(tmp_path)) - 1


def test_second_export_of_one_release_changes_nothing(tmp_path: Path) -> None:
    run_here("export", str(tmp_path), "--only", "systemd")
    again = run_here("export", str(tmp_path), "--only", "systemd")
    assert (again.exit_code, again.stdout) == (0, "")


@pytest.mark.parametrize("place", ["file/below", "file"])
def test_folder_that_cannot_be_made_fails_with_its_name(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    failed = run_here("export", str(tmp_path / place), "--only", "nginx")
    assert failed.exit_code == 1
    assert str(tmp_path / "file") in failed.stderr


def test_unknown_part_is_wrong_usage(tmp_path: Path) -> None:
    assert run_here("export", str(tmp_path), "--only", "helm").exit_code == 2
