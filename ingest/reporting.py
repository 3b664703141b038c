"""What is told of each request once it has its outcome: counters, one log line, the memory of refusals.

None of it is a guarantee: it is what may be lost. So none of it may raise into the answer, and it is cheap: an accepted
notification is counted on kept children and handed to the logger as it is.
"""

from dataclasses import dataclass

from ingest import recent_refusals
from ingest.authenticate import Authentic
from ingest.clock import Clock
from ingest.errors import Refused
from ingest.log_port import Logger, RateLimit
from ingest.metrics import ReceiverMetrics
from ingest.recent_refusals import RecentRefusals, RefusedRequest
from schemas.accounts import Account
from schemas.dispositions import Outcome
from schemas.telemetry import UNKNOWN_ACCOUNT, Field


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRequest:
    """A request that was answered, or whose sender left."""

    account: Account | None
    method: str
    status: int
    began_s: float
    body: bytes | None


class Reporting:
    """Tells of requests. Its methods are also what a connection reports of its own faults."""

    def __init__(
        self,
        *,
        metrics: ReceiverMetrics,
        logger: Logger,
        recent: RecentRefusals,
        clock: Clock,
        accepted_sample: int = 1,
        refusals_per_s: float = 20.0,
    ) -> None:
        self._metrics = metrics
        self._logger = logger
        self._recent = recent
        self._clock = clock
        self._accepted_sample = accepted_sample
        self._accepted = 0
        self._refusals = RateLimit(per_s=refusals_per_s)
        self._faults = RateLimit(per_s=1.0, burst=5.0)

    def accepted(self, account: str, authentic: Authentic, *, is_stale: bool, began_s: float, is_gone: bool) -> None:
        """A notification is durable. `is_gone`: its sender will not hear of it and sends it again."""
        seconds = self._clock.monotonic_s() - began_s
        if is_gone:
            self._metrics.answered(account, Outcome.GONE, method="POST", status=200, seconds=seconds)
        else:
            self._metrics.accepted(account, seconds)
        self._metrics.verified(account, authentic.key_id)
        if is_stale:
            self._metrics.stale_request_time(account)
        self._accepted += 1
        if self._accepted % self._accepted_sample and not is_gone:
            return
        self._logger.info(
            "notification",
            **{
                Field.ACCOUNT: account,
                Field.OUTCOME: "gone" if is_gone else "accepted",
                Field.OUT_TRADE_NO: authentic.number,
                Field.NOTIFY_ID: authentic.notify_id,
                Field.KEY_ID: authentic.key_id,
                Field.DURATION_MS: round(seconds * 1000, 3),
            },
        )

    def refused(self, refusal: Refused, ended: FinishedRequest) -> None:
        """A request was refused, for a reason from the closed set."""
        name = ended.account.name if ended.account else UNKNOWN_ACCOUNT
        now_s = self._clock.monotonic_s()
        seconds = now_s - ended.began_s
        self._metrics.answered(name, refusal.outcome, method=ended.method, status=ended.status, seconds=seconds)
        if ended.account is not None:
            self._metrics.not_authentic(name, refusal.reason)
        order = recent_refusals.claimed_order(ended.account, ended.body) if ended.account and ended.body else ""
        if ended.account is not None:
            self._remember(refusal, name, order)
        left_out = self._refusals.take(now_s)
        if left_out is None:
            return
        self._logger.warning(
            "notification refused",
            **{
                Field.ACCOUNT: name,
                Field.OUTCOME: refusal.outcome.value,
                Field.REASON: refusal.reason.value,
                Field.STATUS: ended.status,
                Field.OUT_TRADE_NO: order,
                Field.DURATION_MS: round(seconds * 1000, 3),
                Field.COUNT: left_out + 1,
            },
        )

    def gone(self, ended: FinishedRequest) -> None:
        """The sender left before its request was complete."""
        name = ended.account.name if ended.account else UNKNOWN_ACCOUNT
        now_s = self._clock.monotonic_s()
        seconds = now_s - ended.began_s
        self._metrics.answered(name, Outcome.GONE, method=ended.method, status=ended.status, seconds=seconds)
        left_out = self._refusals.take(now_s)
        if left_out is not None:
            fields = {Field.ACCOUNT: name, Field.OUTCOME: Outcome.GONE.value, Field.COUNT: left_out + 1}
            self._logger.warning("sender gone", **fields)

    def parse_error(self) -> None:
        """A request was no HTTP."""
        self._metrics.parse_error()
        left_out = self._refusals.take(self._clock.monotonic_s())
        if left_out is not None:
            self._logger.warning("not HTTP", **{Field.COUNT: left_out + 1})

    def our_fault(self, error: BaseException | None) -> None:
        """Something was raised that nobody expected; the request was answered 503."""
        left_out = self._faults.take(self._clock.monotonic_s())
        if left_out is not None:
            self._logger.error("fault of ours", **{Field.ERROR: error, Field.COUNT: left_out + 1})

    def _remember(self, refusal: Refused, account: str, order: str) -> None:
        self._recent.add(
            RefusedRequest(
                account=account,
                order=order,
                outcome=refusal.outcome,
                reason=refusal.reason,
                received_at_ms=self._clock.epoch_ms(),
            )
        )
