"""The judge itself: it finds nothing in sound dumps, and each planted defect by name."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from deploy.sandbox.world import World
from tests.acceptance import judge
from tests.acceptance.dumps import EVENTS, HELD, NOTED, STATES, Copy, Dumps, Row
from tests.support import flood_corpus, model
from tests.support.flood_corpus import Item

ACCOUNTS = ("demo-md5", "demo-cn")
ORDERS = 40
PARTITIONS = 3

Plant = Callable[[Dumps], Dumps]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    place = tmp_path_factory.mktemp("world")
    return World.create(place, gateway_url="http://127.0.0.1:1", notify_base="http://127.0.0.1:1")


@pytest.fixture(scope="module")
def items(world: World) -> list[Item]:
    return list(flood_corpus.generate(world, seed=6, orders=ORDERS, now=datetime.now(UTC), accounts=ACCOUNTS))


@pytest.fixture(scope="module")
def sound(world: World, items: list[Item]) -> Dumps:
    """Dumps of a sound engine, made from the model."""
    return _MadeUp(world, [item for item in items if not item.refused]).dumps()


def found(dumps: Dumps, world: World, items: Sequence[Item]) -> str:
    acknowledged = [item for item in items if not item.refused]
    return "\n".join(judge.verdict(dumps, world, sent=items, acknowledged=acknowledged, registered={}))


def test_sound_dumps_have_no_findings(sound: Dumps, world: World, items: list[Item]) -> None:
    assert found(sound, world, items) == ""
    assert any(item.refused for item in items)
    assert any(row["disposition"] == "duplicate" for row in sound.deliveries)
    assert len(sound.bodies) > ORDERS


def _place(row: Row) -> tuple[int, int]:
    return row["log_partition"], row["log_offset"]


def a_lost_ack(dumps: Dumps) -> Dumps:
    """The last record of the log is gone, with everything that knew of it but the sender."""
    lost = max(dumps.bodies)
    return replace(
        dumps,
        bodies={place: body for place, body in dumps.bodies.items() if place != lost},
        deliveries=[row for row in dumps.deliveries if _place(row) != lost],
    )


def a_record_without_a_disposition(dumps: Dumps) -> Dumps:
    return replace(dumps, deliveries=dumps.deliveries[1:])


def a_disposition_without_a_record(dumps: Dumps) -> Dumps:
    return replace(dumps, deliveries=[*dumps.deliveries, {**dumps.deliveries[0], "log_offset": 10**6}])


def a_second_disposition(dumps: Dumps) -> Dumps:
    return replace(dumps, deliveries=[*dumps.deliveries, {**dumps.deliveries[0], "disposition": "duplicate"}])


def a_disposition_of_another_notification(dumps: Dumps) -> Dumps:
    first, second, *rest = dumps.deliveries
    swapped = {**first, "notification_id": second["notification_id"]}
    return replace(dumps, deliveries=[swapped, second, *rest])


def a_notification_applied_twice(dumps: Dumps) -> Dumps:
    return replace(dumps, deliveries=[{**row, "disposition": "applied"} for row in dumps.deliveries])


def a_notification_still_parked(dumps: Dumps) -> Dumps:
    return replace(dumps, deliveries=[{**dumps.deliveries[0], "disposition": "parked"}, *dumps.deliveries[1:]])


def a_notification_missing_in_the_ledger(dumps: Dumps) -> Dumps:
    return replace(dumps, ledger=dumps.ledger[1:])


def a_ledger_with_other_bytes(dumps: Dumps) -> Dumps:
    return replace(dumps, ledger=[{**dumps.ledger[0], "value": b"a=1"}, *dumps.ledger[1:]])


def a_held_notification_with_other_bytes(dumps: Dumps) -> Dumps:
    row = {**dumps.ledger[0], "disposition": "applied", "resolution": "", "value": b"a=1"}
    return replace(dumps, held=[row])


def a_held_notification_that_its_record_knows_nothing_of(dumps: Dumps) -> Dumps:
    return replace(dumps, held=[{**dumps.ledger[0], "disposition": "quarantined", "resolution": ""}])


def a_commit_too_far(dumps: Dumps) -> Dumps:
    """Offsets honest: a record below the committed offset was never settled."""
    return replace(dumps, deliveries=dumps.deliveries[:-1])


def a_commit_that_is_behind(dumps: Dumps) -> Dumps:
    return replace(dumps, committed={**dumps.committed, 0: dumps.committed[0] - 1})


def a_partition_without_a_commit(dumps: Dumps) -> Dumps:
    return replace(dumps, committed={each: end for each, end in dumps.committed.items() if each})


def _of_an_order_with_versions(dumps: Dumps) -> str:
    """The beginning of the ids of an order that has more than one event."""
    copy = next(copy for copy in dumps.published[EVENTS] if copy.id.endswith(":2"))
    return copy.id.removesuffix("2")


def _publishing(dumps: Dumps, topic: str, change: Callable[[list[Copy]], list[Copy]]) -> Dumps:
    return replace(dumps, published={**dumps.published, topic: change(list(dumps.published[topic]))})


def a_missing_event(dumps: Dumps) -> Dumps:
    return _publishing(dumps, EVENTS, lambda copies: copies[1:])


def a_version_without_an_event(dumps: Dumps) -> Dumps:
    lost = f"{_of_an_order_with_versions(dumps)}1"
    without = replace(dumps, outbox=[row for row in dumps.outbox if row["id"] != lost])
    return _publishing(without, EVENTS, lambda copies: [copy for copy in copies if copy.id != lost])


def events_out_of_order(dumps: Dumps) -> Dumps:
    order = _of_an_order_with_versions(dumps)

    def swap(copies: list[Copy]) -> list[Copy]:
        first = next(index for index, copy in enumerate(copies) if copy.id == f"{order}1")
        second = next(index for index, copy in enumerate(copies) if copy.id == f"{order}2")
        copies[first], copies[second] = copies[second], copies[first]
        return copies

    return _publishing(dumps, EVENTS, swap)


def a_copy_with_other_headers(dumps: Dumps) -> Dumps:
    return _publishing(dumps, EVENTS, lambda copies: [*copies, replace(copies[0], headers=(("ce_time", b"another"),))])


def an_event_that_was_never_written(dumps: Dumps) -> Dumps:
    return _publishing(dumps, EVENTS, lambda copies: [*copies, replace(copies[0], id=f"{copies[0].id}0")])


def an_event_with_other_bytes(dumps: Dumps) -> Dumps:
    return _publishing(dumps, EVENTS, lambda copies: [replace(copies[0], value=b"{}"), *copies[1:]])


def a_copy_in_another_partition(dumps: Dumps) -> Dumps:
    return _publishing(dumps, EVENTS, lambda copies: [*copies, replace(copies[0], place=(PARTITIONS, 0))])


def a_missing_notice(dumps: Dumps) -> Dumps:
    notice = {**dumps.outbox[0], "id": "held:1:1", "topic": HELD, "version": None}
    return replace(dumps, outbox=[*dumps.outbox, notice])


def a_noted_notification_without_a_notice(dumps: Dumps) -> Dumps:
    return replace(dumps, deliveries=[{**dumps.deliveries[0], "reason": "noted"}, *dumps.deliveries[1:]])


def a_notice_of_nothing(dumps: Dumps) -> Dumps:
    notice = {**dumps.outbox[0], "id": "noted:demo-cn:1", "topic": NOTED, "version": None}
    copy = Copy(place=(0, 10**6), id=notice["id"], key=notice["key"], value=notice["value"])
    return _publishing(replace(dumps, outbox=[*dumps.outbox, notice]), NOTED, lambda copies: [*copies, copy])


def an_event_that_was_not_sent(dumps: Dumps) -> Dumps:
    return replace(dumps, unsent=1)


def a_state_that_is_not_the_last(dumps: Dumps) -> Dumps:
    order = _of_an_order_with_versions(dumps)
    old = next(copy for copy in dumps.published[EVENTS] if copy.id == f"{order}1")
    return _publishing(dumps, STATES, lambda copies: [*copies, old])


def a_missing_state(dumps: Dumps) -> Dumps:
    return _publishing(dumps, STATES, lambda copies: copies[:-1])


def _ordering(dumps: Dumps, **changes: Any) -> Dumps:
    row = next(row for row in dumps.orders if row["refunded_minor"])
    return replace(dumps, orders=[{**each, **changes} if each is row else each for each in dumps.orders])


def a_wrong_sum(dumps: Dumps) -> Dumps:
    """By the smallest unit there is, and the event agrees with the order."""
    row = next(row for row in dumps.orders if row["refunded_minor"])
    return _retold(dumps, row, refunded_minor=row["refunded_minor"] - 1)


def an_order_unlike_its_last_event(dumps: Dumps) -> Dumps:
    return _ordering(dumps, flags="frozen")


def a_version_too_many(dumps: Dumps) -> Dumps:
    return _ordering(dumps, version=99)


def a_missing_order(dumps: Dumps) -> Dumps:
    return replace(dumps, orders=dumps.orders[1:])


def an_order_too_many(dumps: Dumps) -> Dumps:
    return replace(dumps, orders=[*dumps.orders, {**dumps.orders[0], "order_number": "X", "version": 0}])


def an_order_that_fell(dumps: Dumps) -> Dumps:
    """A version in between had more than the last one has."""
    id_ = f"{_of_an_order_with_versions(dumps)}1"
    (row,) = [row for row in dumps.outbox if row["id"] == id_]
    value = {**json.loads(row["value"]), "status": "CLOSED", "closed_because": "refunded"}
    return replace(
        dumps,
        outbox=[{**each, "value": json.dumps(value).encode()} if each is row else each for each in dumps.outbox],
    )


def _retold(dumps: Dumps, row: Row, **changes: Any) -> Dumps:
    """The order otherwise, and all of its events."""
    key = f"{row['account']}:{row['order_number']}".encode()

    def value(old: bytes) -> bytes:
        return json.dumps({**json.loads(old), **changes}).encode()

    return replace(
        dumps,
        orders=[{**each, **changes} if each is row else each for each in dumps.orders],
        outbox=[{**each, "value": value(each["value"])} if each["key"] == key else each for each in dumps.outbox],
        published={
            topic: [replace(copy, value=value(copy.value)) if copy.key == key else copy for copy in copies]
            for topic, copies in dumps.published.items()
        },
    )


def damage(dumps: Dumps) -> Dumps:
    return replace(dumps, damage=["journal: a page is torn"])


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (damage, "a page is torn"),
        (a_lost_ack, "1 acknowledged notifications are not in the log"),
        (a_record_without_a_disposition, "records have no disposition"),
        (a_disposition_without_a_record, "1 dispositions have no record"),
        (a_second_disposition, "1 records have more than one disposition"),
        (a_disposition_of_another_notification, "the disposition at"),
        (a_notification_applied_twice, "had an effect more than once"),
        (a_notification_still_parked, "records still parked"),
        (a_notification_missing_in_the_ledger, "rows in the ledger"),
        (a_ledger_with_other_bytes, "1 rows of the ledger have other bytes"),
        (a_held_notification_with_other_bytes, "has other bytes than the log"),
        (a_held_notification_that_its_record_knows_nothing_of, "is quarantined, its record applied"),
        (a_commit_too_far, "1 records below a committed offset have no disposition"),
        (a_commit_that_is_behind, "1 records lie behind the committed offsets"),
        (a_partition_without_a_commit, "records lie behind the committed offsets"),
        (a_missing_event, f"{EVENTS} lacks 1 of"),
        (a_version_without_an_event, "and events [2"),
        (events_out_of_order, "is read before version 1"),
        (a_copy_with_other_headers, "two events with the id"),
        (an_event_that_was_never_written, "not as they were written"),
        (an_event_with_other_bytes, "not as they were written"),
        (a_copy_in_another_partition, "lie in two partitions"),
        (a_missing_notice, f"{HELD} lacks 1 of 1"),
        (a_noted_notification_without_a_notice, "1 notices of noted notifications"),
        (a_notice_of_nothing, "1 notices of noted notifications"),
        (an_event_that_was_not_sent, "1 events were never sent"),
        (a_state_that_is_not_the_last, f"{STATES} is wrong of 1 orders"),
        (a_missing_state, f"{STATES} is wrong of 1 orders"),
        (a_wrong_sum, "should be"),
        (an_order_unlike_its_last_event, "differs from its last event"),
        (a_version_too_many, "has version 99"),
        (a_missing_order, "does not exist"),
        (an_order_too_many, "should not exist"),
        (an_order_that_fell, "fell: its statuses were"),
    ],
    ids=lambda each: each.__name__ if callable(each) else "it",
)
def test_planted_defect_is_found(plant: Plant, said: str, sound: Dumps, world: World, items: list[Item]) -> None:
    assert said in found(plant(sound), world, items)


def test_wrong_sum_is_found_by_the_model_alone(sound: Dumps, world: World, items: list[Item]) -> None:
    """Order, events and states agree with each other there; so nothing else finds it."""
    assert [" order " in line for line in found(a_wrong_sum(sound), world, items).splitlines()] == [True]


@pytest.mark.parametrize("where", ["log", "deliveries", "ledger", "held", "events"])
def test_forged_id_is_found_in_every_dump(where: str, sound: Dumps, world: World, items: list[Item]) -> None:
    forged = next(item for item in items if item.forged)
    row = {**sound.ledger[0], "account": forged.account, "notification_id": forged.notify_id}
    first = sound.outbox[0]
    event = json.loads(first["value"])
    caused = {**event, "account": forged.account, "cause": {"notification_id": forged.notify_id}}
    planted = {
        "log": replace(sound, bodies={**sound.bodies, (0, 10**6): forged.body}),
        "deliveries": replace(sound, deliveries=[*sound.deliveries, {**row, "disposition": "applied"}]),
        "ledger": replace(sound, ledger=[*sound.ledger, row]),
        "held": replace(sound, held=[{**row, "disposition": "dead", "resolution": ""}]),
        "events": replace(sound, outbox=[{**first, "value": json.dumps(caused).encode()}, *sound.outbox[1:]]),
    }
    assert "forged or foreign" in found(planted[where], world, items)


def test_record_that_was_never_sent_is_found(sound: Dumps, world: World, items: list[Item]) -> None:
    planted = replace(sound, bodies={**sound.bodies, (0, 10**6): b"out of thin air"})
    assert "the log holds something that was never sent" in found(planted, world, items)


class _MadeUp:
    """Dumps that follow from the model: each first telling is applied and makes a version, each other a duplicate."""

    def __init__(self, world: World, items: Sequence[Item]) -> None:
        self._world = world
        self._items = items
        self._rows: dict[str, list[Row]] = defaultdict(list)
        self._bodies: dict[tuple[int, int], bytes] = {}
        self._ends = dict.fromkeys(range(PARTITIONS), 0)
        self._published: dict[str, list[Copy]] = {EVENTS: [], STATES: [], HELD: [], NOTED: []}

    def dumps(self) -> Dumps:
        finals = self._finals()
        versions: dict[tuple[str, str], int] = defaultdict(int)
        seen: set[tuple[str, str]] = set()
        for item in self._items:
            place = self._logged(item)
            first = (item.account, item.notify_id) not in seen
            seen.add((item.account, item.notify_id))
            row = self._delivery(item, place, "applied" if first else "duplicate")
            if first:
                self._rows["ledger"].append({**row, "value": item.body})
                named = (item.account, item.order)
                versions[named] += 1
                self._event(item, place[0], versions[named], finals[named])
        for (account, number), final in finals.items():
            row = {"account": account, "order_number": number, "version": versions[account, number], **final}
            self._rows["orders"].append({**row, "flags": " ".join(sorted(final["flags"]))})
        return Dumps(
            bodies=self._bodies,
            deliveries=self._rows["deliveries"],
            ledger=self._rows["ledger"],
            orders=self._rows["orders"],
            held=[],
            outbox=self._rows["outbox"],
            unsent=0,
            committed=self._ends,
            published=self._published,
        )

    def _finals(self) -> dict[tuple[str, str], model.Final]:
        finals = {}
        for account in ACCOUNTS:
            facts = {item.notify_id: judge.fact(item) for item in self._items if item.account == account}
            orders = model.final(facts.values(), judge.setting(self._world, account), {})
            finals.update({(account, number): final for number, final in orders.items()})
        return finals

    def _logged(self, item: Item) -> tuple[int, int]:
        partition = sum(item.order.encode()) % PARTITIONS
        place = (partition, self._ends[partition])
        self._ends[partition] += 1
        self._bodies[place] = item.body
        return place

    def _delivery(self, item: Item, place: tuple[int, int], disposition: str) -> Row:
        row = {
            "log_partition": place[0],
            "log_offset": place[1],
            "account": item.account,
            "notification_id": item.notify_id,
            "disposition": disposition,
            "reason": "changed" if disposition == "applied" else "same_id",
        }
        self._rows["deliveries"].append(row)
        return row

    def _event(self, item: Item, partition: int, version: int, final: model.Final) -> None:
        key = f"{item.account}:{item.order}".encode()
        told = {name: final[name] for name in judge.SHOWN} | {
            "flags": sorted(final["flags"]),
            "account": item.account,
            "order": item.order,
            "version": version,
            "cause": {"notification_id": item.notify_id},
        }
        number = len(self._rows["outbox"]) + 1
        id_, value = f"{item.account}:{item.order}:{version}", json.dumps(told).encode()
        self._rows["outbox"].append(
            {"number": number, "id": id_, "topic": EVENTS, "key": key, "value": value, "version": version}
        )
        copy = Copy(place=(partition, number), id=id_, key=key, value=value, headers=(("ce_id", id_.encode()),))
        self._published[EVENTS].append(copy)
        self._published[STATES].append(copy)
