"""The seeded flood: repeatable, with everything in it, and true about itself."""

from __future__ import annotations

import tomllib
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import msgspec
import pytest

from deploy.sandbox import corpus
from deploy.sandbox.corpus import Item
from deploy.sandbox.notifications import MessageKind
from deploy.sandbox.world import World
from schemas import accounts as merchant_accounts
from schemas import form, interpret_antom, interpret_form

NOW = datetime(2026, 3, 18, 6, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def items(world: World) -> list[Item]:
    return list(corpus.generate(world, seed=42, orders=500, now=NOW))


def test_the_same_seed_gives_the_same_flood(world: World, items: list[Item]) -> None:
    again = list(corpus.generate(world, seed=42, orders=500, now=NOW))
    assert [msgspec.structs.replace(one, body=b"", headers=()) for one in items] == [
        msgspec.structs.replace(one, body=b"", headers=()) for one in again
    ]
    honest = [(one, other) for one, other in zip(items, again, strict=True) if not one.forged]
    assert all(one.body == other.body and one.headers == other.headers for one, other in honest)
    assert {one.order for one in corpus.generate(world, seed=43, orders=5, now=NOW)}.isdisjoint(
        one.order for one in items
    )


def test_everything_a_bad_week_brings_is_in_it(items: list[Item]) -> None:
    assert {one.account for one in items} == {"demo-app", "demo-cn", "demo-antom", "demo-md5"}
    assert {one.facts.kind for one in items} == {
        MessageKind.WAITING, MessageKind.PAID, MessageKind.FINISHED, MessageKind.CLOSED, MessageKind.REFUND,
    }  # fmt: skip
    assert sum(one.told_before for one in items) > 100
    assert sum(one.forged for one in items) > 20
    assert sum(one.refused and not one.forged for one in items) > 5
    assert any(b"charset=gbk" in value.encode() for one in items for _, value in one.headers)


def test_orders_are_interleaved_and_their_news_reordered(items: list[Item]) -> None:
    assert sum(one.order == other.order for one, other in pairwise(items)) < len(items) / 10
    first = {one.order: one for one in reversed(items)}
    assert any(one.facts.kind is MessageKind.REFUND for one in first.values())


def test_what_is_told_again_was_told_under_the_same_id(items: list[Item]) -> None:
    tellings = Counter(one.notify_id for one in items if not one.refused)
    assert max(tellings.values()) > 1
    bodies = {(one.body, one.headers) for one in items}
    assert len(bodies) == len(items)


def test_no_forgery_shares_an_id_with_a_genuine_item(items: list[Item]) -> None:
    genuine = {one.notify_id for one in items if not one.refused}
    assert genuine.isdisjoint(one.notify_id for one in items if one.refused)


def test_what_it_says_of_itself_is_what_the_receiving_side_reads(world: World, items: list[Item]) -> None:
    known = merchant_accounts.parse(tomllib.loads(world.accounts_file.read_text()))
    for one in items:
        if one.refused:
            continue
        account = known[one.account]
        antom = account.family is merchant_accounts.Family.ANTOM
        meaning = (
            interpret_antom.read(one.body, account) if antom else interpret_form.read(form.read(one.body), account)
        )
        assert meaning.id == one.notify_id
        if one.facts.names_order:
            assert (meaning.order, meaning.trade) == (one.order, one.facts.trade_no)
            assert meaning.amount is not None
            assert (meaning.amount.minor, meaning.amount.currency) == (one.facts.amount_minor, one.facts.currency)


def test_accounts_can_be_chosen(world: World) -> None:
    chosen = corpus.generate(world, seed=1, orders=3, now=NOW, accounts=("demo-web",))
    assert {one.account for one in chosen} == {"demo-web"}


def test_accounts_that_ask_a_gateway_take_part_only_if_asked_for(world: World) -> None:
    assert "demo-web" not in corpus.verifiable_alone(world)
