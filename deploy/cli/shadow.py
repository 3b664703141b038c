"""`alipay-notify shadow`: decide copies of what another handler receives, and report the differences.

Only options are declared here. The code that runs is imported when a command runs, so that `--help` stays quick.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy import exits
from deploy.cli import terminal

if TYPE_CHECKING:
    from deploy.logs import LogWriter
    from deploy.shadow.directory import Shadow
    from deploy.shadow.pruning import Pruned
    from deploy.shadow.report import ShadowReport
    from deploy.shadow.shapes import OldState


_HELP = """Compare with your own handler before you move.

The shadow gets copies of notifications, verifies and decides them, and reports where your handler did otherwise. It
answers nothing that counts, publishes nothing, never asks Alipay, and writes to its own folder only.

    alipay-notify shadow run --port 8090
    alipay-notify shadow orders orders.csv --account shop-cn
    alipay-notify shadow import access.log --account shop-cn
    alipay-notify shadow report
    alipay-notify shadow prune --keep-days 30
"""
_RUN_HELP = """Receive mirrored notifications, and decide them.

A balancer sends copies to POST /notify/ACCOUNT; `alipay-notify export` writes nginx's configuration for that. No answer
is an acknowledgement. Imports and reports may run beside it.

    alipay-notify shadow run
    alipay-notify shadow run --host 10.0.0.5 --port 8090 --dir /srv/shadow
"""
_IMPORT_HELP = """Import notifications from JSON lines.

FILE has one JSON object a line: an access log of nginx with escape=json and $request_body, or your handler's own log,
with its answers. `-` is standard input. A line that was imported before is left out. Lines that cannot be read are
named and left out. Requests that are no POST with a body are counted and left out.

    alipay-notify shadow import access.log --account shop-cn
    zcat access.log.*.gz | alipay-notify shadow import - --account shop-cn
    alipay-notify shadow import access.log --route /pay/ali=shop-cn
    alipay-notify shadow import handler.jsonl --state shipped=paid
"""
_ORDERS_HELP = """Import your orders, to compare their states.

FILE is CSV with the columns order, state, amount, currency, refunded and account, or JSON lines with these fields; only
`order` is required. The amounts are what notifications are checked by. `-` is standard input.

    alipay-notify shadow orders orders.csv --account shop-cn
    alipay-notify shadow orders orders.jsonl --state shipped=paid
    alipay-notify shadow orders old.csv --as-of 2026-11-30T23:00:00+08:00
"""
_REPORT_HELP = """Report where your handler did otherwise.

Each difference has its order, the reason, and what to do. An order is compared only if no notification of it came after
the orders were exported.

    alipay-notify shadow report
    alipay-notify shadow report --json --limit 0
"""
_PRUNE_HELP = """Delete notifications and orders that are older than some days.

Deleted are notifications that were received before, and orders that were exported before and have no later ones. The
rest is decided anew, as if the shadow had begun then. Run it once a day. `shadow run` may run beside it.

    alipay-notify shadow prune
    alipay-notify shadow prune --keep-days 7 --dir /srv/shadow
"""
_EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 lines were left out."
_EPILOG_REPORT = "Exit codes: 0 no difference, 1 could not compare, 2 wrong usage, 3 differences."

Dir = Annotated[Path, typer.Option("--dir", metavar="DIR", help="The shadow's own folder.")]
Accounts = Annotated[
    Path,
    typer.Option(envvar="ALIPAY_NOTIFY_ACCOUNTS", help="The accounts file; key paths are relative to it."),
]
Account = Annotated[str, typer.Option(help="The account of lines that name none.")]
States = Annotated[
    list[str] | None, typer.Option("--state", metavar="WORD=STATE", help="A state word of yours; may be repeated.")
]
DIR, ACCOUNTS = Path(".shadow"), Path("accounts.toml")
File = Annotated[str, typer.Argument(metavar="FILE", help="The file; - is standard input.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help=_HELP, epilog=exits.EPILOG, no_args_is_help=True)
    group.command("run", help=_RUN_HELP, epilog=exits.EPILOG_PROCESS)(run)
    group.command("import", help=_IMPORT_HELP, epilog=_EPILOG)(import_)
    group.command("orders", help=_ORDERS_HELP, epilog=_EPILOG)(orders)
    group.command("report", help=_REPORT_HELP, epilog=_EPILOG_REPORT)(report)
    group.command("prune", help=_PRUNE_HELP, epilog=exits.EPILOG)(prune)
    app.add_typer(group, name="shadow")


def run(
    host: Annotated[str, typer.Option(help="Address of the port.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 is any free one.")] = 8090,
    directory: Dir = DIR,
    accounts: Accounts = ACCOUNTS,
) -> None:
    """Run the port until a signal."""
    from deploy.cli import launch
    from deploy.shadow.directory import REFUSALS
    from deploy.start_errors import CannotBind

    async def process(log_writer: LogWriter) -> None:
        from deploy import process
        from deploy.shadow import server

        async def started(number: int) -> None:
            typer.echo(process.ready_line(shadow=process.url(host, number)))

        await process.run_until_signal(
            lambda registry: server.running(directory, accounts, log_writer, host=host, port=port), log_writer, started
        )

    launch.run(process, service="alipay-notify-shadow", queue_max=20_000, refused_for=(*REFUSALS, CannotBind))


def import_(
    file: File,
    account: Account = "",
    route: Annotated[
        list[str] | None, typer.Option(metavar="PATH=ACCOUNT", help="The account of a path; may be repeated.")
    ] = None,
    state: States = None,
    directory: Dir = DIR,
    accounts: Accounts = ACCOUNTS,
) -> None:
    """Import notifications."""
    from deploy.shadow import importing

    routes = importing.Routes(_pairs(route, "--route"), account)
    words = _words(state)

    async def work(shadow: Shadow) -> importing.Imported:
        with _opened(file) as (opened, size), terminal.progress("import", size) as progressed:
            imported = await importing.notifications(opened, shadow, routes, words, progressed)
        with terminal.progress("decide", None) as progressed:
            await shadow.catch_up(progressed)
        return imported

    done = _with_shadow(directory, accounts, work)
    terminal.text(
        f"{done.new} notifications, {done.joined} answers to known ones, {done.known} lines known from before, "
        f"{done.others} other requests"
    )
    _name_bad_lines(done.bad, done.bad_count)


def orders(
    file: File,
    account: Account = "",
    as_of: Annotated[str, typer.Option(metavar="TIME", help="When the orders were read; ISO 8601 [now].")] = "",
    state: States = None,
    directory: Dir = DIR,
    accounts: Accounts = ACCOUNTS,
) -> None:
    """Import the merchant's orders."""
    from deploy.shadow import importing

    words, as_of_ms = _words(state), _moment_ms(as_of)

    async def work(shadow: Shadow) -> importing.Imported:
        with _opened(file) as (opened, size), terminal.progress("orders", size) as progressed:
            imported = await importing.orders(opened, shadow, account, words, as_of_ms, progressed)
        with terminal.progress("decide", None) as progressed:
            await shadow.catch_up(progressed)
        return imported

    done = _with_shadow(directory, accounts, work)
    typer.echo(f"{done.new} orders")
    _name_bad_lines(done.bad, done.bad_count)


def report(
    limit: Annotated[int, typer.Option(min=0, help="Differences to show; 0 shows all.")] = 100,
    output: terminal.Output = "table",
    json: Annotated[bool, typer.Option("--json", help="The same as --output json.")] = False,
    directory: Dir = DIR,
    accounts: Accounts = ACCOUNTS,
) -> None:
    """Report the differences."""
    import msgspec

    from deploy.shadow import importing

    async def work(shadow: Shadow) -> ShadowReport:
        with terminal.progress("decide", None) as progressed:
            await importing.caught_up(shadow, progressed)
        with terminal.progress("compare", await shadow.count()) as progressed:
            return await shadow.report(limit=limit, progressed=progressed)

    found = _with_shadow(directory, accounts, work, create=False)
    if json or output == "json":
        terminal.as_json(msgspec.to_builtins(found))
    else:
        _print(found)
    raise typer.Exit(exits.FOUND_WRONG if found.differences else exits.DONE)


def prune(
    keep_days: Annotated[int, typer.Option(min=1, max=3650, help="Keep the last so many days.")] = 30,
    directory: Dir = DIR,
    accounts: Accounts = ACCOUNTS,
) -> None:
    """Delete old notifications and orders."""
    from schemas.times import DAY_MS

    async def work(shadow: Shadow) -> Pruned:
        done = await shadow.book.prune(shadow.now_ms() - keep_days * DAY_MS)
        with terminal.progress("decide", None) as progressed:
            await shadow.catch_up(progressed)
        return done

    done = _with_shadow(directory, accounts, work, create=False)
    typer.echo(f"{done.notifications} notifications and {done.orders} orders deleted")


def _with_shadow(directory: Path, accounts: Path, work: Callable[[Shadow], Any], *, create: bool = True) -> Any:
    import asyncio

    from deploy.shadow.directory import REFUSALS, opened
    from deploy.shadow.lines import BadLine
    from schemas.accounts import BadAccounts

    async def run_work() -> Any:
        async with opened(directory, accounts, create=create) as shadow:
            return await work(shadow)

    try:
        return asyncio.run(run_work())
    except BadAccounts as bad:
        terminal.fail("; ".join(bad.faults))
    except (*REFUSALS, BadLine) as error:
        terminal.fail(error)


def _opened(file: str) -> Any:
    """Return the file and its size, if that is known, as a context."""
    import sys
    from contextlib import contextmanager

    @contextmanager
    def opening() -> Any:
        if file == "-":
            yield sys.stdin.buffer, None
            return
        try:
            with Path(file).open("rb") as opened:
                yield opened, Path(file).stat().st_size
        except OSError as error:
            terminal.fail(f"{file} cannot be read: {error.strerror}")

    return opening()


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    pairs = {}
    for text in texts or []:
        name, equals, value = text.rpartition("=")
        if not (name and equals and value):
            raise typer.BadParameter(f"{text!r} lacks one side of =", param_hint=option)
        pairs[name] = value
    return pairs


def _words(texts: list[str] | None) -> dict[str, OldState]:
    from deploy.shadow.shapes import OldState

    try:
        return {word: OldState(state) for word, state in _pairs(texts, "--state").items()}
    except ValueError as error:
        known = ", ".join(OldState)
        raise typer.BadParameter(f"{error}; the states are {known}", param_hint="--state") from None


def _moment_ms(text: str) -> int | None:
    from deploy.shadow import lines

    if not text:
        return None
    try:
        return lines.moment_ms(text)
    except lines.BadLine as bad:
        raise typer.BadParameter(str(bad), param_hint="--as-of") from None


def _name_bad_lines(bad: list[tuple[int, str]], count: int) -> None:
    """Name the first lines that were left out, and exit if there are any."""
    if not count:
        return
    terminal.note(f"{count} lines were left out:")
    for number, fault in bad:
        terminal.note(f"line {number} {fault}", label="  ")
    if count > len(bad):
        terminal.note(f"and {count - len(bad)} more", label="  ")
    raise typer.Exit(exits.FOUND_WRONG)


def _print(found: ShadowReport) -> None:
    terminal.line("notifications", f"{found.notifications}: {found.authentic} authentic, {found.refused} refused")
    terminal.line("repeated", found.repeated)
    terminal.line("undecided", found.undecided)
    terminal.line("no answer", f"{found.without_reaction} without a known answer of the old handler")
    terminal.line("orders", f"{found.orders_compared} compared")
    terminal.line("differences", ", ".join(f"{count} {kind}" for kind, count in found.counts.items()) or "none")
    if not found.shown:
        return
    columns = ("difference", "order", "reason", "times", "account", "notification", "detail")
    rows = [
        (each.kind.value, each.order, each.reason, each.times, each.account, each.notification_id, each.detail)
        for each in found.shown
    ]
    terminal.table("", columns, rows)
    if (left := found.differences - len(found.shown)) > 0:
        terminal.note(f"{left} more; see --limit")
    for kind, reason, advice in dict.fromkeys((each.kind.value, each.reason, each.advice) for each in found.shown):
        terminal.line(f"{kind} {reason}", advice)
