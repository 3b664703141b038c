"""Traffic for a demonstration: plays a random scenario every few seconds.

Most are ordinary payments. The others are the hard cases that a receiver exists for: duplicates, refunds, late
notifications, forgeries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from random import Random
from typing import Protocol

# The relative frequency of each scenario.
WEIGHTS: Mapping[str, int] = {
    "paid": 12, "paid_then_finished": 3, "partial_refund": 3, "full_refund": 3, "closed_unpaid": 2, "duplicate_x8": 2,
    "out_of_order": 2, "late_by_a_day": 2, "gbk_text": 2, "unknown_field": 1, "wrong_amount": 1, "foreign_seller": 1,
    "forged_signature": 2, "batch_refund": 1, "other_news": 1, "retiring_algorithm": 1, "two_merchants": 1,
}  # fmt: skip


class DemoStage(Protocol):
    """Plays scenarios: the sandbox's server."""

    def suitable(self, name: str) -> Sequence[str]: ...

    def start_play(self, name: str, account: str) -> bool: ...


async def keep_busy(stage: DemoStage, *, chance: Random, pause_s: float = 2.0) -> None:
    """Play scenarios until cancelled: first each one once, so that one minute shows them all, then at random."""
    for name in WEIGHTS:
        await _play(stage, name, chance, pause_s)
    while True:
        (name,) = chance.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))
        await _play(stage, name, chance, pause_s)


async def _play(stage: DemoStage, name: str, chance: Random, pause_s: float) -> None:
    # If too many are being played, this one is dropped: a demonstration needs no backlog.
    stage.start_play(name, chance.choice(stage.suitable(name)))
    await asyncio.sleep(pause_s * chance.uniform(0.3, 1.7))
