"""Forgeries differ from genuine notifications."""

from __future__ import annotations

import pytest

from deploy.sandbox import forgery
from deploy.sandbox.notifications import (
    MessageKind,
)
from deploy.sandbox.world import World
from tests.unit.deploy.sandbox.samples import EVERY, NOW, made

FORGER = forgery.Forger()


@pytest.mark.parametrize("way", forgery.WAYS)
@pytest.mark.parametrize(("account", "kind"), EVERY)
def test_every_kind_can_be_forged_in_every_way(world: World, account: str, kind: MessageKind, way: forgery.Way) -> None:
    one = made(world, account, kind)
    honest, forged = one.delivery(NOW), FORGER.forge(one, way).delivery(NOW)
    assert (honest.body, honest.headers) != (forged.body, forged.headers)
    assert honest.path == forged.path
