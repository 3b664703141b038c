"""Find the users that can read or change a secret file: by owner, group, mode and access list of all directories too.

A mode alone does not show it. A file of mode 644 is out of reach behind a directory of mode 700, as the systemd units
have it; one of mode 640 is open to the members of its group. So each kind of user is followed from the root directory
down to the file, by the rules of POSIX (and of its access lists, `acl(5)`).

Not seen: other paths to the same file (hard links, mounts), rights that were opened earlier, and groups that a
directory service does not list.
"""

import grp
import itertools
import os
import pwd
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_READ, _WRITE, _ENTER = 4, 2, 1
_ACL = "system.posix_acl_access"
_ACL_ENTRY = struct.Struct("<HHI")  # tag, permissions, id; after a version of 4 bytes
_USER, _GROUP_OBJECT, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10


@dataclass(frozen=True, slots=True)
class Reach:
    """The users that can reach a file, besides its owner, root and the user of this process.

    `everyone` is true if each user of this machine can. `groups` are those whose members can, by name; `users` are the
    members and other single users, by name. `is_complete` is false if a group's members are not known.
    """

    everyone: bool = False
    groups: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    is_complete: bool = True

    def words(self) -> str:
        """Return the users in words, such as `the group ops (anna, bob)`; empty if there are none."""
        if self.everyone:
            return "every user of this machine"
        members = f" ({', '.join(self.users)})" if self.users and self.groups else ""
        unknown = "" if self.is_complete else ", whose members are not known here"
        if self.groups:
            return f"the group{'s' if len(self.groups) > 1 else ''} {' and '.join(self.groups)}{members}{unknown}"
        return f"the user{'s' if len(self.users) > 1 else ''} {', '.join(self.users)}" if self.users else ""


@dataclass(frozen=True, slots=True)
class _Rights:
    """Owner, group and permissions of one file or directory. `users` and `groups` are named in an access list."""

    owner: int
    group: int
    mode: int
    users: dict[int, int] = field(default_factory=dict)
    groups: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path) -> "_Rights":
        status = path.stat()
        users, groups = _access_list(path)
        own = groups.pop(-1, (status.st_mode >> 3) & 7)  # with an access list, the mode has its mask in place of this
        groups[status.st_gid] = groups.get(status.st_gid, 0) | own
        return cls(status.st_uid, status.st_gid, status.st_mode & 7, users, groups)

    def allow(self, wanted: int, user: int | None, groups: frozenset[int]) -> bool:
        """Return whether a user other than root and the owner has one of the wanted rights."""
        if user in self.users:
            return bool(self.users[user] & wanted)
        theirs = [rights for group, rights in self.groups.items() if group in groups]
        return any(rights & wanted for rights in theirs) if theirs else bool(self.mode & wanted)


def reach(file: Path) -> Reach:
    """Return the users that can read or change the file.

    Raises:
        OSError: it does not exist, or this process cannot look at its directories.
    """
    path = file.resolve()
    target, above = _Rights.of(path), [_Rights.of(each) for each in path.parents]
    every = [target, *above]

    def can(user: int | None, groups: frozenset[int]) -> bool:
        # The owner of a directory can open it, and root can open everything.
        entered = all(each.owner == user or each.allow(_ENTER, user, groups) for each in above)
        return entered and target.allow(_READ | _WRITE, user, groups)

    if can(None, frozenset()):
        return Reach(everyone=True)
    opened = [way for way in _ways(target, above) if can(None, way)]
    known = {0, target.owner, os.geteuid()}
    uids = {uid for each in every for uid in (each.owner, *each.users)} - known
    users = {uid for uid in uids if can(uid, _groups_of(uid))}
    groups, is_complete = [], True
    for gids_ in opened:
        members = _members(gids_)
        is_complete = is_complete and members is not None
        theirs = (members or set()) - known
        users |= theirs
        if theirs or members is None:
            groups += [_group_name(gid) for gid in sorted(gids_)]
    return Reach(groups=tuple(groups), users=tuple(sorted(map(_user_name, users))), is_complete=is_complete)


def _ways(target: _Rights, above: Sequence[_Rights]) -> list[frozenset[int]]:
    """Return the sets of groups whose common members may pass: one group for each place that is closed to others."""
    places = [(target, _READ | _WRITE), *((each, _ENTER) for each in above)]
    closed = [(each, wanted) for each, wanted in places if not each.mode & wanted]
    granting = [[gid for gid, rights in each.groups.items() if rights & wanted] for each, wanted in closed]
    return sorted({frozenset(chosen) for chosen in itertools.product(*granting)}, key=sorted)


def _access_list(path: Path) -> tuple[dict[int, int], dict[int, int]]:
    """Return the rights of the users and groups that an access list names, -1 for the file's own group."""
    users: dict[int, int] = {}
    groups: dict[int, int] = {}
    content = b""
    if hasattr(os, "getxattr"):
        with suppress(OSError):  # there is none, or the file system has none
            content = os.getxattr(path, _ACL)
    entries = list(_entries(content))
    mask = next((rights for tag, rights, _ in entries if tag == _MASK), 7)
    for tag, rights, id_ in entries:
        if tag == _USER:
            users[id_] = rights & mask
        elif tag in (_GROUP, _GROUP_OBJECT):
            groups[id_ if tag == _GROUP else -1] = rights & mask
    return users, groups


def _entries(content: bytes) -> Iterator[tuple[int, int, int]]:
    entries = content[4:]
    yield from _ACL_ENTRY.iter_unpack(entries[: len(entries) // _ACL_ENTRY.size * _ACL_ENTRY.size])


def _members(gids: Sequence[int] | frozenset[int]) -> set[int] | None:
    """Return the users that are in all these groups, or `None` if one is not in the system's database."""
    found: set[int] | None = None
    for gid in gids:
        try:
            group = grp.getgrgid(gid)
        except KeyError:
            return None
        users = pwd.getpwall()
        own = {one.pw_uid for one in users if one.pw_gid == gid or one.pw_name in group.gr_mem}
        found = own if found is None else found & own
    return found


def _groups_of(uid: int) -> frozenset[int]:
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return frozenset()
    return frozenset(os.getgrouplist(user.pw_name, user.pw_gid))


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
