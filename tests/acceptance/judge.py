"""Judges a run from outside, by the sender's history, the dumps of the engine and the independent model.

Nothing of the product is used, only the model and the sandbox's list of sent items, because a judge that shared code
with the product would share its mistakes. The engine must have stopped before it is dumped.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from deploy.sandbox.world import World
from tests.acceptance.dumps import EVENTS, HELD, NOTED, STATES, Copy, Dumps, Place, Row
from tests.acceptance.sending import SILENT, History
from tests.support import flood_lives, model
from tests.support.flood_corpus import Item

TERMINAL = {"applied", "duplicate", "stale", "quarantined", "dead"}
WITHOUT_EFFECT = {"duplicate", "stale"}
SHOWN = ("status", "closed_because", "trade", "amount_minor", "currency", "refunded_minor")
RANKS = {
    ("WAITING", None): 0,
    ("CLOSED", "expired"): 1,
    ("CLOSED", "failed"): 1,
    ("PAID", None): 2,
    ("FINISHED", None): 3,
    ("CLOSED", "refunded"): 4,
}

Named = tuple[str, str]  # account, order
Registered = Mapping[str, Mapping[str, model.Registration]]
Story = Mapping[Named, Sequence[tuple[str, dict[str, Any]]]]  # of each order, its events by id, in the outbox's order


def verdict(
    dumps: Dumps, world: World, *, sent: Sequence[Item], acknowledged: Sequence[Item], registered: Registered
) -> list[str]:
    """Every violation found; an empty list is the only good answer."""
    by_body = {item.body: item for item in sent}
    told = _story(dumps)
    return [
        *dumps.damage,
        *_durable(dumps, by_body, acknowledged),
        *_without_forgeries(dumps, told, sent),
        *_conserved(dumps, by_body),
        *_once(dumps, by_body),
        *_held_whole(dumps),
        *_offsets(dumps),
        *_versions(dumps, told),
        *_published(dumps),
        *_noted(dumps, by_body),
        *_as_the_model(dumps, world, sent, registered),
    ]


def unmet(history: History, dumps: Dumps, *, faults: Sequence[str]) -> list[str]:
    """Situations that the run should have met, and did not."""
    dispositions = {row["disposition"] for row in dumps.deliveries}
    again = any(set(tried[:-1]) & {503, SILENT} and tried[-1] == 200 for tried in history.attempts.values())
    met = {
        "every fault began": history.began == [*faults],
        "every fault ended": history.ended == [*faults],
        "a notification was acknowledged after a 503 or silence": again,
        **{f"one was {each}": each in dispositions for each in ("applied", "duplicate", "stale", "quarantined")},
        "one was parked, and applied when its time came": any(row["resolution"] == "applied" for row in dumps.held),
    }
    return [what for what, is_so in met.items() if not is_so]


def _durable(dumps: Dumps, by_body: Mapping[bytes, Item], acknowledged: Sequence[Item]) -> Iterator[str]:
    """I1: every acknowledged record is in the log, and nothing that was never sent."""
    logged = set(dumps.bodies.values())
    missing = [item for item in acknowledged if item.body not in logged]
    if missing:
        yield f"{len(missing)} acknowledged notifications are not in the log, e.g. {missing[0].notify_id}"
    if logged - by_body.keys():
        yield "the log holds something that was never sent"


def _without_forgeries(dumps: Dumps, told: Story, sent: Sequence[Item]) -> Iterator[str]:
    """I8: what had to be refused is nowhere."""
    refused = {item.body for item in sent if item.refused}
    logged = refused.intersection(dumps.bodies.values())
    if logged:
        yield f"{len(logged)} forged or foreign notifications are in the log"
    ids = {(item.account, item.notify_id) for item in sent if item.refused}
    tables = {"deliveries": dumps.deliveries, "ledger": dumps.ledger, "held": dumps.held}
    for table, rows in tables.items():
        found = ids.intersection((row["account"], row["notification_id"]) for row in rows)
        if found:
            yield f"{len(found)} forged or foreign ids are in {table}, e.g. {min(found)}"
    causes = {(named[0], _cause(event)) for named, events in told.items() for _, event in events}
    if ids & causes:
        yield f"{len(ids & causes)} events come of forged or foreign notifications, e.g. {min(ids & causes)}"


def _cause(event: Mapping[str, Any]) -> str:
    """The id of the notification that an event came from; empty for the merchant's own registration."""
    return str(event["cause"]["notification_id"]) if event["cause"] else ""


def _conserved(dumps: Dumps, by_body: Mapping[bytes, Item]) -> Iterator[str]:
    """I2: each record in exactly one disposition, each disposition with its record, and about the same notification."""
    counts = Counter(_place(row) for row in dumps.deliveries)
    without = dumps.bodies.keys() - counts.keys()
    if without:
        yield f"{len(without)} of {len(dumps.bodies)} records have no disposition, e.g. {min(without)}"
    orphans = counts.keys() - dumps.bodies.keys()
    if orphans:
        yield f"{len(orphans)} dispositions have no record, e.g. {min(orphans)}"
    twice = [place for place, count in counts.items() if count > 1]
    if twice:
        yield f"{len(twice)} records have more than one disposition, e.g. {min(twice)}"
    others = {row["disposition"] for row in dumps.deliveries} - TERMINAL
    if others:
        yield f"records still {', '.join(sorted(others))}"
    for row in dumps.deliveries:
        item = by_body.get(dumps.bodies.get(_place(row), b""))
        if item is not None and (row["account"], row["notification_id"]) != (item.account, item.notify_id):
            yield f"the disposition at {_place(row)} is {row['notification_id']}'s, the record {item.notify_id}'s"
            return


def _once(dumps: Dumps, by_body: Mapping[bytes, Item]) -> Iterator[str]:
    """I2, I3: of the records of one notification at most one has an effect, and the ledger has each of them once."""
    effects = Counter(
        (row["account"], row["notification_id"]) for row in dumps.deliveries if row["disposition"] not in WITHOUT_EFFECT
    )
    twice = [name for name, count in effects.items() if count > 1]
    if twice:
        yield f"{len(twice)} notifications had an effect more than once, e.g. {twice[0]}"
    entered = Counter((row["account"], row["notification_id"]) for row in dumps.ledger)
    notification = {(item.account, item.notify_id) for body in dumps.bodies.values() if (item := by_body.get(body))}
    if entered.keys() ^ notification or any(count > 1 for count in entered.values()):
        yield f"{len(notification)} notifications in the log, {entered.total()} rows in the ledger for {len(entered)}"
    strange = [row["notification_id"] for row in dumps.ledger if dumps.bodies.get(_place(row)) != row["value"]]
    if strange:
        yield f"{len(strange)} rows of the ledger have other bytes than the log, e.g. {strange[0]}"


def _held_whole(dumps: Dumps) -> Iterator[str]:
    """I14: a held row has the signed bytes, and the same disposition as its record."""
    ends = {_place(row): row["disposition"] for row in dumps.deliveries}
    for row in dumps.held:
        if dumps.bodies.get(_place(row)) != row["value"]:
            yield f"the held notification at {_place(row)} has other bytes than the log"
        if (row["resolution"] or row["disposition"]) != ends.get(_place(row)):
            yield f"the held notification at {_place(row)} is {row['disposition']}, its record {ends.get(_place(row))}"


def _offsets(dumps: Dumps) -> Iterator[str]:
    """I7: every committed record has its disposition; and once all is quiet, every record is committed."""
    settled = {_place(row) for row in dumps.deliveries}
    below = [place for place in dumps.bodies if place[1] < dumps.committed.get(place[0], 0)]
    early = [place for place in below if place not in settled]
    if early:
        yield f"{len(early)} records below a committed offset have no disposition, e.g. {min(early)}"
    if len(below) < len(dumps.bodies):
        yield f"{len(dumps.bodies) - len(below)} records lie behind the committed offsets {dict(dumps.committed)}"


def _story(dumps: Dumps) -> Story:
    told: dict[Named, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for row in dumps.outbox:
        if row["topic"] == EVENTS:
            event = json.loads(row["value"])
            told[event["account"], event["order"]].append((row["id"], event))
    return told


def _versions(dumps: Dumps, told: Story) -> Iterator[str]:
    """I5: one event per version, 1..n, in that order, never falling in rank; the last one equals the order."""
    left = dict(told)
    for row in dumps.orders:
        events = [event for _, event in left.pop((row["account"], row["order_number"]), ())]
        seen = [event["version"] for event in events]
        if seen != list(range(1, row["version"] + 1)):
            yield f"order {row['order_number']} has version {row['version']} and events {seen}"
        ranks = [RANKS[event["status"], event["closed_because"]] for event in events]
        if ranks != sorted(ranks):
            yield f"order {row['order_number']} fell: its statuses were {[event['status'] for event in events]}"
        if events and _shown(events[-1], events[-1]["flags"]) != _shown(row, row["flags"].split()):
            yield f"order {row['order_number']} differs from its last event"
    if left:
        yield f"{len(left)} orders have events and do not exist, e.g. {next(iter(left))}"


def _published(dumps: Dumps) -> Iterator[str]:
    """I6: consumers see every event, under one id the same bytes, and each order's versions rise when first seen."""
    if dumps.unsent:
        yield f"{dumps.unsent} events were never sent"
    for topic in (EVENTS, HELD, NOTED):
        yield from _complete(
            topic, dumps.published.get(topic, ()), [row for row in dumps.outbox if row["topic"] == topic]
        )
    yield from _in_order(dumps.published[EVENTS])
    if STATES in dumps.published:
        yield from _latest(dumps.published[STATES], dumps)


def _complete(topic: str, copies: Sequence[Copy], outbox: Sequence[Row]) -> Iterator[str]:
    written = {row["id"]: (row["key"], row["value"]) for row in outbox}
    missing = written.keys() - {copy.id for copy in copies}
    if missing:
        yield f"{topic} lacks {len(missing)} of {len(written)} events, e.g. {min(missing)}"
    strange = [copy.id for copy in copies if written.get(copy.id) != (copy.key, copy.value)]
    if strange:
        yield f"{topic} has {len(strange)} events that are not as they were written, e.g. {strange[0]}"
    first: dict[str, Copy] = {}
    for copy in copies:
        seen = first.setdefault(copy.id, copy)
        if (copy.value, copy.headers, copy.place[0]) != (seen.value, seen.headers, seen.place[0]):
            yield f"{topic} has two events with the id {copy.id}"


def _in_order(copies: Sequence[Copy]) -> Iterator[str]:
    """All copies of one order lie in one partition, so the order of places is the order in which they are read."""
    last: dict[bytes, int] = defaultdict(int)
    partition: dict[bytes, int] = {}
    for copy in copies:
        version = int(copy.id.rpartition(":")[2])
        if version > last[copy.key] + 1:
            yield f"{copy.id} is read before version {last[copy.key] + 1} of its order"
        last[copy.key] = max(last[copy.key], version)
        if partition.setdefault(copy.key, copy.place[0]) != copy.place[0]:
            yield f"the events of {copy.key!r} lie in two partitions"


def _latest(copies: Sequence[Copy], dumps: Dumps) -> Iterator[str]:
    """The compacted twin ends with what each order is."""
    written = {row["id"]: (row["key"], row["value"]) for row in dumps.outbox if row["topic"] == EVENTS}
    strange = [copy.id for copy in copies if written.get(copy.id) != (copy.key, copy.value)]
    if strange:
        yield f"{STATES} has {len(strange)} states that are not as they were written, e.g. {strange[0]}"
    last = {copy.key: copy.id for copy in copies}
    due = {
        f"{row['account']}:{row['order_number']}".encode(): f"{row['account']}:{row['order_number']}:{row['version']}"
        for row in dumps.orders
        if row["version"]
    }
    wrong = [key for key in due.keys() | last.keys() if due.get(key) != last.get(key)]
    if wrong:
        key = min(wrong)
        yield f"{STATES} is wrong of {len(wrong)} orders, e.g. it ends with {last.get(key)}, and not {due.get(key)}"


def _noted(dumps: Dumps, by_body: Mapping[bytes, Item]) -> Iterator[str]:
    """Whatever moves no order is noted, and each noted notification has one notice; no other has one."""
    logged = [item for body in dumps.bodies.values() if (item := by_body.get(body)) is not None]
    unmoving = {(item.account, item.notify_id) for item in logged if item.facts.kind in flood_lives.UNMOVING}
    noted = {(row["account"], row["notification_id"]) for row in dumps.deliveries if row["reason"] == "noted"}
    if unmoving - noted:
        yield f"{len(unmoving - noted)} notifications that move no order are not noted, e.g. {min(unmoving - noted)}"
    found = Counter(row["id"] for row in dumps.outbox if row["topic"] == NOTED)
    wrong = {f"noted:{account}:{id_}" for account, id_ in noted} ^ found.keys()
    wrong |= {id_ for id_, count in found.items() if count > 1}
    if wrong:
        yield f"{len(wrong)} notices of noted notifications are missing, doubled or strange, e.g. {min(wrong)}"


def _as_the_model(dumps: Dumps, world: World, sent: Sequence[Item], registered: Registered) -> Iterator[str]:
    """I3, I4: every order equals the model's result from its set of notifications, to the minor unit."""
    logged = set(dumps.bodies.values())
    facts: dict[str, dict[str, model.Fact]] = defaultdict(dict)
    for item in sent:
        if item.body in logged and not item.refused and not item.ambiguous:
            facts[item.account][item.notify_id] = fact(item)
    kept = {(row["account"], row["order_number"]): row for row in dumps.orders}
    for name in facts.keys() | registered.keys():
        truth = model.final(facts[name].values(), setting(world, name), registered.get(name, {}))
        for number, final in truth.items():
            row = kept.pop((name, number), None)
            if row is None:
                yield f"{name} order {number} does not exist"
            elif (shown := _shown(row, row["flags"].split())) != _shown(final, final["flags"]):
                yield f"{name} order {number} is {shown}, should be {final}"
    if kept:
        yield f"{len(kept)} orders should not exist, e.g. {next(iter(kept))}"


def _shown(order: Mapping[str, Any], flags: Iterable[str]) -> dict[str, Any]:
    return {name: order[name] for name in SHOWN} | {"flags": set(flags)}


def _place(row: Row) -> Place:
    return row["log_partition"], row["log_offset"]


def fact(item: Item) -> dict[str, Any]:
    """The notification as the model takes it."""
    if item.body.startswith(b"{"):
        return {"id": item.notify_id, "message": json.loads(item.body)}
    text = item.body.decode("ascii")
    charset = dict(parse_qsl(text, errors="replace")).get("charset", "utf-8")
    return {"id": item.notify_id, "fields": dict(parse_qsl(text, encoding=charset, errors="replace"))}


def setting(world: World, name: str) -> dict[str, Any]:
    """The account as the model knows it."""
    identity = world.account(name).identity
    families = {"in-app": "mapi", "website": "mapi", "open": "openapi", "antom": "antom"}
    return {
        "family": families[identity.product],
        "currency": identity.currency,
        "orders": "registered" if identity.registered else "any",
        "capture": "manual" if identity.manual_capture else "automatic",
        "currencies": identity.currencies,
    }
