"""The body is read whole, within its limit and its deadline, and each failure has its own error."""

import asyncio
import tracemalloc

import pytest

from ingest.errors import Malformed, TooLarge, TooSlow
from ingest.http.request import BrokenBody, Request
from ingest.receive import Gone
from schemas.form import BODY_BYTES_MAX

TARGET = b"/notify/shop?a=%20b"


class Sender:
    """The connection of one request. `asked` counts how often the request began to wait for its body."""

    def __init__(self, *, version: str = "1.1", headers: dict[bytes, list[bytes]] | None = None) -> None:
        self.asked = 0
        self.request = Request(
            self, method="POST", target=TARGET, version=version, headers=headers or {}, keeps_alive=True
        )

    def await_body(self, request: Request) -> None:
        assert request is self.request
        self.asked += 1

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.request.add(piece)
        self.request.wake()

    def end(self) -> None:
        self.request.is_complete = True
        self.request.wake()


async def test_complete_body_is_returned_without_waiting() -> None:
    sender = Sender()
    sender.send(b"a=", b"1")
    sender.end()
    assert await sender.request.read_body() == b"a=1"
    assert sender.request.body == b"a=1"
    assert sender.asked == 0, "nothing is left to ask for"


async def test_body_that_arrives_in_pieces_is_returned_whole() -> None:
    sender = Sender()
    reading = asyncio.create_task(sender.request.read_body())
    await asyncio.sleep(0)
    sender.send(b"a=")
    await asyncio.sleep(0)
    assert (sender.asked, reading.done()) == (1, False)
    sender.send(b"1")
    sender.end()
    assert await reading == b"a=1"


async def test_body_in_tiny_pieces_takes_no_more_memory_than_it_has_bytes() -> None:
    pieces = [b"%02x" % (number % 256) for number in range(BODY_BYTES_MAX // 2)]
    sender = Sender()
    tracemalloc.start()
    try:
        for piece in pieces:
            sender.send(bytes(bytearray(piece)))  # one that only the request keeps
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    sender.end()
    assert taken < 2 * BODY_BYTES_MAX
    assert await sender.request.read_body() == b"".join(pieces)


@pytest.mark.parametrize("is_complete", [True, False])
async def test_body_limit_is_exact(is_complete: bool) -> None:
    for size, is_accepted in ((BODY_BYTES_MAX, True), (BODY_BYTES_MAX + 1, False)):
        sender = Sender()
        if is_complete:
            sender.send(b"x" * size)
            sender.end()
        reading = asyncio.create_task(sender.request.read_body())
        await asyncio.sleep(0)
        if not is_complete:
            sender.send(b"x" * size)
            sender.end()
        if is_accepted:
            assert len(await reading) == size
        else:
            with pytest.raises(TooLarge):
                await reading
            assert sender.request.body is None


@pytest.mark.parametrize("error", [Gone(), BrokenBody(), TooLarge("on the wire")])
@pytest.mark.parametrize("is_waiting", [True, False])
async def test_body_that_will_never_be_whole_fails_with_the_reason(error: Exception, is_waiting: bool) -> None:
    sender = Sender()
    sender.send(b"a=")
    reading = asyncio.create_task(sender.request.read_body())
    if is_waiting:
        await asyncio.sleep(0)
    sender.request.fail(error)
    sender.request.fail(ValueError("only the first counts"))
    with pytest.raises(type(error)):
        await reading


async def test_complete_body_does_not_fail_any_more() -> None:
    sender = Sender()
    sender.send(b"a=1")
    sender.end()
    sender.request.fail(Gone())
    assert await sender.request.read_body() == b"a=1"


async def test_body_that_misses_its_deadline_is_too_slow() -> None:
    sender = Sender()
    reading = asyncio.create_task(sender.request.read_body())
    await asyncio.sleep(0)
    sender.request.expire()
    with pytest.raises(TooSlow):
        await reading


async def test_http_1_0_has_no_transfer_encoding() -> None:
    sender = Sender(version="1.0", headers={b"transfer-encoding": [b"chunked"]})
    with pytest.raises(Malformed):
        await sender.request.read_body()


def test_header_fields_are_found_by_name() -> None:
    request = Sender(headers={b"signature": [b"1", b"3"], b"client-id": [b"2"]}).request
    assert (request.header(b"signature"), request.header(b"host")) == (b"1", None)
    assert (request.header_values(b"signature"), request.header_values(b"host")) == ([b"1", b"3"], ())


@pytest.mark.parametrize(
    ("version", "value", "expects"),
    [("1.1", b"100-Continue", True), ("1.0", b"100-continue", False), ("1.1", b"", False), ("1.1", b"200-ok", False)],
)
def test_continue_is_expected_by_http_1_1_before_the_body(version: str, value: bytes, expects: bool) -> None:
    sender = Sender(version=version, headers={b"expect": [value]})
    assert sender.request.expects_continue is expects
    sender.send(b"a")
    assert not sender.request.expects_continue
