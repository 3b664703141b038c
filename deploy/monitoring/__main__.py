"""Write the monitoring files. A test compares the committed files with the tables.

python -m deploy.monitoring
python -m deploy.monitoring --to /etc/monitoring --runbooks https://wiki.example/runbooks
"""

from pathlib import Path
from typing import Annotated

import typer

from deploy.monitoring import files
from deploy.monitoring.rules import Links


def main(
    runbooks: Annotated[str, typer.Option(help="Address of the runbooks, for the alerts' links.")] = Links().runbooks,
    grafana: Annotated[str, typer.Option(help="Address of Grafana, for the alerts' links.")] = Links().grafana,
    to: Annotated[Path, typer.Option(help="Directory that stands for `deploy`.")] = files.DEPLOY,
) -> None:
    """Write all generated monitoring files."""
    for path, text in files.generated(Links(runbooks=runbooks, grafana=grafana)).items():
        file = to / path.relative_to(files.DEPLOY)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
