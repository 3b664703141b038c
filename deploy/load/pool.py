"""Notifications signed beforehand, in the order in which they will be sent; each says what it is.

Signed by the simulated Alipay's pen and never by the product's own code: a mistake in one must not hide one in the
other. A duplicate is the same notification told again: same id and content, another `notify_time`, another signature.

What belongs to one order is spread, so that later news overtakes earlier ones and duplicates meet their originals in
the same batch of the worker as well as long afterwards. The same seed gives the same requests, but for the signatures
of the forger, whose keys are new each time, and for the moments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from random import Random
from urllib.parse import parse_qsl

from msgspec import Struct

from deploy.load import mix, wire
from deploy.load.mix import Life, Lives, Mix
from deploy.sandbox import field_sets, forgery, serials, signing
from deploy.sandbox.notifications import Event, Kind, Notification
from deploy.sandbox.world import Account

# How far apart, counted in new notifications, an order's news and a notification's duplicates may come to lie.
_SPREAD = 300
_CLOSE = 3
_CLOSE_SHARE = 0.5
_RETOLD_AFTER = timedelta(minutes=4)


class Told(Struct, frozen=True, array_like=True, gc=False):
    """What one request tells, for whoever judges the outcome.

    `refunded_minor` is the sum of all refunds up to and with this one, as far as the message says it: the old gateway
    names an amount only where it is the whole one.
    """

    account: str
    order: str
    notify_id: str
    kind: Kind
    trade: str
    amount_minor: int
    currency: str
    refunded_minor: int | None
    forged: bool
    again: bool


class Signed(Struct, frozen=True, gc=False):
    """One request, ready for the wire."""

    told: Told
    request: bytes


class Share(Struct, frozen=True, kw_only=True):
    """The part of a run that one sender signs and sends: `number` of `of`."""

    seed: int
    number: int = 0
    of: int = 1

    def size(self, total: int) -> int:
        """How many of this many requests are its own."""
        return len(range(self.number, total, self.of))

    @property
    def run(self) -> str:
        """How the numbers of its orders begin."""
        return f"{run_name(self.seed)}-{self.number}"


def run_name(seed: int) -> str:
    """How the numbers of all orders of a run begin."""
    return f"L{seed:x}"


def make(
    share: Share,
    *,
    total: int,
    accounts: Sequence[Account],
    mixed: Mix,
    host: str,
    now: datetime,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Signed]:
    """The share's requests of a run of `total`, in the order of sending. `progress` hears how many are signed."""
    author = _Author(share, accounts=accounts, mixed=mixed, host=host, now=now)
    placed: list[tuple[float, int, Signed]] = []
    for place, signed in author.requests(*mixed.counts(share.size(total))):
        placed.append((place, len(placed), signed))
        progress(len(placed))
    placed.sort(key=lambda each: each[:2])
    return [signed for _, _, signed in placed]


class _Author:
    def __init__(self, share: Share, *, accounts: Sequence[Account], mixed: Mix, host: str, now: datetime) -> None:
        # A text as seed: the shares of one run, and the runs of seeds that lie side by side, have nothing in common.
        self._chance = Random(f"{share.seed}/{share.number}")  # noqa: S311 - has to be repeatable; no secret comes of it
        self._numbers = serials.Serials(self._chance)
        self._lives = Lives(run=share.run, accounts=accounts, mix=mixed, chance=self._chance)
        self._forger = forgery.Forger()
        self._host = host
        self._now = now

    def requests(self, genuine: int, again: int, forged: int) -> Iterator[tuple[float, Signed]]:
        """Each request with its place among the others."""
        copies = Counter(self._chance.randrange(genuine) for _ in range(again))
        lookalikes = Counter(self._chance.randrange(genuine) for _ in range(forged))
        index = 0
        for number in range(genuine):
            life = self._lives.order(number, now=self._now)
            is_alone = len(life.events) == 1
            for event in life.events:
                if index == genuine:
                    return  # the last order's life is cut short: what was not told is not expected either
                place = index + (0 if is_alone else self._chance.uniform(0, _SPREAD))
                yield from self._told(life, event, place, copies=copies[index], forged=lookalikes[index])
                index += 1

    def _told(
        self, life: Life, event: Event, place: float, *, copies: int, forged: int
    ) -> Iterator[tuple[float, Signed]]:
        one = field_sets.compose(life.trade, event, numbers=self._numbers, chance=self._chance)
        yield place, self._signed(one, self._now)
        for copy in range(1, copies + 1):
            yield place + self._distance(), self._signed(one, self._now + copy * _RETOLD_AFTER, again=True)
        for _ in range(forged):
            trade, looks = mix.lookalike(life, event)
            start = field_sets.compose(trade, looks, numbers=self._numbers, chance=self._chance)
            forgery_ = self._forger.forge(start, self._chance.choice(forgery.WAYS))
            yield place + self._chance.uniform(-_SPREAD, _SPREAD), self._signed(forgery_, self._now, forged=True)

    def _distance(self) -> float:
        """Half of the duplicates lie right behind, where two workers or one batch meet both; the others anywhere."""
        return self._chance.uniform(0, _CLOSE if self._chance.random() < _CLOSE_SHARE else _SPREAD)

    def _signed(self, one: Notification, at: datetime, *, forged: bool = False, again: bool = False) -> Signed:
        delivery = one.delivery(at)
        return Signed(
            _told(one, forged=forged, again=again),
            wire.request_bytes(self._host, delivery.path, delivery.headers, delivery.body),
        )


def _told(one: Notification, *, forged: bool, again: bool) -> Told:
    facts = one.facts
    return Told(
        account=one.account.identity.name,
        order=one.order,
        notify_id=one.notify_id,
        kind=facts.kind,
        trade=facts.trade_no,
        amount_minor=facts.amount_minor,
        currency=facts.currency,
        refunded_minor=_refunded(one),
        forged=forged,
        again=again,
    )


def _refunded(one: Notification) -> int | None:
    refund = one.facts.refund
    if refund is None:
        return 0
    is_said = one.account.identity.product == "open" or refund.total_minor >= one.facts.amount_minor
    return refund.total_minor if is_said else None


def retold(request: bytes, account: Account, *, host: str, at: datetime) -> bytes:
    """A request told again at another moment: same id and content, new `notify_time` and signature."""
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
    """The headers of a request but those that `request_bytes` writes itself."""
    pairs = (line.partition(": ")[::2] for line in head.decode("ascii").split("\r\n")[1:])
    return tuple((name, changed.get(name, value)) for name, value in pairs if name not in ("Host", "Content-Length"))
