"""`alipay-notify trigger`: plays one scenario against a receiver and says what came of each delivery.

The exit code is meant for a merchant's own tests: 0 every answer was as it should be, 3 some answer was not, 1 the
command could not do its work, 2 it was used wrongly.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deploy import exits
from deploy.cli import admin as admin_api
from deploy.cli import sandbox as sandbox_command

if TYPE_CHECKING:
    from rich.console import Console

    from deploy.sandbox.delivery import Attempt, Profile
    from deploy.sandbox.notifications import Edits
    from deploy.sandbox.scenario import Course, Scenario
    from deploy.sandbox.world import World

_HELP = """Send one scenario's notifications, signed as Alipay signs.

    alipay-notify trigger --list
    alipay-notify trigger paid
    alipay-notify trigger partial_refund --account demo-cn --order OP-1
    alipay-notify trigger paid --override total_fee=88.88 --add promo=yes
    alipay-notify trigger wrong_amount --admin http://127.0.0.1:9464     (the order is registered first)
    alipay-notify trigger paid --to https://shop.example/notify --profile cn-4m

Overrides act before signing: what is sent is genuine. For forgeries there is the scenario forged_signature.
Keys and accounts are those of the sandbox that was started last in this directory, by `sandbox` or by `up --demo`; if
there is none, new ones are made in .sandbox.
"""

_EPILOG = "Exit codes: 0 every answer as expected, 1 could not be done, 2 wrong usage, 3 an answer other than expected."


def register(app: typer.Typer) -> None:
    """Adds the command to the program."""
    app.command("trigger", help=_HELP, epilog=_EPILOG)(trigger)


def trigger(
    scenario: Annotated[str, typer.Argument(help="Which one; see --list.", show_default=False)] = "",
    account: Annotated[str, typer.Option(help="For which account; else the first that suits.")] = "",
    override: Annotated[list[str] | None, typer.Option(metavar="FIELD=VALUE", help="Another value, signed.")] = None,
    add: Annotated[list[str] | None, typer.Option(metavar="FIELD=VALUE", help="One more field, signed.")] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="FIELD", help="Leave a field out.")] = None,
    to: Annotated[str, typer.Option(metavar="URL", help="A receiver, or a whole notify URL.")] = "",
    order: Annotated[str, typer.Option(metavar="NO", help="The order's number; else a new one.")] = "",
    amount: Annotated[str, typer.Option(help="The order's amount.")] = "12.80",
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            envvar=sandbox_command.DIRECTORY_ENVIRONMENT,
            help="The sandbox's directory; else .sandbox, or the demo's if that was started last.",
        ),
    ] = None,
    profile: Annotated[str, typer.Option(help="Follow a retry schedule; `once` sends each thing once.")] = "once",
    time_scale: Annotated[float, typer.Option(min=0.001, help="How many times as fast as Alipay.")] = 1.0,
    history: Annotated[Path | None, typer.Option(help="Append each attempt to this file, as JSON lines.")] = None,
    admin: Annotated[
        str, typer.Option(metavar="URL", help="Register the order and its amount at this admin API first.")
    ] = "",
    admin_token: admin_api.Token = "",
    list_: Annotated[bool, typer.Option("--list", help="List the scenarios.")] = False,
    output: Annotated[Literal["table", "json"], typer.Option(help="For people, or for programs.")] = "table",
) -> None:
    """Plays a scenario; the options are how."""
    from deploy.sandbox import scenario as scenarios

    known = scenarios.load_all()
    if list_:
        _list(list(known.values()), output)
        return
    if scenario not in known:
        raise typer.BadParameter(f"{scenario or 'none'}: there are {', '.join(known)}", param_hint="SCENARIO")
    schedule = sandbox_command.profile_named(profile)
    edits = _edits(override, add, remove)
    world = _world(directory or sandbox_command.started_last(), to)
    courses = _planned(world, known[scenario], account=account, edits=edits, to=to, order=order, amount=amount)
    if admin:
        _register(courses, admin=admin, token=admin_token, amount=amount)
    attempts = _played(courses, world=world, profile=schedule, time_scale=time_scale, history=history)
    _report(attempts, output)
    _advise(attempts, world)
    raise typer.Exit(exits.DONE if all(one.as_expected for one in attempts) else exits.FOUND_WRONG)


def _edits(override: list[str] | None, add: list[str] | None, remove: list[str] | None) -> Edits:
    from deploy.sandbox.notifications import Edits

    edits = Edits(override=_pairs(override, "--override"), add=_pairs(add, "--add"), remove=tuple(remove or ()))
    if any(name == "sign" for name, _ in (*edits.override, *edits.add)):
        raise typer.BadParameter("sign is what signing makes; play forged_signature instead", param_hint="--override")
    return edits


def _pairs(texts: list[str] | None, option: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for text in texts or ():
        name, divided, value = text.partition("=")
        if not name or not divided:
            raise typer.BadParameter(f"{text!r} is not FIELD=VALUE", param_hint=option)
        pairs.append((name, value))
    return tuple(pairs)


def _world(directory: Path, to: str) -> World:
    """The sandbox's world. Where there is none it is made, with the addresses the other commands have by default."""
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
        typer.echo(f"No keys to sign with: {error}", err=True)
        raise typer.Exit(exits.FAILED) from error


def _base(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise typer.BadParameter(f"{url!r} is no http or https URL", param_hint="--to")
    return f"{parts.scheme}://{parts.netloc}"


def _planned(
    world: World, chosen: Scenario, *, account: str, edits: Edits, to: str, order: str, amount: str
) -> tuple[Course, ...]:
    from datetime import UTC, datetime
    from random import SystemRandom

    import msgspec

    from deploy.sandbox import scenario as scenarios
    from deploy.sandbox.notifications import UnplayableError
    from deploy.sandbox.world import WorldError

    base = _base(to) if to else world.notify_base
    path = to[len(base) :].partition("?")[0] if to else ""
    try:
        name = account or next(name for name, one in world.accounts.items() if chosen.suits(one))
        played = world.account(name)
        if path.strip("/"):
            # A whole URL: Antom signs its path, so the account has to know it.
            identity = msgspec.structs.replace(played.identity, notify_path=path)
            played = msgspec.structs.replace(played, identity=identity)
        wishes = scenarios.Wishes(order=order, amount=amount, edits=edits, url=to if path.strip("/") else "")
        planner = scenarios.Planner(SystemRandom())
        return planner.plan(chosen, played, now=datetime.now(UTC), base_url=base, wishes=wishes)
    except (UnplayableError, WorldError, ValueError) as error:
        typer.echo(f"{chosen.name} cannot be played: {error}", err=True)
        raise typer.Exit(exits.WRONG_USAGE) from error


def _register(courses: tuple[Course, ...], *, admin: str, token: str, amount: str) -> None:
    import asyncio

    import aiohttp

    from deploy.sandbox import scenario as sandbox_scenario
    from deploy.sandbox.shop import AdminApi, AdminUnavailableError

    async def register() -> None:
        async with aiohttp.ClientSession() as http:
            await sandbox_scenario.register(
                courses, AdminApi(http=http, url=admin, token=token), amount=amount, always=True
            )

    try:
        asyncio.run(register())
    except AdminUnavailableError as error:
        typer.echo(f"The order cannot be registered at {admin}: {error}", err=True)
        raise typer.Exit(exits.FAILED) from error


def _played(
    courses: tuple[Course, ...], *, world: World, profile: Profile, time_scale: float, history: Path | None
) -> list[Attempt]:
    import asyncio
    from contextlib import closing, nullcontext

    import aiohttp

    from deploy.sandbox import scenario as sandbox_scenario
    from deploy.sandbox.delivery import DeliveryHistory, Sender
    from deploy.sandbox.issued import IssuedIds

    attempts: list[Attempt] = []

    async def send() -> None:
        with closing(DeliveryHistory(history)) if history else nullcontext() as facts:
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
                sender = Sender(
                    http=http,
                    profile=profile,
                    issued=IssuedIds(world.directory / "issued.log"),
                    time_scale=time_scale,
                    watcher=attempts.append,
                    history=facts,
                )
                await sandbox_scenario.play(courses, sender)

    try:
        asyncio.run(send())
    except OSError as error:
        typer.echo(f"The history cannot be written: {error}", err=True)
        raise typer.Exit(exits.FAILED) from error
    return attempts


def _report(attempts: list[Attempt], output: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from deploy.sandbox import serials

    if output == "json":
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode([_stable(one) for one in attempts])).decode())
        return
    table = Table("notify_time", "account", "order", "what", "try", "answer", "Alipay would", box=None, pad_edge=False)
    for one in attempts:
        cells = (serials.moment(one.sent_at), one.account, one.order, one.kind, str(one.number))
        # Texts, not strings: what a receiver answers must not be read as the console's markup.
        table.add_row(*map(Text, (*cells, _answer(one), _next(one))), style="" if one.as_expected else "red")
    console = _console()
    console.print(table)
    wrong = sum(not one.as_expected for one in attempts)
    console.print(f"{len(attempts)} sent, {wrong} answered other than expected")


def _advise(attempts: list[Attempt], world: World) -> None:
    """What to do where nobody answered, or where the receiver does not know this sandbox's keys."""
    surprises = [one for one in attempts if not one.as_expected]
    if any(one.status is None for one in surprises):
        typer.echo("Is a receiver there? `alipay-notify up` starts one, and --to URL says where it is.", err=True)
    elif any(one.status in (401, 404) for one in surprises):
        typer.echo(
            f"Does the receiver have this sandbox's accounts? ALIPAY_NOTIFY_ACCOUNTS={world.accounts_file} tells it; "
            "--dir DIR plays with another sandbox's keys.",
            err=True,
        )


def _stable(one: Attempt) -> dict[str, object]:
    import msgspec

    fields: dict[str, object] = msgspec.to_builtins(one)
    return fields | {"as_expected": one.as_expected}


def _answer(one: Attempt) -> str:
    said = one.answer if one.outcome == "ok" else one.why
    return f"{one.status or 'none'}  {said}  {one.elapsed_ms:.0f} ms"


def _next(one: Attempt) -> str:
    """What Alipay would do now. A one-shot schedule ends here, which says nothing about Alipay: it would go on."""
    if one.expected == "refused":
        return "never have sent this"
    if one.outcome == "ok":
        return "be content"
    return "send again" if one.again_in_s is None else f"send again after {_span(one.again_in_s)}"


def _span(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _list(known: list[Scenario], output: str) -> None:
    from rich.table import Table

    if output == "json":
        import msgspec

        rows = [{"name": one.name, "title": one.title, "tells": one.tells} for one in known]
        typer.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
        return
    table = Table("scenario", "what it tells", box=None, pad_edge=False)
    for one in known:
        table.add_row(one.name, one.tells)
    _console().print(table)


def _console() -> Console:
    """A console whose tables keep their width where nobody looks: in a pipe or a log."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 160
    return console
