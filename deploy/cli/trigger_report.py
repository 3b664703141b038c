"""What `trigger` prints: the list of scenarios, each attempt, advice, and the ends of the orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from deploy.cli import terminal

if TYPE_CHECKING:
    from deploy.sandbox.delivery import Attempt
    from deploy.sandbox.planning import Course
    from deploy.sandbox.scenario import Scenario
    from deploy.sandbox.world import World

_NAME_WIDTH = 26


def list_(known: Sequence[Scenario], output: str) -> None:
    """Print all scenarios by the families whose accounts they suit."""
    from deploy.sandbox import scenario

    if output == "json":
        terminal.as_json([
            {
                "name": each.name, "title": each.title, "tells": each.tells, "families": list(each.families),
                "end": each.expectation(),
            }
            for each in known
        ])  # fmt: skip
        return
    for heading, group in scenario.grouped(known).items():
        typer.echo(heading)
        for each in group:
            terminal.line(f"  {each.name}", f"{each.tells} [{each.expectation()}]", label_width=_NAME_WIDTH)
        typer.echo("")


def ends(courses: Sequence[Course], differences: Sequence[str], output: str, *, checked: bool) -> None:
    """Print the promised end, and the differences from it."""
    promised = list(dict.fromkeys(course.end.words() for course in courses if course.end is not None))
    if output == "table" and promised:
        verdict = (" (it is so)" if not differences else " (it is not so)") if checked else ""
        terminal.text(f"expected end: {'; '.join(promised)}{verdict}")
    for each in differences:
        terminal.note(each)


def attempts(made: Sequence[Attempt], output: str) -> None:
    """Print each attempt, and the number of unexpected answers."""
    import msgspec

    from deploy.sandbox import serials

    if output == "json":
        terminal.as_json([msgspec.to_builtins(each) | {"as_expected": each.as_expected} for each in made])
        return
    columns = ("", "notify_time", "account", "order", "what", "try", "answer", "Alipay would")
    rows = [
        (
            "ok" if each.as_expected else "wrong", serials.moment(each.sent_at), each.account, each.order, each.kind,
            each.number, _answer(each), _next_step(each),
        )
        for each in made
    ]  # fmt: skip
    terminal.table("", columns, rows)
    wrong = sum(not each.as_expected for each in made)
    typer.echo(f"{len(made)} sent, {wrong} not answered as expected")


def advise(attempts: Sequence[Attempt], world: World) -> None:
    """Print what to check if there was no answer, or if the receiver does not know this sandbox's keys."""
    unexpected = [each for each in attempts if not each.as_expected]
    if any(each.status is None for each in unexpected):
        terminal.note("No receiver answers. Start one with `alipay-notify up`, or give its address with --to URL.")
    elif any(each.status in (401, 404) for each in unexpected):
        terminal.note(
            "The receiver may have other accounts than this sandbox. Start it with "
            f"ALIPAY_NOTIFY_ACCOUNTS={world.accounts_file}, or use its sandbox with --dir DIR.",
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
