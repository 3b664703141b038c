"""An order store in memory, strict: it refuses what a real one would refuse.

At every write it checks what must be true of any store: versions without gaps, ranks that do not fall, one disposition
per record, one ledger row per id.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence

from msgspec import structs

from schemas import scopes
from schemas.dispositions import HELD, Disposition, Reason
from schemas.events import Outgoing
from schemas.notification import NamedNumber, NumberKind
from schemas.orders import Movement, Order, View
from workers import held_lists, queries, replays, row_codec, snoozes
from workers.emission import EVERYTHING, NOTHING_AWAY, Away, SetAside
from workers.errors import InfrastructureDown, RecordRefused, RefundTaken, RowsLocked, VersionConflict
from workers.queries import (
    Counts,
    Emitted,
    HeldCount,
    HeldGroup,
    HeldPage,
    HeldPlace,
    HeldQuery,
    Hold,
    NotificationPage,
    OperatorDecision,
    OrderClaim,
    OrderList,
    OrderPage,
    OrderQuery,
    ParkedCount,
    Snooze,
)
from workers.replays import NewTask, ReplayState, ReplayTask, TaskList
from workers.settlement import decision, loading, order_view
from workers.settlement.movements import name_of
from workers.settlement.plan import (
    AccountKey,
    Decide,
    DecisionRow,
    Delivery,
    HeldRow,
    KnownMovements,
    LedgerEntry,
    LedgerRow,
    LoadRequest,
    MovementName,
    NumberRow,
    OrderWrite,
    Position,
    PriorNotification,
    Registration,
    StoreSnapshot,
    WritePlan,
    position_of,
)

ORDER = NumberKind.ORDER


class MemoryStore:
    """All ports of an order store, over dictionaries. A plan for which `refuses` is true is refused.

    `held` has the unresolved held rows, `pages` all of them with what became of them. While `is_down`, transactions
    and pages fail as if the infrastructure were down.
    """

    def __init__(
        self, refuses: Callable[[WritePlan], bool] = lambda plan: False, *, now_ms: Callable[[], int] = lambda: 0
    ) -> None:
        self.is_down = False
        self.trouble: list[BaseException] = []  # raised by the next transactions, one each
        self.locked: set[AccountKey] = set()  # orders that another session has locked
        self.locked_held: set[Position] = set()  # held rows that another session has locked
        self.inserting: set[AccountKey] = set()  # ids of notifications that another session is inserting
        self.deliveries: dict[Position, Delivery] = {}
        self.ledger: dict[AccountKey, LedgerRow] = {}
        self.orders: dict[AccountKey, Order] = {}
        self.views: dict[AccountKey, View] = {}
        self.changed_at_ms: dict[AccountKey, int] = {}
        self.held: dict[Position, HeldRow] = {}
        self.pages: dict[Position, HeldPage] = {}
        self.outbox: list[Outgoing] = []
        self.sent_at_ms: dict[int, int] = {}  # by number; the first event of the outbox has number 1
        self.refunds: dict[AccountKey, str] = {}
        self.movements_of: dict[AccountKey, list[Movement]] = {}  # of orders that have them as rows
        self.decisions: list[DecisionRow] = []
        self.replay_of: dict[Position, int | None] = {}
        self.tasks: dict[int, ReplayTask] = {}
        self.numbers: dict[NumberRow, None] = {}  # in the order in which they were written
        self.erased_at_ms: dict[AccountKey, int] = {}  # of ledger rows
        self.audit: list[tuple[str, str, str, str]] = []
        self.settled_batches: list[WritePlan] = []
        self._trades: dict[AccountKey, str] = {}
        self._ranks: dict[AccountKey, float] = {}
        self._refuses = refuses
        self._now_ms = now_ms
        self._set_aside = SetAside()

    # workers.processing.Store

    async def settle(self, needs: LoadRequest, decide: Decide) -> WritePlan:
        return self.settle_now(needs, decide)

    def settle_now(self, needs: LoadRequest, decide: Decide) -> WritePlan:
        self._check()
        if self.trouble:
            raise self.trouble.pop(0)
        known = self.known(needs)
        self._wait_for_locks(needs, known)
        plan = decide(known)
        if self._refuses(plan):
            raise RecordRefused("cannot hold it")
        self._write(plan)
        self.settled_batches.append(plan)
        return plan

    def known(self, needs: LoadRequest) -> StoreSnapshot:
        by_trade = {trade: self._trades[trade] for trade in needs.trades if trade in self._trades}
        by_refund = {refund: self.refunds[refund] for refund in needs.refunds if refund in self.refunds}
        found = {(account, number) for (account, _), number in (*by_trade.items(), *by_refund.items())}
        orders = {
            named: self.orders[named]
            for named in needs.orders | found
            if named in self.orders and not (needs.around_locks and named in self.locked)
        }
        locked = (needs.orders | found) & self.locked & self.orders.keys() if needs.around_locks else set()
        wanted = loading.movements_to_load(needs, orders, by_trade, by_refund)
        return StoreSnapshot(
            locked=frozenset(locked),
            settled=frozenset(position for position in needs.positions if position in self.deliveries),
            open_held=frozenset(position for position in needs.positions if position in self.held),
            held_attempts={each: self.held[each].attempts for each in needs.positions if each in self.held},
            ledger={
                id_: LedgerEntry(self.ledger[id_].digest, self.ledger[id_].position)
                for id_ in needs.ids
                if id_ in self.ledger
            },
            orders=orders,
            order_by_trade=by_trade,
            order_by_refund=by_refund,
            histories={each: self._history(each) for each in needs.orders | found} if needs.with_history else {},
            movements={named: self._known_movements(named, names) for named, names in wanted.items()},
        )

    def _known_movements(self, named: AccountKey, names: frozenset[MovementName] | None) -> KnownMovements:
        found = tuple(each for each in self.movements_of[named] if names is None or name_of(each) in names)
        return KnownMovements(found=found, names=names)

    async def unsent(
        self, limit: int, away: Away = NOTHING_AWAY, *, only: frozenset[str] = EVERYTHING
    ) -> Sequence[tuple[int, Outgoing]]:
        unsent = ((row.number, row.event) for row in self._emitted() if row.sent_at_ms is None)
        return [
            (number, event)
            for number, event in unsent
            if event.topic in only and not away.holds(event) and not self._set_aside.holds(event)
        ][:limit]

    async def set_aside(self, numbers: Sequence[int]) -> None:
        self._set_aside.add((row.event.topic, row.event.key) for row in self._emitted() if row.number in numbers)

    async def mark_sent(self, numbers: Sequence[int]) -> None:
        self.sent_at_ms.update(dict.fromkeys(numbers, self._now_ms()))

    # workers.queries: orders and events

    async def order_page(self, scope: str, number: str) -> OrderPage | None:
        self._check()
        named = (scope, number)
        deliveries = tuple(each for each in self.deliveries.values() if (each.account, each.order) == named)
        is_known = named in self.orders and not self.orders[named].is_note
        first = None if is_known else self._first_number(scope, number)
        if first is not None:
            return await self.order_page(scope, first)
        if named not in self.orders and not deliveries:
            return None
        events = tuple(row for row in self._emitted() if row.event.key == f"{scope}:{number}".encode())
        naming = self._named(scope, queries.page_numbers(self.orders.get(named), self.movements_of.get(named, ())))
        timeline = queries.timeline(number, deliveries, naming)
        decisions = tuple(_decision(each) for each in self.decisions if (each.account, each.order) == named)
        claims = self._claims(scope, queries.claimed_numbers(number, self.orders.get(named)))
        page = self._page_of(named)
        holds = tuple(_hold(self.pages[each.position]) for each in timeline if each.position in self.pages)
        subjects = queries.audited(scope, number, holds, events)
        acts = tuple(
            row_codec.operator_act((*row, self._now_ms()))
            for row in self.audit
            if row[0] in queries.ACTS and row[1] in subjects
        )
        page = structs.replace(page, deliveries=timeline, events=events, decisions=decisions, claims=claims)
        erased_at_ms = {id_: at_ms for (account, id_), at_ms in self.erased_at_ms.items() if account == scope}
        return structs.replace(page, holds=holds, acts=acts, erased_at_ms=erased_at_ms)

    def _named(self, scope: str, numbers: Sequence[NamedNumber]) -> list[Delivery]:
        found = {row.position for row in self.numbers if row.account == scope and row.named in numbers}
        return [self.deliveries[position] for position in sorted(found)]

    def _claims(self, scope: str, numbers: Sequence[NamedNumber]) -> tuple[OrderClaim, ...]:
        return tuple(
            OrderClaim(delivery=each, resolution=self.pages[each.position].resolution)
            for each in self._named(scope, numbers)
            if each.disposition is Disposition.QUARANTINED and not each.order
        )

    def _first_number(self, account: str, number: str) -> str | None:
        if (account, number) in self._trades:
            return self._trades[account, number]
        rows = [row for row in self.numbers if (row.account, row.named) == (account, NamedNumber(ORDER, number))]
        return next((self.deliveries[row.position].order for row in rows), None)

    async def movements(
        self, scope: str, number: str, *, after: int, limit: int
    ) -> Sequence[tuple[int, Movement]] | None:
        order = self.orders.get((scope, number))
        if order is None or order.is_note:
            return None
        if order.movement_sums is None:
            return queries.kept_movements(order, after, limit)
        return list(enumerate(self.movements_of[scope, number], 1))[after : after + limit]

    async def find(self, number: str) -> Sequence[tuple[str, str]]:
        found = {named for named, order in self.orders.items() if number in (named[1], *_trades(order))}
        found |= {
            (row.account, row.order) for row in self.ledger.values() if number == row.notification_id and row.order
        }
        named = [self.deliveries[row.position] for row in self.numbers if row.named.number == number]
        named += [self.deliveries[row.position] for row in self.ledger.values() if row.notification_id == number]
        found |= {(delivery.account, delivery.order) for delivery in named if delivery.order}
        return sorted(found)[: queries.FOUND_MAX]

    async def notifications(self, number: str) -> Sequence[Delivery]:
        found = {row.position for row in self.ledger.values() if row.notification_id == number}
        found |= {row.position for row in self.numbers if row.named.number == number}
        found |= {position for position, page in self.pages.items() if page.row.notification_id == number}
        first = [self.deliveries[position] for position in sorted(found)]
        return [each for each in first if (each.disposition, each.reason) != (Disposition.DUPLICATE, Reason.SAME_ID)]

    async def notification(self, id_: str) -> NotificationPage | None:
        position = position_of(id_)
        if position is None or position not in self.deliveries:
            return None
        delivery = self.deliveries[position]
        entry = self.ledger.get((delivery.account, delivery.notification_id))
        page = self.pages.get(position)
        if page is not None and page.row.disposition is Disposition.QUARANTINED:
            return NotificationPage(delivery=delivery, record=page.row.record, erased_at_ms=page.erased_at_ms)
        erased_at_ms = self.erased_at_ms.get((delivery.account, delivery.notification_id))
        record = None if entry is None else entry.record
        return NotificationPage(delivery=delivery, record=record, erased_at_ms=erased_at_ms)

    async def order_list(self, query: OrderQuery) -> OrderList:
        self._check()
        pages = sorted([self._page_of(named) for named in self.orders], key=_place, reverse=True)
        if query.prefix:
            pages.sort(key=lambda page: (page.number, page.account), reverse=True)
        if query.after is not None:
            last = (query.after.changed_at_ms, query.after.number, query.after.account)
            pages = [page for page in pages if (_place(page)[1:] < last[1:] if query.prefix else _place(page) < last)]
        return queries.order_list(query, [page for page in pages if _is_listed(page, query)][: query.limit + 1], None)

    async def register(
        self,
        scope: str,
        number: str,
        refunds: Sequence[str],
        decide: Callable[[Order | None], WritePlan],
        *,
        by: str,
        why: str,
    ) -> WritePlan:
        self._check()
        for refund in refunds:
            if self.refunds.get((scope, refund), number) != number:
                raise RefundTaken(refund, self.refunds[scope, refund])
        plan = decide(self.orders.get((scope, number)))
        self.refunds.update({(scope, refund): number for refund in refunds})
        self._write(plan)
        self.audit.append(("register", f"{scope}:{number}", by, why))
        return plan

    def register_now(self, account: str, number: str, registration: Registration, *, now_ms: int) -> None:
        order = self.orders.get((account, number))
        self.refunds.update({(account, refund): number for refund in registration.refunds})
        self._write(decision.register(order, account, number, registration, now_ms=now_ms))

    async def events_after(self, number: int, limit: int) -> Sequence[Emitted]:
        return self._emitted()[number : number + limit]

    async def newest_event(self) -> int:
        return len(self.outbox)

    # workers.queries: held notifications

    async def held_list(self, query: HeldQuery) -> Sequence[HeldPage]:
        wanted = [page for _, page in sorted(self.pages.items()) if _is_meant(page, query)]
        if query.after is not None:
            wanted = [page for page in wanted if page.row.position > query.after.position]
        if query.newest_first:
            wanted.reverse()
        return wanted[: query.limit]

    async def held_groups(self, query: HeldQuery) -> Sequence[HeldGroup]:
        rows = [page.row for page in self.pages.values() if _is_meant(page, query)]
        counted = Counter((row.disposition, row.reason, row.account) for row in rows)
        return [
            HeldGroup(
                disposition=kind[0],
                reason=kind[1],
                account=kind[2],
                count=count,
                oldest_ms=min(row.first_at_ms for row in rows if (row.disposition, row.reason, row.account) == kind),
            )
            for kind, count in counted.most_common()
        ]

    async def held_page(self, id_: str) -> HeldPage | None:
        return next((page for position, page in self.pages.items() if str(position) == id_), None)

    async def wake_more(self) -> bool:
        return False  # it wakes all at once

    async def due(self, *, now_ms: int, limit: int) -> Sequence[HeldRow]:
        return self.due_now(now_ms=now_ms)[:limit]

    def due_now(self, *, now_ms: int) -> list[HeldRow]:
        rows = [row for row in self.held.values() if row.due_at_ms is not None and row.due_at_ms <= now_ms]
        return sorted(rows, key=lambda row: row.due_at_ms or 0)

    async def next_due_ms(self) -> int | None:
        return min((row.due_at_ms for row in self.held.values() if row.due_at_ms is not None), default=None)

    async def note_replay(
        self, ids: Sequence[str], *, by: str, why: str, now_ms: int, replay: int | None = None
    ) -> None:
        for id_ in ids:
            page = await self.held_page(id_)
            assert page is not None
            self.pages[page.row.position] = structs.replace(page, replays=page.replays + 1)
            self.replay_of[page.row.position] = replay
            self.audit.append(("replay", id_, by, why))

    # workers.snoozes.SnoozesPort

    async def snooze(self, id_: str, snooze: Snooze, *, now_ms: int) -> bool:
        page = await self.held_page(id_)
        if page is None or page.resolution:
            return False
        self.pages[page.row.position] = structs.replace(page, snooze=snooze)
        action, why = snoozes.audited(snooze, now_ms=now_ms)
        self.audit.append((action, id_, snooze.by, why))
        return True

    # workers.replays.ReplaysPort

    async def start_replay(self, new: NewTask, *, now_ms: int) -> ReplayTask:
        query = held_lists.for_task(new.query, now_ms)
        task = ReplayTask(
            number=len(self.tasks) + 1,
            action=new.action,
            state=ReplayState.RUNNING,
            query=structs.replace(query, after=HeldPlace(first_at_ms=-1, position=Position(0, 0))),
            rate=new.rate,
            total=sum(group.count for group in await self.held_groups(query)),
            by=new.by,
            why=new.why,
            started_at_ms=now_ms,
        )
        self.tasks[task.number] = task
        self.audit.append((*replays.audit_row(task.action, "start", task.number), new.by, new.why))
        return task

    async def replay(self, number: int) -> ReplayTask | None:
        return self.tasks.get(number)

    async def replays(self, limit: int, before: int | None = None) -> TaskList:
        matching = [task for task in list(self.tasks.values())[::-1] if before is None or task.number < before]
        return TaskList(tasks=matching[:limit], more=len(matching[limit:]))

    async def running_replay(self, *, aside: Collection[int] = ()) -> ReplayTask | None:
        running = (task for task in self.tasks.values() if task.state is ReplayState.RUNNING)
        return next((task for task in running if task.number not in aside), None)

    async def switch_replay(
        self, number: int, *, before: ReplayState, after: ReplayState, by: str, why: str, now_ms: int
    ) -> bool:
        task = self.tasks.get(number)
        if task is None or task.state is not before:
            return False
        self.tasks[number] = structs.replace(task, state=after)
        verb = "cancel" if after is ReplayState.CANCELLED else "resume"
        self.audit.append((*replays.audit_row(task.action, verb, number), by, why))
        return True

    async def advance_replay(self, task: ReplayTask, upto: HeldPlace | None, *, now_ms: int) -> None:
        present, after = self.tasks[task.number], task.query.after
        assert after is not None
        if present.query.after != after or (upto is None and present.state is not ReplayState.RUNNING):
            return
        marked = [
            self.pages[position]
            for position, number in self.replay_of.items()
            if number == task.number and after.position < position and (upto is None or position <= upto.position)
        ]
        outcomes = Counter(
            page.resolution or ("failed" if page.row.disposition is Disposition.DEAD else "held_again")
            for page in marked
        )
        names = ("applied", "duplicate", "stale", "held_again", "failed")
        counted = {name: getattr(present, name) + outcomes[name] for name in names}
        decided = present.decided + outcomes[replays.RESOLUTIONS.get(task.action, "")]
        present = structs.replace(present, done=present.done + len(marked), decided=decided, **counted)
        present = structs.replace(present, failures=task.failures)
        if upto is None:
            present = structs.replace(present, state=ReplayState.FINISHED, finished_at_ms=now_ms)
        else:
            present = structs.replace(present, query=structs.replace(present.query, after=upto))
        self.tasks[task.number] = present

    async def counts(self) -> Counts:
        counts = []
        query = HeldQuery(awake_at_ms=self._now_ms())
        awake = [page.row for page in self.pages.values() if _is_meant(page, query)]
        for disposition in HELD:
            since = [row.first_at_ms for row in awake if row.disposition is disposition]
            counts.append(HeldCount(disposition=disposition, count=len(since), oldest_ms=min(since, default=None)))
        tried = Counter(row.attempts for row in self.held.values() if row.disposition is Disposition.PARKED)
        unsent = [row for row in self._emitted() if row.sent_at_ms is None]
        return Counts(
            held=tuple(counts),
            parked=tuple(ParkedCount(attempts=attempts, count=count) for attempts, count in tried.items()),
            outbox_pending=len(unsent),
            outbox_oldest_ms=self._now_ms() if unsent else None,
            received_newest_ms=max((each.received_at_ms for each in self.deliveries.values()), default=None),
        )

    @property
    def decided(self) -> list[tuple[str, str, str, str]]:
        """The audit rows of what operators decided about held notifications."""
        return [row for row in self.audit if row[0] != "register"]

    def _wait_for_locks(self, needs: LoadRequest, known: StoreSnapshot) -> None:
        """Fail as a store does that has waited for a lock in vain."""
        if known.orders.keys() & self.locked or needs.retried & self.locked_held or needs.ids & self.inserting:
            raise RowsLocked("another session has locked a row")

    def _check(self) -> None:
        if self.is_down:
            raise InfrastructureDown("the disk is gone")

    def _emitted(self) -> list[Emitted]:
        return [
            Emitted(number=number, event=event, sent_at_ms=self.sent_at_ms.get(number))
            for number, event in enumerate(self.outbox, 1)
        ]

    def _page_of(self, named: AccountKey) -> OrderPage:
        order, view = self.orders.get(named), self.views.get(named)
        return OrderPage(
            account=named[0],
            number=named[1],
            order=order,
            view=view,
            deliveries=(),
            events=(),
            changed_at_ms=self.changed_at_ms.get(named, 0),
        )

    def _history(self, named: AccountKey) -> tuple[PriorNotification, ...]:
        firsts = {row.position: row.record for row in self.ledger.values()}
        return tuple(
            PriorNotification(
                position=each.position,
                disposition=each.disposition,
                reason=each.reason,
                is_open=each.position in self.held,
                record=firsts[each.position],
            )
            for each in self.deliveries.values()
            if (each.account, each.order) == named and each.position in firsts
        )

    def _write(self, plan: WritePlan) -> None:
        decided = {(each.account, each.order, each.version) for each in plan.decisions}
        for order in plan.orders:
            self._check_version(order, decided)
        for write in plan.orders:
            order_after = write.order
            named = (order_after.account, order_after.number)
            self.orders[named], self.views[named] = order_after, write.view
            self.changed_at_ms[named] = self._now_ms()
            for claim in order_after.claims:
                self._trades.setdefault((order_after.account, claim.trade), order_after.number)
        for added in plan.movements:
            rows = self.movements_of.setdefault((added.account, added.order), [])
            assert added.movement not in rows, "each fact once"
            rows.append(added.movement)
        for gone in plan.movements_gone:
            self.movements_of[gone.account, gone.order].remove(gone.movement)
        for row in plan.ledger:
            assert (row.account, row.notification_id) not in self.ledger, "one row per notification id"
            self.ledger[row.account, row.notification_id] = row
        for delivery in plan.deliveries:
            is_retry = delivery.position in self.held
            assert delivery.position not in self.deliveries or is_retry, "one disposition per record"
            self.deliveries[delivery.position] = delivery
        self.numbers.update(dict.fromkeys(plan.numbers))
        for held in plan.held:
            self._hold(held)
        for position in plan.released:
            self._release(position)
        for each in plan.decisions:
            self._decide(each)
        self.outbox += plan.events
        self._wake(plan)

    def _decide(self, decided: DecisionRow) -> None:
        self.decisions.append(decided)
        self.held.pop(decided.position, None)
        self.pages[decided.position] = structs.replace(
            self.pages[decided.position],
            resolution=decided.resolution,
            resolved_at_ms=decided.at_ms,
            by=decided.by,
            why=decided.why,
        )
        if decided.task is not None:
            self.replay_of[decided.position] = decided.task
        if self.audit[-1:] != [(decided.action, str(decided.position), decided.by, decided.audited)]:
            self.audit.append((decided.action, str(decided.position), decided.by, decided.audited))

    def _check_version(self, write: OrderWrite, decided: set[tuple[str, str, int | None]]) -> None:
        before = self.orders.get((write.order.account, write.order.number))
        if write.expected_version != (None if before is None else before.version):
            raise VersionConflict(write.order.number)
        named = (write.order.account, write.order.number)
        rank = order_view.rank(write.order, write.view)
        if before is not None:
            assert write.order.version >= before.version
            is_decided = (*named, write.order.version) in decided and write.order.version > before.version
            assert rank >= self._ranks[named] or is_decided, "a rank falls only by an operator's decision"
        self._ranks[named] = rank

    def _hold(self, row: HeldRow) -> None:
        before = self.pages.get(row.position)
        replays = 0 if before is None else before.replays
        is_same = before is not None and (before.row.disposition, before.row.reason) == (row.disposition, row.reason)
        self.held[row.position] = row
        page = HeldPage(row=row, resolved_at_ms=None, resolution="", by="", why="", replays=replays)
        snooze = before.snooze if before is not None and is_same else None
        self.pages[row.position] = structs.replace(page, snooze=snooze)

    def _release(self, position: Position) -> None:
        del self.held[position]
        resolution = self.deliveries[position].disposition.value
        self.pages[position] = structs.replace(
            self.pages[position], resolution=resolution, resolved_at_ms=self._now_ms()
        )

    def _wake(self, plan: WritePlan) -> None:
        """After the held rows: a record parked in this transaction may wait for another record of the same one."""
        for position, row in self.held.items():
            is_parked = row.disposition is Disposition.PARKED
            if is_parked and (row.account, row.waits_for) in plan.wakes:
                self.held[position] = structs.replace(row, due_at_ms=0)
                self.pages[position] = structs.replace(self.pages[position], row=self.held[position])


def _decision(row: DecisionRow) -> OperatorDecision:
    return OperatorDecision(
        held_id=str(row.position),
        notification_id=row.notification_id,
        version=row.version,
        action=row.action,
        by=row.by,
        why=row.why,
        at_ms=row.at_ms,
        amount=row.amount,
    )


def _trades(order: Order) -> list[str]:
    return [claim.trade for claim in order.claims]


def _is_meant(page: HeldPage, query: HeldQuery) -> bool:
    row = page.row
    given: list[tuple[str | Disposition | None, str]] = [
        (query.account, scopes.account_of(row.account)),
        (query.scope, row.account),
        (query.order, row.order),
        (query.disposition, row.disposition),
        (query.reason, row.reason),
    ]
    is_selected = not query.ids or row.id in query.ids
    until_ms = 0 if page.snooze is None else page.snooze.until_ms
    is_selected &= query.awake_at_ms is None or until_ms <= query.awake_at_ms
    is_selected &= query.snoozed_at_ms is None or until_ms > query.snoozed_at_ms
    return is_selected and bool(page.resolution) == query.resolved and all(asked in (None, has) for asked, has in given)


def _hold(page: HeldPage) -> Hold:
    row = page.row
    return Hold(
        position=row.position,
        disposition=row.disposition,
        reason=row.reason,
        detail=row.detail,
        first_at_ms=row.first_at_ms,
        attempts=row.attempts,
        due_at_ms=row.due_at_ms,
        resolution=page.resolution,
        erased_at_ms=page.erased_at_ms,
    )


def _place(page: OrderPage) -> tuple[int, str, str]:
    return page.changed_at_ms, page.number, page.account


def _is_listed(page: OrderPage, query: OrderQuery) -> bool:
    view, amounts = page.view, query.amounts
    assert view is not None
    return (
        page.number.startswith(query.prefix)
        and query.account in (None, scopes.account_of(page.account))
        and query.scope in (None, page.account)
        and query.status in (None, view.status)
        and (bool(view.flags) or not query.is_flagged)
        and (query.since_ms or 0) <= page.changed_at_ms < (query.before_ms or 2**62)
        and (
            amounts is None
            or (
                view.currency == amounts.currency
                and view.amount_minor is not None
                and (amounts.from_minor or 0) <= view.amount_minor <= (amounts.to_minor or 2**62)
            )
        )
    )
