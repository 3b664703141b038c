"""The signed requests of a run: the configured share of each kind, and authentic unless they are marked as forged."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from deploy import accounts_file
from deploy.load import corpus, origin
from deploy.load.corpus import Mix, Share, SignedRequest
from deploy.sandbox.notifications import MessageKind
from deploy.sandbox.world import SandboxAccount, World
from ingest import authenticate, keys
from ingest.authenticate import SigningHeaders
from ingest.errors import Refused
from tests.unit.deploy.load.parsing import body, fields, headers

NOW = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
MIX = Mix(duplicates=0.2, lifecycles=0.5, forgeries=0.1)


def made(
    world: World, *, total: int = 300, seed: int = 7, mix: Mix = MIX, number: int = 0, of: int = 1
) -> list[SignedRequest]:
    accounts = [world.account(name) for name in origin.verifiable_offline(world)]
    share = Share(seed=seed, number=number, of=of)
    return corpus.make(share, total=total, accounts=accounts, mix=mix, host="h", now=NOW)


@pytest.fixture(scope="module")
def is_accepted(load_world: World) -> Callable[[SignedRequest], bool]:
    """Whether the product's receiver takes a request, which the sandbox has signed, for authentic."""
    accounts = accounts_file.read(load_world.accounts_file)
    rings = {name: keys.load(one, load_world.accounts_file.parent) for name, one in accounts.items()}

    def accepted(one: SignedRequest) -> bool:
        account = accounts[one.sent.account]
        signing = None
        if account.family.value == "antom":
            found = headers(one)
            texts = (found["signature"], found["client-id"], found["request-time"])
            signing = SigningHeaders(*(text.encode() for text in texts))
        try:
            authenticate.check(account, rings[account.name], body(one), signing)
        except Refused:
            return False
        return True

    return accepted


def test_genuine_requests_verify_and_forged_ones_do_not(
    load_world: World, is_accepted: Callable[[SignedRequest], bool]
) -> None:
    requests = made(load_world)
    assert [one.sent for one in requests if is_accepted(one) == one.sent.forged] == []
    assert {one.sent.account for one in requests} == set(origin.verifiable_offline(load_world))


def test_run_has_the_configured_share_of_each_kind(load_world: World) -> None:
    sent = [one.sent for one in made(load_world)]
    counts = Counter("forged" if one.forged else "duplicate" if one.duplicate else "new" for one in sent)
    assert counts == {"forged": 30, "duplicate": 60, "new": 210}


@pytest.mark.parametrize("total", [1, 2, 3, 10])
def test_smallest_run_has_a_new_notification(load_world: World, total: int) -> None:
    sent = [one.sent for one in made(load_world, total=total, mix=Mix(duplicates=0.5, forgeries=0.49))]
    assert len(sent) == total
    assert any(not one.duplicate and not one.forged for one in sent)


def test_duplicate_differs_from_its_original_only_in_time_and_signature(load_world: World) -> None:
    requests = [one for one in made(load_world) if one.sent.account == "demo-cn" and not one.sent.forged]
    originals = {one.sent.notify_id: one for one in requests if not one.sent.duplicate}
    copies = [one for one in requests if one.sent.duplicate]
    assert copies
    for copy in copies:
        first, again = fields(originals[copy.sent.notify_id]), fields(copy)
        changed = {name for name in first.keys() | again.keys() if first.get(name) != again.get(name)}
        assert changed == {"notify_time", "sign"}


def test_forgery_has_its_own_id(load_world: World) -> None:
    sent = [one.sent for one in made(load_world)]
    forged = {(one.account, one.notify_id) for one in sent if one.forged}
    assert forged
    assert not forged & {(one.account, one.notify_id) for one in sent if not one.forged}


def test_later_events_of_an_order_overtake_earlier_ones(load_world: World) -> None:
    kinds: dict[str, list[MessageKind]] = {}
    for one in made(load_world, total=600):
        if not one.sent.forged and not one.sent.duplicate:
            kinds.setdefault(one.sent.order, []).append(one.sent.kind)
    overtaken = [order for order, notification in kinds.items() if MessageKind.WAITING in notification[1:]]
    assert overtaken
    assert {kind for notification in kinds.values() for kind in notification} >= {
        MessageKind.WAITING, MessageKind.PAID, MessageKind.FINISHED, MessageKind.REFUND, MessageKind.CLOSED
    }  # fmt: skip


def test_shares_of_a_run_are_disjoint_and_add_up_to_its_size(load_world: World) -> None:
    shares = [made(load_world, total=101, number=number, of=3) for number in range(3)]
    assert [len(share) for share in shares] == [34, 34, 33]
    orders = [{one.sent.order for one in share} for share in shares]
    ids = [{one.sent.notify_id for one in share} for share in shares]
    for each in (orders, ids):
        assert sum(len(some) for some in each) == len(set.union(*each))
    assert all(order.startswith(f"{corpus.run_name(7)}-") for order in set.union(*orders))


def test_same_seed_gives_the_same_orders_and_another_seed_others(load_world: World) -> None:
    assert [one.sent for one in made(load_world)] == [one.sent for one in made(load_world)]
    assert not {one.sent.order for one in made(load_world)} & {one.sent.order for one in made(load_world, seed=8)}


@pytest.mark.parametrize("name", ["demo-cn", "demo-app", "demo-md5", "demo-antom"])
def test_request_signed_again_is_the_same_notification_and_verifies(
    load_world: World, is_accepted: Callable[[SignedRequest], bool], name: str
) -> None:
    account: SandboxAccount = load_world.account(name)
    share = Share(seed=1)
    (one,) = corpus.make(share, total=1, accounts=[account], mix=Mix(duplicates=0), host="h", now=NOW)
    later = SignedRequest(
        one.sent, corpus.signed_again(one.request, account, host="h", at=datetime(2026, 3, 1, 9, tzinfo=UTC))
    )
    assert later.request != one.request
    assert is_accepted(later)
    if name == "demo-antom":
        assert body(later) == body(one)
        assert headers(later)["request-time"] == "2026-03-01T09:00:00Z"
    else:
        assert fields(later) | {"sign": "", "notify_time": ""} == fields(one) | {"sign": "", "notify_time": ""}
        assert fields(later)["notify_time"] == "2026-03-01 17:00:00"
