"""The order of the checks, and the state when `receive` returns or raises, with fakes for all I/O."""

import base64
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ingest import accounts_in_use
from ingest.accounts_in_use import AccountsInUse
from ingest.errors import (
    Malformed,
    NoSuchAccount,
    NotConfirmed,
    Refused,
    Throttled,
    TooLarge,
    Unauthentic,
    Unavailable,
    Unsupported,
    WrongMethod,
)
from ingest.quota import Quota
from ingest.receive import Reception
from schemas import accounts_toml, record_format, trace_context
from schemas.accounts import Account
from schemas.dispositions import Refusal
from schemas.record_format import Record
from schemas.trace_context import TraceContext

FORM = "application/x-www-form-urlencoded; charset=whatever"
KEY = rsa.generate_private_key(65537, 2048)
TEXT = b"app_id=1&notify_id=n7&out_trade_no=o7"
SIGN = base64.b64encode(KEY.sign(TEXT, padding.PKCS1v15(), hashes.SHA256())).decode().replace("+", "%2B")
BODY = f"{TEXT.decode()}&sign_type=RSA2&sign={SIGN}".encode()


class Steps:
    """Fake of all I/O. It keeps the steps in order; a step in `failing` raises."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failing: dict[str, Refused] = {}
        self.records: list[Record] = []
        self.appends: list[tuple[float, bool]] = []
        self._now_s = 0.0

    def _step(self, name: str) -> None:
        self.done.append(name)
        if name in self.failing:
            raise self.failing[name]

    async def append(self, record: Record) -> None:
        self._step("append")
        self.records.append(record)

    async def confirm(self, account: Account, notify_id: bytes) -> None:
        assert notify_id == b"n7"
        self._step("confirm")

    def epoch_ms(self) -> int:
        return 1_770_089_465_123

    def monotonic_s(self) -> float:
        """A second passes between two looks."""
        self._now_s += 1.0
        return self._now_s

    def appended(self, seconds: float, /, *, durable: bool) -> None:
        self.appends.append((seconds, durable))


class Request:
    """A request; `was_read` shows whether its body was read."""

    def __init__(
        self, target: str = "/notify/shop", *, body: bytes = BODY, method: str = "POST", **headers: str | None
    ) -> None:
        given: Mapping[str, str | None] = {"content_type": FORM, "content_length": str(len(body))} | headers
        self.method, self.target, self._body = method, target.encode(), body
        self._headers = {
            name.replace("_", "-").lower().encode(): value.encode()
            for name, value in given.items()
            if value is not None
        }
        self.was_read = False

    def header(self, name: bytes) -> bytes | None:
        return self._headers.get(name)

    def header_values(self, name: bytes) -> list[bytes]:
        return [self._headers[name]] if name in self._headers else []

    async def read_body(self) -> bytes:
        self.was_read = True
        return self._body


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def quota() -> Quota:
    return Quota(count_max=2, bytes_max=1 << 20, exceeded=Throttled)


@pytest.fixture
def reception(steps: Steps, quota: Quota, tmp_path: Path) -> Reception:
    pem = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(pem)
    shop = {"family": "openapi", "sign_type": "RSA2", "app_id": "1", "keys": ["key.pem"]}
    asking = shop | {"notify_verify": True, "partner": "2088"}
    configured = accounts_toml.parse({"accounts": {"shop": shop, "asking": asking}})
    in_use = AccountsInUse(accounts_in_use.load(configured, tmp_path))
    return Reception(accounts=in_use, quota=quota, confirm=steps, log=steps, clock=steps, observer=steps)


async def test_accepted_notification_is_durable_with_its_signed_bytes(reception: Reception, steps: Steps) -> None:
    accepted = await reception.receive(Request("/notify/shop?a=1"))
    assert steps.done == ["append"]
    sealed = record_format.decode(steps.records[0])
    assert (sealed.body, sealed.path, sealed.account, sealed.confirmed) == (BODY, b"/notify/shop", "shop", False)
    assert sealed.received_at_ms == 1_770_089_465_123
    assert (sealed.key_id, len(sealed.key_digest)) == ("key.pem", 16)
    assert steps.records[0].key == b"shop:o7"
    assert (accepted.authentic.key_id, accepted.authentic.notify_id) == ("key.pem", b"n7")


async def test_notify_verify_is_asked_before_the_append(reception: Reception, steps: Steps) -> None:
    await reception.receive(Request("/notify/asking"))
    assert steps.done == ["confirm", "append"]
    assert record_format.decode(steps.records[0]).confirmed


async def test_notification_denied_by_alipay_is_not_appended(reception: Reception, steps: Steps) -> None:
    steps.failing["confirm"] = NotConfirmed()
    with pytest.raises(NotConfirmed):
        await reception.receive(Request("/notify/asking"))
    assert steps.records == []


async def test_notify_verify_is_not_asked_about_an_unauthentic_message(reception: Reception, steps: Steps) -> None:
    with pytest.raises(Unauthentic):
        await reception.receive(Request("/notify/asking", body=BODY.replace(b"o7", b"o8")))
    assert steps.done == []


class Spans:
    """Samples every notification while `chosen`, and keeps the ends of the spans."""

    context = TraceContext("1" * 32, "2" * 16)

    def __init__(self) -> None:
        self.chosen = True
        self.began: list[float | None] = []
        self.ended: list[BaseException | None] = []

    def sampled(self, account: Account, notify_id: bytes, began_s: float | None) -> "Spans | None":
        assert (account.name, notify_id) == ("shop", b"n7")
        self.began.append(began_s)
        return self if self.chosen else None

    def end(self, error: BaseException | None = None) -> None:
        self.ended.append(error)


async def test_record_of_a_sampled_notification_leads_to_its_span(reception: Reception, steps: Steps) -> None:
    spans = reception._spans = Spans()
    accepted = await reception.receive(Request(traceparent=TraceContext("3" * 32, "4" * 16).header[1].decode()), 7.0)
    assert accepted.trace == trace_context.of(steps.records[0].headers) == spans.context
    assert (spans.began, spans.ended) == ([7.0], [None])
    spans.chosen = False
    accepted = await reception.receive(Request())
    assert accepted.trace is None
    assert trace_context.of(steps.records[1].headers) is None
    reception._spans = None
    await reception.receive(Request())
    assert [*dict(steps.records[2].headers)] == [*dict(steps.records[1].headers)]


async def test_refused_request_has_no_span_and_a_failed_append_ends_it(reception: Reception, steps: Steps) -> None:
    spans = reception._spans = Spans()
    with pytest.raises(Unauthentic):
        await reception.receive(Request(body=BODY.replace(b"o7", b"o8")))
    assert spans.began == []
    steps.failing["append"] = Unavailable()
    with pytest.raises(Unavailable):
        await reception.receive(Request())
    assert spans.ended == [steps.failing["append"]]


async def test_failed_append_refuses_the_notification(reception: Reception, steps: Steps) -> None:
    steps.failing["append"] = Unavailable()
    with pytest.raises(Unavailable):
        await reception.receive(Request())


async def test_only_the_append_is_timed_and_reported_with_its_result(reception: Reception, steps: Steps) -> None:
    await reception.receive(Request("/notify/asking"))
    assert steps.appends == [(1.0, True)]
    steps.failing["append"] = Unavailable()
    with pytest.raises(Unavailable):
        await reception.receive(Request())
    assert steps.appends == [(1.0, True), (1.0, False)]


async def test_refused_notification_is_no_append(reception: Reception, steps: Steps) -> None:
    with pytest.raises(Malformed):
        await reception.receive(Request(body=b"no form"))
    assert steps.appends == []


REFUSED_UNREAD: dict[str, tuple[Request, type[Refused], Refusal]] = {
    "an unknown account": (Request("/notify/nobody"), NoSuchAccount, Refusal.UNKNOWN_ACCOUNT),
    "another path": (Request("/notify/shop/x"), NoSuchAccount, Refusal.UNKNOWN_PATH),
    "an absolute target": (Request("http://x/notify/shop"), Malformed, Refusal.MALFORMED),
    "another method": (Request(method="PUT"), WrongMethod, Refusal.METHOD),
    "too large a length": (Request(content_length="65537"), TooLarge, Refusal.TOO_LARGE),
    "an endless length": (Request(content_length="9" * 4000), TooLarge, Refusal.TOO_LARGE),
    "a length that is none": (Request(content_length="1e3"), Malformed, Refusal.MALFORMED),
    "a length in other digits": (Request(content_length="٣"), Malformed, Refusal.MALFORMED),
    "no media type": (Request(content_type=None), Unsupported, Refusal.MEDIA_TYPE),
    "another media type": (Request(content_type="application/json"), Unsupported, Refusal.MEDIA_TYPE),
    "an encoding": (Request(content_encoding="gzip"), Unsupported, Refusal.CONTENT_ENCODING),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED_UNREAD)
async def test_bad_header_is_refused_without_reading_the_body(
    reception: Reception, steps: Steps, quota: Quota, name: str
) -> None:
    request, error, reason = REFUSED_UNREAD[name]
    with pytest.raises(error) as refusal:
        await reception.receive(request)
    assert refusal.value.reason is reason
    assert not request.was_read
    assert steps.done == []
    assert (quota.count, quota.bytes) == (0, 0)


async def test_full_quota_refuses_unread_and_each_request_releases_its_share(
    reception: Reception, quota: Quota
) -> None:
    quota.take(10)
    quota.take(10)
    request = Request()
    with pytest.raises(Throttled):
        await reception.receive(request)
    assert not request.was_read
    quota.release(10)
    await reception.receive(Request())
    with pytest.raises(Malformed):
        await reception.receive(Request(body=b"no form"))
    assert (quota.count, quota.bytes) == (1, 10)


async def test_body_of_unknown_size_reserves_the_largest(reception: Reception, quota: Quota) -> None:
    quota.take((1 << 20) - 65_535)
    with pytest.raises(Throttled):
        await reception.receive(Request(content_length=None, transfer_encoding="chunked"))


@pytest.mark.parametrize("target", ["/notify/shop", "/notify/shop?", "/notify/shop?a=/notify/asking"])
def test_query_does_not_choose_the_account(reception: Reception, target: str) -> None:
    account = reception.account_at(target.encode())
    assert account is not None
    assert account.name == "shop"
