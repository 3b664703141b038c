"""A payment whose notification is lost is found by a question, and counts once, on every engine's order store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas.dispositions import Disposition, Reason
from tests.contract.engines import AnyStore
from tests.support import reconciled
from tests.support.log_records import Time
from tests.support.reconciled import AFTER_S, ASKING, Merchant
from workers.queries import HeldQuery

NAMES = [one.name for one in ASKING]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("asking")
    reconciled.world_in(directory)
    return directory


@pytest.fixture
async def merchant(keys: Path, store: AnyStore, time: Time) -> AsyncIterator[Merchant]:
    async with reconciled.asking(keys, store, time) as merchant:
        yield merchant


async def test_lost_notification_ends_paid_once_also_if_it_arrives_after_all(merchant: Merchant) -> None:
    for name in NAMES:
        await merchant.register(name, f"lost-{name}")
        await merchant.pays(name, f"lost-{name}")
        assert await merchant.status(name, f"lost-{name}") == "WAITING"
    await merchant.reconcile()
    for name in NAMES:
        page = await merchant.page(name, f"lost-{name}")
        assert await merchant.status(name, f"lost-{name}") in ("PAID", "FINISHED"), (
            name,
            merchant.asked(name),
            page.deliveries,
            merchant.log.lines,
        )
        assert [(each.disposition, each.reason) for each in page.deliveries] == [(Disposition.APPLIED, Reason.CHANGED)]
        events = len(page.events)
        await merchant.notified(name, f"lost-{name}")
        page = await merchant.page(name, f"lost-{name}")
        assert page.deliveries[-1].disposition is Disposition.DUPLICATE
        assert len(page.events) == events, "the payment is told once"
        assert merchant.asked(name) == {"news": 1}
    assert await merchant.store.held_list(HeldQuery()) == []
    await merchant.reconcile(AFTER_S)
    assert all(merchant.asked(name) == {"news": 1} for name in NAMES), "a paid order is not asked about"


async def test_answers_end_as_notifications_of_the_same_facts_would(merchant: Merchant) -> None:
    names = ("demo-cn", "demo-app", "demo-antom")
    for name in names:
        await merchant.register(name, f"other-{name}", minor=999)
        await merchant.pays(name, f"other-{name}")
        await merchant.register(name, f"closed-{name}")
        await merchant.pays(name, f"closed-{name}", scenario="closed_unpaid")
    await merchant.register("demo-cn", "refunded")
    await merchant.pays("demo-cn", "refunded", scenario="full_refund")
    await merchant.register("demo-cn", "in-time")
    await merchant.pays("demo-cn", "in-time")
    await merchant.notified("demo-cn", "in-time")
    await merchant.reconcile()
    for name in names:
        assert await merchant.status(name, f"other-{name}") == "WAITING"
        (held,) = await merchant.store.held_list(HeldQuery(account=name))
        assert (held.row.disposition, held.row.reason) == (Disposition.QUARANTINED, Reason.AMOUNT_MISMATCH)
        assert await merchant.status(name, f"closed-{name}") == "CLOSED"
    view = (await merchant.page("demo-cn", "refunded")).view
    assert view is not None
    assert (view.closed_because, view.refunded_minor) == ("refunded", 1280)
    assert await merchant.status("demo-cn", "in-time") == "PAID"
    assert merchant.asked("demo-cn") == {"news": 3}, "not about what was notified in time"


async def test_schedule_goes_on_over_a_change_of_the_leader(merchant: Merchant) -> None:
    await merchant.register("demo-antom", "abandoned")
    for after_s, asked in ((AFTER_S, 1), (60, 1), (AFTER_S, 2), (AFTER_S, 2), (AFTER_S, 3)):
        await merchant.reconcile(after_s)
        assert merchant.asked("demo-antom") == {"not_found": asked}
    await merchant.pays("demo-antom", "abandoned")
    merchant.leads = False
    await merchant.reconcile(4 * AFTER_S)
    assert merchant.asked("demo-antom") == {"not_found": 3}, "one process asks: the leader"
    merchant.leads = True
    merchant.restart()
    await merchant.reconcile(1)
    assert await merchant.status("demo-antom", "abandoned") == "PAID", "a new leader asks about all that is unpaid"
