"""Why the Kafka client cannot connect. It logs the reasons, such as an expired certificate, and raises none of them."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CLIENTS_LOGGER = "aiokafka"
REASONS_MAX = 3
RECENT_S = 30.0  # the longest pause between two attempts to connect is a fraction of it
_SAYS_NOTHING = "Unable to update metadata"  # follows a line that has the reason


@contextmanager
def silenced() -> Iterator[None]:
    """Keep the client from logging while this is entered, where its errors are raised too."""
    log = logging.getLogger(CLIENTS_LOGGER)
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


class ClientLog(logging.Handler):
    """Keeps the last different reasons that the client logs while this is entered."""

    def __init__(self, *, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.ERROR)
        self._now_s = now_s
        self._logged_s: dict[str, float] = {}

    def __enter__(self) -> "ClientLog":
        logging.getLogger(CLIENTS_LOGGER).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(CLIENTS_LOGGER).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().removeprefix("Unable connect to ").rstrip(": ")
        if record.name != CLIENTS_LOGGER or text.startswith(_SAYS_NOTHING):
            return
        self._logged_s.pop(text, None)
        self._logged_s[text] = self._now_s()
        if len(self._logged_s) > REASONS_MAX:
            del self._logged_s[next(iter(self._logged_s))]

    def reasons(self, *, within_s: float = float("inf")) -> str:
        """Return the different reasons of the last so many seconds, at most `REASONS_MAX` of them."""
        since_s = self._now_s() - within_s
        return "; ".join(text for text, at_s in self._logged_s.items() if at_s >= since_s)

    def explain(self, trouble: str | None) -> str | None:
        """Return the trouble with the client's recent reasons, if it has logged some."""
        reasons = self.reasons(within_s=RECENT_S) if trouble else ""
        return f"{trouble} (the client logged: {reasons})" if reasons else trouble
