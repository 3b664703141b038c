"""Uses of keys: what counts as one, and that nothing counted is lost while the store is away."""

import asyncio

import pytest

from tests.support import facts
from tests.support.keys import MemoryKeyUses
from tests.support.waiting import until
from tests.unit.workers.in_memory import SHOP, MemoryWorker, paid, with_header
from workers import key_uses
from workers.errors import InfrastructureDown
from workers.key_uses import SLOT_MS, KeyUse, KeyUses
from workers.settlement import drafting


def counting() -> tuple[MemoryWorker, KeyUses, MemoryKeyUses]:
    worker, kept = MemoryWorker(), MemoryKeyUses()
    return worker, KeyUses(kept, lambda account, key_id: (account, key_id) == (SHOP.name, "k")), kept


async def process(worker: MemoryWorker, uses: KeyUses, *numbers: str, key: bytes | None = b"k") -> None:
    worker.observer.plans.clear()
    worker.observer.parsed_records.clear()
    await worker.process(*(with_header(paid(number), "key-id", key) for number in numbers))
    for plan in worker.observer.plans:
        uses.settled(plan, worker.observer.parsed_records)


async def test_messages_count_for_the_key_that_verified_them_in_their_slot() -> None:
    worker, uses, kept = counting()
    await process(worker, uses, "A1", "A2")
    await uses.write()
    (noted,) = kept.noted
    at_ms = worker.observer.parsed_records[0].received_at_ms
    assert noted == KeyUse(account=SHOP.name, key_id="k", slot_ms=at_ms - at_ms % SLOT_MS, messages=2, last_at_ms=at_ms)
    await uses.write()
    assert len(kept.noted) == 1


@pytest.mark.parametrize("key", [b"other", b"\xff", b"", None])
async def test_name_of_a_key_that_the_account_has_not_counts_for_nothing(key: bytes | None) -> None:
    worker, uses, kept = counting()
    await process(worker, uses, "A1", key=key)
    await uses.write()
    assert kept.noted == []


async def test_only_what_is_settled_now_counts_and_no_retry_of_a_held_one() -> None:
    worker, uses, kept = counting()
    await process(worker, uses, "A1")
    uses.settled(drafting.empty(), worker.observer.parsed_records)  # settled by another worker before
    worker.observer.parsed_records.clear()
    await worker.process(facts.record(b"nonsense", SHOP, number="A2"))
    uses.settled(worker.observer.plans[-1], worker.observer.parsed_records)
    await uses.write()
    assert [use.messages for use in kept.noted] == [1]


async def test_what_could_not_be_written_is_written_later_with_what_came_since() -> None:
    worker, uses, kept = counting()
    kept.trouble.append(InfrastructureDown("away"))
    await process(worker, uses, "A1")
    with pytest.raises(InfrastructureDown):
        await uses.write()
    await process(worker, uses, "A2")
    await uses.write()
    assert [use.messages for use in kept.noted] == [2]


async def test_loop_goes_on_after_an_outage_and_the_last_write_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, uses, kept = counting()
    kept.trouble.append(InfrastructureDown("away"))
    await process(worker, uses, "A1")
    running = asyncio.create_task(uses.run(every_s=0.001))
    await until(lambda: kept.noted, within_s=30)
    running.cancel()
    await process(worker, uses, "A2")

    async def never(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(kept, "note_key_uses", never)
    monkeypatch.setattr(key_uses, "LAST_WRITE_S", 0.001)
    async with asyncio.timeout(30):
        await uses.write_last()
    monkeypatch.undo()
    await uses.write_last()
    assert [use.messages for use in kept.noted] == [1, 1]
