"""A time limit for code that awaits nothing: reading a record, deciding a batch.

Such code cannot be cancelled, and while it runs the event loop, or the store's thread, does nothing else. If it never
returned because of some record, all orders would wait for ever, also after each restart. So a thread watches it, and
when the limit is reached raises an exception in the code itself. The record is then dead by our own fault, like one on
which the code raises.

The watching thread counts its own short sleeps, not the clock: time in which the whole process was stopped or got no
processor counts little. `Interrupted` is a `BaseException`, so that the code does not catch it as a failure of its own;
if it does and goes on, it is raised again a second later.

A single call into C may keep the thread from running: a regular expression that backtracks without end. In the main
thread, a timer of the process's own CPU time interrupts it, at twice the limit because all threads share that time.
What neither can interrupt is ended with the process, by `deploy.watchdog`.
"""

import contextlib
import ctypes
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TypeVar

TICK_S = 0.1
AGAIN_S = 1.0

CPU_TICK_S = 0.25
CPU_SHARE = 2  # of the limit

_WAKES = signal.SIGURG  # ignored by default, and no socket here has urgent data

A = TypeVar("A")
T = TypeVar("T")


class Interrupted(BaseException):
    """Raised in code that has reached its limit."""


class TookTooLong(Exception):
    """Our code took longer than its limit."""


class TimeLimit:
    """The limit, and the code that runs under it now, at most one piece in each thread.

    `interruptions` counts the pieces that reached their limit.
    """

    def __init__(self, limit_s: float, *, interrupted: Callable[[str], None] = lambda _: None) -> None:
        self.limit_s = limit_s
        self.interruptions = 0
        self._interrupted = interrupted
        self._jobs: dict[int, _Job] = {}
        self._lock = threading.Lock()

    @property
    def overdue_s(self) -> float:
        """How long the longest piece of code has run beyond its limit; 0 if none has."""
        return max((job.ran_s - job.limit_s for job in list(self._jobs.values())), default=0.0)

    def run(self, work: Callable[[], T], step: str, *, limit_s: float | None = None) -> T:
        """Return the result of the work, which runs in this thread. `step` names it for the observer.

        Raises:
            TookTooLong: it ran longer than `limit_s`, or than the limit of all work.
        """
        ident = threading.get_ident()
        job = _Job(self.limit_s if limit_s is None else limit_s, self._jobs.get(ident))
        self._jobs[ident] = job
        try:
            try:
                return work()
            finally:
                self._end(ident, job)
        except Interrupted as error:
            raise TookTooLong(f"{step}: interrupted after {job.ran_s:.1f} s") from error
        finally:
            self._end(ident, job)  # it may have been raised in the first call
            if job.is_interrupted:
                self.interruptions += 1
                self._interrupted(step)

    def run_each(self, work: Callable[[A], T], given: Sequence[A], step: str) -> tuple[list[T], TookTooLong | None]:
        """Return the results of the work on each of these, up to one that reaches the limit.

        Each has the whole limit. All of them are one piece of code, because a piece for each would cost a tenth of what
        reading a record costs. The error is that of the one after the results; `None` if it was not begun.
        """
        done: list[T] = []
        begun = -1

        def rest() -> None:
            nonlocal begun
            ident = threading.get_ident()
            job = self._jobs[ident]
            for index, each in enumerate(given):
                if (job.ran_s or job.cpu_s) and not self._begin_anew(ident, job):
                    return
                begun = index
                done.append(work(each))

        while given and not done:
            try:
                self.run(rest, step)
            except TookTooLong as error:
                if begun == len(done):
                    return done, error
        return done, None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch until the block ends; without it nothing is interrupted. Enter it in the main thread."""
        stopping = threading.Event()
        thread = threading.Thread(target=self._watch, args=(stopping,), name="time-limit", daemon=True)
        with self._signals():
            thread.start()
            try:
                yield
            finally:
                stopping.set()
                thread.join()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Let signals interrupt the main thread; do nothing in another thread, or beside other handlers."""
        numbers = (_WAKES, signal.SIGVTALRM)
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or any(signal.getsignal(number) is not signal.SIG_DFL for number in numbers):
            yield
            return
        # `time.sleep` and a wait for a lock return to run the handler, though it does nothing.
        signal.signal(_WAKES, lambda _number, _frame: None)
        signal.signal(signal.SIGVTALRM, self._on_cpu_time)
        signal.siginterrupt(signal.SIGVTALRM, False)  # the kernel may choose a thread that writes to a file
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_TICK_S, CPU_TICK_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            for number in numbers:
                signal.signal(number, signal.SIG_DFL)

    def _on_cpu_time(self, _number: int, _frame: FrameType | None) -> None:
        """Interrupt the main thread's code from within. The process has used so much more CPU time."""
        job = self._jobs.get(threading.get_ident())
        if job is None:
            return
        job.cpu_s += CPU_TICK_S
        if job.cpu_s >= job.next_cpu_s:
            job.next_cpu_s = job.cpu_s + AGAIN_S
            job.is_interrupted = True
            raise Interrupted

    def _watch(self, stopping: threading.Event) -> None:
        while not stopping.wait(TICK_S):
            for ident, job in list(self._jobs.items()):
                job.ran_s += TICK_S
                if job.ran_s >= job.next_s:
                    self._interrupt(ident, job)

    def _interrupt(self, ident: int, job: "_Job") -> None:
        with self._lock:  # so that it is not raised after the work
            if self._jobs.get(ident) is not job:
                return
            job.next_s = job.ran_s + AGAIN_S
            job.is_interrupted = True
            _raise_in(ident, ctypes.py_object(Interrupted))
            if ident == threading.main_thread().ident and callable(signal.getsignal(_WAKES)):
                signal.pthread_kill(ident, _WAKES)

    def _begin_anew(self, ident: int, job: "_Job") -> bool:
        """Give the next one of a piece the whole limit. Return `False` if the one before was interrupted."""
        with self._lock:
            if job.is_interrupted:
                _raise_in(ident, None)  # as in `_end`
            job.begin()
            return not job.is_interrupted

    def _end(self, ident: int, job: "_Job") -> None:
        with self._lock:
            if self._jobs.get(ident) is job:
                if job.within is None:
                    del self._jobs[ident]
                else:
                    self._jobs[ident] = job.within
                if job.is_interrupted:
                    _raise_in(ident, None)  # the work has ended first: do not raise it in the next one


class _Job:
    """One piece of code that runs.

    `next_s` is when it is interrupted, after so long a run, `next_cpu_s` after so much CPU time. The time of a piece
    that has called it, `within`, stands still meanwhile.
    """

    __slots__ = ("cpu_s", "is_interrupted", "limit_s", "next_cpu_s", "next_s", "ran_s", "within")

    def __init__(self, limit_s: float, within: "_Job | None") -> None:
        self.within = within
        self.limit_s = limit_s
        self.is_interrupted = False
        self.begin()

    def begin(self) -> None:
        """Count from the beginning, with the whole limit ahead."""
        self.ran_s = 0.0
        self.next_s = self.limit_s
        self.cpu_s = 0.0
        self.next_cpu_s = CPU_SHARE * self.limit_s + CPU_TICK_S


def _raise_in(ident: int, error: "ctypes.py_object[type[BaseException]] | None") -> None:
    """Raise the exception in that thread as soon as it runs Python code again; with `None`, no longer."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), error)
