"""`make bench`: the benchmarks of one engine, as ratios to a bare echo in the same run where that means something.

    python -m tests.benchmarks [--output json] [--json FILE]
    python -m tests.benchmarks --engine cluster [--only NAME …] [--quick]

The cluster engine is measured on real Kafka, PostgreSQL and Redis, which are started on this machine. Progress goes to
stderr, figures to stdout. The machine matters, and what else it does matters more: trust the ratios, and name the
machine beside a figure.
"""

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from msgspec import structs
from rich.console import Console

from tests.benchmarks import end_to_end, receiver_cost, receiver_steps
from tests.benchmarks.cluster import run as cluster

STEADY_PER_S = 3000


def main() -> None:
    options = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--engine", choices=("embedded", "cluster"), default="embedded")
    options.add_argument("--only", choices=cluster.NAMES, action="append", default=[], help="of the cluster's")
    options.add_argument("--quick", action="store_true", help="the cluster's in small, to see that they run")
    options.add_argument("--output", choices=("text", "json"), default="text", help="what stdout gets")
    options.add_argument("--json", type=Path, help="write the figures to this file too")
    chosen = options.parse_args()
    if chosen.engine == "embedded" and (chosen.only or chosen.quick):
        options.error("--only and --quick are for --engine cluster")
    figures: dict[str, Any] = {"machine": machine()}
    out = sys.stderr if chosen.output == "json" else sys.stdout
    print("machine: " + ", ".join(f"{name} {value}" for name, value in figures["machine"].items()), file=out)
    if chosen.engine == "cluster":
        with asyncio.Runner(loop_factory=receiver_cost.loop_factory()) as runner:  # as our processes have it
            runner.run(on_cluster(figures, cluster.QUICK if chosen.quick else cluster.FULL, chosen.only, out))
    else:
        embedded(figures, out)
    text = json.dumps(figures, indent=2)
    if chosen.output == "json":
        print(text)
    if chosen.json is not None:
        chosen.json.write_text(f"{text}\n", encoding="utf-8")


async def on_cluster(figures: dict[str, Any], sizes: cluster.Sizes, only: list[str], out: Any) -> None:
    """Run the cluster's benchmarks; print each as soon as it ends."""
    async for measured in cluster.run(only, sizes):
        figures[measured.name] = measured.plain()
        print(f"\n{measured.title}\n({measured.about})\n{measured.text}", file=out, flush=True)


def embedded(figures: dict[str, Any], out: Any) -> None:
    """The embedded engine's."""
    told = Console(stderr=True)
    with told.status("the receiver, step by step …"):
        steps = receiver_steps.run()
    figures["receiver_steps"] = [structs.asdict(step) for step in steps]
    print(f"\nreceiver: CPU µs of each step of a notification\n{receiver_steps.table(steps)}", file=out)

    with told.status("the receiver, rung by rung, at full speed …"):
        rungs = receiver_cost.ladder()
    figures["receiver_at_full_speed"] = [structs.asdict(rung) for rung in rungs]
    print(f"\nreceiver: CPU per request, one core, at full speed\n{receiver_cost.table(rungs)}", file=out)

    with told.status(f"the receiver, rung by rung, at {STEADY_PER_S} a second …"):
        rungs = receiver_cost.ladder(rate=STEADY_PER_S)
    figures["receiver_steady"] = [structs.asdict(rung) for rung in rungs]
    print(f"\nreceiver: CPU per request, one core, at {STEADY_PER_S}/s\n{receiver_cost.table(rungs)}", file=out)

    with told.status("the whole engine, end to end …"):
        engine = end_to_end.measure()
    figures["engine"] = structs.asdict(engine)
    print("\nembedded engine, end to end: receiver, journal, worker and store on one core", file=out)
    for name, value in structs.asdict(engine).items():
        print(f"{name:28}{value:12,.2f}", file=out)

    print("\nthe engine's files, and the worker's cost of a record", file=out, flush=True)
    for module in ("store_rate", "decide_rate"):
        subprocess.run([sys.executable, "-m", f"tests.benchmarks.{module}"], check=True, stdout=out)


def machine() -> dict[str, Any]:
    """The machine of these figures."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {
        "cpu": f"{model} x {os.cpu_count()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    main()
