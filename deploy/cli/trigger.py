"""`alipay-notify trigger`: play one scenario against a receiver, report each delivery, and check the end.

A merchant's own tests can use its exit code: 0 if every answer and end was as expected, 3 if one was not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy import exits
from deploy.cli import admin as admin_api
from deploy.cli import sandbox as sandbox_command
from deploy.cli import terminal, trigger_play, trigger_report

if TYPE_CHECKING:
    from deploy.sandbox.notifications import Edits
    from deploy.sandbox.planning import Course
    from deploy.sandbox.scenario import Scenario
    from deploy.sandbox.world import World

_HELP = """Send the signed notifications of one test scenario.

    alipay-notify trigger --list
    alipay-notify trigger paid
    alipay-notify trigger partial_refund --account demo-cn --order OP-1
    alipay-notify trigger paid --override total_fee=88.88 --add promo=yes
    alipay-notify trigger wrong_amount --admin http://127.0.0.1:9464 --check
    alipay-notify trigger paid --to http://127.0.0.1:8080 --profile cn-4m
    alipay-notify trigger --file my.toml

--override, --add and --remove act before signing, so the notification stays authentic. The scenario forged_signature
sends a forgery. --admin registers the order first; --check then waits for the end that the scenario promises. --file
plays a scenario of your own; deploy/docs/sandbox.md has the format.

Keys and accounts come from the sandbox that was started last in this directory, by `sandbox` or `up --demo`. If there
is none, they are created in .sandbox.
"""

_EPILOG = "Exit codes: 0 every answer as expected, 1 could not be done, 2 wrong usage, 3 an unexpected answer."


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("trigger", help=_HELP, epilog=_EPILOG)(trigger)


def trigger(
    scenario: Annotated[str, typer.Argument(help="The scenario; see --list.", show_default=False)] = "",
    file: Annotated[Path | None, typer.Option(help="A scenario of your own, in TOML.", show_default=False)] = None,
    account: Annotated[str, typer.Option(help="The account; otherwise the first that fits.")] = "",
    override: Annotated[list[str] | None, typer.Option(metavar="FIELD=VALUE", help="Change a field.")] = None,
    add: Annotated[list[str] | None, typer.Option(metavar="FIELD=VALUE", help="Add a field.")] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="FIELD", help="Leave a field out.")] = None,
    to: Annotated[str, typer.Option(metavar="URL", help="The receiver, or a whole notify URL.")] = "",
    order: Annotated[str, typer.Option(metavar="NO", help="The order's number; otherwise a new one.")] = "",
    amount: Annotated[str, typer.Option(help="The order's amount.")] = "12.80",
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            envvar=sandbox_command.DIRECTORY_ENVIRONMENT,
            help="The sandbox's folder; otherwise the one that was started last.",
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option(help="The retry schedule; `once` sends each notification once, `family` as Alipay does.")
    ] = "once",
    time_scale: Annotated[float, typer.Option(min=0.001, help="Retry so many times as fast as Alipay.")] = 1.0,
    history: Annotated[Path | None, typer.Option(help="Append each attempt to this file, as JSON lines.")] = None,
    admin: Annotated[str, typer.Option(metavar="URL", help="Register the order at this admin API first.")] = "",
    admin_token: admin_api.Token = "",
    check: Annotated[bool, typer.Option("--check", help="Compare the end with the scenario's; needs --admin.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the scenarios.")] = False,
    output: terminal.Output = "table",
) -> None:
    """Play a scenario, or list all."""
    from deploy.sandbox import scenario_files

    known = scenario_files.load_all()
    if list_:
        trigger_report.list_(list(known.values()), output)
        return
    if check and not admin:
        raise typer.BadParameter("the end is read from the admin API; give its address with --admin URL")
    chosen = _chosen(scenario, file, known)
    schedule = sandbox_command.profile_named(profile)
    edits = _edits(override, add, remove)
    world = _world(directory or sandbox_command.started_last(), to)
    courses = _plan(world, chosen, account=account, edits=edits, to=to, order=order, amount=amount)
    stage = trigger_play.Stage(world=world, profile=schedule, time_scale=time_scale, history=history)
    attempts, differences = trigger_play.play(
        chosen, courses, stage, admin=trigger_play.Admin(admin, admin_token) if admin else None, check=check
    )
    trigger_report.attempts(attempts, output)
    trigger_report.advise(attempts, world)
    trigger_report.ends(courses, differences, output, checked=check)
    is_right = all(attempt.as_expected for attempt in attempts) and not differences
    raise typer.Exit(exits.DONE if is_right else exits.FOUND_WRONG)


def _chosen(name: str, file: Path | None, known: Mapping[str, Scenario]) -> Scenario:
    from deploy.sandbox import scenario_files
    from deploy.sandbox.scenario import ScenarioError

    if file is not None:
        if name:
            raise typer.BadParameter("give a SCENARIO or --file, not both", param_hint="--file")
        try:
            return scenario_files.load(file)
        except (OSError, ScenarioError) as error:
            terminal.fail_in_lines(f"{file} is no scenario:", str(error).splitlines(), exits.WRONG_USAGE)
    if name not in known:
        missing = f"there is no scenario {name}" if name else "a scenario is missing"
        raise typer.BadParameter(f"{missing}; `alipay-notify trigger --list` shows them all", param_hint="SCENARIO")
    return known[name]


def _edits(override: list[str] | None, add: list[str] | None, remove: list[str] | None) -> Edits:
    from deploy.sandbox.notifications import Edits

    edits = Edits(override=_pairs(override, "--override"), add=_pairs(add, "--add"), remove=tuple(remove or ()))
    if any(name == "sign" for name, _ in (*edits.override, *edits.add)):
        raise typer.BadParameter(
            "sign is made by signing; use the scenario forged_signature instead", param_hint="--override"
        )
    return edits


def _pairs(texts: list[str] | None, option: str) -> tuple[tuple[str, str], ...]:
    pairs = [text.partition("=") for text in texts or ()]
    for name, divider, value in pairs:
        if not name or not divider:
            raise typer.BadParameter(f"{name + divider + value!r} is not FIELD=VALUE", param_hint=option)
    return tuple((name, value) for name, _, value in pairs)


def _world(directory: Path, to: str) -> World:
    """Return the sandbox's world; create it with the default addresses if there is none."""
    from deploy.sandbox.world import World, WorldError

    try:
        if (directory / "world.json").exists():
            return World.load(directory)
        return World.create(
            directory,
            gateway_url=f"http://127.0.0.1:{sandbox_command.DEFAULT_PORT}",
            notify_base=_base(to) if to else sandbox_command.DEFAULT_NOTIFY,
        )
    except (OSError, WorldError) as error:
        terminal.fail(f"There are no keys to sign with: {error}")


def _base(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise typer.BadParameter(f"{url!r} is not an http or https URL", param_hint="--to")
    return f"{parts.scheme}://{parts.netloc}"


def _plan(
    world: World, chosen: Scenario, *, account: str, edits: Edits, to: str, order: str, amount: str
) -> tuple[Course, ...]:
    from datetime import UTC, datetime
    from random import SystemRandom

    import msgspec

    from deploy.sandbox import planning
    from deploy.sandbox.notifications import UnplayableError
    from deploy.sandbox.world import WorldError

    base = _base(to) if to else world.notify_base
    path = to[len(base) :].partition("?")[0] if to else ""
    try:
        name = account or next(name for name, each in world.accounts.items() if chosen.suits(each))
        played = world.account(name)
        if path.strip("/"):
            # A whole URL: Antom signs its path, so the account has to know it.
            identity = msgspec.structs.replace(played.identity, notify_path=path)
            played = msgspec.structs.replace(played, identity=identity)
        wishes = planning.Wishes(order=order, amount=amount, edits=edits, url=to if path.strip("/") else "")
        planner = planning.Planner(SystemRandom())
        return planner.plan(chosen, played, now=datetime.now(UTC), base_url=base, wishes=wishes)
    except (UnplayableError, WorldError, ValueError) as error:
        terminal.fail(f"The scenario {chosen.name} cannot be played: {error}", exits.WRONG_USAGE)
