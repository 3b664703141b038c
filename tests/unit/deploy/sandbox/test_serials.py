"""Ids of the real lengths, and the formats of times."""

from __future__ import annotations

from random import Random

from deploy.sandbox import serials
from deploy.sandbox.notifications import (
    MessageKind,
)
from deploy.sandbox.world import World
from tests.unit.deploy.sandbox.samples import NOW, fields_of, made


def test_notify_id_has_34_digits_and_trade_number_28() -> None:
    numbers = serials.Serials(Random(1))
    assert len(numbers.notify_id(NOW)) == 34
    assert len(numbers.trade_no(NOW)) == 28
    assert numbers.notify_id(NOW).isdigit()


def test_only_the_refund_time_has_milliseconds(world: World) -> None:
    fields = fields_of(made(world, "demo-cn", MessageKind.REFUND))
    assert fields["gmt_refund"] == "2026-03-18 14:30:12.412"
    assert fields["gmt_payment"] == "2026-03-18 14:30:12"


def test_times_are_beijing_time_except_in_antoms_header() -> None:
    assert serials.moment(NOW) == "2026-03-18 14:30:12"
    assert serials.moment_with_fraction(NOW) == "2026-03-18 14:30:12.412"
    assert serials.iso_moment(NOW) == "2026-03-18T14:30:12+08:00"
    assert serials.header_moment(NOW) == "2026-03-18T06:30:12Z"


def test_same_seed_makes_the_same_ids() -> None:
    first, second = serials.Serials(Random(5)), serials.Serials(Random(5))
    assert [first.notify_id(NOW), first.order("WEB", NOW)] == [second.notify_id(NOW), second.order("WEB", NOW)]
    assert first.trade_no(NOW) != first.trade_no(NOW)
