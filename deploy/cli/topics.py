"""`alipay-notify topics`: whether the cluster's topics are as they should be, and making them so."""

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

_PLAN_HELP = """Show what differs between the cluster's topics and what they should be. It changes nothing.

    alipay-notify topics plan --kafka k1:9092,k2:9092
    alipay-notify topics plan --kafka localhost:9092 --development
    alipay-notify topics plan --output json
"""
_APPLY_HELP = """Create topics, add partitions and set configurations, until the topics are as they should be.

It is a dry run: it says what would be done. With --yes it is done. Nothing is ever deleted, made smaller or kept for a
shorter time; what is more than asked for stays. Replicas of a topic that exists are changed by hand: it says how.

New partitions apply to new records: an order's may then lie in two of them, which costs nothing but their sequence.

    alipay-notify topics apply --kafka k1:9092,k2:9092
    alipay-notify topics apply --kafka k1:9092,k2:9092 --yes
    alipay-notify topics apply --kafka localhost:9092 --topic-prefix shop --development --yes
"""
_EPILOG_PLAN = "Exit codes: 0 all is as it should be, 1 failed, 2 wrong usage, 3 something differs."
_EPILOG_APPLY = (
    "Exit codes: 0 all is as it should be now, 1 failed, 2 wrong usage, "
    "3 a dry run that would change something, or something is left to be done by hand."
)

Prefix = Annotated[
    str | None,
    typer.Option(
        "--topic-prefix", envvar="ALIPAY_NOTIFY_TOPIC_PREFIX", help="What the topics' names begin with [payments]."
    ),
]
Development = Annotated[
    bool, typer.Option("--development", help="One replica is enough: for one broker on a laptop, not for payments.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    group = typer.Typer(help="The cluster's topics: as they are, as they should be.", no_args_is_help=True)
    group.command("plan", help=_PLAN_HELP, epilog=_EPILOG_PLAN)(plan)
    group.command("apply", help=_APPLY_HELP, epilog=_EPILOG_APPLY)(apply)
    app.add_typer(group, name="topics")


def plan(
    kafka: options.Kafka = None,
    topic_prefix: Prefix = None,
    development: Development = False,
    output: terminal.Output = "table",
) -> None:
    """Shows the differences; ends with 3 where there are some."""
    told = _done(kafka, topic_prefix, development=development, yes=False)
    _show(told, output)
    raise typer.Exit(exits.FOUND_WRONG if told else exits.DONE)


def apply(
    kafka: options.Kafka = None,
    topic_prefix: Prefix = None,
    development: Development = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    output: terminal.Output = "table",
) -> None:
    """Makes the differences go away; shows what became of each."""
    told = _done(kafka, topic_prefix, development=development, yes=yes)
    _show(told, output)
    if not yes and output == "table" and any(each.outcome.value == "would change" for each in told):
        typer.echo("Nothing was changed. With --yes it is.", err=True)
    raise typer.Exit(_code({each.outcome.value for each in told}))


def _done(kafka: str | None, prefix: str | None, *, development: bool, yes: bool) -> list[ApplyReport]:
    """Each difference, and what became of it."""
    launch.need("aiokafka", "yaml", extra="cluster")
    from deploy import start_errors
    from deploy.cluster.settings import UnreadableFile
    from deploy.cluster.topic_check import NotSeen

    told = options.told(kafka=kafka, topic_prefix=prefix, development=development or None)
    try:
        return asyncio.run(_compared(told, yes=yes))
    except UnreadableFile as error:
        launch.refuse("cannot do that as told", start_errors.told(error), exits.WRONG_USAGE)
    except NotSeen as error:
        launch.refuse("could not look at the topics", [f"Kafka at {told.kafka}: {error}"], exits.FAILED)


async def _compared(settings: ClusterSettings, *, yes: bool) -> list[ApplyReport]:
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


def _show(told: Sequence[ApplyReport], output: str) -> None:
    rows = [_row(each) for each in told]
    if output == "json":
        terminal.as_json({"ok": not rows or all(row["outcome"] == "done" for row in rows), "differences": rows})
    elif rows:
        columns = ("topic", "what", "is", "should be", "outcome", "why, or how")
        terminal.table("", columns, [[*row.values()] for row in rows])
    else:
        typer.echo("All topics are as they should be.")


def _row(told: ApplyReport) -> dict[str, Any]:
    """A difference as a row with stable names."""
    from deploy.cluster.topic_diff import AddPartitions, Create

    match told.difference:
        case Create(topic):
            config = ", ".join(f"{name}={value}" for name, value in topic.config.items())
            how = f"{topic.partitions} partitions, {topic.replicas} replicas, {config}"
            row = {"topic": topic.name, "what": "topic", "is": None, "should_be": how}
        case AddPartitions(name=name, now=now, wanted=wanted):
            row = {"topic": name, "what": "partitions", "is": str(now), "should_be": str(wanted)}
        case other:
            row = {"topic": other.name, "what": other.setting, "is": other.now, "should_be": other.wanted}
    return row | {"outcome": told.outcome.value, "detail": told.detail}
