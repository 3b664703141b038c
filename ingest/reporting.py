"""Report every finished request: metrics, one log line, the list of recent refusals.

Reports are best effort and must never raise, because that would change the answer.
"""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from ingest import recent_refusals
from ingest.authenticate import Authentic
from ingest.clock import Clock
from ingest.errors import Refused
from ingest.log_port import Logger, RateLimit
from ingest.metrics import ReceiverMetrics
from ingest.recent_refusals import RecentRefusals, RefusedRequest
from ingest.resends import ID_BYTES_MAX, Resends
from schemas import scopes
from schemas.accounts import Account
from schemas.dispositions import Outcome, Refusal
from schemas.telemetry import UNKNOWN_ACCOUNT, Field
from schemas.trace_context import TraceContext

_NOT_TRACED: Mapping[str, str] = {}


class Viewers(Protocol):
    """Viewers of requests as they come in; those are reported only while `is_watched`. It must not raise."""

    @property
    def is_watched(self) -> bool: ...

    def received(self, *, account: str, scope: str, order: str, notification_id: str) -> None: ...

    def refused(
        self, *, account: str, scope: str, order: str, notification_id: str, outcome: str, reason: str
    ) -> None: ...


class NoViewers:
    """No viewers."""

    is_watched = False

    def received(self, *, account: str, scope: str, order: str, notification_id: str) -> None: ...

    def refused(
        self, *, account: str, scope: str, order: str, notification_id: str, outcome: str, reason: str
    ) -> None: ...


class FinishedRequest(Struct, frozen=True, kw_only=True):
    """A request that has been answered, or whose sender has left."""

    account: Account | None
    method: str
    status: int
    began_s: float
    body: bytes | None


class Reporting:
    """Reports requests; as `ingest.http.connection.Faults`, also parse errors and unexpected exceptions."""

    def __init__(
        self,
        *,
        metrics: ReceiverMetrics,
        logger: Logger,
        recent: RecentRefusals,
        clock: Clock,
        resends: Resends | None = None,
        viewers: Viewers | None = None,
        accepted_sample: int = 1,
        refusals_per_s: float = 20.0,
    ) -> None:
        self._metrics = metrics
        self._logger = logger
        self._recent = recent
        self._clock = clock
        self._resends = resends or Resends()
        self._viewers = viewers or NoViewers()
        self._accepted_sample = accepted_sample
        self._accepted = 0
        self._refusals = RateLimit(per_s=refusals_per_s)
        self._faults = RateLimit(per_s=1.0, burst=5.0)

    def accepted(
        self,
        account: str,
        authentic: Authentic,
        *,
        is_stale: bool,
        began_s: float,
        is_gone: bool,
        trace: TraceContext | None = None,
    ) -> None:
        """Report a durable notification. `is_gone`: the sender has left, gets no answer and will resend it."""
        seconds = self._clock.monotonic_s() - began_s
        if is_gone:
            self._metrics.answered(account, Outcome.GONE, method="POST", status=200, seconds=seconds)
        else:
            self._metrics.accepted(account, seconds)
        if trace is not None:
            self._metrics.exemplify(seconds, trace, at_s=self._clock.epoch_ms() / 1000)
        self._metrics.verified(account, authentic.key_id)
        if is_stale:
            self._metrics.stale_request_time(account)
        self._resends.accepted(account, authentic.notify_id or authentic.number)
        if self._viewers.is_watched:
            self._viewers.received(
                account=account,
                scope=authentic.scope or account,
                order="" if authentic.is_ambiguous else _text(authentic.number),
                notification_id=_text(authentic.notify_id),
            )
        self._accepted += 1
        if self._accepted % self._accepted_sample and not is_gone:
            return
        self._logger.info(
            "notification",
            **{
                Field.ACCOUNT: account,
                Field.OUTCOME: "gone" if is_gone else "accepted",
                Field.OUT_TRADE_NO: "" if authentic.is_ambiguous else _text(authentic.number),
                Field.NOTIFY_ID: _text(authentic.notify_id),
                Field.KEY_ID: authentic.key_id,
                Field.DURATION_MS: round(seconds * 1000, 3),
                **(_NOT_TRACED if trace is None else trace.log_fields),
            },
        )

    def refused(self, refusal: Refused, finished: FinishedRequest) -> None:
        """Report a refused request."""
        name = finished.account.name if finished.account else UNKNOWN_ACCOUNT
        now_s = self._clock.monotonic_s()
        seconds = now_s - finished.began_s
        self._metrics.answered(name, refusal.outcome, method=finished.method, status=finished.status, seconds=seconds)
        order = ""
        if finished.account is not None:
            self._metrics.not_authentic(name, refusal.reason)
            # A request beyond the quota names no order, and in a flood would displace those that do.
            if refusal.reason is not Refusal.THROTTLED:
                order = recent_refusals.claimed_order(finished.account, finished.body) if finished.body else ""
                self._remember(refusal, finished.account, order, finished.body or b"")
        skipped = self._refusals.take(now_s)
        if skipped is None:
            return
        self._logger.warning(
            "notification refused",
            **{
                Field.ACCOUNT: name,
                Field.OUTCOME: refusal.outcome.value,
                Field.REASON: refusal.reason.value,
                Field.STATUS: finished.status,
                Field.OUT_TRADE_NO: order,
                Field.DURATION_MS: round(seconds * 1000, 3),
                Field.COUNT: skipped + 1,
            },
        )

    def gone(self, finished: FinishedRequest) -> None:
        """Report a request whose sender left before it was complete."""
        name = finished.account.name if finished.account else UNKNOWN_ACCOUNT
        now_s = self._clock.monotonic_s()
        seconds = now_s - finished.began_s
        self._metrics.answered(name, Outcome.GONE, method=finished.method, status=finished.status, seconds=seconds)
        skipped = self._refusals.take(now_s)
        if skipped is not None:
            fields = {Field.ACCOUNT: name, Field.OUTCOME: Outcome.GONE.value, Field.COUNT: skipped + 1}
            self._logger.warning("sender left", **fields)

    def parse_error(self) -> None:
        """Report a request that is not valid HTTP."""
        self._metrics.parse_error()
        skipped = self._refusals.take(self._clock.monotonic_s())
        if skipped is not None:
            self._logger.warning("request is not valid HTTP", **{Field.COUNT: skipped + 1})

    def our_fault(self, error: BaseException | None) -> None:
        """Report an unexpected exception, a bug. The request is answered 503."""
        skipped = self._faults.take(self._clock.monotonic_s())
        if skipped is not None:
            self._logger.error("unexpected exception", **{Field.ERROR: error, Field.COUNT: skipped + 1})

    def _remember(self, refusal: Refused, account: Account, order: str, body: bytes) -> None:
        at_ms = self._clock.epoch_ms()
        id_ = recent_refusals.claimed_id(account, body, order)
        self._resends.refused(account, id_, at_ms)
        scope = scopes.claimed(account, body)
        self._recent.add(
            RefusedRequest(
                account=account.name,
                scope=scope,
                order=order,
                notification_id=_text(id_[:ID_BYTES_MAX]),
                outcome=refusal.outcome,
                reason=refusal.reason,
                received_at_ms=at_ms,
            )
        )
        if self._viewers.is_watched:
            self._viewers.refused(
                account=account.name,
                scope=scope,
                order=order,
                notification_id=_text(id_[:ID_BYTES_MAX]),
                outcome=refusal.outcome.value,
                reason=refusal.reason.value,
            )


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
