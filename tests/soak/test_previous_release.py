"""The release before, beside this one: its programs and ours on one log and one order store, under load, on the way
there and on the way back. All orders of both receivers are judged afterwards, by their pages and their events.

`RELEASE` names the release before, a tag or any revision of git; without it the newest tag is taken. Its programs run
in this virtual environment, or, if they need other packages, by `RELEASE_PYTHON`, the Python of an environment that
has them.
"""

import asyncio
import io
import os
import subprocess
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs

from deploy.local import roles
from deploy.local.engine import EngineSpec
from deploy.local.kafka.cluster import Kafka
from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from deploy.local.roles import Program, Role
from tests.support import cluster as clusters
from tests.support.cluster import Cluster, Note, Sending, metrics, partitions, summed, until
from tests.support.paths import ROOT
from workers.postgres import migrations

WISHED = EngineSpec()  # topics and an empty store; the test runs processes of both releases over them
PER_S = 25.0
SIDE_BY_SIDE_S = 8.0
LOAD_S_MAX = 600.0
WITHIN_S = 90.0


def git(*arguments: str) -> bytes:
    done = subprocess.run(("git", "-C", str(ROOT), *arguments), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def before() -> str:
    """The revision of the release before."""
    if named := os.environ.get("RELEASE", ""):
        return named
    tags = git("tag", "--merged", "HEAD", "--no-contains", "HEAD", "--sort=-version:refname").decode().split()
    if not tags:
        pytest.skip("NOT TESTED: there is no tag yet; name a revision by RELEASE")
    return tags[0]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source tree of the release before."""
    directory = tmp_path_factory.mktemp("release")
    packed = git("archive", "--format=tar", before(), "schemas", "ingest", "workers", "deploy")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(directory, filter="data")
    return directory


@pytest.fixture(scope="module")
def started(tree: Path, local_kafka: Kafka, local_postgres: Postgres, local_redis: Redis) -> Iterator[Cluster]:
    """The servers of this engine; the tree comes first, so that a test that is skipped starts none."""
    with clusters.of_a_module(WISHED, kafka=local_kafka, postgres=local_postgres, redis=local_redis) as one:
        yield one


@pytest.fixture
async def releases(started: Cluster, tree: Path) -> tuple[Cluster, Cluster]:
    """The release before, and this one, with the same settings. The store has the schema of the one before."""
    await started.sql(f'DROP SCHEMA "{started.prefix}" CASCADE')
    await started.sql(f'CREATE SCHEMA "{started.prefix}"')
    receipts = started.directory.home("secrets") / "receipt-key"
    settings = {**started.program.settings, "receipt_key_file": str(receipts)}
    python = os.environ.get("RELEASE_PYTHON", roles.PROGRAM[0])
    earlier = Program(argv=(python, *roles.PROGRAM[1:]), settings=settings, tree=tree)
    old = structs.replace(started, program=earlier)
    await upgrade(old)
    return old, structs.replace(started, program=Program(settings=settings))


async def upgrade(release: Cluster) -> None:
    await release.command("db", "upgrade", "--postgres", release.dsn)


async def test_processes_of_both_releases_lose_nothing_and_do_nothing_twice(
    releases: tuple[Cluster, Cluster], measured: Note
) -> None:
    old, new = releases
    measured("schema of the release before", await migrations.applied_at(old.dsn))
    sent: list[Sending] = []
    old_workers = [old.another("worker", f"old-worker-{number}") for number in (1, 2)]
    new_workers = [new.another("worker", f"new-worker-{number}") for number in (1, 2)]
    old_receiver, new_receiver = old.another("ingest", "old-ingest"), new.another("ingest", "new-ingest")
    console = new.another("console", "new-console")
    try:
        await begin(old_receiver, *old_workers)
        async with loading(old, old_receiver, sent):
            await until(lambda: has_settled(old_workers), WITHIN_S)
            await upgrade(new)  # while the release before works
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
        for load in sent:
            await load.judged(within_s=WITHIN_S, console=console)
        measured("requests", sum(len(load.attempts) for load in sent))
        measured("failed at the first try", sum(len(load.failed()) for load in sent))
        assert await new.one("SELECT count(*) FROM deliveries WHERE disposition = 'dead'") == 0
    finally:
        for role in (old_receiver, new_receiver, *old_workers, *new_workers, console):
            await role.process.stop()


async def begin(*started: Role) -> None:
    for role in started:
        role.process.spawn()
    for role in started:
        await role.process.ready()


@asynccontextmanager
async def loading(cluster: Cluster, receiver: Role, sent: list[Sending]) -> AsyncIterator[None]:
    async with cluster.sending(to=receiver.url, rate=PER_S, seconds=LOAD_S_MAX, connections=16) as load:
        sent.append(load)
        yield


async def has_settled(workers: list[Role]) -> bool:
    """Whether each of these has processed something."""
    return all([await settled(role) > 0 for role in workers])


async def settled(role: Role) -> float:
    return summed(await metrics(role), "alipay_notify_processed_total")


async def side_by_side(*workers: Role) -> None:
    """Wait until these share all partitions, and each has processed records of its own since."""

    async def share() -> bool:
        shares = [partitions(await metrics(role)) for role in workers]
        return all(shares) and sum(map(len, shares)) == clusters.PARTITIONS

    await until(share, WITHIN_S)
    since = [await settled(role) for role in workers]
    await asyncio.sleep(SIDE_BY_SIDE_S)

    async def have_gone_on() -> bool:
        return all([await settled(role) > one for role, one in zip(workers, since, strict=True)])

    await until(have_gone_on, WITHIN_S)
