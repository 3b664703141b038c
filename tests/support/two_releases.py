"""The release before and this one, on the same servers: which one it is, its programs, and accounts that both know."""

import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec import Struct, structs

from deploy.load.corpus import Mix
from deploy.local import roles
from deploy.local.engine import EngineSpec
from deploy.local.processes import DidNotStart
from deploy.local.roles import Program, Role
from deploy.sandbox import world as sandbox
from deploy.sandbox.identities import IDENTITIES, Identity
from deploy.sandbox.world import World
from tests.support import cluster as clusters
from tests.support import frozen_release, revisions
from tests.support.cluster import Cluster, Sending, metrics, partitions, summed, until
from tests.support.paths import ROOT

WISHED = EngineSpec()  # topics and an empty store; the tests run processes of both releases over them
PER_S = 25.0
LOAD_S_MAX = 600.0
EACH_HAS = 50  # records, while the programs of both releases work
WITHIN_S = 120.0
NOWHERE = "http://127.0.0.1:1"
OF_REQUESTS = re.compile(r"^(merchant_\w+_file|notify_url|gateway_url) = .*\n", re.MULTILINE)
PAYMENTS_ALONE = Mix(duplicates=0.0, lifecycles=0.0, forgeries=0.0)
# Its notifications wait for a registration, or contradict it.
STRICT = Identity(
    name="demo-strict", product="in-app", sign_type="RSA", key="mapi-rsa", currency="USD",
    seller_id="2088999900001108", partner="2088999900001108", registered=True,
)  # fmt: skip


class Releases(Struct, frozen=True, kw_only=True):
    """Both releases, with the same settings. The order store has the schema of the one before."""

    old: Cluster
    new: Cluster
    tree: Path  # of the release before

    async def upgrade(self) -> None:
        """Apply the steps of this release."""
        await upgrade(self.new)

    def need(self, *modules: str) -> None:
        """Skip the test if the release before lacks one of these modules."""
        for module in modules:
            if not (self.tree / module).exists():
                pytest.skip(f"NOT TESTED: the release before has no {module}")


def before() -> str:
    """Return the revision of the release before: `RELEASE`, else the newest tag, else the frozen one.

    The test is skipped in a clone that has none of them.
    """
    if named := os.environ.get("RELEASE", ""):
        return named
    if not revisions.is_clone():
        pytest.skip("NOT TESTED: this tree is no clone, so it has no other release")
    if tag := revisions.newest_tag():
        return tag
    frozen = frozen_release.frozen().revision
    if not revisions.is_here(frozen):
        pytest.skip("NOT TESTED: this clone has no history; name a revision by RELEASE")
    return frozen


async def both(started: Cluster, tree: Path) -> Releases:
    """Return the releases over these servers, with an order store that the release before has made."""
    await started.sql(f'DROP SCHEMA "{started.prefix}" CASCADE')
    await started.sql(f'CREATE SCHEMA "{started.prefix}"')
    receipts = started.directory.home("secrets") / "receipt-key"
    settings = {**started.program.settings, "receipt_key_file": str(receipts)}
    python = os.environ.get("RELEASE_PYTHON", roles.PROGRAM[0])
    earlier = Program(argv=(python, *roles.PROGRAM[1:]), settings=settings, tree=tree)
    old = structs.replace(started, program=earlier)
    await upgrade(old)
    world = await _known_to_both(old)
    settings = {**settings, "accounts": str(world.accounts_file)}
    new = structs.replace(
        started, program=Program(settings=settings), engine=structs.replace(started.engine, world=world)
    )
    return Releases(
        old=structs.replace(new, program=structs.replace(earlier, settings=settings)),
        new=new,
        tree=tree,
    )


async def upgrade(release: Cluster) -> None:
    await release.command("db", "upgrade", "--postgres", release.dsn)


async def _known_to_both(old: Cluster) -> World:
    """Return a world of the accounts whose settings the release before knows; it refuses a file with any other."""
    identities = (*IDENTITIES, STRICT)
    directory = old.directory.home("world-of-both")
    world = World.create(directory, gateway_url=NOWHERE, notify_base=NOWHERE, identities=identities)
    if not await _reads(old, _only(world, *identities)):
        identities = tuple([each for each in identities if await _reads(old, _only(world, each))])
    assert STRICT in identities
    return _only(world, *identities)


def _only(world: World, *identities: Identity) -> World:
    """Write these accounts, without settings of Requests, which nothing here signs; return a world of them alone."""
    text = sandbox.accounts_toml(NOWHERE, NOWHERE, identities)
    world.accounts_file.write_text(OF_REQUESTS.sub("", text), encoding="utf-8")
    return structs.replace(world, accounts={each.name: world.account(each.name) for each in identities})


async def _reads(release: Cluster, world: World) -> bool:
    """Return whether the release can read the accounts of the world."""
    try:
        await release.command("keys", "check", "--accounts", str(world.accounts_file))
    except DidNotStart:
        return False
    return True


def with_accounts(cluster: Cluster, *, strict: bool) -> Cluster:
    """Return the cluster with the strict account alone as the sender's, or without it."""
    world = cluster.engine.world
    chosen = {name: each for name, each in world.accounts.items() if (name == STRICT.name) == strict}
    return structs.replace(
        cluster, engine=structs.replace(cluster.engine, world=structs.replace(world, accounts=chosen))
    )


def next_release(new: Cluster, directory: Path, **steps: str) -> Cluster:
    """Return this release with further steps of the schema, as the next one will have them. Steps go by subject."""
    if not directory.exists():
        for package in revisions.TREE:
            shutil.copytree(ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    folder = directory / "workers" / "postgres" / "migrations"
    for subject, sql in steps.items():
        number = len([*folder.glob("*.sql")]) + 1
        (folder / f"{number:04d}_{subject}.sql").write_text(sql, encoding="utf-8")
    return structs.replace(new, program=structs.replace(new.program, tree=directory))


async def begin(*started: Role) -> None:
    for role in started:
        role.process.spawn()
    for role in started:
        await role.process.ready()


@asynccontextmanager
async def ending(*started: Role) -> AsyncIterator[None]:
    """Stop those that run when the block ends, however it ends."""
    try:
        yield
    finally:
        for role in started:
            await role.process.stop()


@asynccontextmanager
async def loading(cluster: Cluster, receiver: Role, sent: list[Sending]) -> AsyncIterator[None]:
    """Send payments of all accounts but the strict one to this receiver while the block lasts."""
    sender = with_accounts(cluster, strict=False)
    async with sender.sending(to=receiver.url, rate=PER_S, seconds=LOAD_S_MAX, connections=16) as load:
        sent.append(load)
        yield


async def send_strict(cluster: Cluster, receiver: Role, count: int) -> dict[str, int]:
    """Send at least so many payments of the strict account; return the amounts of their orders by number."""
    sender = with_accounts(cluster, strict=True)
    load = sender.sending(to=receiver.url, rate=PER_S, seconds=20 * count / PER_S, mixed=PAYMENTS_ALONE, connections=4)
    async with load as sent:
        await until(lambda: len(sent.succeeded()) >= count, WITHIN_S)
    return sent.acknowledged()


async def settled(role: Role) -> float:
    return summed(await metrics(role), "alipay_notify_processed_total")


async def have_settled(workers: Sequence[Role]) -> bool:
    """Whether each of these has processed something."""
    return all([await settled(role) > 0 for role in workers])


async def side_by_side(*workers: Role) -> None:
    """Wait until these share all partitions, and each has processed some records of its own since."""

    async def share() -> bool:
        shares = [partitions(await metrics(role)) for role in workers]
        return all(shares) and sum(map(len, shares)) == clusters.PARTITIONS

    await until(share, WITHIN_S)
    since = [await settled(role) for role in workers]

    async def have_gone_on() -> bool:
        return all([await settled(role) >= one + EACH_HAS for role, one in zip(workers, since, strict=True)])

    await until(have_gone_on, WITHIN_S)


async def call(console: Role, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Call the admin API of this console; fail the test on any answer but a good one."""
    async with (
        aiohttp.ClientSession(console.admin_url, timeout=aiohttp.ClientTimeout(total=WITHIN_S)) as session,
        session.request(method, path, json=body) as answer,
    ):
        text = await answer.text()
        assert answer.ok, f"{method} {path}: {answer.status} {text}"
        found: dict[str, Any] = await answer.json()
        return found
