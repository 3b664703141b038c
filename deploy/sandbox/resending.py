"""The recent deliveries of the sandbox, and a page on which one of them is sent again, as it was or changed.

One that is sent again unchanged is the same notification: its `notify_id` stays, and it has a later time and a new
signature. One whose fields are changed is another notification, with a `notify_id` of its own, and is resent by the
schedule like any other. One with a broken signature is a forgery, which Alipay would send to nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from random import SystemRandom
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from deploy.sandbox import notifications, pages, planning, serials
from deploy.sandbox.delivery import Attempt, DeliveryJob
from deploy.sandbox.forgery import WAYS, Forger
from deploy.sandbox.notifications import Edits, UnplayableError

_RECENT_MAX = 60
_VALUE_CHARACTERS_MAX = 200
# The fields that the page lets change, by their meaning: the first one that a notification has.
_CHANGEABLE: Mapping[str, tuple[str, ...]] = {
    "amount": ("total_fee", "total_amount", "paymentAmount.value", "refundAmount.value", "captureAmount.value"),
    "seller": ("seller_id", "auth_app_id"),
    "status": ("trade_status", "result.resultCode", "refundStatus"),
}

StartSending = Callable[[DeliveryJob, int], bool]


class RecentDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery with its job; `ended_s` is on the monotonic clock."""

    serial: int
    attempt: Attempt
    job: DeliveryJob
    ended_s: float


class RecentDeliveries:
    """The newest deliveries, each with a serial number."""

    def __init__(self, *, time_scale: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._time_scale = time_scale
        self._clock = clock
        self._kept: OrderedDict[int, RecentDelivery] = OrderedDict()
        self._last = 0

    def note(self, attempt: Attempt, job: DeliveryJob) -> None:
        """Keep a delivery that has ended, in the place of the oldest one."""
        self._last += 1
        self._kept[self._last] = RecentDelivery(serial=self._last, attempt=attempt, job=job, ended_s=self._clock())
        while len(self._kept) > _RECENT_MAX:
            self._kept.popitem(last=False)

    def of(self, serial: int) -> RecentDelivery | None:
        """Return a delivery; `None` if it is not among the newest any more."""
        return self._kept.get(serial)

    def newest(self) -> list[RecentDelivery]:
        """Return the deliveries, the newest first."""
        return [*reversed(self._kept.values())]

    def next_number(self, one: RecentDelivery) -> int:
        """Return the number of the next delivery of the same notification."""
        return 1 + max(each.attempt.number for each in [one, *self._kept.values()] if _key(each) == _key(one))

    def next_in_s(self, one: RecentDelivery) -> int | None:
        """Return in how many whole seconds from now it is sent again by the schedule; `None` if it is not.

        The schedule sends again after the last of its own deliveries only.
        """
        again_in_s, number = one.attempt.again_in_s, one.attempt.number
        others = (each for each in self._kept.values() if _key(each) == _key(one) and not each.job.is_extra)
        if again_in_s is None or any(each.attempt.number > number for each in others):
            return None
        return max(0, round(one.ended_s + again_in_s / self._time_scale - self._clock()))


class Resending:
    """The page of one delivery, on which it is sent again."""

    def __init__(self, recent: RecentDeliveries, start: StartSending) -> None:
        """`start` sends a notification from a delivery number on, and returns False if too many are being sent."""
        self._recent = recent
        self._start = start
        self._forger = Forger()
        self._numbers = serials.Serials(SystemRandom())

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the page."""
        path = "/deliveries/{serial:[0-9]{1,15}}"
        return [web.get(path, self._page), web.post(path, self._send)]

    def _wanted(self, request: web.Request) -> RecentDelivery:
        found = self._recent.of(int(request.match_info["serial"]))
        if found is None:
            raise web.HTTPNotFound(text="This delivery is too old: the sandbox knows the newest ones only.")
        return found

    async def _page(self, request: web.Request) -> web.Response:
        """Show the notification, and the fields that can be changed."""
        return self._show(self._wanted(request))

    def _show(self, one: RecentDelivery, *, why: str = "", given: Mapping[str, str] | None = None) -> web.Response:
        fields = dict(one.job.notification.fields)
        values = {meaning: (name, (given or {}).get(meaning, fields[name])) for meaning, name in _names(one).items()}
        return pages.page(
            "delivery.html",
            title="Sandbox",
            skin="home",
            status=400 if why else 200,
            one=one,
            sent=serials.moment(one.attempt.sent_at),
            values=values,
            signature=(given or {}).get("signature", ""),
            why=why,
        )

    async def _send(self, request: web.Request) -> web.StreamResponse:
        """Send it again, with the changes that the form asks for."""
        one = self._wanted(request)
        form = await request.post()
        given = {name: str(form[name]) for name in (*_CHANGEABLE, "signature") if name in form}
        try:
            job, number = await self._again(one, given)
        except UnplayableError as error:
            return self._show(one, why=str(error), given=given)
        if not self._start(job, number):
            return self._show(one, why="Too many scenarios are running. Try again in a moment.", given=given)
        raise web.HTTPSeeOther("/")

    async def _again(self, one: RecentDelivery, given: Mapping[str, str]) -> tuple[DeliveryJob, int]:
        """Return the notification to send, and the number of its delivery.

        Raises:
            UnplayableError: a value is empty, too long or cannot be encoded, or no signature is broken in this way.
        """
        changes = _changes(one, given)
        way = next((way for way in WAYS if way == given.get("signature")), None)
        if way is None and given.get("signature"):
            raise UnplayableError(f"a signature is broken in one of these ways: {', '.join(WAYS)}")
        if not changes and way is None:
            return msgspec.structs.replace(one.job, copies=1, is_extra=True), self._recent.next_number(one)
        notification, now = one.job.notification, datetime.now(UTC)
        if "notify_id" in dict(notification.fields):
            changes["notify_id"] = self._numbers.notify_id(now)
        notification = notifications.edited(notification, Edits(override=tuple(changes.items())))
        notification = planning.finished(notification, cut=())
        if way is not None:  # on a thread, because it may generate a key
            notification = await asyncio.to_thread(self._forger.forge, notification, way)
        is_strange = bool(notification.account.identity.seller_id and changes.keys() & set(_CHANGEABLE["seller"]))
        is_refused = way is not None or is_strange or one.job.expected == "refused"
        job = DeliveryJob(
            notification=notification,
            url=one.job.url,
            at=now,
            expected="refused" if is_refused else "success",
            forged=way is not None or one.job.forged,
        )
        return job, 1


def row(one: RecentDelivery, recent: RecentDeliveries, console: str) -> dict[str, object]:
    """Return a delivery as the list shows it; `page` is that of its order in the console."""
    attempt = one.attempt
    return {
        "serial": one.serial,
        "at": attempt.sent_at.isoformat(),
        "time": serials.moment(attempt.sent_at),
        "page": f"{console}/find?{urlencode({'number': attempt.order})}" if attempt.order else "",
        "account": attempt.account,
        "order": attempt.order,
        "kind": attempt.kind,
        "number": str(attempt.number),
        "status": str(attempt.status or "–"),
        "outcome": attempt.outcome,
        "expected": "yes" if attempt.as_expected else "no",
        "why": attempt.why or attempt.answer,
        "elapsed": f"{attempt.elapsed_ms:.0f} ms",
        "next_in_s": recent.next_in_s(one),
    }


def _key(one: RecentDelivery) -> tuple[str, str, str, bool]:
    return one.attempt.account, one.attempt.order, one.attempt.notify_id, one.job.forged


def _names(one: RecentDelivery) -> dict[str, str]:
    """Return the name of the field for each meaning that the notification has."""
    have = dict(one.job.notification.fields)
    found = {meaning: next((name for name in names if name in have), "") for meaning, names in _CHANGEABLE.items()}
    return {meaning: name for meaning, name in found.items() if name}


def _changes(one: RecentDelivery, given: Mapping[str, str]) -> dict[str, str]:
    """Return the fields whose values differ from those that were sent.

    Raises:
        UnplayableError: a value is empty or too long, or cannot be encoded in the charset of the notification.
    """
    notification = one.job.notification
    fields, changes = dict(notification.fields), dict[str, str]()
    for meaning, name in _names(one).items():
        value = given.get(meaning, fields[name])
        if value == fields[name]:
            continue
        value = value.strip()
        if not 0 < len(value) <= _VALUE_CHARACTERS_MAX:
            raise UnplayableError(f"{name} needs a value of at most {_VALUE_CHARACTERS_MAX} characters")
        try:
            value.encode(notification.charset)
        except UnicodeEncodeError:
            raise UnplayableError(f"{name} cannot be encoded in {notification.charset}") from None
        changes[name] = value
    return changes
