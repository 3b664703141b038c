"""Finding a program, installing it, or naming the commands that install it."""

from pathlib import Path

import pytest

from deploy.local.machine import Machine, Missing
from deploy.local.programs import NeededProgram, Wheel
from tests.unit.deploy.local import samples

ORDINARY = 1000
ROOT = 0


def wanted(*places: Path, wheel: Wheel | None = None) -> NeededProgram:
    return NeededProgram(
        what="Quux",
        programs=("quux-server", "quuxd"),
        places=tuple(map(str, places)),
        debian="quux",
        wheel=wheel,
    )


def machine(path: Path, *, user: int = ORDINARY, may_install: bool = True) -> Machine:
    return Machine(environ={"PATH": str(path)}, user=user, may_install=may_install)


async def test_program_is_found_on_the_path_by_any_of_its_names(tmp_path: Path) -> None:
    there = samples.executable(tmp_path / "bin" / "quuxd", "")
    assert await machine(tmp_path / "bin").find(wanted()) == there


async def test_path_comes_before_the_other_places(tmp_path: Path) -> None:
    samples.executable(tmp_path / "lib" / "quux-server", "")
    there = samples.executable(tmp_path / "bin" / "quux-server", "")
    assert await machine(tmp_path / "bin").find(wanted(tmp_path / "lib")) == there


async def test_newest_of_several_versions_is_taken(tmp_path: Path) -> None:
    for version in ("9", "15", "14"):
        samples.executable(tmp_path / version / "bin" / "quux-server", "")
    assert await machine(tmp_path).find(wanted(tmp_path / "*" / "bin")) == tmp_path / "15" / "bin" / "quux-server"


async def test_error_for_a_missing_program_names_every_command_that_installs_it(tmp_path: Path) -> None:
    wheel = Wheel(distribution="quux-lite", package="no_such_package", path="bin/quux")
    with pytest.raises(Missing) as caught:
        await machine(tmp_path).find(wanted(wheel=wheel))
    assert "Quux is missing" in str(caught.value)
    assert caught.value.commands == ("apt-get install quux", "pip install quux-lite")
    assert all(command in str(caught.value) for command in caught.value.commands)


async def test_root_installs_a_missing_program(tmp_path: Path) -> None:
    bin_ = tmp_path / "bin"
    install = f'/bin/echo "$@" > {tmp_path}/asked; /bin/echo "#!/bin/sh" > {bin_}/quuxd; /bin/chmod 755 {bin_}/quuxd'
    samples.executable(bin_ / "apt-get", install)
    assert await machine(bin_, user=ROOT).find(wanted()) == bin_ / "quuxd"
    assert (tmp_path / "asked").read_text().split()[-1] == "quux"


async def test_package_lists_are_updated_once_if_the_package_is_not_found(tmp_path: Path) -> None:
    bin_ = tmp_path / "bin"
    samples.executable(bin_ / "apt-get", f'/bin/echo "$1" >> {tmp_path}/asked; /bin/echo "E: no quux" >&2; exit 100')
    with pytest.raises(Missing, match="E: no quux"):
        await machine(bin_, user=ROOT).find(wanted())
    assert (tmp_path / "asked").read_text().split() == ["install", "update", "install"]


@pytest.mark.parametrize(("user", "may_install"), [(ORDINARY, True), (ROOT, False)])
async def test_nothing_is_installed_without_root_or_permission(tmp_path: Path, user: int, may_install: bool) -> None:
    samples.executable(tmp_path / "bin" / "apt-get", f"/bin/echo > {tmp_path}/asked")
    with pytest.raises(Missing):
        await machine(tmp_path / "bin", user=user, may_install=may_install).find(wanted())
    assert not (tmp_path / "asked").exists()


async def test_program_of_a_wheel_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "carrying_quux"
    there = samples.executable(package / "bin-x86" / "quux", "")
    (package / "bin-arm").mkdir()
    (package / "bin-arm" / "quux").touch()  # not executable: not for this machine
    (package / "__init__.py").write_text("raise AssertionError('it is found without being imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    wheel = Wheel(distribution="quux-lite", package="carrying_quux", path="bin-*/quux")
    assert await machine(tmp_path).find(wanted(wheel=wheel)) == there
