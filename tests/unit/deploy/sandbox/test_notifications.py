"""Notifications: the same id in all deliveries, a new signature in each, and edits."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qsl

import msgspec
import pytest

from deploy.sandbox.notifications import (
    Edits,
    MessageKind,
    UnplayableError,
    edited,
)
from deploy.sandbox.world import World
from tests.unit.deploy.sandbox.samples import NOW, fields_of, made


@pytest.mark.parametrize("account", ["demo-app", "demo-cn", "demo-antom"])
def test_retry_keeps_id_and_content_and_changes_time_and_signature(world: World, account: str) -> None:
    one = made(world, account, MessageKind.PAID)
    first, second = one.delivery(NOW), one.delivery(NOW + timedelta(minutes=4))
    if account == "demo-antom":
        assert first.body == second.body
        assert dict(first.headers)["signature"] != dict(second.headers)["signature"]
        assert dict(second.headers)["request-time"] == "2026-03-18T06:34:12Z"
        return
    before, after = (dict(parse_qsl(one.body.decode())) for one in (first, second))
    assert {name for name in before if before[name] != after[name]} == {"notify_time", "sign"}
    assert after["notify_time"] == "2026-03-18 14:34:12"


def test_override_is_signed_and_spoilt_field_is_not(world: World) -> None:
    one = made(world, "demo-md5", MessageKind.PAID)
    signed_for = {name: fields_of(edited(one, edits))["sign"] for name, edits in {
        "plain": Edits(),
        "override": Edits(override=(("total_fee", "88.88"),)),
        "spoil": Edits(spoil=(("total_fee", "88.88"),)),
    }.items()}  # fmt: skip
    assert signed_for["plain"] == signed_for["spoil"]
    assert signed_for["plain"] != signed_for["override"]


def test_fields_can_be_added_and_removed(world: World) -> None:
    one = edited(made(world, "demo-cn", MessageKind.PAID), Edits(add=(("promo", "yes"),), remove=("subject",)))
    assert fields_of(one)["promo"] == "yes"
    assert "subject" not in fields_of(one)


def test_pinned_notify_time_is_kept(world: World) -> None:
    one = edited(made(world, "demo-app", MessageKind.PAID), Edits(override=(("notify_time", "1970-01-01 00:00:00"),)))
    assert fields_of(one)["notify_time"] == "1970-01-01 00:00:00"


@pytest.mark.parametrize(
    "edits", [Edits(override=(("totl_fee", "1.00"),)), Edits(remove=("nothing",)), Edits(add=(("subject", "x"),))]
)
def test_edit_that_fits_no_field_is_refused(world: World, edits: Edits) -> None:
    with pytest.raises(UnplayableError):
        edited(made(world, "demo-app", MessageKind.PAID), edits)


def test_antom_field_is_named_with_dots(world: World) -> None:
    one = edited(made(world, "demo-antom", MessageKind.PAID), Edits(override=(("paymentAmount.value", "1"),)))
    message = msgspec.json.decode(one.delivery(NOW).body)
    assert message["paymentAmount"] == {"currency": "USD", "value": "1"}
