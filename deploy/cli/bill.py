"""`alipay-notify bill`: compare Alipay's bill with the order store, and show earlier comparisons."""

from __future__ import annotations

import re
import sqlite3
import tempfile
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from deploy import exits
from deploy.cli import admin, terminal
from deploy.cli.admin import AdminApiError, AdminClient, PatientClient

if TYPE_CHECKING:
    from deploy.bills.judgement import BillPeriod

SHOWN = 20  # differences, if the command is not asked for more
EPILOG = (
    "Exit codes: 0 all agree, 1 failed (the file cannot be used, or no answer from the server), 2 wrong usage, "
    "3 differences were found, or rows that cannot be read."
)
_DAYS = re.compile(r"(\d{4}-\d\d-\d\d)(?:\.\.(\d{4}-\d\d-\d\d))?|(\d{4}-\d\d)", re.ASCII)
_HELP = """Compare Alipay's bill with the order store.

    alipay-notify bill import 20881_2026-01-31.zip --account shop
    alipay-notify bill list
    alipay-notify bill show 12
"""
_IMPORT_HELP = """Compare a bill with the order store.

FILE is a bill as it was downloaded: .csv, .zip, or - for standard input. Reported are payments and refunds that are
only in the bill, only here, or of another amount. No order is changed. The report is kept and shown in the console; the
same file again replaces its report.

The period is that of the file. Times are Alipay's, UTC+8. --ask registers the orders that only the bill has, so that
Alipay is asked about them, if the account asks Alipay (queries = true).

    alipay-notify bill import 20881_2026-01-31.zip
    alipay-notify bill import bill.csv --account shop --date 2026-01-31
    alipay-notify bill import january.csv --date 2026-01 --output json
    alipay-notify bill import bill.zip --ask
"""
_LIST_HELP = """List the comparisons, the newest first.

    alipay-notify bill list --output json
"""
_SHOW_HELP = """Show one comparison with its differences.

    alipay-notify bill show 12
"""


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help=_HELP, epilog=EPILOG, no_args_is_help=True)
    group.command("import", help=_IMPORT_HELP, epilog=EPILOG)(import_)
    group.command("list", help=_LIST_HELP, epilog=EPILOG)(list_)
    group.command("show", help=_SHOW_HELP, epilog=EPILOG)(show)
    app.add_typer(group, name="bill")


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The bill: .csv, .zip, or - for standard input.")],
    account: Annotated[str, typer.Option(help="The account of the bill; otherwise the one that fits.")] = "",
    auth_app_id: admin.AuthAppId = "",
    date: Annotated[
        str, typer.Option(metavar="DAY", help="2026-01-31, 2026-01 or 2026-01-01..2026-01-07 instead of the file's.")
    ] = "",
    ask: Annotated[bool, typer.Option("--ask", help="Have Alipay asked about orders that only the bill has.")] = False,
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Compare a bill."""
    from deploy.bills import files, importing
    from deploy.bills.files import BadBill
    from deploy.bills.importing import CannotAsk

    given = span(date) if date else None
    api = PatientClient(url, token=token)
    try:
        with files.opened(file) as bill:
            result = importing.run(
                api, bill, account=account, auth_app_id=auth_app_id, given=given, ask=ask, by=api.operator(),
                progress=terminal.progress,
            )  # fmt: skip
    except AdminApiError as error:
        admin.fail(error)
    except (BadBill, CannotAsk) as error:
        terminal.fail(error)
    except (sqlite3.Error, OSError) as error:
        terminal.fail(f"the temporary file in {tempfile.gettempdir()} cannot be used: {error}")
    _end(result, output, SHOWN)


def list_(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Largest number of comparisons.")] = 50,
    before: Annotated[int | None, typer.Option(min=1, help="Only those below this number: the next page.")] = None,
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """List the comparisons."""
    try:
        answer = AdminClient(url, token=token).get("bills", limit=limit, before=before)
    except AdminApiError as error:
        admin.fail(error)
    if output == "json":
        terminal.as_json(answer)
    elif not answer["imports"]:
        terminal.note("No bill was compared yet.")
    else:
        columns = ("no", "account", "first day", "result", "uncertain", "at (UTC)", "file")
        terminal.table("", columns, [_listed(each) for each in answer["imports"]])
        if answer["before"] is not None:
            terminal.note(f"There may be more: --before {answer['before']}")


def show(
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="The number of a comparison.")],
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Largest number of differences.")] = 100,
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Show one comparison."""
    api = AdminClient(url, token=token)
    try:
        found = api.get("bills", str(number))
        listed = api.get("bills", str(number), "differences", limit=limit)
    except AdminApiError as error:
        admin.fail(error)
    _end({"import": found, **listed}, output, limit)


def span(text: str) -> BillPeriod:
    """Return the period that --date names: a day, a month, or the days from one to another.

    Raises:
        typer.BadParameter: it names none.
    """
    from deploy.bills.judgement import BillPeriod
    from schemas import times

    match = _DAYS.fullmatch(text)
    found = None
    try:
        if match is not None:
            first = datetime.fromisoformat(match[1] or f"{match[3]}-01")
            last = datetime.fromisoformat(match[2] or match[1]) if match[1] else None
            after = (first + timedelta(days=31)).replace(day=1) if last is None else last + timedelta(days=1)
            found = BillPeriod(*(times.to_epoch_ms(each.replace(tzinfo=times.BEIJING)) for each in (first, after)))
    except (ValueError, OverflowError):
        found = None
    if found is None or found.since_ms >= found.until_ms:
        raise typer.BadParameter(
            "give a day such as 2026-01-31, a month such as 2026-01, or 2026-01-01..2026-01-07", param_hint="--date"
        )
    return found


def _end(result: dict[str, Any], output: str, most: int) -> NoReturn:
    """Print a comparison, and end the command with its result."""
    if output == "json":
        terminal.as_json(result)
    else:
        _print(result, most)
    raise typer.Exit(exits.DONE if result["import"]["is_agreed"] else exits.FOUND_WRONG)


def _print(result: dict[str, Any], most: int) -> None:
    shown, listed = result["import"], result["differences"]
    report = shown["report"]
    terminal.line("Bill", f"{shown['file']}, {report['rows']} rows ({shown['layout']})")
    terminal.line("Account", shown["account"])
    terminal.line("Period", f"{_beijing(shown['since'])} up to {_beijing(shown['until'])} (UTC+8)")
    for each in report["sums"]:
        terminal.line(f"{each['kind'].capitalize()}s", _sum(each))
    for label, text in _notes(report):
        terminal.line(label, text)
    for kind, count in report["counts"].items():
        terminal.line("Found", f"{count} {kind.replace('_', ' ')}")
    if listed:
        columns = ("order", "difference", "in the bill", "here", "at (UTC)", "detail")
        terminal.table("", columns, [_difference(each) for each in listed[:most]])
        if sum(report["counts"].values()) > most or len(listed) > most:
            terminal.note(f"There are more: `alipay-notify bill show {shown['number']} --limit 1000`")
    terminal.line("Result", _result(shown))
    if result.get("replaces"):
        terminal.line("Replaces", f"the report of the same file of {terminal.moment(result['replaces'])} (UTC)")
    if "asked" in result:
        asked = result["asked"]
        terminal.line("Asked", f"{asked['registered']} orders are registered, and Alipay will be asked about them; "
                      f"{asked['known']} are known already, of which Alipay is asked about those that wait and changed "
                      f"in the last three days; {asked['unusable']} have no usable number")  # fmt: skip
    elif report["counts"].get("payment_only_in_bill") and "replaces" in result:
        terminal.note("`--ask` has Alipay asked about the orders that only the bill has.")


def _notes(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines on everything in the file that was not compared."""
    others = ", ".join(f"{count} {name or 'without a type'}" for name, count in report["others"].items())
    found = [
        ("Twice", f"{report['duplicates']} rows are there twice and count once" if report["duplicates"] else ""),
        ("Left out", f"{report['outside']} rows outside the period" if report["outside"] else ""),
        ("Left out", f"rows that are not compared: {others}" if others else ""),
        ("Left out", f"files with other columns: {', '.join(report['left_out'])}" if report["left_out"] else ""),
        ("Settlement", "payments only here were not looked for" if report["is_one_way"] else ""),
        ("Unreadable", f"{report['unreadable']} of {report['rows']} rows" if report["unreadable"] else ""),
        *(("", fault) for fault in report["faults"]),
        *(("Doubtful", text) for text in report["disagreements"]),
    ]
    return [(label, text) for label, text in found if text]


def _sum(shown: dict[str, Any]) -> str:
    from schemas.money import Money

    bill, here = (Money(shown[f"{side}_minor"], shown["currency"]) for side in ("bill", "here"))
    return f"{shown['bill_count']} in the bill, {bill}; {shown['here_count']} of them here, {here}"


def _difference(shown: dict[str, Any]) -> tuple[object, ...]:
    kind = shown["kind"].replace("_", " ")
    return (
        shown["order"] or shown["trade"], kind, _amount(shown, "bill"), _amount(shown, "here"),
        terminal.moment(shown["at"]), shown["detail"],
    )  # fmt: skip


def _amount(shown: dict[str, Any], side: str) -> str:
    minor, text, currency = shown[f"{side}_minor"], shown[f"{side}_amount"], shown[f"{side}_currency"]
    return "" if minor is None else f"{minor if text is None else text} {currency}"


def _result(shown: dict[str, Any]) -> str:
    if shown["is_agreed"]:
        return "all agree"
    return f"{shown['differences']} differences" if shown["differences"] else "not everything could be compared"


def _listed(shown: dict[str, Any]) -> tuple[object, ...]:
    return (
        shown["number"], shown["account"], _beijing(shown["since"])[:10], _result(shown), shown["uncertain"],
        terminal.moment(shown["at"]), shown["file"],
    )  # fmt: skip


def _beijing(text: str) -> str:
    from schemas import times

    return terminal.moment(datetime.fromisoformat(text).astimezone(times.BEIJING).isoformat())
