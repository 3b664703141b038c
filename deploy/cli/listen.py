"""`alipay-notify listen`: show order events as they come, and pass them on to an address.

From the admin API it reads the outbox, on both engines; from Kafka, the topic. It joins no consumer group.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

import typer

from deploy.cli import admin, launch, options, terminal
from deploy.cli.admin import AdminApiError, AdminClient

if TYPE_CHECKING:
    from deploy.event_output import Event

    Read = Callable[[], list[Event]]  # the events since the last call; none after a while without any

AGAIN_S = 1.0
WAIT_S = 8  # less than the client's time-out

_HELP = """Show order events as they come.

It begins with the next event, or with --from-start the oldest that is kept. Without --kafka it asks the admin API,
which both engines have; with it, or with ALIPAY_NOTIFY_KAFKA, it reads the topic of order events.

A line is for people; json prints each order after its change, event the whole CloudEvent, one on each line.
--forward-to posts each event once, as a CloudEvent over HTTP, and prints the answer to stderr. Events that fail are not
sent again, so this is for development and for a look beside an old handler.

    alipay-notify listen
    alipay-notify listen --type paid --type refunded --account shop-sg
    alipay-notify listen --forward-to http://127.0.0.1:3000/alipay
    alipay-notify listen --kafka k1:9092 --from-start --output event
    alipay-notify listen --limit 1 --output json | jq .status
"""
_EPILOG = "Exit codes: 0 stopped by Ctrl-C, or --limit reached, 1 the events cannot be read, 2 wrong usage."

Shown = Annotated[
    Literal["line", "json", "event"], typer.Option("--output", help="A line, the order as JSON, or the CloudEvent.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("listen", help=_HELP, epilog=_EPILOG)(listen)


def listen(
    types: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Such as paid; may be repeated [all].")
    ] = None,
    accounts: Annotated[
        list[str] | None, typer.Option("--account", metavar="NAME", help="May be repeated [all].")
    ] = None,
    forward_to: Annotated[str | None, typer.Option(metavar="URL", help="Post each event there, once.")] = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with the oldest event.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="End after this many events.")] = None,
    output: Shown = "line",
    kafka: options.Kafka = None,
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
) -> None:
    """Show the events until Ctrl-C."""
    from deploy import event_output

    if forward_to is not None and not _is_address(forward_to):
        raise typer.BadParameter("give a complete address: http://… or https://…", param_hint="--forward-to")
    is_wanted = _wanted(_checked_types(types or ()), accounts)
    count = 0
    try:
        with _topic(kafka, from_start) if kafka else _feed(AdminClient(url, token=token), from_start) as read:
            while True:
                for event in filter(is_wanted, read()):
                    _print(event, output)
                    if forward_to is not None:
                        outcome = event_output.forward(event, forward_to)
                        terminal.note(f"{event['id']} → {outcome}")
                    count += 1
                    if count == limit:
                        return
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        # Whoever read the output has enough. Python would complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _checked_types(types: Sequence[str]) -> list[str]:
    """Return the types as `event_output.is_wanted` has them: `paid`, also for `order.paid` as in callbacks.toml.

    Raises:
        typer.BadParameter: no event has one of them, which would show nothing for ever; a whole name may be any.
    """
    from workers.callbacks import endpoints

    known = sorted(each.removeprefix("order.") for each in endpoints.TYPES)
    named = [short if "." not in (short := each.removeprefix("order.")) else each for each in types]
    if unknown := [each for each in named if "." not in each and each not in known]:
        there = ", ".join(known)
        raise typer.BadParameter(f"no event has the type {unknown[0]}; there are {there}", param_hint="--type")
    return named


def _wanted(types: list[str], accounts: list[str] | None) -> Callable[[Event], bool]:
    from deploy import event_output

    chosen_types, chosen_accounts = frozenset(types), frozenset(accounts or ())
    return lambda event: event_output.is_wanted(event, types=chosen_types, accounts=chosen_accounts)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _print(event: Event, output: str) -> None:
    from deploy import event_output

    if output == "line":
        text = terminal.plain(event_output.line(event))
        if sys.stdout.isatty():
            at, _, rest = text.partition("  ")
            terminal.line(at, rest)
            return
    else:
        shown = event["data"] if output == "json" else event
        text = json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def _feed(api: AdminClient, from_start: bool) -> Iterator[Read]:
    """Provide the events of the admin API. While a server that has answered is away, ask again."""
    from deploy import event_output

    try:
        after = 0 if from_start else int(api.get("events", after="newest", limit=1)["next"])
    except AdminApiError as error:
        admin.fail(error)
    is_away = False

    def read() -> list[Event]:
        nonlocal after, is_away
        try:
            answer = api.get("events", after=after, wait=f"{WAIT_S}s")
        except AdminApiError as error:
            if 0 < error.status < 500:
                admin.fail(error)
            if not is_away:
                terminal.note(f"{error} Asking again.")
            is_away = True
            time.sleep(AGAIN_S)
            return []
        after, is_away = int(answer["next"]), False
        return [event_output.of_feed(each) for each in answer["events"]]

    yield read


@contextmanager
def _topic(kafka: str, from_start: bool) -> Iterator[Read]:
    """Provide the events of the topic."""
    launch.need("aiokafka", extra="cluster")
    import asyncio

    from aiokafka.errors import KafkaError

    from deploy import event_output
    from deploy.cluster import client_log, connections
    from deploy.cluster.settings import UnreadableFile
    from deploy.load import topic as order_events
    from deploy.load.api import UnreadableAnswer
    from schemas import topics

    settings = options.load_settings(kafka=kafka)
    name = topics.named(topics.ORDER_EVENT, settings.topic_prefix)
    with client_log.silenced(), asyncio.Runner() as runner:
        try:
            connection = connections.kafka(settings)
            begin = runner.run((order_events.oldest if from_start else order_events.mark)(connection, name))
            feed = order_events.feed(connection, name, begin)
            reader = runner.run(feed.__aenter__())
        except (UnreadableAnswer, UnreadableFile) as error:
            terminal.fail(error)

        def read() -> list[Event]:
            found = []
            try:
                records = runner.run(reader.records())
            except (KafkaError, OSError) as error:
                terminal.fail(str(error) or type(error).__name__)
            for record in records:
                try:
                    found.append(event_output.of_record(record.headers, record.value))
                except event_output.NotAnOrderEvent as error:
                    terminal.note(f"{record.partition}:{record.offset}: {error}")
            return found

        try:
            yield read
        finally:
            runner.run(feed.__aexit__(None, None, None))
