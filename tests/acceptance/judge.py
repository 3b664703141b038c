"""Judges a run from outside: what the sender saw, against the files the engine left, against the independent model.

Only SQL and the model are used, nothing of the product: a judge that shared code with the accused would share its
mistakes. The engine must be stopped.
"""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from deploy.sandbox.corpus import Item
from deploy.sandbox.world import World
from tests import model

TERMINAL = {"applied", "duplicate", "stale", "quarantined", "dead"}
SHOWN = ("status", "closed_because", "trade", "amount_minor", "currency", "refunded_minor")


class Files:
    """What a stopped engine left behind."""

    def __init__(self, data_dir: Path) -> None:
        with sqlite3.connect(f"file:{data_dir / 'journal.sqlite3'}?mode=ro", uri=True) as journal:
            self.journal_check = journal.execute("PRAGMA quick_check").fetchone()[0]
            self.bodies: dict[int, bytes] = dict(journal.execute("SELECT log_offset, value FROM records"))
        with sqlite3.connect(f"file:{data_dir / 'orders.sqlite3'}?mode=ro", uri=True) as store:
            store.row_factory = sqlite3.Row
            self.store_check = store.execute("PRAGMA quick_check").fetchone()[0]
            self.deliveries = store.execute("SELECT * FROM deliveries").fetchall()
            self.orders = store.execute("SELECT * FROM orders").fetchall()
            self.events = store.execute("SELECT * FROM outbox WHERE version IS NOT NULL ORDER BY number").fetchall()
            self.unsent = store.execute("SELECT count(*) FROM outbox WHERE sent_at_ms IS NULL").fetchone()[0]
            self.cursor = store.execute("SELECT log_offset FROM cursors").fetchone()[0]
        journal.close()
        store.close()


def verdict(
    files: Files,
    world: World,
    *,
    sent: Sequence[Item],
    acknowledged: Sequence[Item],
    registered: Mapping[str, Mapping[str, model.Registration]],
) -> list[str]:
    """Every violation found; an empty list is the only good answer."""
    faults = [f"journal: {files.journal_check}"] if files.journal_check != "ok" else []
    faults += [f"store: {files.store_check}"] if files.store_check != "ok" else []
    return [
        *faults,
        *_durable(files, sent, acknowledged),
        *_conserved(files),
        *_versions(files),
        *_as_the_model(files, world, sent, registered),
    ]


def _durable(files: Files, sent: Sequence[Item], acknowledged: Sequence[Item]) -> Iterable[str]:
    logged = set(files.bodies.values())
    missing = [item for item in acknowledged if item.body not in logged]
    if missing:
        yield f"{len(missing)} acknowledged notifications are not in the journal, e.g. {missing[0].notify_id}"
    refused = {item.body for item in sent if item.refused}
    if logged & refused:
        yield f"{len(logged & refused)} forged or foreign notifications are in the journal"
    if logged - {item.body for item in sent}:
        yield "the journal holds something that nobody sent"


def _conserved(files: Files) -> Iterable[str]:
    """Each record in exactly one disposition, and each disposition has its record."""
    places = Counter(row["log_offset"] for row in files.deliveries)
    if set(places) != set(files.bodies) or any(count != 1 for count in places.values()):
        yield f"{len(files.bodies)} records, {len(places)} with a disposition"
    others = {row["disposition"] for row in files.deliveries} - TERMINAL
    if others:
        yield f"records still {', '.join(sorted(others))}"
    if files.cursor != max(files.bodies):
        yield f"the cursor stands at {files.cursor}, the journal ends at {max(files.bodies)}"
    effects = Counter(
        (row["account"], row["notification_id"]) for row in files.deliveries if row["disposition"] == "applied"
    )
    twice = [name for name, count in effects.items() if count > 1]
    if twice:
        yield f"{len(twice)} notifications were applied more than once, e.g. {twice[0]}"
    if files.unsent:
        yield f"{files.unsent} events were never sent"


def _versions(files: Files) -> Iterable[str]:
    """One event per version, 1..n, in that order, and the order's own version is the last of them."""
    versions: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in files.events:
        told = json.loads(event["value"])
        versions[told["account"], told["order"]].append(told["version"])
    for order in files.orders:
        seen = versions.pop((order["account"], order["order_number"]), [])
        if seen != list(range(1, order["version"] + 1)):
            yield f"order {order['order_number']} has version {order['version']} and events {seen}"
    if versions:
        yield f"{len(versions)} orders have events and do not exist"


def _as_the_model(
    files: Files,
    world: World,
    sent: Sequence[Item],
    registered: Mapping[str, Mapping[str, model.Registration]],
) -> Iterable[str]:
    logged = set(files.bodies.values())
    facts: dict[str, dict[str, model.Fact]] = defaultdict(dict)
    for item in sent:
        if item.body in logged:
            facts[item.account][item.notify_id] = _fact(item)
    kept = {(row["account"], row["order_number"]): row for row in files.orders}
    for name in facts.keys() | registered.keys():
        truth = model.final(facts[name].values(), _setting(world, name), registered.get(name, {}))
        for number, final in truth.items():
            row = kept.pop((name, number), None)
            if row is None:
                yield f"{name} order {number} does not exist"
                continue
            shown = {field: row[field] for field in SHOWN} | {"flags": set(row["flags"].split())}
            if shown != {field: final[field] for field in shown}:
                yield f"{name} order {number} is {shown}, should be {final}"
    if kept:
        yield f"{len(kept)} orders should not exist, e.g. {next(iter(kept))}"


def _fact(item: Item) -> dict[str, Any]:
    if item.body.startswith(b"{"):
        return {"id": item.notify_id, "message": json.loads(item.body)}
    text = item.body.decode("ascii")
    charset = dict(parse_qsl(text, errors="replace")).get("charset", "utf-8")
    return {"id": item.notify_id, "fields": dict(parse_qsl(text, encoding=charset, errors="replace"))}


def _setting(world: World, name: str) -> dict[str, Any]:
    identity = world.account(name).identity
    families = {"in-app": "mapi", "website": "mapi", "open": "openapi", "antom": "antom"}
    return {
        "family": families[identity.product],
        "currency": identity.currency,
        "orders": "registered" if identity.registered else "any",
    }
