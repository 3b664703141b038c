"""`alipay-notify trigger`: play one scenario against a receiver and report each delivery.

A merchant's own tests can use its exit code: 0 if every answer was as expected, 3 if one was not.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy import exits
from deploy.cli import admin as admin_api
from deploy.cli import sandbox as sandbox_command
from deploy.cli import terminal

if TYPE_CHECKING:
    from deploy.sandbox.delivery import Attempt, Profile
    from deploy.sandbox.notifications import Edits
    from deploy.sandbox.scenario import Course, Scenario
    from deploy.sandbox.world import World

_HELP = """Send the signed notifications of one test scenario.

    alipay-notify trigger --list
    alipay-notify trigger paid
    alipay-notify trigger partial_refund --account demo-cn --order OP-1
    alipay-notify trigger paid --override total_fee=88.88 --add promo=yes
    alipay-notify trigger wrong_amount --admin http://127.0.0.1:9464
    alipay-notify trigger paid --to http://127.0.0.1:8080 --profile cn-4m

--override, --add and --remove act before signing, so the notification stays authentic. The scenario forged_signature
sends a forgery. --admin registers the order first.

Keys and accounts come from the sandbox that was started last in this directory, by `sandbox` or `up --demo`. If there
is none, they are created in .sandbox.
"""

_EPILOG = "Exit codes: 0 every answer as expected, 1 could not be done, 2 wrong usage, 3 an unexpected answer."


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("trigger", help=_HELP, epilog=_EPILOG)(trigger)


def trigger(
    scenario: Annotated[str, typer.Argument(help="The scenario; see --list.", show_default=False)] = "",
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
    profile: Annotated[str, typer.Option(help="The retry schedule; `once` sends each notification once.")] = "once",
    time_scale: Annotated[float, typer.Option(min=0.001, help="Retry so many times as fast as Alipay.")] = 1.0,
    history: Annotated[Path | None, typer.Option(help="Append each attempt to this file, as JSON lines.")] = None,
    admin: Annotated[str, typer.Option(metavar="URL", help="Register the order at this admin API first.")] = "",
    admin_token: admin_api.Token = "",
    list_: Annotated[bool, typer.Option("--list", help="List the scenarios.")] = False,
    output: terminal.Output = "table",
) -> None:
    """Play a scenario, or list all."""
    from deploy.sandbox import scenario as scenarios

    known = scenarios.load_all()
    if list_:
        _list(list(known.values()), output)
        return
    if scenario not in known:
        missing = f"there is no scenario {scenario}" if scenario else "a scenario is missing"
        raise typer.BadParameter(f"{missing}; the scenarios are {', '.join(known)}", param_hint="SCENARIO")
    schedule = sandbox_command.profile_named(profile)
    edits = _edits(override, add, remove)
    world = _world(directory or sandbox_command.started_last(), to)
    courses = _plan(world, known[scenario], account=account, edits=edits, to=to, order=order, amount=amount)
    if admin:
        _register(courses, admin=admin, token=admin_token, amount=amount)
    attempts = _play(courses, world=world, profile=schedule, time_scale=time_scale, history=history)
    _report(attempts, output)
    _advise(attempts, world)
    raise typer.Exit(exits.DONE if all(attempt.as_expected for attempt in attempts) else exits.FOUND_WRONG)


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

    from deploy.sandbox import scenario as scenarios
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
        wishes = scenarios.Wishes(order=order, amount=amount, edits=edits, url=to if path.strip("/") else "")
        planner = scenarios.Planner(SystemRandom())
        return planner.plan(chosen, played, now=datetime.now(UTC), base_url=base, wishes=wishes)
    except (UnplayableError, WorldError, ValueError) as error:
        terminal.fail(f"The scenario {chosen.name} cannot be played: {error}", exits.WRONG_USAGE)


def _register(courses: tuple[Course, ...], *, admin: str, token: str, amount: str) -> None:
    import asyncio

    import aiohttp

    from deploy.sandbox import scenario as scenarios
    from deploy.sandbox.shop import AdminApi, AdminUnavailableError

    async def register() -> None:
        async with aiohttp.ClientSession() as http:
            api = AdminApi(http=http, url=admin, token=token)
            await scenarios.register(courses, api, amount=amount, always=True)

    try:
        asyncio.run(register())
    except AdminUnavailableError as error:
        terminal.fail(f"The order could not be registered at {admin}: {error}")


def _play(
    courses: tuple[Course, ...], *, world: World, profile: Profile, time_scale: float, history: Path | None
) -> list[Attempt]:
    import asyncio
    from contextlib import closing, nullcontext

    import aiohttp

    from deploy.sandbox import scenario as scenarios
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
                    observer=attempts.append,
                    history=facts,
                )
                await scenarios.play(courses, sender)

    try:
        asyncio.run(send())
    except OSError as error:
        terminal.fail(f"The history cannot be written: {error}")
    return attempts


def _report(attempts: list[Attempt], output: str) -> None:
    import msgspec

    from deploy.sandbox import serials

    if output == "json":
        terminal.as_json([msgspec.to_builtins(each) | {"as_expected": each.as_expected} for each in attempts])
        return
    columns = ("", "notify_time", "account", "order", "what", "try", "answer", "Alipay would")
    rows = [
        (
            "ok" if each.as_expected else "wrong", serials.moment(each.sent_at), each.account, each.order, each.kind,
            each.number, _answer(each), _next_step(each),
        )
        for each in attempts
    ]  # fmt: skip
    terminal.table("", columns, rows)
    wrong = sum(not each.as_expected for each in attempts)
    typer.echo(f"{len(attempts)} sent, {wrong} not answered as expected")


def _advise(attempts: list[Attempt], world: World) -> None:
    """Print what to check if there was no answer, or if the receiver does not know this sandbox's keys."""
    unexpected = [each for each in attempts if not each.as_expected]
    if any(each.status is None for each in unexpected):
        typer.echo(
            "No receiver answers. Start one with `alipay-notify up`, or give its address with --to URL.", err=True
        )
    elif any(each.status in (401, 404) for each in unexpected):
        typer.echo(
            "The receiver may have other accounts than this sandbox. Start it with "
            f"ALIPAY_NOTIFY_ACCOUNTS={world.accounts_file}, or use its sandbox with --dir DIR.",
            err=True,
        )


def _answer(attempt: Attempt) -> str:
    text = attempt.answer if attempt.outcome == "ok" else attempt.why
    return f"{attempt.status or 'none'}  {text}  {attempt.elapsed_ms:.0f} ms"


def _next_step(attempt: Attempt) -> str:
    """Return Alipay's next step. The schedule `once` has none, but Alipay itself would send again."""
    if attempt.expected == "refused":
        return "never send this"
    if attempt.outcome == "ok":
        return "stop sending"
    return "send again" if attempt.again_in_s is None else f"send again after {_span(attempt.again_in_s)}"


def _span(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _list(known: list[Scenario], output: str) -> None:
    if output == "json":
        terminal.as_json([{"name": each.name, "title": each.title, "tells": each.tells} for each in known])
        return
    terminal.table("", ("scenario", "description"), [(each.name, each.tells) for each in known])
