"""Who runs where. What is measured has the first core to itself, whatever serves or drives it has the others, so that
the two do not take the processor from each other in the middle of a measurement. On one core both are the same.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import psutil

ALL = frozenset(os.sched_getaffinity(0))
MEASURED = frozenset({min(ALL)})
REST = ALL - MEASURED or ALL


@contextmanager
def on(cores: Collection[int]) -> Iterator[None]:
    """This thread runs there meanwhile, and so does for ever every process and thread that is started in the block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_s(pid: int) -> float:
    """The processor's seconds that the process, its children, and those children that have ended have used so far."""
    process = psutil.Process(pid)
    return sum(_used_s(each) for each in (process, *process.children(recursive=True)))


def _used_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # it ended just now, and its parent has its time
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
