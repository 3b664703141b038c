"""Antom's messages have no id: for every kind, other news is another notification, and a resend is a duplicate."""

import itertools
import json
import random
from collections import Counter
from typing import Any

import pytest

from schemas import interpret_antom
from schemas.dispositions import Disposition, Reason
from schemas.record_format import Record
from tests.support import antom_kinds, facts
from tests.support.antom_kinds import MOVING, NOTED, AntomKind
from tests.unit.workers.in_memory import MemoryWorker

ACCOUNT = facts.account("antom")
IS_NOTED = (Disposition.APPLIED, Reason.NOTED)
IS_RESENT = (Disposition.DUPLICATE, Reason.SAME_ID)
WITHOUT_AN_ID = ("ABA_TRANSFER_RESULT", "INVOICE_RESULT", "CREDIT_NOTE", "METER_EVENT", "CARD_BILL", "CARD_STATUS")


def record(message: dict[str, Any]) -> Record:
    return facts.record(json.dumps(message).encode(), ACCOUNT)


async def ends(*messages: dict[str, Any]) -> list[tuple[Disposition, Reason]]:
    """The disposition of each message, processed one after the other."""
    worker = MemoryWorker()
    for message in messages:
        await worker.process(record(message))
    return worker.outcomes()


@pytest.mark.parametrize("kind", NOTED, ids=lambda kind: kind.name)
async def test_other_news_of_a_kind_is_noted_once_and_its_resend_is_a_duplicate(kind: AntomKind) -> None:
    news = [kind.message, *kind.changed()]
    assert len(news) > 1
    assert await ends(*news, *news) == [IS_NOTED] * len(news) + [IS_RESENT] * len(news)


@pytest.mark.parametrize("kind", NOTED, ids=lambda kind: kind.name)
async def test_news_of_a_kind_is_noted_in_every_order_and_in_one_batch(kind: AntomKind) -> None:
    news = [kind.message, *kind.changed()][:3]
    for order in itertools.permutations(range(len(news))):
        worker = MemoryWorker()
        await worker.process(*(record(news[place]) for place in (*order, *order)))
        assert Counter(worker.outcomes()) == {IS_NOTED: len(news), IS_RESENT: len(news)}


@pytest.mark.parametrize("kind", [*MOVING, *NOTED], ids=lambda kind: kind.name)
def test_first_news_has_the_id_of_each_release(kind: AntomKind) -> None:
    """Ids are stored and public."""
    read = interpret_antom.read(json.dumps(kind.message).encode(), ACCOUNT)
    if kind.id:
        assert read.id == kind.id
    assert interpret_antom.read(json.dumps(dict(reversed(kind.message.items()))).encode(), ACCOUNT) == read


@pytest.mark.parametrize("kind", MOVING, ids=lambda kind: kind.name)
async def test_resend_of_what_moves_an_order_changes_nothing(kind: AntomKind) -> None:
    paid = MOVING[0].message
    first = await ends(paid, kind.message)
    again = await ends(paid, kind.message, kind.message, paid)
    assert again[:2] == first
    assert {disposition for disposition, _ in again[2:]} == {Disposition.DUPLICATE}


@pytest.mark.parametrize("type_", WITHOUT_AN_ID)
async def test_kind_that_is_not_known_is_held_once_for_each_content(type_: str) -> None:
    message = {"notifyType": type_, "notifyId": "N-1", "amount": antom_kinds.HKD}
    held = (Disposition.QUARANTINED, Reason.UNKNOWN_STATUS)
    other = message | {"amount": antom_kinds.LESS}
    assert await ends(message, other, message, other) == [held, held, IS_RESENT, IS_RESENT]


async def test_all_kinds_together_in_any_order_contradict_none() -> None:
    noted = [message for kind in NOTED for message in (kind.message, *kind.changed())]
    messages = noted + [kind.message for kind in MOVING]
    chance = random.Random(5)
    for _ in range(5):
        chance.shuffle(messages)
        worker = MemoryWorker()
        await worker.process(*map(record, messages), *map(record, messages))
        assert not [reason for _, reason in worker.outcomes() if reason is Reason.ID_CONFLICT]
        ended = zip(messages, worker.outcomes(), strict=False)
        assert [outcome for message, outcome in ended if message in noted] == [IS_NOTED] * len(noted)
