"""Decisions in the embedded store: one audit row for each held row, also of several orders."""

import sqlite3

from msgspec import structs

from deploy.embedded.directory import EngineFiles
from tests.support.log_records import NOW_MS, Time
from tests.support.plans import plan
from tests.unit.deploy.embedded.engine_files import settled
from workers.settlement.plan import DecisionRow, LoadRequest, Position

NOTHING = LoadRequest(
    positions=frozenset(), ids=frozenset(), orders=frozenset(), trades=frozenset(), refunds=frozenset()
)


def decision(order: str) -> DecisionRow:
    return DecisionRow(
        position=Position(0, 9),
        account="shop-sg",
        order=order,
        notification_id="n",
        version=None,
        action="discard",
        resolution="discarded",
        by="ana",
        why="wrong",
        at_ms=NOW_MS,
    )


async def test_decision_about_two_orders_has_one_audit_row(files: EngineFiles, time: Time) -> None:
    await settled(files, time, "TRADE_SUCCESS")
    both = [decision("N1"), decision("N2")]
    await files.store.settle(NOTHING, lambda _: structs.replace(plan(), decisions=both))

    def rows(connection: sqlite3.Connection) -> tuple[int, int]:
        audit = connection.execute("SELECT count(*) FROM audit WHERE action = 'discard'").fetchone()[0]
        return audit, connection.execute("SELECT count(*) FROM decisions").fetchone()[0]

    assert await files.store.database.read(rows) == (1, 2)
    page = await files.store.order_page("shop-sg", "N1")
    assert page is not None
    assert [each.why for each in page.decisions] == ["wrong"]
