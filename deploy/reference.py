"""The reference pages that are made from the code, so that they cannot lie: settings, metrics, the table of moves.

python -m deploy.reference        writes them; a test compares them with what is committed
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic.fields import FieldInfo

from deploy.cluster.settings import ServerSettings
from deploy.settings import EmbeddedSettings, documented
from ingest.settings import PREFIX
from schemas import telemetry
from schemas.orders import News, State
from workers.settlement.transitions import MOVES, MoveVerdict

ROOT = Path(__file__).parents[1]
_CHANGED = "Written by `python -m deploy.reference`; do not edit."
_MARKS = {MoveVerdict.RISE: "", MoveVerdict.SAME: "·", MoveVerdict.BEHIND: "stale", MoveVerdict.CONTRADICTION: "!"}


def pages() -> dict[Path, str]:
    """Every generated file with its content; the page about Alipay with its generated part renewed."""
    alipay = ROOT / "deploy/docs/alipay.md"
    return {
        ROOT / "deploy/docs/settings.md": settings_page(),
        ROOT / "deploy/docs/metrics.md": metrics_page(),
        alipay: renewed(alipay.read_text(encoding="utf-8"), "moves", moves_table()),
    }


def settings_page() -> str:
    """All settings, from their declarations: those of every process, then those of the cluster's."""
    lines = [
        "# Settings",
        "",
        _CHANGED,
        "",
        "Read from the environment once, at start; a command's options stand above them.",
    ]
    lines += ["Contradictions between deadlines refuse the start, all at once.", ""]
    lines += _settings(documented(EmbeddedSettings))
    lines += ["", "## The cluster engine", "", "`ingest`, `worker` and `console` read these too.", ""]
    lines += _settings(documented(ServerSettings))
    return "\n".join(lines) + "\n"


def _settings(fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    yield "| variable | default | what it is |"
    yield "|---|---|---|"
    for name, field in fields.items():
        is_told = field.default is not None and field.default != ""
        default = "required" if field.is_required() else f"`{field.default}`" if is_told else ""
        yield f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |"


def metrics_page() -> str:
    """All metric families, from the catalogue."""
    lines = ["# Metrics", "", _CHANGED, "", "On `/metrics` of the admin port. Label values come from closed sets.", ""]
    lines += ["| family | type | labels | what it says |", "|---|---|---|---|"]
    for family in telemetry.CATALOGUE:
        shown = f"{family.name}_total" if family.kind == "counter" else family.name
        lines.append(f"| `{shown}` | {family.kind} | {', '.join(family.labels)} | {family.help} |")
    return "\n".join(lines) + "\n"


def moves_table() -> str:
    """The table of moves: rows are states, columns news."""
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


def renewed(text: str, name: str, content: str) -> str:
    """The text with the part between its two marks replaced."""
    pattern = re.compile(rf"(<!-- {name}[^>]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}\n{content}\n\n{match[2]}", text)


if __name__ == "__main__":
    for path, page in pages().items():
        path.write_text(page, encoding="utf-8")
