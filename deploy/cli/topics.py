"""`alipay-notify topics`: compare the cluster's topics with the expected ones, and correct them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy import exits
from deploy.cli import launch, options, terminal

if TYPE_CHECKING:
    from deploy.cluster.settings import ClusterSettings
    from deploy.cluster.topic_diff import ApplyReport

_PLAN_HELP = """Show how the cluster's topics differ from the expected ones.

It changes nothing.

    alipay-notify topics plan --kafka k1:9092,k2:9092
    alipay-notify topics plan --kafka localhost:9092 --development
    alipay-notify topics plan --output json
"""
_APPLY_HELP = """Create and correct the cluster's topics.

It creates topics, adds partitions and sets configurations. Without --yes it is a dry run. It never deletes a topic,
removes partitions or shortens retention, and leaves larger values as they are. Replicas of an existing topic have to be
changed by hand; the output shows how.

Only new records use added partitions. Records of one order may then be in two partitions and arrive out of order, which
the workers can process.

    alipay-notify topics apply --kafka k1:9092,k2:9092
    alipay-notify topics apply --kafka k1:9092,k2:9092 --yes
    alipay-notify topics apply --kafka localhost:9092 --development --yes
"""
_EPILOG_PLAN = "Exit codes: 0 no difference, 1 failed, 2 wrong usage, 3 there are differences."
_EPILOG_APPLY = (
    "Exit codes: 0 all topics are as they should be, 1 failed, 2 wrong usage, "
    "3 a dry run with differences, or changes remain to be done by hand."
)

Prefix = Annotated[
    str | None,
    typer.Option(
        "--topic-prefix", envvar="ALIPAY_NOTIFY_TOPIC_PREFIX", help="First part of the topics' names [payments]."
    ),
]
Development = Annotated[
    bool, typer.Option("--development", help="Accept one replica: for one broker on a laptop, not for payments.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help="Compare and correct the cluster's Kafka topics.", no_args_is_help=True)
    group.command("plan", help=_PLAN_HELP, epilog=_EPILOG_PLAN)(plan)
    group.command("apply", help=_APPLY_HELP, epilog=_EPILOG_APPLY)(apply)
    app.add_typer(group, name="topics")


def plan(
    kafka: options.Kafka = None,
    topic_prefix: Prefix = None,
    development: Development = False,
    output: terminal.Output = "table",
) -> None:
    """Show the differences; exit with 3 if there are any."""
    reports = _reports(kafka, topic_prefix, development=development, yes=False)
    _show(reports, output)
    raise typer.Exit(exits.FOUND_WRONG if reports else exits.DONE)


def apply(
    kafka: options.Kafka = None,
    topic_prefix: Prefix = None,
    development: Development = False,
    yes: Annotated[bool, typer.Option("--yes", help="Apply the changes; without it, a dry run.")] = False,
    output: terminal.Output = "table",
) -> None:
    """Correct the differences and show the outcome of each."""
    reports = _reports(kafka, topic_prefix, development=development, yes=yes)
    _show(reports, output)
    if not yes and output == "table" and any(each.outcome.value == "would change" for each in reports):
        terminal.note("Dry run. Nothing was changed; --yes applies the changes.")
    raise typer.Exit(_code({each.outcome.value for each in reports}))


def _reports(kafka: str | None, prefix: str | None, *, development: bool, yes: bool) -> list[ApplyReport]:
    """Return each difference with its outcome."""
    launch.need("aiokafka", "yaml", extra="cluster")
    from deploy.cluster.settings import UnreadableFile
    from deploy.cluster.topic_check import NotSeen

    settings = options.load_settings(kafka=kafka, topic_prefix=prefix, development=development or None)
    try:
        return asyncio.run(_compare(settings, yes=yes))
    except UnreadableFile as error:
        launch.refuse("has wrong settings", options.with_hint([str(error)]), exits.WRONG_USAGE)
    except NotSeen as error:
        launch.refuse("could not read the topics", [f"Kafka at {settings.kafka}: {error}"], exits.FAILED)


async def _compare(settings: ClusterSettings, *, yes: bool) -> list[ApplyReport]:
    from deploy.cluster import connections, kafka_admin, topic_diff, topics

    wanted = topics.wanted(prefix=settings.topic_prefix, development=settings.development)
    async with kafka_admin.connected(connections.kafka(settings)) as admin:
        found = await admin.found([topic.name for topic in wanted])
        differing = topic_diff.between(wanted, found)
        return await topic_diff.apply(admin, differing) if yes else topic_diff.planned(differing)


def _code(outcomes: set[str]) -> int:
    if "failed" in outcomes:
        return exits.FAILED
    return exits.FOUND_WRONG if outcomes & {"would change", "by hand"} else exits.DONE


def _show(reports: Sequence[ApplyReport], output: str) -> None:
    rows = [_row(each) for each in reports]
    if output == "json":
        terminal.as_json({"ok": not rows or all(row["outcome"] == "done" for row in rows), "differences": rows})
    elif rows:
        columns = ("topic", "what", "is", "should be", "outcome", "reason, or how to")
        terminal.table("", columns, [[*row.values()] for row in rows])
    else:
        typer.echo("All topics are as they should be.")


def _row(report: ApplyReport) -> dict[str, Any]:
    """Return a difference as a row with stable names."""
    from deploy.cluster.topic_diff import AddPartitions, Create

    match report.difference:
        case Create(topic):
            config = ", ".join(f"{name}={value}" for name, value in topic.config.items())
            how = f"{topic.partitions} partitions, {topic.replicas} replicas, {config}"
            row = {"topic": topic.name, "what": "topic", "is": None, "should_be": how}
        case AddPartitions(name=name, now=now, wanted=wanted):
            row = {"topic": name, "what": "partitions", "is": str(now), "should_be": str(wanted)}
        case other:
            row = {"topic": other.name, "what": other.setting, "is": other.now, "should_be": other.wanted}
    return row | {"outcome": report.outcome.value, "detail": report.detail}
