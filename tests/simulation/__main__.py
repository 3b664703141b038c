"""Play simulated histories, and make those that go wrong short.

python -m tests.simulation --histories 100000            from seed 0 on, on all cores
python -m tests.simulation --first 5000 --histories 100  others
python -m tests.simulation --seed 17                     one, with everything that went wrong in it
python -m tests.simulation --seed 17 --skip 3,5          without these faults
"""

import argparse
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext

from tests.simulation import history, shrink
from tests.simulation.history import Seed
from tests.simulation.mutants import MUTANTS

CHUNK = 50
TOLD_EVERY_S = 10.0
WRONG_MAX = 3


def main() -> int:
    """Return the exit code: 1 if a history went wrong."""
    asked = _arguments()
    with MUTANTS[asked.mutant]() if asked.mutant else nullcontext():
        if asked.seed is not None:
            return _replay(Seed(asked.seed, asked.skip, asked.drop))
        return _many(asked.first, asked.histories, jobs=asked.jobs)


def _replay(seed: Seed) -> int:
    verdict = history.play(seed)
    for number, what in verdict.happened:
        print(f"{number:5}  {what}")
    print("\n".join(verdict.wrong) or "all is right")
    return bool(verdict.wrong)


def _many(first: int, count: int, *, jobs: int) -> int:
    began_s = told_s = time.monotonic()
    wrong, played = 0, 0
    for chunk in _chunks(first, count, jobs):
        played += len(chunk)
        for number in filter(None, chunk):
            wrong += 1
            _tell(Seed(int(number)))
        if wrong >= WRONG_MAX:
            break
        if time.monotonic() - told_s >= TOLD_EVERY_S:
            told_s = time.monotonic()
            print(f"{played} of {count}, {played / (told_s - began_s):.0f} a second", file=sys.stderr)
    rate = played / (time.monotonic() - began_s)
    print(f"{played} histories, {wrong} wrong, {rate:.0f} a second on {jobs} cores")
    return bool(wrong)


def _chunks(first: int, count: int, jobs: int) -> Iterator[list[str]]:
    """Yield the results in parts: for each history its seed if it went wrong, else an empty text."""
    parts = [range(start, min(start + CHUNK, first + count)) for start in range(first, first + count, CHUNK)]
    if jobs == 1:
        yield from map(_played, parts)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(_played, parts)


def _played(seeds: range) -> list[str]:
    return [str(number) if history.play(Seed(number)).wrong else "" for number in seeds]


def _tell(seed: Seed) -> None:
    short = shrink.shortest(seed)
    options = [
        (f"--{name}", ",".join(map(str, sorted(left))))
        for name, left in short._asdict().items()
        if name in ("skip", "drop") and left
    ]
    command = " ".join(["python -m tests.simulation --seed", str(seed.number), *itertools.chain(*options)])
    print(f"seed {seed.number}: {'; '.join(history.play(short).wrong)}\n  {command}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.partition("\n")[0])
    parser.add_argument("--histories", type=int, default=1000, metavar="N", help="how many to play")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the seed of the first one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes to play them in")
    parser.add_argument("--seed", type=int, help="play this one alone, and print what happens in it")
    parser.add_argument("--skip", type=_numbers, default=frozenset(), metavar="N,…", help="leave these faults out")
    parser.add_argument(
        "--drop", type=_numbers, default=frozenset(), metavar="N,…", help="leave these notifications out"
    )
    parser.add_argument("--mutant", choices=MUTANTS, help="plant this defect")
    return parser.parse_args()


def _numbers(text: str) -> frozenset[int]:
    return frozenset(int(number) for number in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
