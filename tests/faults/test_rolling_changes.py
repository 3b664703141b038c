"""Accounts, keys, receipt keys and algorithms change on a cluster in use, one machine after the other, in either order.

Receivers and workers have files of their own. Each change reaches one side, notifications that need it are sent, and
then it reaches the other side. Nothing that was acknowledged is lost, dead or stuck, and one account that never changes
is paid all the while.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from deploy.local import roles
from deploy.local.engine import EngineSpec
from tests.faults import rolling
from tests.faults.rolling import (
    FIRST_RECEIPT,
    NEXT_RECEIPT,
    ONE,
    OTHER,
    RELOAD_S,
    Alipay,
    Machine,
    Outcome,
    Sent,
    moving,
    openapi,
    retiring,
)
from tests.support.cluster import Cluster, until

# The topics and the store; each test runs processes of its own over them.
WISHED = EngineSpec(receivers=0, workers=0, console=False, balancer=False)

COUNT = 8
STEADY = openapi("steady", "old")


class Fleet:
    """Receivers and workers, each with the files of their side. `first` gets every change first."""

    def __init__(self, receivers: Machine, workers: Machine, *, is_receivers_first: bool, has_receipts: bool) -> None:
        self.receivers, self.workers = receivers, workers
        self.is_receivers_first, self.has_receipts = is_receivers_first, has_receipts
        self.first, self.second = (receivers, workers) if is_receivers_first else (workers, receivers)
        self.alipay: Alipay
        self.outcome: Outcome
        self.verify_url = ""

    def both(self, change: Callable[[Machine], None]) -> None:
        change(self.receivers)
        change(self.workers)

    async def roll(self, change: Callable[[Machine], None], news: Callable[[], Sent]) -> None:
        """Change the first side, send notifications that need the change, change the second; all are applied."""
        change(self.first)
        sent = [news() for _ in range(COUNT)]
        if self.is_receivers_first:
            await self.alipay.deliver(*sent)
            await self.settled_or_parked(sent)
        else:
            await asyncio.sleep(2 * RELOAD_S)  # receivers go on by their old files
        change(self.second)
        await self.alipay.deliver(*(sent if not self.is_receivers_first else ()), news())
        await self.outcome.settle([*sent, *self.alipay.acknowledged[-1:]])
        await self.is_quiet()

    async def settled_or_parked(self, sent: list[Sent]) -> None:
        """Wait until the workers have each of these, applied or waiting for their files."""

        async def are_there() -> bool:
            applied = await self.outcome.applied()
            done = sum((each.scope, each.order) in applied for each in sent)
            return done + sum((await self.outcome.waiting()).values()) >= len(sent)

        await until(are_there, rolling.WITHIN_S, every_s=0.2)
        waiting = await self.outcome.waiting()
        assert set(waiting) <= {"parked unknown_account", "parked unverified"}, waiting

    async def is_quiet(self) -> None:
        """Nothing is held, and nothing ever was dead."""

        async def is_empty() -> bool:
            return await self.outcome.waiting() == {}

        await until(is_empty, rolling.WITHIN_S, every_s=0.2)
        assert await self.outcome.ever_dead() == 0


@asynccontextmanager
async def fleet_of(
    cluster: Cluster,
    directory: Path,
    *,
    is_receivers_first: bool,
    has_receipts: bool,
    workers_reload_s: float = RELOAD_S,
) -> AsyncIterator[Fleet]:
    receivers, workers = Machine(directory / "receivers"), Machine(directory / "workers")
    fleet = Fleet(receivers, workers, is_receivers_first=is_receivers_first, has_receipts=has_receipts)
    async with AsyncExitStack() as stack:
        fleet.verify_url = await stack.enter_async_context(rolling.confirming())
        fleet.both(lambda machine: machine.tables(STEADY))
        running = [
            cluster.another(
                command,
                f"{command}-{number}-{directory.name}",
                accounts=machine.accounts,
                key_reload_interval_s=RELOAD_S if command == "ingest" else workers_reload_s,
                drain_delay_s=0,
                **({"receipt_key_file": machine.receipt_keys} if has_receipts else {}),
            )
            for command, machine in (("ingest", receivers), ("worker", workers))
            for number in (1, 2)
        ]
        await stack.enter_async_context(roles.together(running))
        fleet.alipay = await stack.enter_async_context(rolling.alipay_to(running[:2]))
        fleet.outcome = Outcome(cluster)
        yield fleet


ORDERS = pytest.mark.parametrize("is_receivers_first", [False, True], ids=["workers first", "receivers first"])
RECEIPTS = pytest.mark.parametrize("has_receipts", [True, False], ids=["with receipt keys", "without"])


@ORDERS
@RECEIPTS
async def test_accounts_keys_and_algorithms_change_in_either_order(
    started: Cluster, tmp_path: Path, is_receivers_first: bool, has_receipts: bool
) -> None:
    async with fleet_of(started, tmp_path, is_receivers_first=is_receivers_first, has_receipts=has_receipts) as fleet:
        pay = fleet.alipay.payment
        added = openapi("added", "old")
        await fleet.roll(lambda machine: machine.tables(STEADY, added), lambda: pay("added"))

        with_new = openapi("added", "old", "new")
        await fleet.roll(lambda machine: machine.tables(STEADY, with_new), lambda: pay("added", key="new"))
        await fleet.roll(lambda machine: machine.key("new", "newest"), lambda: pay("added", key="newest"))

        fleet.both(lambda machine: machine.tables(STEADY, moving("RSA", "old")))
        await fleet.alipay.deliver(pay("moving", sign_type="RSA"))
        moved = moving("RSA2", "new", retiring("old"))
        await fleet.roll(lambda machine: machine.tables(STEADY, moved), lambda: pay("moving", key="newest"))
        await fleet.alipay.deliver(pay("moving", sign_type="RSA"))

        alone = openapi("isv", "old", more=f'auth_app_id = "{ONE}"')
        fleet.both(lambda machine: machine.tables(STEADY, moved, alone))
        several = openapi("isv", "old", more=f'auth_app_id = ["{ONE}", "{OTHER}"]\nfirst_auth_app_id = "{ONE}"')
        await fleet.roll(lambda machine: machine.tables(STEADY, moved, several), lambda: pay("isv", merchant=OTHER))
        await fleet.outcome.settle([each for each in fleet.alipay.acknowledged if each.account != "isv"])
        await fleet.is_quiet()


@ORDERS
async def test_receipt_keys_change_in_either_order(started: Cluster, tmp_path: Path, is_receivers_first: bool) -> None:
    """Alipay's confirmation of a message that names no payee is believed by the receipt alone."""
    async with fleet_of(started, tmp_path, is_receivers_first=is_receivers_first, has_receipts=True) as fleet:
        pay = fleet.alipay.payment
        fleet.both(lambda machine: machine.tables(STEADY, rolling.website(fleet.verify_url)))
        await fleet.alipay.deliver(pay("web"))
        for keys in ((NEXT_RECEIPT, FIRST_RECEIPT), (NEXT_RECEIPT,)):
            await fleet.roll(lambda machine, keys=keys: machine.receipts(*keys), lambda: pay("web"))  # type: ignore[misc]
        await fleet.outcome.settle(fleet.alipay.acknowledged)


@ORDERS
async def test_what_was_taken_away_too_early_waits_until_it_is_back(
    started: Cluster, tmp_path: Path, is_receivers_first: bool
) -> None:
    """A key and an account are removed. From the receivers first, nothing that needs them is acknowledged any more."""
    async with fleet_of(started, tmp_path, is_receivers_first=is_receivers_first, has_receipts=False) as fleet:
        pay = fleet.alipay.payment
        whole = (STEADY, openapi("shop", "old", "new"), openapi("gone", "old"))
        fleet.both(lambda machine: machine.tables(*whole))
        await fleet.alipay.deliver(pay("shop", key="new"), pay("gone"))
        await fleet.outcome.settle(fleet.alipay.acknowledged)

        def remove(machine: Machine) -> None:
            machine.tables(STEADY, openapi("shop", "old"))

        remove(fleet.first)
        news = [pay("shop", key="new"), pay("gone")]
        if is_receivers_first:

            async def are_refused() -> bool:
                return [await fleet.alipay.post(each) for each in news] == [401, 404]

            await until(are_refused, rolling.WITHIN_S, every_s=0.2)
            remove(fleet.second)
        else:
            await asyncio.sleep(2 * RELOAD_S)
            await fleet.alipay.deliver(*news)

            async def wait() -> bool:
                return await fleet.outcome.waiting() == {"parked unverified": 1, "parked unknown_account": 1}

            await until(wait, rolling.WITHIN_S, every_s=0.2)
            remove(fleet.second)
            fleet.workers.tables(*whole)
        await fleet.outcome.settle(fleet.alipay.acknowledged)
        await fleet.is_quiet()


async def test_record_that_needs_newer_files_has_them_read_at_once(started: Cluster, tmp_path: Path) -> None:
    """The workers' files have every change, and their own clock would look at them in an hour."""
    async with fleet_of(started, tmp_path, is_receivers_first=True, has_receipts=True, workers_reload_s=3600) as fleet:
        pay, deliver = fleet.alipay.payment, fleet.alipay.deliver
        fleet.both(lambda machine: machine.tables(STEADY, openapi("shop", "old"), rolling.website(fleet.verify_url)))
        await deliver(pay("shop"), pay("web"))
        await fleet.outcome.settle(fleet.alipay.acknowledged)
        fleet.both(lambda machine: machine.receipts(NEXT_RECEIPT))
        await asyncio.sleep(2 * RELOAD_S)  # the receivers sign with it
        await deliver(*(pay("web") for _ in range(COUNT)))
        await fleet.outcome.settle(fleet.alipay.acknowledged)
        await fleet.is_quiet()
