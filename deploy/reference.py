"""Generate the reference pages from the code: settings, metrics, log fields, the table of moves, Alipay's names.

`python -m deploy.reference` writes them. A test compares the committed pages with the code.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic.fields import FieldInfo

from deploy import account_settings
from deploy.cluster.settings import ServerSettings
from deploy.settings import EmbeddedSettings, documented
from ingest.settings import PREFIX
from schemas import form, telemetry
from schemas.orders import News, State
from workers.settlement.transitions import MOVES, MoveVerdict

ROOT = Path(__file__).parents[1]
_CHANGED = "Written by `python -m deploy.reference`; do not edit."
_MARKS = {MoveVerdict.RISE: "", MoveVerdict.SAME: "·", MoveVerdict.BEHIND: "stale", MoveVerdict.CONTRADICTION: "!"}


def pages() -> dict[Path, str]:
    """Return the content of every generated file; of the page about Alipay, only the parts between marks."""
    alipay = ROOT / "deploy/docs/alipay.md"
    meanings = replaced(alipay.read_text(encoding="utf-8"), "moves", moves_table())
    return {
        ROOT / "deploy/docs/settings.md": settings_page(),
        ROOT / "deploy/docs/metrics.md": metrics_page(),
        alipay: replaced(meanings, "names", names_list()),
    }


def settings_page() -> str:
    """Return the page of all settings: the embedded engine's, the cluster's additional ones, and those of accounts."""
    lines = [
        "# Settings",
        "",
        _CHANGED,
        "",
        "Environment variables, read once at the start; a command's options take precedence. Times are in seconds.",
    ]
    lines += ["A process refuses to start if settings are wrong or contradict each other, and reports all faults.", ""]
    lines += _settings(documented(EmbeddedSettings))
    lines += ["", "## The cluster engine", "", "`ingest`, `worker` and `console` also read these.", ""]
    lines += _settings(documented(ServerSettings))
    lines += ["", "## Accounts", ""]
    lines += ["Each account is a table `[accounts.NAME]` of `accounts.toml`; its name is a part of the notify URL."]
    lines += ["Paths of files are relative to `accounts.toml`. It is read again while processes run.", ""]
    lines += account_settings.table()
    return "\n".join(lines) + "\n"


def _settings(fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    yield "| variable | default | meaning |"
    yield "|---|---|---|"
    for name, field in fields.items():
        has_default = field.default is not None and field.default != ""
        default = "required" if field.is_required() else f"`{field.default}`" if has_default else ""
        yield f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |"


def metrics_page() -> str:
    """Return the page of all metric families, and of the fields of log lines."""
    lines = ["# Metrics", "", _CHANGED, ""]
    lines += [
        "On `/metrics` of the admin port, as OpenMetrics or as Prometheus' text. Label values come from closed sets."
    ]
    lines += ["Every process also exports `process_*` and `python_gc_*` of the Prometheus client library.", ""]
    lines += ["| family | type | labels | meaning |", "|---|---|---|---|"]
    for family in telemetry.CATALOGUE:
        shown = f"{family.name}_total" if family.kind == "counter" else family.name
        lines.append(f"| `{shown}` | {family.kind} | {', '.join(family.labels)} | {family.help} |")
    lines += ["", "## Log fields", "", "A log line is one JSON object on stderr; on a terminal it is coloured text."]
    lines += ["No line has a form's other fields.", "", "| field | meaning |", "|---|---|"]
    lines += [f"| `{field}` | {meaning} |" for field, meaning in telemetry.FIELDS.items()]
    return "\n".join(lines) + "\n"


def names_list() -> str:
    """Return Alipay's names in alphabetical order, wrapped."""
    names = ", ".join(f"`{name.decode()}`" for name in sorted(form.KNOWN_NAMES))
    return textwrap.fill(names, 120, break_on_hyphens=False)


def moves_table() -> str:
    """Return the table of moves: a row for each state, a column for each trade status."""
    news = [each for each in News if each is not News.OTHER]
    lines = ["| | " + " | ".join(each.value.replace("_", " ") for each in news) + " |", "|---" * (len(news) + 1) + "|"]
    for state in State:
        cells = (_cell(state, each) for each in news)
        lines.append(f"| **{state.value}** | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(state: State, news: News) -> str:
    move = MOVES[state, news]
    mark = _MARKS[move.verdict]
    return mark if move.to is state and mark else f"{move.to.value} {mark}".strip()


def replaced(text: str, name: str, content: str) -> str:
    """Return the text with the part between its two marks replaced."""
    pattern = re.compile(rf"(<!-- {name}[^>]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}\n{content}\n\n{match[2]}", text)


if __name__ == "__main__":
    for path, page in pages().items():
        path.write_text(page, encoding="utf-8")
