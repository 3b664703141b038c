"""A service provider asks for its merchants, by each one's token: two have an order of the same number."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from deploy import accounts_file
from deploy.asking import Asker
from deploy.sandbox import identities, server
from deploy.sandbox.identities import IDENTITIES
from deploy.sandbox.planning import Wishes
from deploy.sandbox.server import SandboxServer
from deploy.sandbox.world import World
from ingest import accounts_in_use
from ingest.accounts_in_use import AccountsInUse
from ingest.checkout import requests
from schemas import record_format
from workers.reconciliation import Answered, AnswerKind

(PROVIDER,) = (one for one in IDENTITIES if one.merchants)
WORLD = [one for one in IDENTITIES if one.name in (PROVIDER.name, identities.SHOP)]  # the sandbox runs a shop
FIRST, SECOND = PROVIDER.merchants
ACCOUNT = """[accounts.{name}]
family = "openapi"
sign_type = "RSA2"
app_id = "{app_id}"
auth_app_id = "{merchant}"
keys = ["keys/{key}.pem"]
queries = true
merchant_key_file = "keys/{provider}.key"
app_auth_token_file = "{name}.token"
gateway_url = "{gateway}/gateway.do"
"""


class Provider:
    """The provider's side: an account for each of its merchants."""

    def __init__(self, directory: Path, asker: Asker, accounts: AccountsInUse, sandbox: SandboxServer) -> None:
        self.directory, self.accounts, self.sandbox, self._asker = directory, accounts, sandbox, asker

    async def ask(self, name: str, order: str = "A-1") -> Answered:
        return await self._asker(self.accounts[name], order)


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    sock = server.listening("127.0.0.1", 0)
    url = server.url_of(sock)
    world = World.create(tmp_path, gateway_url=url, notify_base="http://127.0.0.1:1", identities=WORLD)
    file = world.accounts_file
    tables = []
    for name, merchant in (("first", FIRST), ("second", SECOND)):
        (file.parent / f"{name}.token").write_text(f"{identities.auth_token(merchant)}\n", encoding="utf-8")
        more = {"app_id": PROVIDER.app_id, "key": PROVIDER.key, "provider": PROVIDER.name, "gateway": url}
        tables.append(ACCOUNT.format(name=name, merchant=merchant, **more))
    file.write_text("\n".join(tables), encoding="utf-8")
    accounts = AccountsInUse(accounts_in_use.load(accounts_file.read(file), file.parent))
    sandbox = SandboxServer(
        world, sock=sock, admin_url="http://127.0.0.1:1", request_url=requests.redirect_url, drop=1.0
    )
    async with sandbox, ClientSession() as session:
        asker = Asker(session, accounts, file.parent, receipts=lambda contents: b"mac", now_ms=lambda: 7, total_s=60.0)
        yield Provider(file.parent, asker, accounts, sandbox)


def told(answer: Answered) -> tuple[str, bytes]:
    """The account of an answer's record, and the signed bytes."""
    assert answer.kind is AnswerKind.NEWS, answer.detail
    assert answer.record is not None
    contents = record_format.decode(answer.record)
    return contents.account, contents.body


async def test_each_merchants_token_has_the_answer_about_its_own_order(provider: Provider) -> None:
    assert (await provider.ask("first")).kind is AnswerKind.NOT_FOUND
    await provider.sandbox.play("paid", PROVIDER.name, wishes=Wishes(order="A-1", amount="12.80"))
    account, body = told(await provider.ask("first"))
    assert account == "first"
    assert b'"total_amount":"12.80"' in body
    assert (await provider.ask("second")).kind is AnswerKind.NOT_FOUND, "another merchant's order of that number"


async def test_both_merchants_orders_of_one_number_are_kept_apart(provider: Provider) -> None:
    await provider.sandbox.play("two_merchants", PROVIDER.name, wishes=Wishes(order="A-1"))
    bodies = {told(await provider.ask(name))[1] for name in ("first", "second")}
    assert len(bodies) == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [("SANDBOX-0000000000000000", "app_auth_token_file"), ("two words", "second.token has no app_auth_token")],
)
async def test_token_that_is_wrong_brings_no_answer_and_is_named(provider: Provider, content: str, says: str) -> None:
    (provider.directory / "second.token").write_text(content, encoding="utf-8")
    answer = await provider.ask("second")
    assert (answer.kind, says in answer.detail) == (AnswerKind.REFUSED, True)
    assert content not in answer.detail, "a secret"


async def test_token_is_read_again_for_the_next_question(provider: Provider) -> None:
    await provider.sandbox.play("paid", PROVIDER.name, wishes=Wishes(order="A-1"))
    file = provider.directory / "first.token"
    good = file.read_text(encoding="utf-8")
    file.unlink()
    assert (await provider.ask("first")).kind is AnswerKind.REFUSED
    file.write_text(good, encoding="utf-8")
    assert (await provider.ask("first")).kind is AnswerKind.NEWS
