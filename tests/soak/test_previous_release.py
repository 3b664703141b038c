"""The release before, beside this one: its programs and ours on one log and one order store, under load, on the way
there and on the way back. All orders of both receivers are judged afterwards, by their pages and their events.

`RELEASE` names the release before, a tag or any revision of git; without it the newest tag is taken, or else the
revision that `schemas/frozen` names. Its programs run in this virtual environment, or, if they need other packages, by
`RELEASE_PYTHON`, the Python of an environment that has them. A test about something that it does not have is skipped.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.local.kafka.cluster import Kafka
from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from deploy.local.roles import Role
from tests.support import callback_receivers, revisions, two_releases
from tests.support import cluster as clusters
from tests.support.callback_receivers import Receiver, receiving
from tests.support.cluster import Cluster, Note, Sending, until
from tests.support.two_releases import STRICT, WITHIN_S, Releases, begin, call, ending, loading, side_by_side
from workers.postgres import migrations

PARKED = 30
TASK_ROWS = 80
TASK_PER_S = 4
EVENTS_MIN = 50
ATTEMPTS_MIN = 20
CALLBACKS = ("workers/postgres/callbacks.py", "deploy/callbacks.py")
TASKS = ("workers/postgres/migrations/0015_tasks.sql",)
EXPAND = """\
-- expand
ALTER TABLE orders ADD COLUMN of_next text;
ALTER TABLE held ADD COLUMN of_next text NOT NULL DEFAULT '';
ALTER TABLE deliveries ADD COLUMN of_next integer;
ALTER TABLE outbox ADD COLUMN of_next integer;
CREATE TABLE of_next (id bigint PRIMARY KEY);
CREATE INDEX orders_of_next ON orders (of_next);
"""
CONTRACT = """\
-- contract
DROP INDEX orders_of_next;
DROP TABLE of_next;
ALTER TABLE outbox DROP COLUMN of_next;
ALTER TABLE deliveries DROP COLUMN of_next;
ALTER TABLE held DROP COLUMN of_next;
ALTER TABLE orders DROP COLUMN of_next;
"""


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source tree of the release before."""
    revision = two_releases.before()
    directory = tmp_path_factory.mktemp("release")
    revisions.unpack(revision, directory)
    return directory


@pytest.fixture
def started(local_kafka: Kafka, local_postgres: Postgres, local_redis: Redis) -> Iterator[Cluster]:
    """Topics and an order store of its own for each test: a group that begins anew would read older records."""
    with clusters.of_a_module(
        two_releases.WISHED, kafka=local_kafka, postgres=local_postgres, redis=local_redis
    ) as one:
        yield one


@pytest.fixture
async def releases(tree: Path, started: Cluster) -> Releases:
    """The tree comes first, so that a test that is skipped starts no server."""
    return await two_releases.both(started, tree)


async def judge(sent: list[Sending], console: Role, measured: Note) -> None:
    for load in sent:
        await load.judged(within_s=WITHIN_S, console=console)
    measured("requests", sum(len(load.attempts) for load in sent))
    measured("failed at the first try", sum(len(load.failed()) for load in sent))


async def test_processes_of_both_releases_lose_nothing_and_do_nothing_twice(releases: Releases, measured: Note) -> None:
    old, new = releases.old, releases.new
    measured("schema of the release before", await migrations.applied_at(old.dsn))
    sent: list[Sending] = []
    old_workers = [old.another("worker", f"old-worker-{number}") for number in (1, 2)]
    new_workers = [new.another("worker", f"new-worker-{number}") for number in (1, 2)]
    old_receiver, new_receiver = old.another("ingest", "old-ingest"), new.another("ingest", "new-ingest")
    console = new.another("console", "new-console")
    async with ending(old_receiver, new_receiver, *old_workers, *new_workers, console):
        await begin(old_receiver, *old_workers)
        async with loading(old, old_receiver, sent):
            await until(lambda: two_releases.have_settled(old_workers), WITHIN_S)
            await releases.upgrade()  # while the release before works
            assert await migrations.applied_at(new.dsn) == len(migrations.steps())
            await old_workers[1].process.stop()
            await begin(new_workers[0])
            # Records of a receiver of either release, at workers of both.
            await side_by_side(old_workers[0], new_workers[0])
            await begin(new_receiver)
            async with loading(new, new_receiver, sent):
                await side_by_side(old_workers[0], new_workers[0])
                await old_workers[0].process.stop()
                await begin(new_workers[1])
                await side_by_side(*new_workers)
        await old_receiver.process.stop()

        # The way back, over the schema that is ahead, and rows of this release.
        await begin(old_receiver, old_workers[0])
        async with loading(old, old_receiver, sent):
            await new_workers[1].process.stop()
            await side_by_side(old_workers[0], new_workers[0])
            await new_workers[0].process.stop()
            await until(lambda: clusters.has_all(old_workers[0]), WITHIN_S)
            await asyncio.sleep(1)
        await begin(new_workers[0], console)
        await judge(sent, console, measured)
        assert await new.one("SELECT count(*) FROM deliveries WHERE disposition = 'dead'") == 0


@pytest.mark.parametrize("is_back", [False, True], ids=["upgrade", "way back"])
async def test_notification_parked_by_one_release_is_released_by_the_other(
    releases: Releases, *, is_back: bool
) -> None:
    if is_back:
        await releases.upgrade()
    first, second = (releases.new, releases.old) if is_back else (releases.old, releases.new)
    receiver, worker = first.another("ingest", "first-ingest"), first.another("worker", "first-worker")
    other, console = second.another("worker", "second-worker"), second.another("console", "second-console")
    async with ending(receiver, worker, other, console):
        await begin(receiver, worker)
        amounts = await two_releases.send_strict(first, receiver, PARKED)
        await until(lambda: are_held(first, amounts, "parked"), WITHIN_S)
        await worker.process.stop()
        await releases.upgrade()
        await begin(other, console)
        await register(console, amounts)
        await until(lambda: are_held(second, (), ""), WITHIN_S)
        await check_paid(second, console, amounts)


@pytest.mark.parametrize("is_back", [False, True], ids=["upgrade", "way back"])
@pytest.mark.parametrize("action", ["replay", "accept"])
async def test_task_begun_by_one_release_is_finished_by_the_other(
    releases: Releases, measured: Note, action: str, *, is_back: bool
) -> None:
    """Over all held notifications that match a filter. The worker that has begun it dies in the middle."""
    releases.need(*TASKS)
    await releases.upgrade()
    first, second = (releases.new, releases.old) if is_back else (releases.old, releases.new)
    receiver = first.another("ingest", "first-ingest")
    begins, finishes = first.another("worker", "first-worker"), second.another("worker", "second-worker")
    consoles = [each.another("console", f"console-{number}") for number, each in enumerate((first, second))]
    async with ending(receiver, begins, finishes, *consoles):
        await begin(receiver, begins, *consoles)
        amounts = await two_releases.send_strict(first, receiver, TASK_ROWS)
        await until(lambda: are_held(first, amounts, "parked"), WITHIN_S)
        # Another amount than the notification's, so that an operator has to decide.
        await register(consoles[0], {order: amount + 1 for order, amount in amounts.items()})
        await until(lambda: are_held(first, amounts, "quarantined"), WITHIN_S)
        await begin(finishes)

        wanted = {"action": action, "account": STRICT.name, "held_reason": "amount_mismatch", "rate": TASK_PER_S}
        task = await call(consoles[0], "POST", "/api/held/tasks", {**wanted, "reason": "as agreed", "by": "jo"})
        assert task["total"] == len(amounts)
        path = f"/api/held/tasks/{task['id']}"
        await until(lambda: has_done(consoles[1], path, at_least=TASK_PER_S), WITHIN_S)
        assert await leads(begins, first, "sweeping")
        await begins.process.kill()
        begun = await call(consoles[1], "GET", path)
        assert begun["state"] == "running", "the task was over before its worker died"
        await until(lambda: has_ended(consoles[1], path), WITHIN_S)
        assert await leads(finishes, second, "sweeping")
        measured("rows by the worker that died", begun["done"])
        ended = await call(consoles[0], "GET", path)
        outcome = "decided" if action == "accept" else "held_again"
        assert (ended["done"], ended[outcome], ended["failed"]) == (len(amounts), len(amounts), 0)
        if action == "accept":
            assert await are_held(second, (), "")
            await check_paid(second, consoles[1], amounts)
        else:
            assert await are_held(second, amounts, "quarantined")


@pytest.mark.parametrize("is_back", [False, True], ids=["upgrade", "way back"])
async def test_callbacks_are_sent_by_either_release_in_version_order(
    releases: Releases, measured: Note, tmp_path: Path, *, is_back: bool
) -> None:
    """The worker that sends dies while the endpoint fails: the other release goes on with its attempts."""
    releases.need(*CALLBACKS)
    await releases.upgrade()
    first, second = (releases.new, releases.old) if is_back else (releases.old, releases.new)
    service = Receiver("service")
    configured = {
        "callbacks": str(callback_receivers.write_file(tmp_path, [service])),
        "callback_networks": "127.0.0.0/8",
    }
    receiver, console = first.another("ingest", "first-ingest"), releases.new.another("console", "new-console")
    begins = first.another("worker", "first-worker", **configured)
    finishes = second.another("worker", "second-worker", **configured)
    sent: list[Sending] = []
    async with receiving(service), ending(receiver, begins, finishes, console):
        await begin(receiver, begins, console)
        async with loading(first, receiver, sent):
            await until(lambda: len(service.arrived) >= EVENTS_MIN, WITHIN_S)
            await begin(finishes)
            service.status = 500
            asked = service.asked
            await side_by_side(begins, finishes)  # events of both, while one sends
            await until(lambda: service.asked >= asked + ATTEMPTS_MIN, WITHIN_S)
            assert await leads(begins, first, "callbacks")
            await begins.process.kill()
            service.status = 204
            arrived = len(service.arrived)
            await until(lambda: len(service.arrived) >= arrived + EVENTS_MIN, WITHIN_S)
            assert await leads(finishes, second, "callbacks")
        await judge(sent, console, measured)
        wanted = await versions(console)
        await until(lambda: service.order_of_versions == wanted, 3 * WITHIN_S)
        assert all(each == sorted(each) for each in wanted.values())
        measured("events by the worker that died", arrived)
        measured("events", sum(map(len, wanted.values())))


async def test_next_release_expands_and_contracts_the_schema_under_load(
    started: Cluster, tmp_path: Path, measured: Note
) -> None:
    """Made-up steps: the first adds to tables that are in use, while these programs work, and the second removes it,
    while those work that had added it."""
    sent: list[Sending] = []
    receiver, console = started.another("ingest", "ingest"), started.another("console", "console")
    present = [started.another("worker", f"worker-{number}") for number in (1, 2)]
    expanding = two_releases.next_release(started, tmp_path / "next", expand=EXPAND)
    following = [expanding.another("worker", f"next-worker-{number}") for number in (1, 2)]
    async with ending(receiver, *present, *following, console):
        await begin(receiver, *present)
        async with loading(started, receiver, sent):
            await side_by_side(*present)
            await two_releases.upgrade(expanding)
            await present[1].process.stop()
            await begin(following[0])
            await side_by_side(present[0], following[0])
            await present[0].process.stop()
            await begin(following[1])
            await side_by_side(*following)
            await two_releases.upgrade(
                two_releases.next_release(expanding, tmp_path / "after next", expand=EXPAND, contract=CONTRACT)
            )
            await side_by_side(*following)
            # The schema is two steps ahead of this release, and has nothing of the two any more.
            await following[1].process.stop()
            await begin(present[0], console)
            await side_by_side(present[0], following[0])
        assert await migrations.applied_at(started.dsn) == len(migrations.steps()) + 2
        await judge(sent, console, measured)


async def are_held(cluster: Cluster, orders: Iterable[str], disposition: str) -> bool:
    """Whether each of these orders has its notification held so, and nothing else is held."""
    found = await cluster.sql("SELECT order_number, disposition FROM held WHERE resolved_at IS NULL")
    return {row["order_number"]: row["disposition"] for row in found} == dict.fromkeys(orders, disposition)


async def register(console: Role, amounts: Mapping[str, int]) -> None:
    """Register these orders of the strict account with these amounts, as the merchant's shop would."""
    for order, amount in amounts.items():
        expected = {"amount_minor": amount, "currency": STRICT.currency, "by": "shop"}
        await call(console, "PUT", f"/api/orders/{STRICT.name}/{order}", expected)


async def check_paid(cluster: Cluster, console: Role, orders: Iterable[str]) -> None:
    """Check that each of these orders was paid once, by its state and its events."""
    found = await cluster.sql("SELECT order_number, status FROM orders WHERE account = $1", STRICT.name)
    assert {row["order_number"]: row["status"] for row in found} == dict.fromkeys(orders, "PAID")
    paid = [each["data"]["order"] for each in await events(console) if each["type"].endswith(".order.paid.v1")]
    assert sorted(paid) == sorted(orders)


async def events(console: Role) -> list[dict[str, Any]]:
    """All order events, as the admin API lists them."""
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        page = await call(console, "GET", f"/api/events?after={after}&limit=1000")
        if not page["events"]:
            return found
        found += page["events"]
        after = page["next"]


async def versions(console: Role) -> dict[str, list[int]]:
    """The versions of each order's events, by the order with its account."""
    found: dict[str, list[int]] = {}
    for event in await events(console):
        order, _, version = event["id"].rpartition(":")
        found.setdefault(order, []).append(int(version))
    return found


async def leads(worker: Role, cluster: Cluster, role: str) -> bool:
    """Whether this worker has the lease for the role; a worker's name has its process id in it."""
    holder = await cluster.one("SELECT holder FROM leases WHERE role = $1 AND until > now()", role)
    return f"-{worker.process.pid}-" in holder


async def has_done(console: Role, path: str, *, at_least: int) -> bool:
    return bool((await call(console, "GET", path))["done"] >= at_least)


async def has_ended(console: Role, path: str) -> bool:
    return bool((await call(console, "GET", path))["state"] == "finished")
