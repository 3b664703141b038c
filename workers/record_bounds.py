"""The size limits of a record from the log: any program that can write to the log chooses its size."""

from operator import itemgetter

from schemas import record_format
from schemas.form import BODY_BYTES_MAX
from schemas.record_format import Record

RECORD_BYTES_MAX = 4 * BODY_BYTES_MAX  # no receiver wrote a larger record
HEADERS_MAX = 64  # the receiver writes at most twelve
HEADER_BYTES_MAX = 4096

_value = itemgetter(1)


def check(record: Record) -> None:
    """Return if a receiver may have written a record of this size.

    Raises:
        BadRecord: it has too many headers or bytes.
    """
    if len(record.headers) > HEADERS_MAX:
        raise record_format.BadRecord(f"more than {HEADERS_MAX} headers")
    if len(record.value) + sum(map(len, map(_value, record.headers))) > RECORD_BYTES_MAX:
        raise record_format.BadRecord(f"more than {RECORD_BYTES_MAX} bytes")


def trimmed(record: Record) -> Record:
    """Return the record as a held row keeps it: the whole value, and headers cut to bounds, because they are advice."""
    if len(record.headers) <= HEADERS_MAX and all(len(value) <= HEADER_BYTES_MAX for _, value in record.headers):
        return record
    headers = tuple((name[:HEADER_BYTES_MAX], value[:HEADER_BYTES_MAX]) for name, value in record.headers[:HEADERS_MAX])
    return Record(record.key, record.value, headers)
