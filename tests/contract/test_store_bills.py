"""The reports of comparisons with bills, and the orders that they need, in the order store of each engine."""

import pytest
from msgspec import structs

from deploy.embedded.audit_list import SqliteAudit
from deploy.embedded.bills import SqliteBills
from deploy.embedded.store import SqliteOrderStore
from tests.contract.engines import AnyStore
from tests.support import log_records
from tests.support.log_records import NOW_MS
from workers.audit import AuditPort, AuditQuery
from workers.bills import KEPT_MS, UNFINISHED_KEPT_MS, BillDifference, BillReport, BillsPort, DifferenceKind, NewImport
from workers.postgres.audit_list import PostgresAudit
from workers.postgres.bills import PostgresBills
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing

REPORT = BillReport(
    file="bill.csv", layout="trade bill", since_ms=0, until_ms=86_400_000, by="kim", counts={"uncertain": 2}
)
NEW = NewImport(account="shop", digest="a" * 64, report=REPORT)


@pytest.fixture
def ports(store: AnyStore) -> tuple[BillsPort, AuditPort]:
    if isinstance(store, SqliteOrderStore):
        return SqliteBills(store.database, store.reads), SqliteAudit(store.database, store.reads)
    assert isinstance(store, PostgresOrderStore)
    return PostgresBills(store.database, store.reads), PostgresAudit(store.database, store.reads)


@pytest.fixture
def bills(ports: tuple[BillsPort, AuditPort]) -> BillsPort:
    return ports[0]


def difference(number: int) -> BillDifference:
    return BillDifference(
        kind=DifferenceKind.PAYMENT_AMOUNT, scope="shop", order=f"A{number}", bill_minor=number, bill_currency="CNY"
    )


async def written(bills: BillsPort, new: NewImport = NEW, *, count: int = 0, now_ms: int = NOW_MS) -> int:
    number = await bills.begin_import(new, now_ms=now_ms)
    assert await bills.add_differences(number, 1, [difference(each) for each in range(count)])
    return number


async def test_report_is_listed_when_it_is_finished(ports: tuple[BillsPort, AuditPort]) -> None:
    bills, audit = ports
    number = await written(bills, count=3)
    assert await bills.imports(10) == []
    assert await bills.finish_import(number, by="kim", now_ms=NOW_MS + 5) is None
    (listed,) = await bills.imports(10)
    assert listed == await bills.bill_import(number)
    assert (listed.report, listed.account, listed.begun_at_ms, listed.finished_at_ms) == (
        REPORT,
        "shop",
        NOW_MS,
        NOW_MS + 5,
    )
    page = await bills.differences(number, after=1, limit=1)
    assert page == [(2, difference(1))]
    (entry,) = (await audit.audit_list(AuditQuery(action="bill_import"))).entries
    assert (entry.subject, entry.by, "bill.csv" in entry.why) == (f"bill:{number}", "kim", True)


async def test_same_file_again_replaces_its_report(bills: BillsPort) -> None:
    first, other = await written(bills, count=2), await written(bills, structs.replace(NEW, account="other"))
    for number in (first, other):
        assert await bills.finish_import(number, by="kim", now_ms=NOW_MS) is None
    second = await written(bills, count=1)
    assert len(await bills.differences(first, after=0, limit=9)) == 2  # until the new one is finished
    replaced = await bills.finish_import(second, by="kim", now_ms=NOW_MS)
    assert replaced is not None
    assert replaced.number == first
    assert [each.number for each in await bills.imports(10)] == [second, other]
    assert await bills.differences(first, after=0, limit=9) == []
    assert await bills.bill_import(first) is None
    assert await bills.finish_import(second, by="kim", now_ms=NOW_MS + 1) is None
    assert (await bills.imports(1))[0].finished_at_ms == NOW_MS


async def test_import_of_the_same_file_at_the_same_time_is_kept(bills: BillsPort) -> None:
    slow, fast = await written(bills, count=1), await written(bills, count=1)
    assert await bills.finish_import(fast, by="kim", now_ms=NOW_MS) is None
    assert await bills.add_differences(slow, 2, [difference(2)])
    assert await bills.finish_import(slow, by="kim", now_ms=NOW_MS) is None
    assert [each.number for each in await bills.imports(10)] == [fast, slow]


async def test_differences_are_written_once_and_not_after_the_end(bills: BillsPort) -> None:
    number = await written(bills, count=2)
    assert await bills.add_differences(number, 1, [difference(7), difference(8), difference(9)])
    assert [each.order for _, each in await bills.differences(number, after=0, limit=9)] == ["A0", "A1", "A9"]
    await bills.finish_import(number, by="kim", now_ms=NOW_MS)
    assert not await bills.add_differences(number, 4, [difference(4)])
    assert not await bills.add_differences(number + 99, 1, [difference(4)])


async def test_old_and_unfinished_reports_are_deleted(bills: BillsPort) -> None:
    old, unfinished = await written(bills, count=1), await written(bills, count=1)
    await bills.finish_import(old, by="kim", now_ms=NOW_MS)
    await written(bills, structs.replace(NEW, digest="b" * 64), now_ms=NOW_MS + UNFINISHED_KEPT_MS + 1)
    assert (await bills.bill_import(old) is None, await bills.bill_import(unfinished)) == (False, None)
    assert await bills.differences(unfinished, after=0, limit=9) == []
    await written(bills, structs.replace(NEW, digest="c" * 64), now_ms=NOW_MS + KEPT_MS + 1)
    assert await bills.bill_import(old) is None
    assert await bills.differences(old, after=0, limit=9) == []


async def test_list_of_reports_goes_on_below_a_number(bills: BillsPort) -> None:
    numbers = [await written(bills, structs.replace(NEW, digest=f"{each:064}")) for each in range(3)]
    for number in numbers:
        await bills.finish_import(number, by="kim", now_ms=NOW_MS)
    assert [each.number for each in await bills.imports(2)] == [numbers[2], numbers[1]]
    assert [each.number for each in await bills.imports(2, before=numbers[1])] == [numbers[0]]


async def test_orders_are_found_by_number_and_by_trade(work: Processing, bills: BillsPort) -> None:
    records = [log_records.record(number) for number in ("A1", "A2", "A3")]
    await work.process(log_records.logged(records))
    (known,) = await bills.bill_orders("shop-sg", ["A1"], [])
    assert known.order is not None
    trade = known.order.claims[0].trade
    assert [page.number for page in await bills.bill_orders("shop-sg", [], [trade])] == ["A1"]
    assert [page.number for page in await bills.bill_orders("shop-sg", ["A1", "nothing"], [trade, "nothing"])] == ["A1"]
    assert sorted(page.number for page in await bills.bill_orders("shop-sg", ["A3", "A2"], [trade])) == [
        "A1",
        "A2",
        "A3",
    ]
    assert await bills.bill_orders("other", ["A1"], [trade]) == []
    assert await bills.bill_orders("shop-sg", [], []) == []
