"""What keeps a process of ours from starting, told so that somebody can mend it."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ingest.http.server import WrongParser
from schemas.accounts import BadAccounts
from workers.admin.guard import OpenAdmin
from workers.errors import InfrastructureDown


class CannotBind(Exception):
    """A port of ours cannot be had; the text says which, why, and what to do."""


# What any of them may be refused for; each engine has some more of its own.
REFUSALS = (BadAccounts, OpenAdmin, WrongParser, CannotBind, InfrastructureDown, OSError)


def told(error: BaseException) -> list[str]:
    """Each fault as one line."""
    if isinstance(error, BadAccounts):
        return error.faults
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return [f"{error.strerror}{where}"]
    return [str(error)]


@contextmanager
def binding(name: str, host: str, port: int, setting: str) -> Iterator[None]:
    """Whatever keeps the block from binding this address is told as that.

    Raises:
        CannotBind: instead of OSError.
    """
    try:
        yield
    except OSError as error:
        raise CannotBind(f"the {name} {host}:{port} {_why(error, setting)}") from error


def _why(error: OSError, setting: str) -> str:
    choose = f"choose another with --{setting} or ALIPAY_NOTIFY_{setting.upper().replace('-', '_')}"
    # What binds may have wrapped the resolver's error in its own, whose number stays.
    if isinstance(error, socket.gaierror) or error.errno in (socket.EAI_NONAME, socket.EAI_AGAIN):
        return "cannot be bound: nobody knows that name; use an address of this machine"
    match error.errno:
        case errno.EADDRINUSE:
            return f"is taken by another program: stop that one, or {choose} (0 is any free port)"
        case errno.EACCES | errno.EPERM:
            return f"cannot be bound by this user: {choose}, above 1023"
        case errno.EADDRNOTAVAIL:
            return "cannot be bound: it is no address of this machine"
        case _:
            return f"cannot be bound: {error.strerror or error}"
