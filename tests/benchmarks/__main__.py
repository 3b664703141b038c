"""`make bench`: every benchmark once, as ratios to a bare echo in the same run where that means something.

    python -m tests.benchmarks [--json FILE]

The machine matters, and what else it does matters more: trust the ratios, and name the machine beside a figure.
"""

import argparse
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

from tests.benchmarks import end_to_end, receiver_cost

STEADY_PER_S = 3000


def main() -> None:
    options = argparse.ArgumentParser(prog="make bench", description=__doc__)
    options.add_argument("--json", type=Path, help="write the figures to this file too")
    chosen = options.parse_args()
    told = Console(stderr=True)
    figures: dict[str, Any] = {"machine": machine()}
    print("machine: " + ", ".join(f"{name} {value}" for name, value in figures["machine"].items()))

    with told.status("the receiver, rung by rung, at full speed …"):
        rungs = receiver_cost.ladder()
    figures["receiver_at_full_speed"] = [structs.asdict(rung) for rung in rungs]
    print(f"\nreceiver: CPU per request, one core, at full speed\n{receiver_cost.table(rungs)}")

    with told.status(f"the receiver, rung by rung, at {STEADY_PER_S} a second …"):
        rungs = receiver_cost.ladder(rate=STEADY_PER_S)
    figures["receiver_steady"] = [structs.asdict(rung) for rung in rungs]
    print(f"\nreceiver: CPU per request, one core, at {STEADY_PER_S}/s\n{receiver_cost.table(rungs)}")

    with told.status("the whole engine, end to end …"):
        engine = end_to_end.measure()
    figures["engine"] = structs.asdict(engine)
    print("\nembedded engine, end to end: receiver, journal, worker and store on one core")
    for name, value in structs.asdict(engine).items():
        print(f"{name:28}{value:12,.2f}")

    print("\nthe engine's files, and what a record costs the worker", flush=True)
    for module in ("store_rate", "decide_rate"):
        subprocess.run([sys.executable, "-m", f"tests.benchmarks.{module}"], check=True)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
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
