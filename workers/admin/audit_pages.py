"""The audit rows over HTTP: the actions of operators, the newest first, with links to what each is about."""

from collections.abc import Callable, Sequence
from datetime import datetime
from urllib.parse import quote, urlencode

from aiohttp import web
from msgspec import UNSET, Struct, UnsetType, structs

from schemas import scopes, times
from workers import snoozes
from workers.admin import cursors, pages, responses
from workers.admin.pages import ConsoleFrame
from workers.admin.responses import ApiError
from workers.audit import ACTIONS, AuditEntry, AuditList, AuditPort, AuditQuery
from workers.long_poll import OrderChanges
from workers.settlement.plan import position_of

TEXT_CHARACTERS_MAX = 500


class AuditAnswer(Struct, frozen=True, kw_only=True):
    """One action. `by` is the name that the operator gave, with the client's address; the name is not verified.

    `order` with its account is set if the subject is an order, `held_id` if it is a held notification. `link` is the
    page of the subject, empty if it has none.
    """

    number: int
    at: datetime
    action: str
    subject: str
    by: str
    why: str
    account: str | UnsetType = UNSET
    auth_app_id: str | UnsetType = UNSET
    order: str | UnsetType = UNSET
    held_id: str | UnsetType = UNSET
    link: str


class AuditPages:
    """The API for audit rows, and their page."""

    def __init__(
        self, *, audit: AuditPort, changes: OrderChanges, pages: ConsoleFrame, now_ms: Callable[[], int]
    ) -> None:
        self._audit = audit
        self._changes = changes
        self._pages = pages
        self._now_ms = now_ms

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/audit", self.list_), web.get("/audit", self.page)]

    async def list_(self, request: web.Request) -> web.Response:
        """Return a page of the rows that match, the newest first."""
        found = await self._audit.audit_list(query(request, now_ms=self._now_ms()))
        return responses.json({"entries": [answer(each) for each in found.entries], "next": _next(found)})

    async def page(self, request: web.Request) -> web.Response:
        """Show a page of the rows that match; a faulty filter is shown beside its fault."""
        seen, given, fault = self._changes.seen, pages.given(request), ""
        try:
            found = await self._audit.audit_list(query(request, now_ms=self._now_ms()))
        except ApiError as error:
            found, fault = AuditList(entries=(), next_=None), error.detail
        filters = {name: text for name, text in given.items() if name != "cursor"}
        next_ = _next(found)
        return self._pages.page(
            "audit.html",
            status=400 if fault else 200,
            seen=seen,
            entries=[answer(each) for each in found.entries],
            snoozed=_snoozed(found.entries),
            given=given,
            fault=fault,
            actions=ACTIONS,
            next_page=None if next_ is None else f"/audit?{urlencode({**filters, 'cursor': next_})}",
            first_page=f"/audit?{urlencode(filters)}",
        )


def query(request: web.Request, *, now_ms: int) -> AuditQuery:
    """Return the filter and the page in a request's query; an empty parameter is the same as none.

    Raises:
        ApiError: an unknown action, a wrong time, number or cursor, or a text that is too long.
    """
    given = {name: text.strip() for name, text in request.query.items() if text.strip()}
    for name in ("by", "subject"):
        if len(given.get(name, "")) > TEXT_CHARACTERS_MAX:
            raise responses.bad_request(f"{name} may have at most {TEXT_CHARACTERS_MAX} characters")
    action, since = given.get("action"), given.get("since")
    if action is not None and action not in ACTIONS:
        raise responses.bad_request(f"action must be one of {', '.join(ACTIONS)}")
    return AuditQuery(
        by=given.get("by"),
        action=action,
        subject=given.get("subject"),
        since_ms=None if since is None else responses.moment_ms(since, now_ms=now_ms),
        before=cursors.audit_place(request),
        limit=responses.whole_number(request, "limit", default=100, most=responses.LIMIT_MAX),
    )


def answer(entry: AuditEntry) -> AuditAnswer:
    """Return one action, with the link to its subject."""
    shown = AuditAnswer(
        number=entry.number,
        at=times.from_epoch_ms(entry.at_ms),
        action=entry.action,
        subject=entry.subject,
        by=entry.by,
        why=entry.why,
        link="",
    )
    return _linked(shown)


def _linked(shown: AuditAnswer) -> AuditAnswer:
    if position_of(shown.subject) is not None:
        return structs.replace(shown, held_id=shown.subject, link=f"/held/{shown.subject}")
    scope, colon, number = shown.subject.partition(":")
    if shown.action == "bill_import":
        return structs.replace(shown, link=f"/bills/{quote(number, safe='')}")
    if not colon or shown.action.startswith(("replay", "task_")):
        return structs.replace(shown, link="/held" if shown.action.startswith(("replay_", "task_")) else "")
    if shown.action == "resend":
        number = number.rpartition(":")[0]  # the subject is an event's id, which ends in the version
    account, auth_app_id = scopes.split(scope)
    link = f"/orders/{quote(account, safe='')}/{quote(number, safe='')}"
    if auth_app_id:
        link = f"{link}?{urlencode({'auth_app_id': auth_app_id})}"
    return structs.replace(shown, account=account, auth_app_id=auth_app_id, order=number, link=link)


def _snoozed(entries: Sequence[AuditEntry]) -> dict[int, tuple[datetime, str]]:
    """Return until when and why, for each snooze by its number."""
    found = {each.number: snoozes.until_and_why(each.why) for each in entries if each.action == "snooze"}
    return {number: (until, why) for number, (until, why) in found.items() if until is not None}


def _next(found: AuditList) -> str | None:
    return None if found.next_ is None else cursors.after_audit(found.next_)
