"""Read `callbacks.toml` and the files of its secrets, and read them again while a process runs.

All files together are one state, as accounts and keys are: if any of them is faulty, the old endpoints stay in use, and
the faults are shown by `/readyz?verbose` and a log line. Only a start is refused.
"""

import asyncio
import tomllib
from collections.abc import Mapping
from pathlib import Path

from ingest.log_port import Logger
from schemas.telemetry import Field
from workers.callbacks import endpoints
from workers.callbacks.endpoints import BadCallbacks, Endpoint

FILE_BYTES_MAX = 1024 * 1024


class CallbacksFile:
    """The endpoints in use. `faults` has all present faults of the files; empty while all is well."""

    def __init__(self, path: Path) -> None:
        """Read all files.

        Raises:
            BadCallbacks: with every fault.
        """
        self._path = path
        self._endpoints = read(path)
        self.faults: list[str] = []

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        return self._endpoints

    @property
    def trouble(self) -> str:
        """The faults of the files as one text; empty while all is well."""
        return f"the old endpoints stay in use: {'; '.join(self.faults)}" if self.faults else ""

    async def look(self, logger: Logger) -> None:
        """Read the files again, in a thread."""
        before = self.faults
        try:
            found = await asyncio.to_thread(read, self._path)
        except BadCallbacks as bad:
            self.faults = bad.faults
            if self.faults != before:
                text = "; ".join(self.faults)
                logger.error("callbacks not reloaded, the old ones stay in use", **{Field.ERROR: text})
            return
        self.faults = []
        if found != self._endpoints:
            self._endpoints = found
            logger.info("callbacks reloaded", **{Field.COUNT: len(found)})

    async def run(self, logger: Logger, *, interval_s: float) -> None:
        """Look every `interval_s`, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            await self.look(logger)


def read(path: Path) -> dict[str, Endpoint]:
    """Return the endpoints in the file by name. Their secrets' files are relative to its directory.

    Raises:
        BadCallbacks: with every fault; also if a file cannot be read or is not TOML.
    """
    try:
        configuration = tomllib.loads(_text(path))
    except ValueError as error:  # also of TOML, and of another encoding
        raise BadCallbacks([f"{path}: {error}"]) from None
    return endpoints.parse(configuration, lambda file: endpoints.secret(_text(path.parent / file)))


def secret_files(path: Path) -> list[Path]:
    """Return the files of all secrets of a file that `read` has accepted."""
    tables = tomllib.loads(_text(path)).get("callbacks", {})
    return sorted({path.parent / file for table in tables.values() for file in table["secret_files"]})


def _text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        ValueError: it cannot be read; the message has nothing of its content.
    """
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"is larger than {FILE_BYTES_MAX >> 20} MiB")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
