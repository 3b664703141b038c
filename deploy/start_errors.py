"""Errors that keep a process from starting, and their texts for the operator."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from schemas.accounts import BadAccounts
from workers.admin.guard import OpenAdmin
from workers.callbacks.endpoints import BadCallbacks
from workers.errors import InfrastructureDown


class CannotBind(Exception):
    """A port cannot be bound; the text says which, why, and what to do."""


class CannotTrace(Exception):
    """Traces are wanted and not possible; the text says why, and what to do."""


# Exceptions that refuse the start of any process; each engine adds its own.
REFUSALS = (BadAccounts, BadCallbacks, OpenAdmin, CannotBind, CannotTrace, InfrastructureDown, OSError)


def fault_lines(error: BaseException) -> list[str]:
    """Return one line for each fault in a start error."""
    if isinstance(error, BadAccounts | BadCallbacks):
        return error.faults
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return [f"{error.strerror}{where}"]
    return [str(error)]


@contextmanager
def binding(name: str, host: str, port: int, setting: str) -> Iterator[None]:
    """Explain why the block could not bind this address; `setting` is the option that chooses another port.

    Raises:
        CannotBind: instead of OSError.
    """
    try:
        yield
    except OSError as error:
        raise CannotBind(f"the {name} {host}:{port} {_why(error, setting)}") from error


def _why(error: OSError, setting: str) -> str:
    choose = f"choose another with --{setting} or ALIPAY_NOTIFY_{setting.upper().replace('-', '_')}"
    # asyncio may wrap the resolver's error in an OSError with the same number.
    if isinstance(error, socket.gaierror) or error.errno in (socket.EAI_NONAME, socket.EAI_AGAIN):
        return "cannot be bound: the host name is unknown; use an address of this machine"
    match error.errno:
        case errno.EADDRINUSE:
            return f"is used by another program: stop that program, or {choose} (0 is any free port)"
        case errno.EACCES | errno.EPERM:
            return f"cannot be bound by this user: {choose}, above 1023"
        case errno.EADDRNOTAVAIL:
            return "cannot be bound: it is not an address of this machine"
        case _:
            return f"cannot be bound: {error.strerror or error}"
