"""`alipay-notify replay`: a stretch of the notification log once more. A dry run unless told otherwise."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy import exits
from deploy.cli import admin, terminal

if TYPE_CHECKING:
    from deploy.cluster.replay import Span
    from deploy.cluster.settings import ClusterSettings

TYPED_FROM = 1000  # records without a disposition, beyond which the number has to be typed

_HELP = """Bring a stretch of the notification log to its dispositions once more, from Kafka.

For an order store that was restored from a backup: the log still has what the store has lost. Records that have their
disposition are recognised and left alone, so a replay changes nothing that is right, and may be repeated.

It is a dry run: it says how many records there are, and how many of them have no disposition. With --yes they are
processed, at most so many a second; the workers send the events.

    alipay-notify replay --from 2026-11-20T00:00+08:00 --to 2026-11-21T00:00+08:00
    alipay-notify replay --from 36h --yes --why "store restored from Monday's backup"
"""
_EPILOG = "Exit codes: 0 done, or nothing to do; 1 failed; 2 wrong usage; 3 dry run, and records have no disposition."


def register(app: typer.Typer) -> None:
    """Adds the command to the program."""
    app.command("replay", help=_HELP, epilog=_EPILOG)(replay)


def replay(
    from_: Annotated[str, typer.Option("--from", metavar="TIME", help="36h ago, 7d, or an ISO time with a zone.")],
    to: Annotated[str, typer.Option("--to", metavar="TIME", help="The same; now, unless told.")] = "0s",
    rate: Annotated[int, typer.Option(min=1, max=20_000, help="Records a second.")] = 500,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    why: Annotated[str, typer.Option(help="Why; it is written down.")] = "",
    kafka: Annotated[str | None, typer.Option(envvar="ALIPAY_NOTIFY_KAFKA", help="Brokers to ask first.")] = None,
    postgres: Annotated[str | None, typer.Option(envvar="ALIPAY_NOTIFY_POSTGRES", help="The order store.")] = None,
    output: terminal.Output = "table",
) -> None:
    """Replays; the options stand above the environment."""
    import os

    from deploy.cli import launch
    from ingest.settings import BadSettings

    now = datetime.now(UTC)
    from_ms, to_ms = moment_ms(from_, now, "--from"), moment_ms(to, now, "--to")
    if from_ms >= to_ms:
        raise typer.BadParameter("the beginning has to lie before the end: --from, --to")
    if yes and not why:
        raise typer.BadParameter("a replay needs a reason that is written down: --why")
    launch.need("aiokafka", "asyncpg", "redis", extra="cluster")
    from deploy.cluster import settings, start_errors
    from deploy.cluster.replay import TooNarrow
    from deploy.start_errors import told
    from workers.errors import TooManyDeadLetters

    try:
        configured = settings.load(os.environ, kafka=kafka, postgres=postgres)
    except BadSettings as bad:
        launch.refuse("cannot replay as told", bad.faults, exits.WRONG_USAGE)
    try:
        done = asyncio.run(_replay(configured, from_ms, to_ms, rate=rate, yes=yes, why=why, output=output))
    except TooManyDeadLetters as error:
        looks = "they are held: look at `alipay-notify held list`, then replay again"
        launch.refuse("stopped the replay", [f"{error}: {looks}"], exits.FAILED)
    except (*start_errors.REFUSALS, TooNarrow) as error:
        launch.refuse("could not replay", told(error), exits.FAILED)
    raise typer.Exit(done)


def moment_ms(text: str, now: datetime, option: str) -> int:
    """Epoch milliseconds of `36h` (ago) or of an ISO time with a zone."""
    ago = re.fullmatch(r"(\d{1,6})(s|m|h|d)", text)
    if ago:
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[ago[2]]
        return int((now - timedelta(**{unit: int(ago[1])})).timestamp() * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither like 36h nor an ISO time", param_hint=option) from None
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no zone: Alipay's clock is {text}+08:00", param_hint=option)
    return int(moment.timestamp() * 1000)


async def _replay(
    settings: ClusterSettings, from_ms: int, to_ms: int, *, rate: int, yes: bool, why: str, output: str
) -> int:
    from deploy.cluster import connections
    from deploy.cluster import replay as cluster_replay
    from schemas import topics

    topic = topics.named(topics.NOTIFICATION, settings.topic_prefix)
    async with (
        cluster_replay.prepared(settings) as prepared,
        cluster_replay.reading(connections.kafka(settings), topic) as stretch,
    ):
        spans = await stretch.spans(prepared.store, from_ms=from_ms, to_ms=to_ms)
        missing = sum(span.unsettled for span in spans)
        if not yes:
            _show(spans, output, {"dry_run": True})
            cluster_replay.check_wide_enough(spans)
            return exits.FOUND_WRONG if missing else exits.DONE
        cluster_replay.check_wide_enough(spans)  # before it is written down that somebody replays
        if missing > TYPED_FROM and not _confirmed(missing):
            raise typer.Abort
        stretch_named = f"{topic} {from_ms}..{to_ms}"
        await prepared.store.note("replay-log", [stretch_named], by=admin.me(), why=why)
        with terminal.progress("replaying", sum(span.records for span in spans)) as advanced:
            await cluster_replay.replay(stretch, spans, prepared.process, rate=rate, advanced=advanced)
        _show(spans, output, {"dry_run": False, "results": prepared.results()})
        return exits.DONE


def _confirmed(count: int) -> bool:
    return bool(typer.prompt(f"{count} records have no disposition; type that number to go on", err=True) == str(count))


def _show(spans: list[Span], output: str, more: dict[str, Any]) -> None:
    told = {
        "records": sum(span.records for span in spans),
        "unsettled": sum(span.unsettled for span in spans),
        "partitions": [
            {"partition": span.partition, "first": span.first, "end": span.end, "unsettled": span.unsettled}
            for span in spans
        ],
        **more,
    }
    if output == "json":
        terminal.as_json(told)
        return
    terminal.table(
        "",
        ("partition", "from offset", "to offset", "records", "without a disposition"),
        [(span.partition, span.first, span.end - 1, span.records, span.unsettled) for span in spans],
    )
    terminal.line("Records", f"{told['records']}, of them without a disposition: {told['unsettled']}")
    if more["dry_run"]:
        typer.echo("nothing was done: --yes does it", err=True)
    for result, count in sorted(more.get("results", {}).items()):
        terminal.line(result, count)
