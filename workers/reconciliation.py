"""Ask Alipay about orders that no notification has paid: the loop, without the questions themselves.

An order is asked about when it has been unpaid for `after_s`, and again whenever its age has doubled, until it is
`LAST_AGE_S` old. That schedule needs no memory: each look lists the orders whose last change has just become that old.
A process that begins to lead has looked at nothing yet, so it asks once about all unpaid orders of `FIRST_LOOK_S`. A
question changes nothing at Alipay, so that one asked twice does no harm, and nothing has to be kept over a restart.

An answer that brings news is appended to the log, and is settled there like a notification, by the same rules. This
loop decides nothing about orders.

If several workers share a store, the one that leads asks. Questions of all accounts together are at most `per_s` a
second. After a question without a usable answer its account rests, each time twice as long, up to `REST_MAX_S`. An
account whose list takes too long, and one on whose orders our code fails, delay no other. A span of time whose list
takes too long is listed in halves, while newly due orders go on.
"""

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct, structs

from schemas.accounts import Account
from schemas.dispositions import Flag
from schemas.orders import Status
from schemas.record_format import Record
from schemas.series import SeriesFamily
from schemas.telemetry import Field
from workers.errors import InfrastructureDown, ReadTooSlow
from workers.log_lines import Logger
from workers.queries import OrderList, OrderPage, OrderPlace, OrderQuery

LAST_AGE_S = 3 * 86_400  # Alipay has given up a day ago
FIRST_LOOK_S = LAST_AGE_S
LOOK_EVERY_MAX_S = 30.0
REST_PER_LOOK = 20  # so that looks take at most a twentieth of the store's time, however many accounts ask
WAITING_MAX = 10_000  # orders of one account that wait to be asked about; those that became due first are left out
TRIES_MAX = 5  # of an order whose answers are wrong; it is asked about again when its age has doubled
REST_S, REST_MAX_S = 2.0, 900.0
ACCOUNTS_AT_ONCE = 8
PAGE = 200
SPANS_MAX = 200  # of one account that wait to be listed; the orders of others are listed when their age has doubled
SPAN_MIN_MS = 120_000  # a span whose list takes too long is halved down to this

_Span = tuple[int, int]  # since and before, in ms


class AnswerKind(StrEnum):
    """How a question ended. The first three are as it should be."""

    NEWS = "news"  # something else than "not paid yet": the answer has a record
    UNPAID = "unpaid"
    NOT_FOUND = "not_found"  # the buyer has not been at Alipay with this order yet
    NO_ANSWER = "no_answer"  # in time; or Alipay is too busy
    REFUSED = "refused"  # the key, the application or its permission is wrong
    UNAUTHENTIC = "unauthentic"  # no key of the account signed the answer
    NOT_OURS = "not_ours"  # it is about another order, or of another merchant
    UNREADABLE = "unreadable"
    UNASKABLE = "unaskable"  # the order number cannot be in a question
    FAILED = "failed"  # our code, or the log can never take the answer
    NOT_LISTED = "not_listed"  # no question: the list of the account's orders took too long


class Answered(Struct, frozen=True, kw_only=True):
    """The end of one question. `detail` has the fault; `record` is there if the answer brings news."""

    kind: AnswerKind
    detail: str = ""
    record: Record | None = None


AS_IT_SHOULD = frozenset({AnswerKind.NEWS, AnswerKind.UNPAID, AnswerKind.NOT_FOUND})
_OF_THE_GATEWAY = frozenset({AnswerKind.NO_ANSWER, AnswerKind.REFUSED})  # not the order's fault


class Ask(Protocol):
    async def __call__(self, account: Account, order: str, /) -> Answered:
        """Ask Alipay about an order of this account, and verify the answer. Never raises."""


class AppendRecord(Protocol):
    async def __call__(self, record: Record, /) -> None:
        """Append the record to the log. When this returns, it is durable.

        Raises:
            RecordRefused: the log can never take this record.
            InfrastructureDown: it is unknown whether the record was written.
        """


class OrderLists(Protocol):
    """The part of `workers.queries.OrdersPort` that is used here."""

    async def order_list(self, query: OrderQuery) -> OrderList: ...


class _Waiting:
    """The orders of one account that wait to be asked about, with their wrong answers so far; the first is next."""

    def __init__(self) -> None:
        self.orders: OrderedDict[str, int] = OrderedDict()
        self.looked_at_ms: int | None = None
        self.unlisted: list[_Span] = []  # spans of time whose list took too long, for the next looks
        self.failures = 0
        self.rests_until_s = 0.0
        self.asked_at_s = 0.0  # when the last question about one of them began

    def add(self, number: str) -> None:
        """Add an order that has just become due, before those that wait."""
        self.orders.setdefault(number, 0)
        self.orders.move_to_end(number, last=False)
        if len(self.orders) > WAITING_MAX:
            self.orders.popitem()


class Reconciliation:
    """The loop of one process. `leads` returns whether it is this process that asks."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        orders: OrderLists,
        ask: Ask,
        append: AppendRecord,
        leads: Callable[[], bool],
        now_ms: Callable[[], int],
        after_s: float,
        per_s: float,
        questions: SeriesFamily,
        log: Logger,
        chance: Callable[[], float] = random.random,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._accounts = accounts
        self._orders = orders
        self._ask = ask
        self._append = append
        self._leads = leads
        self._now_ms = now_ms
        self._after_s = after_s
        self._between_s = 1 / per_s
        self._questions = questions
        self._log = log
        self._chance = chance
        self._now_s = now_s
        self._look_every_s = min(LOOK_EVERY_MAX_S, after_s / 4)
        self._waiting: dict[str, _Waiting] = {}
        self._next_at_s = 0.0

    async def run(self) -> None:
        """Look and ask until cancelled. An outage of the store or the log only delays it."""
        while True:
            began_s = self._now_s()
            until_s = began_s + self._look_every_s * (0.5 + self._chance())
            if self._leads():
                try:
                    await self.look()
                    until_s = max(until_s, began_s + REST_PER_LOOK * (self._now_s() - began_s))
                    await self.ask_until(until_s)
                except InfrastructureDown as error:
                    self._log.warning("reconciliation delayed", **{Field.ERROR: str(error)})
                except Exception as error:  # our bug: a fresh loop would ask about all orders again, every few seconds
                    self._log.error("reconciliation failed", **{Field.ERROR: error})
            else:
                self._waiting.clear()
            await asyncio.sleep(max(0.1, until_s - self._now_s()))

    async def look(self) -> None:
        """Find the orders that have become due since the last look.

        Raises:
            InfrastructureDown: the store does not answer; the next look goes back as far.
        """
        asked = [name for name, account in self._accounts.items() if account.queries]
        for name in self._waiting.keys() - set(asked):
            del self._waiting[name]
        for name in set(asked) - self._waiting.keys():
            self._waiting[name] = _Waiting()
            for kind in AnswerKind:  # from 0 on, so that the first answer is an increase
                self._questions.of(name, kind.value)
        for name in asked:
            try:
                await self._look_at(name, self._waiting[name])
            except InfrastructureDown:
                raise
            except Exception as error:  # our bug
                self._log.error("reconciliation failed", **{Field.ACCOUNT: name, Field.ERROR: error})

    async def _look_at(self, name: str, waiting: _Waiting) -> None:
        """List the spans of time that are due, the new ones first, until one takes too long: the rest has to wait."""
        now_ms = self._now_ms()
        spans = [*self._spans(waiting.looked_at_ms, now_ms), *waiting.unlisted]
        left: list[_Span] = []
        for place, span in enumerate(spans):
            try:
                numbers = await self._unpaid(name, *span)
            except ReadTooSlow as error:
                self._questions.of(name, AnswerKind.NOT_LISTED.value).inc()
                self._log.warning("reconciliation delayed", **{Field.ACCOUNT: name, Field.ERROR: str(error)})
                left = _in_halves(spans[place:])
                break
            for number in reversed(numbers):
                waiting.add(number)
        waiting.unlisted = left[:SPANS_MAX]
        waiting.looked_at_ms = now_ms

    async def ask_until(self, until_s: float) -> None:
        """Ask about the orders that wait, until none is left, or until this monotonic time.

        Raises:
            InfrastructureDown: the log accepts no record; the order is asked about again.
        """
        at_once = asyncio.Semaphore(ACCOUNTS_AT_ONCE)

        async def ask_of(name: str, waiting: _Waiting) -> None:
            async with at_once:
                await self._ask_of(name, waiting, until_s)

        # Those that were asked about longest ago first: accounts with long queues use the whole time of each look.
        in_turn = sorted(self._waiting.items(), key=lambda each: each[1].asked_at_s)
        tasks = [asyncio.ensure_future(ask_of(*each)) for each in in_turn if each[1].orders]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_of(self, name: str, waiting: _Waiting, until_s: float) -> None:
        while waiting.orders:
            now_s = self._now_s()
            account = self._accounts.get(name)
            if account is None or not self._leads() or now_s >= until_s or now_s < waiting.rests_until_s:
                return
            number, tries = next(iter(waiting.orders.items()))
            await self._pace()
            waiting.asked_at_s = self._now_s()
            try:
                answer = await self._answered(account, number)
            except InfrastructureDown:
                raise
            except Exception as error:  # our bug, or an answer that the log can never take
                self._questions.of(name, AnswerKind.FAILED.value).inc()
                waiting.orders.pop(number, None)  # so that it does not keep the others waiting
                self._rest(waiting)  # a bug may concern all orders
                fields = {Field.ACCOUNT: name, Field.OUT_TRADE_NO: number}
                self._log.error("reconciliation failed", **fields, **{Field.ERROR: error})
            else:
                self._note(waiting, account, number, tries, answer)

    async def _answered(self, account: Account, number: str) -> Answered:
        """Ask, and append the answer if it brings news."""
        answer = await self._ask(account, number)
        if answer.record is not None:
            await self._append(answer.record)
        self._questions.of(account.name, answer.kind.value).inc()
        return answer

    def _note(self, waiting: _Waiting, account: Account, number: str, tries: int, answer: Answered) -> None:
        """Let the order go, or ask about it again after a rest of its account."""
        waiting.orders.pop(number, None)
        if answer.kind in AS_IT_SHOULD:
            waiting.failures = 0
            return
        if answer.kind is not AnswerKind.UNASKABLE:
            self._rest(waiting)
            if answer.kind in _OF_THE_GATEWAY:
                waiting.orders[number] = tries
            elif tries + 1 < TRIES_MAX:
                waiting.orders[number] = tries + 1
        if waiting.failures & (waiting.failures - 1) == 0:  # 1, 2, 4 … in a row: lines get rarer as rests get longer
            fields = {Field.ACCOUNT: account.name, Field.OUT_TRADE_NO: number, Field.REASON: answer.kind.value}
            self._log.warning("question without an answer", **fields, **{Field.ERROR: answer.detail})

    def _rest(self, waiting: _Waiting) -> None:
        rest_s = min(REST_S * 2 ** min(waiting.failures, 20), REST_MAX_S) * (0.5 + self._chance())
        waiting.rests_until_s = self._now_s() + rest_s
        waiting.failures += 1

    async def _pace(self) -> None:
        now_s = self._now_s()
        at_s = max(now_s, self._next_at_s)
        self._next_at_s = at_s + self._between_s
        await asyncio.sleep(at_s - now_s)

    def _spans(self, looked_at_ms: int | None, now_ms: int) -> Iterator[_Span]:
        """Yield the spans of time in which orders changed last that have become due since the last look."""
        if looked_at_ms is None:
            yield now_ms - FIRST_LOOK_S * 1000, now_ms - round(self._after_s * 1000)
            return
        age_s = self._after_s
        while age_s <= LAST_AGE_S and looked_at_ms < now_ms:
            age_ms = round(age_s * 1000)
            yield looked_at_ms - age_ms, now_ms - age_ms
            age_s *= 2

    async def _unpaid(self, name: str, since_ms: int, before_ms: int) -> list[str]:
        """Return the orders that changed last in this span and are not paid, or in doubt; the newest first."""
        unpaid = OrderQuery(
            account=name, scope=name, status=Status.WAITING, since_ms=since_ms, before_ms=before_ms, limit=PAGE
        )
        in_doubt = OrderQuery(
            account=name, scope=name, is_flagged=True, since_ms=since_ms, before_ms=before_ms, limit=PAGE
        )
        numbers = [page.number for page in await self._listed(unpaid)]
        numbers += [page.number for page in await self._listed(in_doubt) if _is_in_doubt(page)]
        return list(dict.fromkeys(numbers))

    async def _listed(self, query: OrderQuery) -> list[OrderPage]:
        found: list[OrderPage] = []
        place: OrderPlace | None = None
        while len(found) < WAITING_MAX:
            listed = await self._orders.order_list(structs.replace(query, after=place))
            found += listed.pages
            place = listed.next_
            if place is None:
                break
        return found


def _in_halves(spans: Sequence[_Span]) -> list[_Span]:
    """Return the spans, with the first, whose list took too long, and all that are not shorter in halves.

    If the first is too short to be halved, it is left out: its orders are listed again when their age has doubled.
    """
    shortest_ms = max(spans[0][1] - spans[0][0], SPAN_MIN_MS)
    found: list[_Span] = []
    for place, (since_ms, before_ms) in enumerate(spans):
        middle_ms = (since_ms + before_ms) // 2
        if before_ms - since_ms >= shortest_ms:
            found += [(middle_ms, before_ms), (since_ms, middle_ms)]
        elif place > 0:
            found.append((since_ms, before_ms))
    return found


def _is_in_doubt(page: OrderPage) -> bool:
    """Return whether an order was reported as paid and as ended without payment."""
    return page.view is not None and Flag.PAID_AND_EXPIRED in page.view.flags
