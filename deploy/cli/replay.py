"""`alipay-notify replay`: process part of the notification log again. A dry run without `--yes`."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy import exits
from deploy.cli import admin, options, terminal

if TYPE_CHECKING:
    from deploy.cluster.replay import Span
    from deploy.cluster.settings import ClusterSettings

CONFIRM_ABOVE = 1000  # unprocessed records above which the operator has to type their number

_HELP = """Process part of the notification log again, from Kafka.

Use it after restoring the order store from a backup: the log still has the notifications that the store has lost.
Records that are already processed are recognised and skipped, so a replay may be repeated.

Without --yes it is a dry run that counts the records, and those that are not processed. With --yes it processes them,
at most --rate a second; the workers publish the events.

    alipay-notify replay --from 36h
    alipay-notify replay --from 36h --yes --why "store restored from backup"
    alipay-notify replay --from 2026-11-20T00:00+08:00 --to 24h

To retry held notifications, use `alipay-notify held replay`.
"""
_EPILOG = "Exit codes: 0 done, or nothing to do; 1 failed; 2 wrong usage; 3 dry run that found unprocessed records."


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("replay", help=_HELP, epilog=_EPILOG)(replay)


def replay(
    from_: Annotated[str, typer.Option("--from", metavar="TIME", help="36h or 7d ago, or an ISO time with a zone.")],
    to: Annotated[str, typer.Option("--to", metavar="TIME", help="End, in the same form; 0s is now.")] = "0s",
    rate: Annotated[int, typer.Option(min=1, max=20_000, help="Largest number of records per second.")] = 500,
    yes: Annotated[bool, typer.Option("--yes", help="Process the records; without it, a dry run.")] = False,
    why: admin.Why = "",
    kafka: options.Kafka = None,
    postgres: options.Postgres = None,
    output: terminal.Output = "table",
) -> None:
    """Replay the log; the options override the environment."""
    import os

    from deploy.cli import launch
    from ingest.settings import BadSettings

    now = datetime.now(UTC)
    from_ms, to_ms = moment_ms(from_, now, "--from"), moment_ms(to, now, "--to")
    if from_ms >= to_ms:
        raise typer.BadParameter("--from must be earlier than --to", param_hint="--from")
    if yes and not why:
        raise typer.BadParameter("--yes needs a reason for the audit record", param_hint="--why")
    launch.need("aiokafka", "asyncpg", "redis", extra="cluster")
    from deploy.cluster import settings, start_errors
    from deploy.cluster.replay import TooNarrow
    from deploy.start_errors import fault_lines
    from workers.errors import TooManyDeadLetters

    try:
        configured = settings.load(os.environ, kafka=kafka, postgres=postgres)
    except BadSettings as bad:
        launch.refuse("cannot replay the log with these settings", options.with_hint(bad.faults), exits.WRONG_USAGE)
    try:
        done = asyncio.run(_replay(configured, from_ms, to_ms, rate=rate, yes=yes, why=why, output=output))
    except TooManyDeadLetters as error:
        advice = "they are held; check `alipay-notify held list`, then run the replay again"
        launch.refuse("stopped the replay", [f"{error}: {advice}"], exits.FAILED)
    except settings.UnreadableFile as error:
        launch.refuse("has wrong settings", options.with_hint([str(error)]), exits.WRONG_USAGE)
    except (*start_errors.REFUSALS, TooNarrow) as error:
        launch.refuse("could not replay the log", fault_lines(error), exits.FAILED)
    raise typer.Exit(done)


def moment_ms(text: str, now: datetime, option: str) -> int:
    """Return the epoch milliseconds of `36h` (ago) or of an ISO time with a zone."""
    ago = re.fullmatch(r"(\d{1,6})(s|m|h|d)", text)
    if ago:
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[ago[2]]
        return int((now - timedelta(**{unit: int(ago[1])})).timestamp() * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a time span like 36h nor an ISO time", param_hint=option
        ) from None
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no time zone; in Alipay's time it is {text}+08:00", param_hint=option)
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
        cluster_replay.log_reader(connections.kafka(settings), topic) as stretch,
    ):
        spans = await stretch.spans(prepared.store, from_ms=from_ms, to_ms=to_ms)
        missing = sum(span.unsettled for span in spans)
        if not yes:
            _show(spans, output, {"dry_run": True})
            cluster_replay.check_wide_enough(spans)
            return exits.FOUND_WRONG if missing else exits.DONE
        cluster_replay.check_wide_enough(spans)  # before the audit row is written
        if missing > CONFIRM_ABOVE:
            terminal.confirm(missing, f"{missing:,} records are not processed")
        subject = f"{topic} {from_ms}..{to_ms}"
        await prepared.store.note("replay-log", [subject], by=admin.user(), why=why)
        with terminal.progress("replaying", sum(span.records for span in spans)) as advanced:
            await cluster_replay.replay(stretch, spans, prepared.process, rate=rate, advanced=advanced)
        _show(spans, output, {"dry_run": False, "results": prepared.results()})
        return exits.DONE


def _show(spans: list[Span], output: str, more: dict[str, Any]) -> None:
    summary = {
        "records": sum(span.records for span in spans),
        "unsettled": sum(span.unsettled for span in spans),
        "partitions": [
            {"partition": span.partition, "first": span.first, "end": span.end, "unsettled": span.unsettled}
            for span in spans
        ],
        **more,
    }
    if output == "json":
        terminal.as_json(summary)
        return
    terminal.table(
        "",
        ("partition", "from offset", "to offset", "records", "unprocessed"),
        [(span.partition, span.first, span.end - 1, span.records, span.unsettled) for span in spans],
    )
    terminal.line("Records", f"{summary['records']}, of which {summary['unsettled']} are not processed")
    if more["dry_run"]:
        terminal.note("Dry run, nothing was done. --yes processes the records.")
    for result, count in sorted(more.get("results", {}).items()):
        terminal.line(result, count)
