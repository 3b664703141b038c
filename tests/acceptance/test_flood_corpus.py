"""The seeded flood is repeatable, contains everything that it promises, and describes itself truly."""

from __future__ import annotations

import tomllib
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import msgspec
import pytest

from deploy.load import origin
from deploy.sandbox.notifications import MessageKind
from deploy.sandbox.world import World
from schemas import accounts as merchant_accounts
from schemas import accounts_toml, form, interpret_antom, interpret_form
from tests.support import flood_corpus
from tests.support.flood_corpus import Item

NOW = datetime(2026, 3, 18, 6, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.create(tmp_path_factory.mktemp("world"), gateway_url="http://127.0.0.1:1", notify_base="http://h")


@pytest.fixture(scope="module")
def items(world: World) -> list[Item]:
    return list(flood_corpus.generate(world, seed=42, orders=500, now=NOW))


def test_same_seed_gives_the_same_flood(world: World, items: list[Item]) -> None:
    again = list(flood_corpus.generate(world, seed=42, orders=500, now=NOW))
    assert [msgspec.structs.replace(one, body=b"", headers=()) for one in items] == [
        msgspec.structs.replace(one, body=b"", headers=()) for one in again
    ]
    honest = [(one, other) for one, other in zip(items, again, strict=True) if not one.forged]
    assert all(one.body == other.body and one.headers == other.headers for one, other in honest)
    assert {one.order for one in flood_corpus.generate(world, seed=43, orders=5, now=NOW)}.isdisjoint(
        one.order for one in items
    )


def test_flood_has_every_account_kind_retry_forgery_and_foreign_seller(world: World, items: list[Item]) -> None:
    assert {one.account for one in items} == set(origin.verifiable_offline(world))
    assert {one.facts.kind for one in items} == {
        MessageKind.WAITING, MessageKind.PAID, MessageKind.FINISHED, MessageKind.CLOSED, MessageKind.REFUND,
    }  # fmt: skip
    assert sum(one.retry for one in items) > 100
    assert sum(one.forged for one in items) > 20
    assert sum(one.refused and not one.forged for one in items) > 5
    assert any(b"charset=gbk" in value.encode() for one in items for _, value in one.headers)


def test_orders_are_interleaved_and_their_events_reordered(items: list[Item]) -> None:
    assert sum(one.order == other.order for one, other in pairwise(items)) < len(items) / 10
    first = {one.order: one for one in reversed(items)}
    assert any(one.facts.kind is MessageKind.REFUND for one in first.values())


def test_retries_have_the_same_id_and_another_body(items: list[Item]) -> None:
    sendings = Counter(one.notify_id for one in items if not one.refused)
    assert max(sendings.values()) > 1
    bodies = {(one.body, one.headers) for one in items}
    assert len(bodies) == len(items)


def test_no_forgery_shares_an_id_with_a_genuine_item(items: list[Item]) -> None:
    genuine = {one.notify_id for one in items if not one.refused}
    assert genuine.isdisjoint(one.notify_id for one in items if one.refused)


def test_facts_of_an_item_are_those_that_the_receiver_reads(world: World, items: list[Item]) -> None:
    known = accounts_toml.parse(tomllib.loads(world.accounts_file.read_text()))
    for one in items:
        if one.refused:
            continue
        account = known[one.account]
        antom = account.family is merchant_accounts.Family.ANTOM
        meaning = (
            interpret_antom.read(one.body, account)
            if antom
            else interpret_form.read(form.read(one.body), account, is_confirmed=account.notify_verify)
        )
        assert meaning.id == one.notify_id
        if one.facts.names_order:
            assert (meaning.order, meaning.trade) == (one.order, one.facts.trade_no)
            assert meaning.amount is not None
            assert (meaning.amount.minor, meaning.amount.currency) == (one.facts.amount_minor, one.facts.currency)


def test_accounts_can_be_chosen(world: World) -> None:
    chosen = flood_corpus.generate(world, seed=1, orders=3, now=NOW, accounts=("demo-web",))
    assert {one.account for one in chosen} == {"demo-web"}


def test_strange_lives_bring_every_kind_that_a_product_sends(world: World) -> None:
    strange = list(flood_corpus.generate(world, seed=7, orders=400, now=NOW, strange=1.0))
    kinds = {one.facts.kind for one in strange}
    assert kinds >= {
        MessageKind.AUTHORIZED, MessageKind.CAPTURE, MessageKind.CAPTURE_FAILED, MessageKind.SUBSCRIPTION_PAYMENT,
        MessageKind.REFUND_ACTION, MessageKind.REVERSED, MessageKind.OTHER, MessageKind.DISPUTE, MessageKind.VAULTING,
    }  # fmt: skip
    assert {one.facts.currency for one in strange} >= {"KWD", "CLP", "BRL", "XYZ", "USD"}
    assert any(one.ambiguous for one in strange)
    assert not any(one.forged for one in strange if one.ambiguous)
