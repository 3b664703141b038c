"""Make up and sign the requests of a load run before anything is sent. Each request states its own contents.

The sandbox signs, never the product's own code: a mistake in one must not hide a mistake in the other. A duplicate has
the id and content of its original, but another `notify_time` and signature.

The events of one order are spread over the run, so that later events overtake earlier ones. Duplicates meet their
originals both in the same batch of a worker and long afterwards. The same seed gives the same requests, except for
times and forged signatures: the forger's keys are new each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from urllib.parse import parse_qsl

from msgspec import Struct, structs

from deploy.load import wire
from deploy.sandbox import field_sets, forgery, serials, signing
from deploy.sandbox.identities import Product
from deploy.sandbox.notifications import MessageKind, SandboxRefund, Trade, TradeEvent, UnsignedNotification
from deploy.sandbox.world import SandboxAccount

_SUBJECTS = ("Museum pass, two days", "港式奶茶 x2 + 礼盒", "Night boat ticket 10% off", "Tea & cake = two")
_CHECKOUT = timedelta(seconds=45)
_UNTIL_EXPIRED = timedelta(minutes=30)
_UNTIL_FINISHED = timedelta(days=90)
# Lives of orders with several events. Antom orders have no refunds here: an Antom refund names no order, so it would
# have to be registered first.
_COMMON = ("finished", "finished", "part", "parts", "whole", "expired")
_LIVES: Mapping[Product, tuple[str, ...]] = {
    "in-app": (*_COMMON, "actions", "reversed"),
    "website": _COMMON,
    "open": _COMMON,
    "antom": ("pending", "captured", "captured later", "settled"),
}
_REFUNDED_PERCENT = {"part": (30,), "parts": (20, 30), "whole": (40, 60), "actions": (20, 30)}
# With two decimals, none and three, and of no list.
_ANTOM_CURRENCIES = ("BRL", "CLP", "KWD", "TWD", "VND", "XYZ")


_ANTOM_KINDS: Mapping[str, tuple[MessageKind, ...]] = {
    "captured": (MessageKind.AUTHORIZED, MessageKind.CAPTURE),
    "captured later": (MessageKind.AUTHORIZED, MessageKind.CAPTURE_FAILED, MessageKind.CAPTURE),
}


class Mix(Struct, frozen=True, kw_only=True):
    """`duplicates` and `forgeries` are shares of all requests, `lifecycles` the share of orders with several events."""

    duplicates: float = 0.15
    lifecycles: float = 0.3
    forgeries: float = 0.02

    def counts(self, total: int) -> tuple[int, int, int]:
        """Return how many of `total` requests are new, duplicates, and forged."""
        duplicates = round(total * self.duplicates)
        genuine = max(1, total - round(total * self.forgeries) - duplicates) if total else 0
        duplicates = min(duplicates, total - genuine)
        return genuine, duplicates, total - genuine - duplicates


class Life(Struct, frozen=True, kw_only=True):
    """One order: its trade and its events, in their order."""

    trade: Trade
    events: tuple[TradeEvent, ...]


class Lives:
    """Makes up orders. The same `chance` gives the same orders."""

    def __init__(self, *, run: str, accounts: Sequence[SandboxAccount], mix: Mix, chance: Random) -> None:
        """`run` begins every order number, so that orders of different runs differ."""
        self._run = run
        self._accounts = accounts
        self._mix = mix
        self._chance = chance
        self._numbers = serials.Serials(chance)

    def order(self, number: int, *, now: datetime) -> Life:
        """Return the order with this number."""
        account = self._chance.choice(self._accounts)
        life = (
            self._chance.choice(_LIVES[account.identity.product])
            if self._chance.random() < self._mix.lifecycles
            else "paid"
        )
        began = now - _UNTIL_FINISHED - timedelta(days=1) if life == "finished" else now
        trade = self._trade(account, number, paid=began)
        if life == "paid":
            return Life(trade=trade, events=(TradeEvent(kind=MessageKind.PAID, at=began),))
        if account.identity.product == "antom":
            return self._antom(trade, life)
        return Life(trade=trade, events=tuple(self._events(trade, life)))

    def _trade(self, account: SandboxAccount, number: int, *, paid: datetime) -> Trade:
        antom = account.identity.product == "antom"
        return Trade(
            account=account,
            order=f"{self._run}-{number:07d}",
            trade_no=self._numbers.payment_id(paid) if antom else self._numbers.trade_no(paid),
            amount_minor=self._chance.randrange(100, 1_000_000),
            currency=account.identity.currency,
            subject=self._chance.choice(_SUBJECTS),
            created=paid - _CHECKOUT,
            paid=paid,
        )

    def _antom(self, trade: Trade, life: str) -> Life:
        if life == "settled":
            trade = structs.replace(trade, currency=self._chance.choice(_ANTOM_CURRENCIES))
        kinds = _ANTOM_KINDS.get(life, (MessageKind.WAITING, MessageKind.PAID))
        return Life(trade=trade, events=tuple(TradeEvent(kind=kind, at=trade.paid) for kind in kinds))

    def _events(self, trade: Trade, life: str) -> list[TradeEvent]:
        waiting = TradeEvent(kind=MessageKind.WAITING, at=trade.created)
        if life == "expired":
            return [waiting, TradeEvent(kind=MessageKind.CLOSED, at=trade.paid + _UNTIL_EXPIRED)]
        events = [waiting, TradeEvent(kind=MessageKind.PAID, at=trade.paid)]
        if life == "finished":
            return [*events, TradeEvent(kind=MessageKind.FINISHED, at=trade.paid + _UNTIL_FINISHED)]
        if life == "reversed":
            return [*events, TradeEvent(kind=MessageKind.REVERSED, at=trade.paid)]
        kind = MessageKind.REFUND_ACTION if life == "actions" else MessageKind.REFUND
        return [*events, *self._refunds(trade, _REFUNDED_PERCENT[life], kind)]

    def _refunds(self, trade: Trade, percents: Sequence[int], kind: MessageKind) -> list[TradeEvent]:
        events: list[TradeEvent] = []
        total = 0
        for index, percent in enumerate(percents, start=1):
            # The last part of a full refund takes the rest, so that rounding leaves nothing over.
            is_rest = index == len(percents) and sum(percents) == 100
            part = trade.amount_minor - total if is_rest else trade.amount_minor * percent // 100
            total += part
            at = trade.paid + timedelta(seconds=index)
            refund = SandboxRefund(
                number=f"{trade.order}-R{index}",
                refund_id=self._numbers.payment_id(at),
                amount_minor=part,
                total_minor=total,
            )
            events.append(TradeEvent(kind=kind, at=at, refund=refund))
        return events


def lookalike(life: Life, event: TradeEvent) -> tuple[Trade, TradeEvent]:
    """Return the trade and event that a forgery starts from.

    An Antom message has no id, so its forgery is about another order. The judge cannot mistake it for the genuine one.
    """
    if life.trade.account.identity.product != "antom":
        return life.trade, event
    return structs.replace(life.trade, order=f"{life.trade.order}F"), event


# How far apart an order's events, and a notification's duplicates, may lie, counted in new notifications.
_SPREAD = 300
_CLOSE = 3
_CLOSE_SHARE = 0.5
_DUPLICATE_AFTER = timedelta(minutes=4)


class SentNotification(Struct, frozen=True, array_like=True, gc=False):
    """The contents of one request, for the judge.

    `refunded_minor` is the sum of all refunds up to and including this one, or `None` if the message does not contain
    it: the old gateway states an amount only for a full refund. `is_manual`: the account counts a card payment as
    paid when it is captured.
    """

    account: str
    order: str
    notify_id: str
    kind: MessageKind
    trade: str
    amount_minor: int
    currency: str
    refunded_minor: int | None
    forged: bool
    duplicate: bool
    is_manual: bool = False


class SignedRequest(Struct, frozen=True, gc=False):
    """One request, ready for the wire."""

    sent: SentNotification
    request: bytes


class Share(Struct, frozen=True, kw_only=True):
    """The part of a run that one sender signs and sends: part `number` of `of`."""

    seed: int
    number: int = 0
    of: int = 1

    def size(self, total: int) -> int:
        """Return how many of `total` requests belong to this share."""
        return len(range(self.number, total, self.of))

    @property
    def run(self) -> str:
        """The prefix of its order numbers."""
        return f"{run_name(self.seed)}-{self.number}"


def run_name(seed: int) -> str:
    """Return the prefix of all order numbers of a run."""
    return f"L{seed:x}"


def make(
    share: Share,
    *,
    total: int,
    accounts: Sequence[SandboxAccount],
    mix: Mix,
    host: str,
    now: datetime,
    progress: Callable[[int], None] = lambda _: None,
) -> list[SignedRequest]:
    """Sign the share's requests of a run of `total`, and return them in the order of sending.

    `progress` is called with the number of requests signed so far.
    """
    author = _Author(share, accounts=accounts, mix=mix, host=host, now=now)
    placed: list[tuple[float, int, SignedRequest]] = []
    for place, signed in author.requests(*mix.counts(share.size(total))):
        placed.append((place, len(placed), signed))
        progress(len(placed))
    placed.sort(key=lambda each: each[:2])
    return [signed for _, _, signed in placed]


class _Author:
    def __init__(self, share: Share, *, accounts: Sequence[SandboxAccount], mix: Mix, host: str, now: datetime) -> None:
        # With a text as seed, the shares of one run and runs with neighbouring seeds have nothing in common.
        self._chance = Random(f"{share.seed}/{share.number}")  # noqa: S311 - repeatable; no secret comes from it
        self._numbers = serials.Serials(self._chance)
        self._lives = Lives(run=share.run, accounts=accounts, mix=mix, chance=self._chance)
        self._forger = forgery.Forger()
        self._host = host
        self._now = now

    def requests(self, genuine: int, duplicates: int, forged: int) -> Iterator[tuple[float, SignedRequest]]:
        """Yield each request with its place among the others."""
        copies = Counter(self._chance.randrange(genuine) for _ in range(duplicates))
        lookalikes = Counter(self._chance.randrange(genuine) for _ in range(forged))
        index = 0
        for number in range(genuine):
            life = self._lives.order(number, now=self._now)
            is_alone = len(life.events) == 1
            for event in life.events:
                if index == genuine:
                    return  # this cuts the last order's life short; the judge expects only events that were sent
                place = index + (0 if is_alone else self._chance.uniform(0, _SPREAD))
                yield from self._requests(life, event, place, copies=copies[index], forged=lookalikes[index])
                index += 1

    def _requests(
        self, life: Life, event: TradeEvent, place: float, *, copies: int, forged: int
    ) -> Iterator[tuple[float, SignedRequest]]:
        one = field_sets.compose(life.trade, event, numbers=self._numbers, chance=self._chance)
        yield place, self._signed(one, self._now)
        for copy in range(1, copies + 1):
            yield place + self._distance(), self._signed(one, self._now + copy * _DUPLICATE_AFTER, duplicate=True)
        for _ in range(forged):
            trade, looks = lookalike(life, event)
            start = field_sets.compose(trade, looks, numbers=self._numbers, chance=self._chance)
            forgery_ = self._forger.forge(start, self._chance.choice(forgery.WAYS))
            yield place + self._chance.uniform(-_SPREAD, _SPREAD), self._signed(forgery_, self._now, forged=True)

    def _distance(self) -> float:
        """Return how far a duplicate lies behind its original.

        Half of them follow at once, so that two workers or one batch meet both; the others lie anywhere.
        """
        return self._chance.uniform(0, _CLOSE if self._chance.random() < _CLOSE_SHARE else _SPREAD)

    def _signed(
        self, one: UnsignedNotification, at: datetime, *, forged: bool = False, duplicate: bool = False
    ) -> SignedRequest:
        delivery = one.delivery(at)
        return SignedRequest(
            _contents(one, forged=forged, duplicate=duplicate),
            wire.request_bytes(self._host, delivery.path, delivery.headers, delivery.body),
        )


def _contents(one: UnsignedNotification, *, forged: bool, duplicate: bool) -> SentNotification:
    facts = one.facts
    return SentNotification(
        account=one.account.identity.name,
        order=one.order,
        notify_id=one.notify_id,
        kind=facts.kind,
        trade=facts.trade_no,
        amount_minor=facts.amount_minor,
        currency=facts.currency,
        refunded_minor=_refunded(one),
        forged=forged,
        duplicate=duplicate,
        is_manual=one.account.identity.manual_capture,
    )


def _refunded(one: UnsignedNotification) -> int | None:
    refund, kind = one.facts.refund, one.facts.kind
    if kind is MessageKind.REVERSED:
        return one.facts.amount_minor
    if refund is None:
        return 0
    is_stated = (
        kind is MessageKind.REFUND_ACTION
        or one.account.identity.product == "open"
        or refund.total_minor >= one.facts.amount_minor
    )
    return refund.total_minor if is_stated else None


def signed_again(request: bytes, account: SandboxAccount, *, host: str, at: datetime) -> bytes:
    """Return the request with the same id and content, but the `notify_time` and signature of another moment."""
    head, _, body = request.partition(b"\r\n\r\n")
    path = head.split(b" ", 2)[1].decode("ascii")
    identity = account.identity
    if identity.product == "antom":
        moment = serials.header_moment(at)
        content = signing.antom_content(
            method="POST", path=path, client_id=identity.client_id, request_time=moment, body=body
        )
        signature = signing.antom_header(account.signer.sign(content), key_version=account.key_version)
        changed = {"request-time": moment, "signature": signature}
        return wire.request_bytes(host, path, _headers(head, changed), body)
    fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, encoding=identity.charset, strict_parsing=True)
    moved = tuple(
        (name, serials.moment(at) if name == "notify_time" else value) for name, value in fields if name != "sign"
    )
    signed = signing.signed_fields(moved, signer=account.signer, charset=identity.charset)
    return wire.request_bytes(host, path, _headers(head, {}), signing.encode_form(signed, charset=identity.charset))


def _headers(head: bytes, changed: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the headers of a request without those that `request_bytes` writes itself."""
    pairs = (line.partition(": ")[::2] for line in head.decode("ascii").split("\r\n")[1:])
    return tuple((name, changed.get(name, value)) for name, value in pairs if name not in ("Host", "Content-Length"))
