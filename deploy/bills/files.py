"""Open a bill: a CSV file, an archive of them, or standard input, and yield its lines. Nothing is unpacked to disk.

The file is untrusted. Names in an archive are only shown, never used as paths. Sizes, ratios and line lengths have
limits, so that memory stays bounded whatever the file is.
"""

import hashlib
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from msgspec import Struct

FILE_BYTES_MAX = 2 * 1024**3
UNPACKED_BYTES_MAX = 4 * 1024**3  # more than `reader.ROWS_MAX` rows have
RATIO_MAX, RATIO_FROM_BYTES = 200, 16 * 1024**2  # real bills shrink to a tenth
MEMBERS_MAX = 100
DIRECTORY_BYTES_MAX = 1024**2  # the list of files at the end of an archive
END_BYTES_MAX = 64 * 1024 + 64  # its end record, after which a comment may follow
LINE_BYTES_MAX = 64 * 1024
CHUNK_BYTES = 64 * 1024
STANDARD_INPUT = "-"

# Everything that a damaged archive makes Python's reader raise. RuntimeError: a password is needed.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError, OverflowError,
)  # fmt: skip
# Bills have no other compressions, and of these Python's reader unpacks only as much as was asked for.
_COMPRESSIONS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_END_MARK, _END_OF_LARGE_MARK, _END_BYTES = b"PK\5\6", b"PK\6\7", 22

Advance = Callable[[int], None]


class BadBill(Exception):
    """The file cannot be compared at all; the text tells why, and what to do."""


class RawLine(Struct, frozen=True):
    """One line as bytes, without its end. `is_cut`: it was longer than `LINE_BYTES_MAX`, and the rest is left out."""

    number: int
    content: bytes
    is_cut: bool


class BillFile(Struct, frozen=True):
    """An open file: its name without folders, the digest of its bytes, and its size."""

    name: str
    digest: str
    size: int
    content: IO[bytes]


@contextmanager
def opened(given: str) -> Iterator[BillFile]:
    """Open the file with this path, or standard input, which is copied to a temporary file first.

    Raises:
        BadBill: it cannot be read, is empty or too large.
    """
    with ExitStack() as stack:
        try:
            content: IO[bytes] = stack.enter_context(
                _copy_of_input() if given == STANDARD_INPUT else open(given, "rb")  # noqa: SIM115 - the stack closes it
            )
            size, digest = _measured(content)
        except (OSError, ValueError) as error:  # ValueError: a path with NUL
            why = error.strerror if isinstance(error, OSError) else None
            raise BadBill(f"{given} cannot be read: {why or type(error).__name__}") from None
        name = "standard input" if given == STANDARD_INPUT else Path(given).name
        yield BillFile(name, digest, size, content)


def _measured(content: IO[bytes]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while chunk := content.read(1024**2):
        size += len(chunk)
        if size > FILE_BYTES_MAX:
            raise BadBill(f"the file has more than {FILE_BYTES_MAX >> 30} GiB")
        digest.update(chunk)
    if not size:
        raise BadBill("the file is empty")
    content.seek(0)
    return size, digest.hexdigest()


@contextmanager
def _copy_of_input() -> Iterator[IO[bytes]]:
    """Copy standard input, as far as the limit: an endless one must not fill the disk."""
    with tempfile.TemporaryFile() as copy:
        left = FILE_BYTES_MAX + 1
        while left and (chunk := sys.stdin.buffer.read(min(left, 1024**2))):
            copy.write(chunk)
            left -= len(chunk)
        copy.seek(0)
        yield copy


def members(bill: BillFile, advance: Advance) -> Iterator[tuple[str, Iterator[RawLine]]]:
    """Yield the name and the lines of each CSV file in the bill. `advance` is called with the bytes that were read.

    Raises:
        BadBill: the archive is damaged, encrypted, or unpacks to far more than a bill has.
    """
    if not zipfile.is_zipfile(bill.content):
        bill.content.seek(0)
        yield bill.name, _lines(_chunks(bill.content, advance))
        return
    _check_directory(bill)
    with _readable(), zipfile.ZipFile(bill.content) as archive:
        found = [each for each in archive.infolist() if _is_csv(each)]
        if not found:
            raise BadBill("the archive has no .csv or .txt file")
        if len(found) > MEMBERS_MAX:
            raise BadBill(f"the archive has more than {MEMBERS_MAX} CSV files")
        if other := next((each for each in found if each.compress_type not in _COMPRESSIONS), None):
            raise BadBill(
                f"{_name(other)} in the archive is compressed in a way that bills are not: unpack it, and import "
                "the .csv file"
            )
        unpacked = _Unpacked()
        for member in found:
            with archive.open(member) as content:
                yield _name(member), _guarded(_lines(_chunks(content, unpacked.of(member, advance))))


def _check_directory(bill: BillFile) -> None:
    """Refuse an archive with a huge list of files, because Python's reader takes all of it into memory.

    Raises:
        BadBill: it has one, is in the form for archives of 4 GiB, or its end is cut off.
    """
    bill.content.seek(max(0, bill.size - END_BYTES_MAX))
    tail = bill.content.read()
    place = _place_of_end(tail)
    record = tail[place : place + _END_BYTES]
    if len(record) < _END_BYTES:
        raise BadBill("the archive is damaged: download it again")
    size = int.from_bytes(record[12:16], "little")
    if tail[max(0, place - 20) : place].startswith(_END_OF_LARGE_MARK) or size > DIRECTORY_BYTES_MAX:
        raise BadBill("the archive is larger than one with a bill is")
    bill.content.seek(0)


def _place_of_end(tail: bytes) -> int:
    """Return where the end record begins, found as Python's reader finds it: first without a comment after it."""
    last = tail[-_END_BYTES:]
    if last.startswith(_END_MARK) and last.endswith(b"\0\0"):
        return len(tail) - len(last)
    return max(0, tail.rfind(_END_MARK))


@contextmanager
def _readable() -> Iterator[None]:
    """Raise `BadBill` for the faults of archives."""
    try:
        yield
    except _DAMAGED as error:
        raise BadBill(f"the archive cannot be unpacked: {error or type(error).__name__}") from None


def _guarded(lines: Iterator[RawLine]) -> Iterator[RawLine]:
    with _readable():
        yield from lines


class _Unpacked:
    """Counts unpacked bytes, and ends at the limits."""

    def __init__(self) -> None:
        self._total = 0

    def of(self, member: zipfile.ZipInfo, advance: Advance) -> Advance:
        read = 0

        def count(size: int) -> None:
            nonlocal read
            read += size
            self._total += size
            is_bomb = read > RATIO_FROM_BYTES and read > RATIO_MAX * max(1, member.compress_size)
            if is_bomb or self._total > UNPACKED_BYTES_MAX:
                raise BadBill("the archive unpacks to far more than a bill has")
            advance(size * member.compress_size // max(1, member.file_size))

        return count


def _is_csv(member: zipfile.ZipInfo) -> bool:
    name = member.filename.lower()
    is_of_macos = name.startswith("__macosx/") or name.rpartition("/")[2].startswith("._")
    return not member.is_dir() and name.endswith((".csv", ".txt")) and not is_of_macos


def _name(member: zipfile.ZipInfo) -> str:
    """Return a member's name for people; Alipay's archives have names in GBK, without saying so."""
    name = member.filename
    if not member.flag_bits & 0x800:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("gbk")
    return name.replace("\\", "/").rpartition("/")[2][:200]


def _chunks(content: IO[bytes], advance: Advance) -> Iterator[bytes]:
    while chunk := content.read(CHUNK_BYTES):
        advance(len(chunk))
        yield chunk


def _lines(chunks: Iterator[bytes]) -> Iterator[RawLine]:
    """Yield the lines, each up to `LINE_BYTES_MAX`, of which no more is kept in memory."""
    rest, is_cut, number = b"", False, 0
    for chunk in chunks:
        *whole, rest_of_chunk = (rest + chunk).split(b"\n")
        for content in whole:
            number += 1
            yield _line(number, content, is_cut)
            is_cut = False
        rest = rest_of_chunk
        if len(rest) > LINE_BYTES_MAX:
            rest, is_cut = rest[:LINE_BYTES_MAX], True
    if rest:
        yield _line(number + 1, rest, is_cut)


def _line(number: int, content: bytes, is_cut: bool) -> RawLine:
    is_cut = is_cut or len(content) > LINE_BYTES_MAX
    return RawLine(number, content[:LINE_BYTES_MAX].rstrip(b"\r"), is_cut)
