"""Start errors name the place, the cause and what to do."""

import errno
import socket
from pathlib import Path

import pytest

from deploy import start_errors
from deploy.embedded import directory
from deploy.embedded.migrations import FileNotUsable
from deploy.start_errors import CannotBind


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.EADDRINUSE, "in use"), "is used by another program: stop that program, or choose another with "),
        (OSError(errno.EACCES, "denied"), "cannot be bound by this user: choose another with "),
        (OSError(errno.EADDRNOTAVAIL, "no"), "cannot be bound: it is not an address of this machine"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "cannot be bound: the host name is unknown"),
        (OSError(socket.EAI_NONAME, "while attempting to bind"), "cannot be bound: the host name is unknown"),
        (OSError(errno.EMFILE, "Too many open files"), "cannot be bound: Too many open files"),
    ],
)
def test_port_that_cannot_be_bound_is_named_with_the_cause(error: OSError, text: str) -> None:
    with pytest.raises(CannotBind) as refused, start_errors.binding("admin port", "127.0.0.1", 9464, "admin-port"):
        raise error
    assert str(refused.value).startswith(f"the admin port 127.0.0.1:9464 {text}")
    assert start_errors.fault_lines(refused.value) == [str(refused.value)]


def test_remedy_names_the_option_and_the_variable() -> None:
    with pytest.raises(CannotBind, match="--admin-port or ALIPAY_NOTIFY_ADMIN_PORT"):  # noqa: SIM117
        with start_errors.binding("admin port", "127.0.0.1", 9464, "admin-port"):
            raise OSError(errno.EADDRINUSE, "in use")


async def test_data_directory_that_cannot_be_created_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotUsable) as refused:
        async with directory.open_files(tmp_path / "file" / "engine", now_ms=lambda: 0):
            pass
    text = str(refused.value)
    assert text.startswith(f"the data directory {tmp_path}/file/engine cannot be used: Not a directory")
    assert "--data-dir or ALIPAY_NOTIFY_DATA_DIR" in text
