"""CPU affinity: the measured process has the first core to itself, its servers and drivers have the others, so that
the two do not take the processor from each other in the middle of a measurement. On one core both are the same.
"""

import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import psutil
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

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


def pace_us(*, verifications: int = 4000) -> float:
    """Microseconds of CPU for one RSA-2048 verification, on average over a tenth of a second or so."""
    key = rsa.generate_private_key(65537, 2048)
    signature = key.sign(b"text", padding.PKCS1v15(), hashes.SHA256())
    public = key.public_key()
    began_s = time.thread_time()
    for _ in range(verifications):
        public.verify(signature, b"text", padding.PKCS1v15(), hashes.SHA256())
    return (time.thread_time() - began_s) / verifications * 1e6
