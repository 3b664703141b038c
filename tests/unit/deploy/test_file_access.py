"""Who can reach a secret file, by real modes and access lists of directories that these tests make."""

import errno
import grp
import os
import pwd
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy import file_access
from tests.support import open_directory

OPS, STAFF = 70_001, 70_002  # groups
ANNA, BOB, EVE = 60_001, 60_002, 60_003
NAMES = {ANNA: "anna", BOB: "bob", EVE: "eve"}
MEMBERS = {OPS: ("ops", ["anna", "bob"]), STAFF: ("staff", ["bob"])}
USER_OBJECT, USER, GROUP_OBJECT, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32


@pytest.fixture
def directory() -> Iterator[Path]:
    with open_directory.opened() as directory:
        yield directory


@pytest.fixture(autouse=True)
def people(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with three users and two groups besides those of the real one."""
    group, user, users, theirs = (
        grp.getgrgid, pwd.getpwuid, pwd.getpwall, os.getgrouplist,
    )  # fmt: skip
    made = {uid: SimpleNamespace(pw_name=name, pw_uid=uid, pw_gid=uid) for uid, name in NAMES.items()}
    groups = {gid: SimpleNamespace(gr_name=name, gr_mem=members) for gid, (name, members) in MEMBERS.items()}
    monkeypatch.setattr("deploy.file_access.grp.getgrgid", lambda gid: groups.get(gid) or group(gid))
    monkeypatch.setattr("deploy.file_access.pwd.getpwuid", lambda uid: made.get(uid) or user(uid))
    monkeypatch.setattr("deploy.file_access.pwd.getpwall", lambda: [*users(), *made.values()])
    monkeypatch.setattr(
        "deploy.file_access.os.getgrouplist",
        lambda name, gid: (
            [gid, *(each for each, (_, members) in MEMBERS.items() if name in members)]
            if name in NAMES.values()
            else theirs(name, gid)
        ),
    )


def secret(directory: Path, mode: int) -> Path:
    file = directory / "secret.key"
    file.write_text("secret")
    file.chmod(mode)
    return file


def grant(path: Path, *, users: dict[int, int] | None = None, groups: dict[int, int] | None = None) -> None:
    """Give the path an access list, which leaves nothing to its own group and to others."""
    nobody = 0xFFFFFFFF
    entries = [(USER_OBJECT, 7, nobody)]
    entries += [(USER, rights, uid) for uid, rights in (users or {}).items()]
    entries.append((GROUP_OBJECT, 0, nobody))
    entries += [(GROUP, rights, gid) for gid, rights in (groups or {}).items()]
    entries += [(MASK, 7, nobody), (OTHER, 0, nobody)]
    content = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", content)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        pytest.skip("this file system has no access lists")


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (0o600, ""), (0o400, ""), (0o644, "every user of this machine"), (0o604, "every user of this machine"),
        (0o602, "every user of this machine"), (0o601, ""),
    ],
)  # fmt: skip
def test_file_in_an_open_directory_is_open_by_its_mode(directory: Path, mode: int, words: str) -> None:
    assert file_access.reach(secret(directory, mode)).words() == words


@pytest.mark.parametrize("closed", ["", "inner"])
def test_file_of_mode_644_is_out_of_reach_behind_a_closed_directory(directory: Path, closed: str) -> None:
    inner = directory / "inner"
    inner.mkdir(mode=0o755)
    file = secret(inner, 0o644)
    (directory / closed).chmod(0o700)
    assert file_access.reach(file) == file_access.Reach()
    (directory / closed).chmod(0o711)  # it cannot be listed, but entered by whoever knows the name
    assert file_access.reach(file).everyone


def test_link_is_judged_by_the_file_that_it_leads_to(directory: Path) -> None:
    closed = directory / "closed"
    closed.mkdir(mode=0o700)
    (directory / "link.key").symlink_to(secret(closed, 0o644))
    assert not file_access.reach(directory / "link.key").everyone
    (closed / "link.key").symlink_to(secret(directory, 0o644))
    assert file_access.reach(closed / "link.key").everyone


def test_members_of_a_group_are_named(directory: Path) -> None:
    file = secret(directory, 0o600)
    grant(file, groups={OPS: 4})
    found = file_access.reach(file)
    assert (found.groups, found.users) == (("ops",), ("anna", "bob"))
    assert found.words() == "the group ops (anna, bob)"


def test_group_that_cannot_enter_the_directory_cannot_reach_the_file(directory: Path) -> None:
    file = secret(directory, 0o644)
    grant(directory, groups={OPS: 4})  # to list it, but not to enter
    assert file_access.reach(file).words() == ""
    grant(directory, groups={OPS: 5})
    assert file_access.reach(file).groups == ("ops",)


def test_only_members_of_both_groups_reach_a_file_behind_two(directory: Path) -> None:
    file = secret(directory, 0o600)
    grant(file, groups={OPS: 4})
    grant(directory, groups={STAFF: 5})
    found = file_access.reach(file)
    assert (found.groups, found.users) == (("ops", "staff"), ("bob",))


def test_user_of_an_access_list_is_named(directory: Path) -> None:
    file = secret(directory, 0o600)
    grant(file, users={EVE: 6})
    assert file_access.reach(file).words() == "the user eve"
    grant(file, users={EVE: 0, ANNA: 1})
    assert file_access.reach(file).words() == ""


def test_group_of_an_unknown_number_may_have_any_members(directory: Path) -> None:
    file = secret(directory, 0o600)
    grant(file, groups={70_099: 4})
    found = file_access.reach(file)
    assert (found.is_complete, found.users) == (False, ())
    assert found.words() == "the group 70099, whose members are not known here"


def test_group_without_another_member_is_nobody(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = secret(directory, 0o600)
    grant(file, groups={STAFF: 4})
    assert file_access.reach(file).users == ("bob",)
    monkeypatch.setattr("deploy.file_access.os.geteuid", lambda: BOB)
    assert file_access.reach(file) == file_access.Reach()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owner_of_the_directory_and_the_group_of_the_file_count(directory: Path) -> None:
    file = secret(directory, 0o640)
    os.chown(file, 0, OPS)
    assert file_access.reach(file).users == ("anna", "bob")
    closed = directory / "closed"
    closed.mkdir(mode=0o700)
    file = secret(closed, 0o644)
    assert file_access.reach(file).words() == ""
    os.chown(closed, EVE, EVE)
    assert file_access.reach(file).words() == "the user eve"


def test_missing_file_is_an_error(directory: Path) -> None:
    with pytest.raises(FileNotFoundError):
        file_access.reach(directory / "none")
