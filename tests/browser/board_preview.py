"""Draw a board of Grafana from its JSON and a running Prometheus, for a picture in the documents.

    python -m tests.browser.board_preview overview --prometheus http://127.0.0.1:9090 --to deploy/docs/board.png

It is no Grafana: it knows curves and single values, and opens every row. The picture says so.
"""

import argparse
import asyncio
import html
import json
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

from deploy.monitoring import files
from tests.support.browser import browsing

COLOURS = ("#3274d9", "#37872d", "#e0752d", "#a352cc", "#c4162a", "#0f7b8a", "#8f6b00", "#6e6e6e")
WIDTH, ROW_PX, COLUMNS = 1360, 30, 24
CHART_WIDTH, CHART_HEIGHT = 400, 120
LEGENDS_MAX = 6
CAPTION = "Preview renderer, not Grafana: drawn from the board's JSON and a real Prometheus."
STYLE = """
body{font:13px system-ui,sans-serif;margin:0;padding:16px;background:#f4f5f5;color:#24292e;width:1328px}
h1{font-size:20px;margin:0 0 4px}h2{font-size:14px;margin:14px 0 6px}p{margin:0;color:#555}
section{display:grid;grid-template-columns:repeat(24,1fr);gap:8px}
article{background:#fff;border:1px solid #ddd;border-radius:3px;padding:8px;overflow:hidden}
h3{font-size:12px;margin:0 0 4px}b{font-size:22px;font-weight:500;color:#37872d;margin-right:8px}
small{color:#666;margin-right:8px;white-space:nowrap}svg{width:100%;height:120px}
"""

Points = Sequence[tuple[float, float]]


def page(board: dict[str, Any], drawn: dict[int, str]) -> str:
    """The whole board as HTML; `drawn` has the content of each panel by its id."""
    parts = [f"<h1>{html.escape(board['title'])}</h1><p>{CAPTION}</p>"]
    for row, panels in rows(board):
        parts.append(f"<h2>{html.escape(row)}</h2><section>")
        for panel in panels:
            title, width = html.escape(panel["title"]), panel["gridPos"]["w"]
            parts.append(f'<article style="grid-column:span {width}"><h3>{title}</h3>{drawn[panel["id"]]}</article>')
        parts.append("</section>")
    return f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>{''.join(parts)}"


def rows(board: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The rows with their panels, whether they are collapsed or not."""
    found: list[tuple[str, list[dict[str, Any]]]] = []
    for panel in board["panels"]:
        if panel["type"] == "row":
            found.append((panel["title"], list(panel.get("panels") or [])))
        else:
            found[-1][1].append(panel)
    return found


def curves(series: Sequence[tuple[str, Points]]) -> str:
    """The series as an SVG with a scale, and a legend."""
    values = [value for _, points in series for _, value in points]
    if not values:
        return "<p>no data</p>"
    top, bottom = max(*values, 0.0), min(*values, 0.0)
    top = top if top > bottom else bottom + 1.0  # a line of zeros lies at the bottom
    span = top - bottom
    times = [at for _, points in series for at, _ in points]
    first, length = min(times), (max(times) - min(times)) or 1.0
    lines = []
    for number, (_, points) in enumerate(series):
        places = [((at - first) / length * CHART_WIDTH, (top - value) / span * CHART_HEIGHT) for at, value in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        colour = COLOURS[number % len(COLOURS)]
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" vector-effect="non-scaling-stroke"/>')
    shown = "".join(
        f'<small><i style="color:{COLOURS[number % len(COLOURS)]}">▬</i> {html.escape(name)}</small>'
        for number, (name, _) in enumerate(series[:LEGENDS_MAX])
    )
    more = f"<small>and {len(series) - LEGENDS_MAX} more</small>" if len(series) > LEGENDS_MAX else ""
    view = f"0 -2 {CHART_WIDTH} {CHART_HEIGHT + 4}"
    return (
        f"<small>{bottom:.3g} to {max(*values, 0.0):.3g}</small>"
        f'<svg viewBox="{view}" preserveAspectRatio="none">{"".join(lines)}</svg>{shown}{more}'
    )


def figures(series: Sequence[tuple[str, Points]]) -> str:
    """The last value of each series."""
    latest = [(name, points[-1][1]) for name, points in series if points]
    return " ".join(f"<b>{value:.4g}</b><small>{html.escape(name)}</small>" for name, value in latest)


def ranged(prometheus: str, target: dict[str, Any], minutes: float) -> list[tuple[str, Points]]:
    """The series of a query over the last minutes, with their legends."""
    text = target["expr"].replace("$__rate_interval", "1m").replace("$job", ".+").replace("$instance", ".+")
    end = time.time()
    url = f"{prometheus}/api/v1/query_range?query={quote(text)}&start={end - minutes * 60}&end={end}&step=5"
    with urlopen(url, timeout=30) as answer:
        result = json.load(answer)["data"]["result"]
    found: list[tuple[str, Points]] = []
    for each in result:
        name = target["legendFormat"]
        for label, value in each["metric"].items():
            name = name.replace(f"{{{{{label}}}}}", value)
        name = re.sub(r"\{\{\w+\}\}", "", name)  # as Grafana: nothing for a label that the series does not have
        points = [(at, float(value)) for at, value in each["values"] if not math.isnan(float(value))]
        found.append((name, points))
    return found


def drawn(board: dict[str, Any], prometheus: str, minutes: float) -> dict[int, str]:
    """The content of each panel."""
    found = {}
    for _, panels in rows(board):
        for panel in panels:
            series = [one for target in panel["targets"] for one in ranged(prometheus, target, minutes)]
            found[panel["id"]] = figures(series) if panel["type"] == "stat" else curves(series)
    return found


async def draw(board: dict[str, Any], prometheus: str, minutes: float, to: Path) -> None:
    """Write the picture."""
    text = page(board, drawn(board, prometheus, minutes))
    async with browsing() as browser:
        await browser.set_viewport_size({"width": WIDTH, "height": 800})
        await browser.set_content(text)
        await browser.screenshot(path=to, full_page=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("board", choices=[uid.removeprefix("alipay-notify-") for uid in files.BOARDS])
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--to", type=Path, required=True)
    given = parser.parse_args()
    read = json.loads(files.BOARDS[f"alipay-notify-{given.board}"].read_text(encoding="utf-8"))
    asyncio.run(draw(read, given.prometheus, given.minutes, given.to))
