"""A drill on a whole local cluster: five faults, and what tells of each, after how many seconds.

    python -m tests.drill                       prints the page; takes about 20 minutes
    python -m tests.drill --page deploy/docs/drill.md
    python -m tests.drill --only worker

It starts what `make stack` starts (three brokers, two receivers behind HAProxy, two workers, console, Prometheus with
the shipped rules, Alertmanager), and pays one order each second all the time. A fault ends when its alert is in
Alertmanager. Durations depend on the machine; those that a rule or a setting adds do not.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from deploy.local import stack
from deploy.local.machine import Machine
from tests.drill import faults, page, run
from tests.support.paths import ROOT

DIRECTORY = ROOT / ".results" / "drill"


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m tests.drill", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--only", choices=[fault.name for fault in faults.ALL], action="append", default=[])
    options.add_argument("--page", type=Path, help="write the page to this file")
    chosen = options.parse_args()
    text = asyncio.run(drill([fault for fault in faults.ALL if not chosen.only or fault.name in chosen.only]))
    print(text)
    if chosen.page is not None:
        chosen.page.write_text(text, encoding="utf-8")


async def drill(chosen: list[faults.Fault]) -> str:
    """Start the stack, have each fault, and return the page."""
    machine = Machine(environ=dict(os.environ))
    async with stack.running(DIRECTORY, machine, stack.ALL, fresh=True) as started:
        scene = faults.Scene(started)
        return page.text(await run.all_of(chosen, scene, say=lambda line: print(line, file=sys.stderr)))


if __name__ == "__main__":
    main()
