"""Files of two machines, a stream of notifications, and accounts for changes that reach one machine first."""

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout, web
from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec import Struct

from deploy.local import ports
from deploy.local.roles import Role
from tests.support import alipay
from tests.support.cluster import Cluster, until

APP, ONE, OTHER = "2021000000000001", "2021000000000008", "2021000000000009"
RELOAD_S = 1.0
WITHIN_S = 90.0  # two cores, and eight other runs
LATER = "2099-12-31"
FIRST_RECEIPT, NEXT_RECEIPT = "f" * 40, "n" * 40


def openapi(name: str, *keys: str, more: str = "") -> str:
    listed = ", ".join(f'"{key}.pem"' for key in keys)
    return f'[accounts.{name}]\nfamily = "openapi"\nsign_type = "RSA2"\napp_id = "{APP}"\nkeys = [{listed}]\n{more}\n'


def website(verify_url: str) -> str:
    """An account whose messages name no payee, so that only Alipay's confirmation binds them to it."""
    return (
        '[accounts.web]\nfamily = "mapi"\nsign_type = "RSA2"\nkeys = ["old.pem"]\npartner = "2088000000000001"\n'
        f'notify_verify = true\nnotify_verify_url = "{verify_url}"\ncurrency = "USD"\n'
    )


def moving(sign_type: str, key: str, more: str = "") -> str:
    """An account of the old gateway that changes its algorithm."""
    return (
        f'[accounts.moving]\nfamily = "mapi"\nsign_type = "{sign_type}"\nkeys = ["{key}.pem"]\n'
        f'seller_id = "{alipay.SELLER}"\ncurrency = "USD"\n{more}\n'
    )


def retiring(key: str) -> str:
    return f'[[accounts.moving.retiring]]\nsign_type = "RSA"\nkeys = ["{key}.pem"]\nuntil = {LATER}\n'


class Machine:
    """The files of all receivers, or of all workers."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.accounts, self.receipt_keys = directory / "accounts.toml", directory / "receipt-keys"
        for name in ("old", "new"):
            self.key(name, name)
        self.receipts(FIRST_RECEIPT)

    def key(self, file: str, name: str) -> None:
        self._put(f"{file}.pem", alipay.pem(alipay.rsa_key(name)))

    def tables(self, *tables: str) -> None:
        self._put("accounts.toml", "".join(tables).encode())

    def receipts(self, *keys: str) -> None:
        self._put("receipt-keys", "\n".join(keys).encode())

    def _put(self, name: str, content: bytes) -> None:
        """Replace a file by a rename, as a careful program does."""
        beside = self.directory / f"{name}.beside"
        beside.write_bytes(content)
        beside.rename(self.directory / name)


class Sent(Struct, frozen=True):
    """A notification of one order: its account, its scope, and the body."""

    account: str
    scope: str
    order: str
    body: bytes


class Alipay:
    """Signs notifications, and sends each until it is acknowledged, to the receivers in turn."""

    def __init__(self, session: ClientSession, receivers: Sequence[Role]) -> None:
        self.acknowledged: list[Sent] = []
        self._session = session
        self._receivers = itertools.cycle(receivers)
        self._numbers = itertools.count()
        self._run = secrets.token_hex(4)  # tests share the store

    def payment(self, account: str, *, key: str = "old", sign_type: str = "RSA2", merchant: str = "") -> Sent:
        number = next(self._numbers)
        order = f"{account}-{self._run}-{number}"
        fields = {
            "notify_type": "trade_status_sync", "notify_id": f"n-{order}", "notify_time": "2026-11-30 08:00:00",
            "out_trade_no": order, "trade_no": f"T-{order}", "trade_status": "TRADE_SUCCESS",
        }  # fmt: skip
        fields |= _OF_ACCOUNT.get(account, {"app_id": APP, "total_amount": "12.80"})
        if merchant:
            fields["auth_app_id"] = merchant
        scope = f"{account}/{merchant}" if merchant else account
        return Sent(account, scope, order, alipay.form(fields, _signer(key), sign_type))

    async def post(self, sent: Sent) -> int:
        """Send it once; return the status, 0 without an answer."""
        url = f"{next(self._receivers).url}/notify/{sent.account}"
        try:
            async with self._session.post(
                url, data=sent.body, headers={"Content-Type": "application/x-www-form-urlencoded"}
            ) as answer:
                status = answer.status
        except (ClientError, TimeoutError):
            status = 0
        if status == 200:
            self.acknowledged.append(sent)
        return status

    async def deliver(self, *sent: Sent) -> None:
        """Send each until it is acknowledged; Alipay's waits are only shorter here."""
        deadline = time.monotonic() + WITHIN_S
        for each in sent:
            while await self.post(each) != 200:
                assert time.monotonic() < deadline, f"{each.order} is not acknowledged"
                await asyncio.sleep(0.1)

    async def steadily(self) -> None:
        """Send notifications of the account that never changes, until cancelled."""
        while True:
            await self.deliver(self.payment("steady"))
            await asyncio.sleep(0.05)


_OF_ACCOUNT = {
    "web": {"total_fee": "12.80", "currency": "USD"},
    "moving": {"total_fee": "12.80", "seller_id": alipay.SELLER},
}


def _signer(name: str) -> rsa.RSAPrivateKey:
    return alipay.rsa_key(name)


@asynccontextmanager
async def confirming() -> AsyncIterator[str]:
    """Alipay's notify_verify, which confirms everything; yields its address."""

    async def confirm(_: web.Request) -> web.Response:
        return web.Response(text="true")

    application = web.Application()
    application.router.add_get("/gateway.do", confirm)
    runner = web.AppRunner(application)
    await runner.setup()
    (port,) = ports.free(1)
    await web.TCPSite(runner, ports.LOOPBACK, port).start()
    try:
        yield f"http://{ports.LOOPBACK}:{port}/gateway.do"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def alipay_to(receivers: Sequence[Role]) -> AsyncIterator[Alipay]:
    """Alipay, with a steady stream of notifications while the block lasts."""
    async with ClientSession(timeout=ClientTimeout(total=15)) as session:
        alipay_ = Alipay(session, receivers)
        steady = asyncio.create_task(alipay_.steadily())
        try:
            yield alipay_
            assert not steady.done(), "the steady stream ended"
        finally:
            steady.cancel()
            await asyncio.gather(steady, return_exceptions=True)


class Outcome:
    """The order store: how everything that was acknowledged ended."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def applied(self) -> set[tuple[str, str]]:
        """The scope and number of each order that a notification has changed."""
        rows = await self._cluster.sql("SELECT account, order_number FROM deliveries WHERE disposition = 'applied'")
        return {(row[0], row[1]) for row in rows}

    async def waiting(self) -> Mapping[str, int]:
        """The held rows that are not resolved, by disposition and reason."""
        rows = await self._cluster.sql(
            "SELECT disposition || ' ' || reason, count(*) FROM held WHERE resolved_at IS NULL GROUP BY 1"
        )
        return {row[0]: row[1] for row in rows}

    async def ever_dead(self) -> int:
        return int(await self._cluster.one("SELECT count(*) FROM deliveries WHERE disposition = 'dead'"))

    async def settle(self, sent: Sequence[Sent]) -> None:
        """Wait until each of these is applied; fail if one does not end so."""
        wanted = {(each.scope, each.order) for each in sent}

        async def are_applied() -> bool:
            return wanted <= await self.applied()

        try:
            await until(are_applied, WITHIN_S, every_s=0.2)
        except TimeoutError:
            missing = sorted(wanted - await self.applied())
            raise AssertionError(
                f"{len(missing)} are not applied, the first: {missing[:5]}; {await self.waiting()}"
            ) from None
