"""The keys page and its API: states of keys, when an old one may go, and pages of accounts."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from schemas.retry_profiles import PROFILES
from tests.support.admin import NOW_MS, World, form, serving
from tests.support.keys import NEW, OLD, used, with_changes
from workers.admin import key_rings
from workers.admin.key_rings import MerchantKeyInUse
from workers.key_uses import KeyUsed

NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)


async def keys_of(world: World, account: str = "shop") -> tuple[dict[str, Any], dict[str, Any]]:
    async with serving(world) as client:
        answer = await (await client.get(f"/api/keys?account={account}")).json()
    (found,) = answer["accounts"]
    return found, {key["key_id"]: key for key in found["keys"]}


async def test_old_key_is_safe_to_remove_a_day_after_another_took_over() -> None:
    world = World()
    world.keys.rings["shop"] = (OLD, NEW)
    used(world.key_uses, "old.pem", 30, messages=7)
    used(world.key_uses, "new.pem", 20, messages=2)
    used(world.key_uses, "new.pem", 0.5, messages=3)
    shop, keys = await keys_of(world)
    old, new = keys["old.pem"], keys["new.pem"]
    resent = timedelta(milliseconds=PROFILES["cn-4m"].resent_ms)
    assert timedelta(hours=24, minutes=24) < resent < timedelta(hours=25)
    assert old["safe_to_remove_since"] == (NOW - timedelta(hours=30) + resent).isoformat().replace("+00:00", "Z")
    assert (old["verified_hour"], old["verified_day"]) == (0, 0)
    assert new["safe_to_remove_since"] is None
    assert (new["verified_hour"], new["verified_day"]) == (3, 5)
    assert shop["last_message_at"] == new["last_used_at"]


async def test_key_in_use_or_never_used_or_needed_by_a_held_one_is_not_safe_to_remove() -> None:
    world = World()
    world.keys.rings["shop"] = (OLD, NEW)
    used(world.key_uses, "old.pem", 30)
    assert (await keys_of(world))[1]["old.pem"]["safe_to_remove_since"] is None, "nothing has come since"
    used(world.key_uses, "new.pem", 29)
    assert (await keys_of(world))[1]["old.pem"]["safe_to_remove_since"] is not None
    await world.deliver_raw(b"nonsense", "B1", "shop")
    shop, keys = await keys_of(world)
    assert shop["held"] == 1
    assert keys["old.pem"]["safe_to_remove_since"] is None
    young = World()
    young.keys.rings["shop"] = (OLD, NEW)
    used(young.key_uses, "old.pem", 24)
    used(young.key_uses, "new.pem", 1)
    _, keys = await keys_of(young)
    assert [keys[name]["safe_to_remove_since"] for name in ("old.pem", "new.pem")] == [None, None]


@pytest.mark.parametrize(("profile", "is_safe"), [(None, False), ("antom-sandbox", True)])
async def test_old_key_waits_for_the_last_delivery_of_its_account(profile: str | None, is_safe: bool) -> None:
    world = World()
    world.accounts["shop"] = structs.replace(world.accounts["shop"], retry_profile=profile)
    world.keys.rings["shop"] = (OLD, NEW)
    used(world.key_uses, "old.pem", 1)
    used(world.key_uses, "new.pem", 0.5)
    _, keys = await keys_of(world)
    assert (keys["old.pem"]["safe_to_remove_since"] is not None) == is_safe


async def test_account_that_is_removed_while_its_keys_are_read_is_shown_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.keys.rings["shop"] = (OLD, NEW)
    read = world.key_uses.key_uses

    async def removed_meanwhile(accounts: Sequence[str], *, now_ms: int) -> Sequence[KeyUsed]:
        del world.accounts["shop"]
        return await read(accounts, now_ms=now_ms)

    monkeypatch.setattr(world.key_uses, "key_uses", removed_meanwhile)
    shop, _ = await keys_of(world)
    assert shop["account"] == "shop"


def test_states_follow_certificates_and_retiring_algorithms() -> None:
    for key, state in (
        (OLD, "ok"),
        (structs.replace(OLD, expires_at=NOW + timedelta(days=31)), "ok"),
        (structs.replace(OLD, expires_at=NOW + timedelta(days=29)), "expires_soon"),
        (structs.replace(OLD, expires_at=NOW), "expired"),
        (structs.replace(OLD, retiring_until=NOW + timedelta(seconds=1)), "retiring"),
        (structs.replace(OLD, retiring_until=NOW), "retired"),
        (MerchantKeyInUse(expires_at=NOW), "expired"),
    ):
        assert key_rings.state(key, NOW) == state


async def test_accounts_come_in_pages_by_name_and_an_unknown_one_is_404() -> None:
    world = World()
    async with serving(world) as client:
        first = await (await client.get("/api/keys?limit=3")).json()
        second = await (await client.get(f"/api/keys?limit=3&after={first['next']}")).json()
        assert (await client.get("/api/keys?account=nobody")).status == 404
        assert (await client.get("/keys?limit=x")).status == 400
        page = await (await client.get("/keys?limit=3")).text()
    assert [each["account"] for each in first["accounts"]] == ["antom-us", "isv", "shop"]
    assert [each["account"] for each in second["accounts"]] == ["strict"]
    assert second["next"] is None
    assert 'href="/keys?limit=3&amp;after=shop" rel="next"' in page


async def test_page_shows_what_to_register_and_faults_of_the_own_key() -> None:
    world = World()
    with_changes(world.keys, "shop", merchant_key=MerchantKeyInUse(fault="own.key cannot be read"))
    with_changes(world.keys, "strict", merchant_key=MerchantKeyInUse(fingerprint="sha256:own", expires_at=NOW))
    with_changes(world.keys, "isv", notify_url="https://pay.example/notify/isv")
    world.keys.rings["antom-us"] = (structs.replace(OLD, fingerprint=""),)
    await world.deliver(form("B1"), "strict")
    async with serving(world) as client:
        page = await (await client.get("/keys")).text()
    for text in (
        "own.key cannot be read",
        "sha256:own",
        "https://…/notify/shop",
        "https://pay.example/notify/isv",
        "a secret: none is shown",
        '<a href="/held?account=strict">1</a>',
        "sha256:00aa</span> makes receipts",
    ):
        assert text in page
