"""The wait of a request, at a lower price than asyncio's futures.

asyncio resumes a task that awaits a future in a later turn of the loop, by a callback with a context of its own. A
thousand records end with one acknowledgement. So here a waiting request goes on within `end`, in the same turn.

A step that all requests of a turn take one after the other costs less than if each takes all of its steps at once,
because the processor keeps the code of the step at hand. `NEXT_STAGE` is where a request waits for the others.
"""

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any


class Pending:
    """The end of some work, once: its success, or an error. One request or one task awaits it.

    It has as much of a future as tasks and `gather` ask for.
    """

    __slots__ = ("_asyncio_future_blocking", "_error", "_go_on", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self._error: BaseException | None = None
        self._go_on: Callable[[Any], object] | None = None
        self._asyncio_future_blocking = False  # tasks recognise a future by this attribute

    def end(self, error: BaseException | None = None) -> None:
        """End it. The waiting request goes on before this returns, a waiting task in the next turn of the loop.

        What that request raises goes to the loop's exception handler, as with futures: the caller has other requests
        to end, and they must not wait for their deadlines because of this one.
        """
        if self.is_done:
            return
        self.is_done = True
        self._error = error
        go_on, self._go_on = self._go_on, None
        if go_on is None:
            return
        try:
            go_on(self)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as raised:
            context = {"message": "a request failed at the end of its wait", "exception": raised}
            self.get_loop().call_exception_handler(context)

    def __await__(self) -> Generator["Pending", None, None]:
        if not self.is_done:
            self._asyncio_future_blocking = True
            yield self
        self.result()

    def result(self) -> None:
        """Return if it has ended well, and raise its error otherwise."""
        if self._error is not None:
            raise self._error

    def done(self) -> bool:
        return self.is_done

    def exception(self) -> BaseException | None:
        return self._error

    def cancelled(self) -> bool:
        return isinstance(self._error, asyncio.CancelledError)

    def add_done_callback(self, go_on: Callable[[Any], object], *, context: Context | None = None) -> None:
        """Call `go_on` when it ends. Tasks give a context, and go on in the next turn, because they do not nest."""
        if context is None:
            self._go_on = go_on
        else:
            loop = self.get_loop()
            self._go_on = lambda ended: loop.call_soon(go_on, ended, context=context)

    def cancel(self, msg: Any = None) -> bool:
        """End the wait, because its task is cancelled. The work behind it goes on. Return false if it has ended."""
        if self.is_done:
            return False
        self.end(asyncio.CancelledError())
        return True

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()


class _NextStage:
    """Awaited between two stages: the others that arrived in this turn of the loop finish the stage before.

    Connections run the stages (`ingest.http.open_connections`). A task goes on in the next turn.
    """

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


NEXT_STAGE = _NextStage()
