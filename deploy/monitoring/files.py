"""Which files are generated, and from what."""

from pathlib import Path

from deploy.monitoring import alerts, objectives, rules
from deploy.monitoring.boards import rendering
from deploy.monitoring.rules import Links

DEPLOY = Path(__file__).parents[1]
RECORDINGS = DEPLOY / "prometheus" / "rules" / "objectives.yml"
KUBERNETES = DEPLOY / "kubernetes" / "components" / "monitoring" / "prometheus-rules.yaml"
ALERTS = DEPLOY / "prometheus" / "rules" / "alerts.yml"
BOARDS = {board.uid: DEPLOY / "grafana" / "dashboards" / f"{board.uid}.json" for board in rendering.BOARDS}


def generated(links: Links | None = None) -> dict[Path, str]:
    """Return the content of every generated file, by its path."""
    return {
        RECORDINGS: rules.yaml(objectives.recordings()),
        KUBERNETES: rules.resource([*objectives.recordings(), *alerts.groups()], links=links),
        ALERTS: rules.yaml(alerts.groups(), links=links),
        **{BOARDS[board.uid]: rendering.json(board) for board in rendering.BOARDS},
    }
