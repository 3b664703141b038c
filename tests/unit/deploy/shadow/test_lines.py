"""Lines of an import: the fields, the times, the old handler's reaction, and the lines that are left out."""

import base64
import io
import json
from typing import Any

import pytest

from deploy.shadow import lines
from deploy.shadow.lines import BadLine, OtherRequest
from deploy.shadow.shapes import OldAction, OldReaction, OldState

NOW_MS = 1_764_500_000_000


def line(**fields: Any) -> bytes:
    return json.dumps({"body": "a=b", **fields}).encode()


def read(**fields: Any) -> Any:
    return lines.request(line(**fields), now_ms=NOW_MS, words={"shipped": OldState.PAID})


@pytest.mark.parametrize(
    ("time", "epoch_ms"),
    [
        ("1764500000.250", 1_764_500_000_250),
        (1764500000.25, 1_764_500_000_250),
        (1764500000250, 1_764_500_000_250),
        ("2025-11-30T18:53:20.250+08:00", 1_764_500_000_250),
    ],
)
def test_time_is_seconds_milliseconds_or_iso_with_a_zone(time: object, epoch_ms: int) -> None:
    assert read(time=time).received_at_ms == epoch_ms


def test_line_without_a_time_counts_as_received_now_and_is_never_known() -> None:
    assert (read().received_at_ms, read().line_digest) == (NOW_MS, b"")


def test_line_with_a_time_or_a_number_is_recognised_when_it_comes_again() -> None:
    assert read(time="1764500000.250").line_digest == read(time="1764500000.250").line_digest != b""
    assert read(request="r1").line_digest != read(request="r2").line_digest


def test_headers_and_missing_values_are_as_access_logs_write_them() -> None:
    found = read(client_id="C", signature="-", request_time="", content_type="application/json", path="/p?x=1")
    assert found.headers == {"client-id": "C", "content-type": "application/json"}
    assert (found.target, found.method, found.old) == ("/p?x=1", "POST", None)


def test_body_that_is_no_text_comes_as_base64() -> None:
    assert read(body_base64=base64.b64encode(b"\xff\x00").decode()).body == b"\xff\x00"


def test_reaction_has_status_text_action_and_state() -> None:
    old = read(status="200", answer="success", old_did="applied", old_state="shipped").old
    assert old == OldReaction(status=200, body="success", action=OldAction.APPLIED, state=OldState.PAID)
    assert read(status=500).old == OldReaction(status=500)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"127.0.0.1 - - [30/Nov/2026] POST /pay", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"body": "\xff"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "body is missing"),
        (line(request="\ud800"), "request is not text: it has half of a character"),
        (line(old_state="\udfff"), "old_state is not text"),
        (b'{"body": "\xed\xa0\x80"}', "not JSON"),
        (line(body_base64="é"), "not base64"),
        (line(status="-2"), "no HTTP status"),
        (line(body="\ud800"), "body is not text"),
        (line(body_base64="*"), "not base64"),
        (line(time="30/Nov/2026"), "time is neither"),
        (line(time="2026-11-30T08:00:00"), "no zone"),
        (line(time="nan"), "out of range"),
        (line(time="-5"), "out of range"),
        (line(status="20"), "no HTTP status"),
        (line(status=True), "status is neither"),
        (line(answer=5), "answer is no text"),
        (line(old_did="booked"), "old_did is none of applied, ignored, refused"),
        (line(old_state="shelved"), "--state shelved=paid"),
        (line(path={}), "path is neither"),
    ],
)
def test_faulty_line_is_named_by_its_fault(content: bytes, fault: str) -> None:
    with pytest.raises(BadLine, match=fault):
        lines.request(content, now_ms=NOW_MS, words={})


@pytest.mark.parametrize(
    "content",
    [
        line(method="GET"),
        line(method="GET", body=""),
        line(method="<BADREQ>", body=""),
        b'{"method": "HEAD"}',
        line(body="-"),
    ],
)
def test_request_that_is_no_post_with_a_body_is_no_notification(content: bytes) -> None:
    with pytest.raises(OtherRequest):
        lines.request(content, now_ms=NOW_MS, words={})


@pytest.mark.parametrize(("status", "read_as"), [("-1", 0), (-1, 0), ("000", 0), (0, 0), ("499", 499)])
def test_status_of_a_request_that_ended_before_an_answer_is_read(status: object, read_as: int) -> None:
    assert read(status=status).old == OldReaction(status=read_as)


def test_text_of_a_log_daemon_before_the_object_is_left_out() -> None:
    content = b"Nov 30 08:00:00 lb1 haproxy[7]: " + line(status="200")
    assert lines.request(content, now_ms=NOW_MS, words={}).body == b"a=b"


def test_line_that_is_too_long_is_skipped_to_its_end() -> None:
    long = b"x" * (3 * lines.LINE_BYTES_MAX)
    found = list(lines.numbered(io.BytesIO(b"a\n" + long + b"\nb")))
    assert found == [(1, b"a\n", 2), (2, None, len(long) + 1), (3, b"b", 1)]
