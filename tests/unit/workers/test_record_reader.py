"""Reading one record: each way in which it can fail, and that no record makes the worker fail."""

import asyncio
from collections.abc import Callable

import pytest
from msgspec import structs

from schemas import interpret
from schemas.accounts import Account
from schemas.dispositions import Disposition, Reason
from schemas.notification import Notification
from schemas.record_format import VERSION, Header, Record, RecordContents
from tests.support import facts
from tests.support.facts import form, payment
from tests.unit.workers.in_memory import APPLIED, FORGED, SHOP, Forged, MemoryWorker, Weird, paid, with_header
from workers import record_reader
from workers.settlement import parking
from workers.settlement.plan import LoadRequest, LogRecord, Position, StoreSnapshot, WritePlan


@pytest.mark.parametrize(
    "value",
    [b"\x00\xff no form", facts.body(form("p", "TRADE_SUCCESS"))[:-40] + b"%4", b"", b"a=1&a=2"],
    ids=["P01 no form", "P02 truncated", "empty", "a name twice"],
)
async def test_bytes_that_are_no_form_are_dead_at_the_first_attempt(value: bytes) -> None:
    worker = MemoryWorker()
    await worker.process(facts.record(value, SHOP), paid("B"))
    assert worker.outcomes() == [(Disposition.DEAD, Reason.MALFORMED), APPLIED]
    assert worker.held().record.value == value


async def test_form_cut_off_between_parameters_is_held_for_a_missing_field() -> None:
    worker = MemoryWorker()
    cut = facts.body(form("p", "TRADE_SUCCESS")).partition(b"&trade_status=")[0]
    await worker.process(facts.record(cut, SHOP))
    assert worker.outcomes() == [(Disposition.QUARANTINED, Reason.MISSING_FIELD)]


async def test_record_of_the_next_format_version_is_parked() -> None:
    worker = MemoryWorker()
    await worker.process(with_header(paid("A"), Header.VERSION, b"%d" % (VERSION + 1)))
    assert worker.outcomes() == [(Disposition.PARKED, Reason.NEWER_ENVELOPE)]
    assert worker.held().due_at_ms is not None


async def test_records_of_older_format_versions_are_processed() -> None:
    for version in range(1, VERSION + 1):
        worker = MemoryWorker()
        await worker.process(with_header(paid("A"), Header.VERSION, b"%d" % version))
        assert worker.outcomes() == [APPLIED]


@pytest.mark.parametrize(("name", "value"), [(Header.ACCOUNT, b"nobody"), (Header.FAMILY, b"openapi")])
async def test_record_of_an_account_that_is_not_known_yet_is_parked(name: str, value: bytes) -> None:
    """Also of one that the worker knows with another family: a reload may change it."""
    worker = MemoryWorker()
    await worker.process(with_header(paid("A"), name, value), paid("B"))
    assert worker.outcomes() == [(Disposition.PARKED, Reason.UNKNOWN_ACCOUNT), APPLIED]
    row = worker.held()
    assert row.waits_for == f"account:{'openapi' if name == Header.FAMILY else 'mapi'}"
    assert row.due_at_ms is not None


REQUIRED = (Header.VERSION, Header.ACCOUNT, Header.FAMILY)


@pytest.mark.parametrize("name", REQUIRED)
async def test_record_without_a_required_header_is_dead(name: str) -> None:
    worker = MemoryWorker()
    await worker.process(with_header(paid("A"), name, None), paid("B"))
    assert worker.outcomes() == [(Disposition.DEAD, Reason.BAD_RECORD), APPLIED]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (Header.VERSION, b"0"),
        (Header.VERSION, b"one"),
        (Header.ACCOUNT, b"\xff"),
        (Header.ACCOUNT, b"No Body"),
        (Header.FAMILY, b""),
        (Header.FAMILY, b"paypal"),
        (Header.FAMILY, b"antom"),  # which needs signing headers
    ],
)
async def test_record_with_a_wrong_header_is_dead(name: str, value: bytes) -> None:
    worker = MemoryWorker()
    await worker.process(with_header(paid("A"), name, value), paid("B"))
    assert worker.outcomes() == [(Disposition.DEAD, Reason.BAD_RECORD), APPLIED]


@pytest.mark.parametrize("name", [name for name, _ in paid("A").headers if name not in REQUIRED])
@pytest.mark.parametrize("ways", [0, 2])
async def test_record_without_advice_or_with_it_twice_is_applied(name: str, ways: int) -> None:
    worker = MemoryWorker()
    record = paid("A")
    lacking = with_header(record, name, None)
    twice = structs.replace(lacking, headers=(*lacking.headers, *[(name, dict(record.headers)[name])] * ways))
    await worker.process(twice)
    assert worker.outcomes() == [APPLIED]


async def test_held_record_without_a_receive_time_counts_as_received_when_first_held() -> None:
    worker = MemoryWorker()
    record = with_header(paid("A", total_fee="1e3"), Header.RECEIVED_AT, None)
    await worker.process(record)
    row = worker.held()
    again = worker.processing.read(LogRecord(row.position, row.record), now_ms=row.first_at_ms + 9000, held=row)
    assert again.received_at_ms == row.first_at_ms == 1_743_480_000_000


@pytest.mark.parametrize("value", [b"yesterday", b"9" * 30, b"-1", b"0", b"1577836799999", b"4102444800000"])
async def test_impossible_receive_time_is_replaced_by_now(value: bytes) -> None:
    worker = MemoryWorker()
    await worker.process(with_header(paid("A"), Header.RECEIVED_AT, value))
    assert worker.outcomes() == [APPLIED]
    assert worker.store.deliveries[Position(0, 0)].received_at_ms == 1_743_480_000_000


async def test_record_with_a_header_twice_is_dead() -> None:
    worker = MemoryWorker()
    record = paid("A")
    await worker.process(structs.replace(record, headers=(*record.headers, record.headers[0])))
    assert worker.outcomes() == [(Disposition.DEAD, Reason.BAD_RECORD)]


async def test_record_under_another_orders_key_is_processed() -> None:
    worker = MemoryWorker()
    await worker.process(structs.replace(paid("A"), key=b"mapi-any:B"))
    assert worker.outcomes() == [APPLIED]
    assert list(worker.store.orders) == [(SHOP.name, "A")]


async def test_huge_record_is_dead_and_its_headers_are_cut() -> None:
    worker = MemoryWorker()
    headers = (*paid("A").headers, *((f"h{n}", b"x" * 5000) for n in range(1000)))
    await worker.process(Record(b"k", b"v" * 1_048_576, headers), paid("B"))
    assert worker.outcomes() == [(Disposition.DEAD, Reason.BAD_RECORD), APPLIED]
    kept = worker.held().record
    assert len(kept.value) == 1_048_576
    assert len(kept.headers) <= 64
    assert max(len(value) for _, value in kept.headers) <= 4096


async def test_nul_is_held_at_the_first_attempt_only_in_a_number() -> None:
    worker = MemoryWorker()
    await worker.process(paid("A", out_trade_no="A\x00B"), paid("B"), paid("C", subject="A\x00B"))
    assert worker.outcomes() == [(Disposition.QUARANTINED, Reason.CONTROL_CHAR), APPLIED, APPLIED]
    assert worker.held().order == ""


async def test_lone_surrogate_in_a_message_is_held_at_the_first_attempt_only_in_a_number() -> None:
    worker = MemoryWorker()
    antom = facts.account("antom")
    broken = [payment("p", paymentId="T\ud800"), payment("q", note="\ud800")]
    await worker.process(*(facts.record(facts.body(each), antom) for each in broken), paid("B"))
    assert worker.outcomes() == [(Disposition.QUARANTINED, Reason.CONTROL_CHAR), APPLIED, APPLIED]


@pytest.mark.parametrize("error", [ValueError("v"), RecursionError(), asyncio.CancelledError(), Weird()])
async def test_any_exception_while_reading_holds_only_that_record(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = interpret.read

    def read(body: bytes, account: Account, **read_as: bool) -> Notification:
        if b"id-B" in body:
            raise error
        return honest(body, account)

    monkeypatch.setattr(interpret, "read", read)
    worker = MemoryWorker()
    await worker.process(*(paid(order) for order in "ABC"))
    assert worker.outcomes() == [APPLIED, (Disposition.DEAD, Reason.OUR_FAULT), APPLIED]
    assert worker.held(1).detail.startswith(type(error).__name__)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_exceptions_that_end_the_process_pass_through(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(body: bytes, account: Account, **read_as: bool) -> Notification:
        raise error

    monkeypatch.setattr(interpret, "read", read)
    worker = MemoryWorker()
    with pytest.raises(type(error)):
        worker.processing.read(worker.log.log_record(paid("A")), now_ms=0)


async def test_forged_record_in_the_log_has_no_effect() -> None:
    worker = MemoryWorker()
    await worker.process(paid("A", subject=FORGED.decode()), paid("B"))
    assert worker.outcomes() == [(Disposition.DEAD, Reason.UNAUTHENTICATED), APPLIED]
    assert list(worker.store.orders) == [(SHOP.name, "B")]
    assert not [row for row in worker.store.ledger.values() if row.order == "A"]


async def test_copies_of_an_unreadable_form_are_held_once() -> None:
    worker = MemoryWorker()
    await worker.process(paid("A", total_fee="1e3"), paid("A", total_fee="1e3"))
    assert worker.outcomes() == [
        (Disposition.QUARANTINED, Reason.BAD_AMOUNT),
        (Disposition.DUPLICATE, Reason.SAME_ID),
    ]


async def test_copies_of_an_unreadable_message_without_an_id_are_held_once() -> None:
    worker = MemoryWorker()
    antom = facts.account("antom")
    broken = [b'{"notifyType": NaN}', facts.body(payment("p", value="1.00"))]
    await worker.process(*(facts.record(body, antom) for body in broken * 2))
    held = [(Disposition.QUARANTINED, Reason.MALFORMED), (Disposition.QUARANTINED, Reason.BAD_AMOUNT)]
    assert worker.outcomes() == held + [(Disposition.DUPLICATE, Reason.SAME_ID)] * 2


class NewerFiles:
    """Files that a receiver has read and the worker has not: `arrive` is called when they are read again."""

    def __init__(self, arrive: Callable[[], None] = lambda: None, *, unconfirmed: str = "") -> None:
        self.version = 0
        self.reads = 0
        self._arrive = arrive
        self._unconfirmed = unconfirmed

    def lacking(self, contents: RecordContents, account: Account, error: Exception) -> str:
        return "the key new.pem is missing here" if isinstance(error, Forged) else ""

    def misses_receipt(self, contents: RecordContents) -> str:
        return self._unconfirmed

    async def read_again(self) -> None:
        self.reads += 1
        self._arrive()


class Ring:
    """The worker's keys: it verifies nothing until it has the new one."""

    def __init__(self) -> None:
        self.has_new = False

    def authenticate(self, contents: RecordContents, account: Account, *, anew: bool = False) -> bool:
        if not self.has_new:
            raise Forged
        return contents.confirmed


UNVERIFIED = (Disposition.PARKED, Reason.UNVERIFIED)


async def test_record_under_a_key_that_arrived_meanwhile_is_applied_at_the_first_attempt() -> None:
    ring = Ring()
    files = NewerFiles()

    def arrive() -> None:
        ring.has_new, files.version = True, 1

    files._arrive = arrive
    worker = MemoryWorker(authenticate=ring.authenticate, files=files)
    await worker.process(paid("A"), paid("B"))
    assert worker.outcomes() == [APPLIED, APPLIED]
    assert files.reads == 1
    assert not worker.store.held


async def test_record_under_a_missing_key_waits_for_it() -> None:
    ring, files = Ring(), NewerFiles()
    worker = MemoryWorker(authenticate=ring.authenticate, files=files)
    await worker.process(paid("A"))
    assert worker.outcomes() == [UNVERIFIED]
    row = worker.held()
    assert (row.account, row.waits_for) == (SHOP.name, parking.account_key("mapi"))
    assert row.detail == "the key new.pem is missing here"
    assert row.due_at_ms is not None
    await worker.processing.retry([row])
    assert worker.outcomes() == [UNVERIFIED]
    assert files.reads == 2, "each attempt looks at the files"
    assert len(worker.store.outbox) == 1, "one notice"
    ring.has_new = True
    await worker.processing.retry([worker.held()])
    assert worker.outcomes() == [APPLIED]


async def test_dead_letter_of_an_earlier_release_is_recovered_by_a_replay() -> None:
    ring = Ring()
    worker = MemoryWorker(authenticate=ring.authenticate)
    await worker.process(paid("A"))
    assert worker.outcomes() == [(Disposition.DEAD, Reason.UNAUTHENTICATED)]
    ring.has_new = True
    await worker.processing.retry([worker.held()])
    assert worker.outcomes() == [APPLIED]


async def test_files_that_change_while_a_record_is_parked_make_it_due_at_once() -> None:
    """The reload wakes rows, and finds none yet."""
    ring, files = Ring(), NewerFiles()
    worker = MemoryWorker(authenticate=ring.authenticate, files=files)
    settle = worker.store.settle

    async def settle_late(needs: LoadRequest, decide: Callable[[StoreSnapshot], WritePlan]) -> WritePlan:
        ring.has_new, files.version = True, 1
        return await settle(needs, decide)

    worker.store.settle = settle_late  # type: ignore[method-assign]
    await worker.process(paid("A"))
    assert worker.outcomes() == [UNVERIFIED]
    due = worker.store.due_now(now_ms=1_743_480_000_000)
    assert len(due) == 1
    await worker.processing.retry(due)
    assert worker.outcomes() == [APPLIED]


async def test_account_removed_by_the_reload_that_a_record_causes_stops_no_neighbour() -> None:
    """The whole batch is read by one state: by the new one, after the reload."""
    accounts, files = dict(facts.ACCOUNTS), NewerFiles()

    def arrive() -> None:
        accounts.clear()
        files.version = 1

    files._arrive = arrive
    worker = MemoryWorker(accounts=accounts, files=files)
    await worker.process(paid("A", subject=FORGED.decode()), paid("B"))
    assert worker.outcomes() == [(Disposition.PARKED, Reason.UNKNOWN_ACCOUNT)] * 2


async def test_unverified_records_never_stop_the_worker() -> None:
    worker = MemoryWorker(authenticate=Ring().authenticate, files=NewerFiles(), dead_letters_max=3)
    await worker.process(*(paid(str(number)) for number in range(30)))
    assert worker.outcomes() == [UNVERIFIED] * 30


def batch_refund() -> Record:
    batch = facts.batch("b", "T-A^12.80^SUCCESS")
    del batch["fields"]["partner_id"]
    return facts.record(facts.body(batch), SHOP, number="batch-b")


@pytest.mark.parametrize(("confirmed", "end"), [
    (b"1", UNVERIFIED), (b"0", (Disposition.QUARANTINED, Reason.NAMES_NOBODY)),
])  # fmt: skip
async def test_confirmed_batch_refund_waits_for_its_receipt_key(
    confirmed: bytes, end: tuple[Disposition, Reason]
) -> None:
    def unconfirmed(contents: RecordContents, account: Account, *, anew: bool = False) -> bool:
        return False

    files = NewerFiles(unconfirmed="its receipt key is missing here")
    worker = MemoryWorker(authenticate=unconfirmed, files=files)
    await worker.process(with_header(batch_refund(), Header.CONFIRMED, confirmed))
    assert worker.outcomes() == [end]


@pytest.mark.parametrize(("key", "end"), [
    (b"mapi/2021000000000001:A", UNVERIFIED), (b"mapi/2021 0001:A", APPLIED), (b"other/2021000000000001:A", APPLIED),
    (b"", APPLIED),
])  # fmt: skip
async def test_record_of_a_merchant_that_this_worker_does_not_know_of_waits(
    key: bytes, end: tuple[Disposition, Reason]
) -> None:
    """Its receiver keeps the merchants of this account apart; here, equal numbers would become one order."""
    worker = MemoryWorker()
    await worker.process(structs.replace(paid("A"), key=key.replace(b"mapi", SHOP.name.encode())))
    assert worker.outcomes() == [end]


@pytest.mark.parametrize(("own", "end"), [
    ({"app_id": "2021000000000001"}, APPLIED), ({"auth_app_id": "2021000000000001"}, APPLIED),
    ({"app_id": "2021000000000001", "auth_app_id": "2021000000000002"}, UNVERIFIED),
])  # fmt: skip
async def test_only_merchant_of_an_account_that_had_several_is_known(
    own: dict[str, str], end: tuple[Disposition, Reason]
) -> None:
    worker = MemoryWorker(accounts={SHOP.name: structs.replace(SHOP, **own)})
    await worker.process(structs.replace(paid("A"), key=f"{SHOP.name}/2021000000000001:A".encode()))
    assert worker.outcomes() == [end]


async def test_record_that_meets_a_lock_waits_under_its_own_order_and_id() -> None:
    worker = MemoryWorker()
    parsed = worker.processing.read(worker.log.log_record(paid("A")), now_ms=0)
    waiting = record_reader.locked(parsed)
    assert waiting.notification is None
    assert waiting.failure is not None
    assert (waiting.failure.disposition, waiting.failure.reason) == (Disposition.PARKED, Reason.LOCKED)
    assert (waiting.failure.order, waiting.failure.notification_id) == ("A", "id-A")
    assert waiting.record == parsed.record
    unreadable = record_reader.locked(worker.processing.read(worker.log.log_record(Record(b"x", b"x", ())), now_ms=0))
    assert unreadable.failure is not None
    assert unreadable.failure.reason is Reason.LOCKED
