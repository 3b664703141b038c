"""Comparisons with Alipay's bills over HTTP: facts of orders in batches, and the reports.

The command `alipay-notify bill import` reads the file and compares; these routes give it the orders and take its
report. A comparison changes no order. `ask` does: it registers orders that only the bill has, so that the loop that
asks Alipay (`workers.reconciliation`) asks about them.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp import web
from msgspec import structs

from schemas import money, scopes, times
from schemas.accounts import Account, Family
from schemas.money import Money
from workers import bills
from workers.admin import bill_shapes, responses, sign_in
from workers.admin.bill_shapes import (
    AccountBody,
    AskBody,
    DifferencesBody,
    FinishBody,
    HistoriesBody,
    HistoryAnswer,
    NumbersBody,
    ReportBody,
)
from workers.admin.guard import AuditLog
from workers.admin.orders import MINOR_MAX, NUMBER_CHARACTERS_MAX, registered_scope
from workers.admin.responses import ApiError
from workers.bills import DIFFERENCES_MAX, BillDifference, BillImport, BillReport, BillsPort, DifferenceKind, NewImport
from workers.queries import OrdersPort
from workers.settlement.plan import Registration

NUMBERS_MAX = 500  # of orders and of trades, in one question
HISTORIES_MAX = 50
TEXT_CHARACTERS_MAX = 500
ASKED_AT_ONCE = 50
IMPORTS_SHOWN = 50
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NUMBER = "{number:[0-9]{1,18}}"
_UNCHECKED_CURRENCY = "cross-border transaction file"  # its amounts may be in the currency of the settlement

Register = Callable[[str, str, Registration, str], Awaitable[bool]]


class BillsPart:
    """The API for comparisons with bills. `register` is `OrdersPart.record`."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        bills: BillsPort,
        orders: OrdersPort,
        register: Register,
        now_ms: Callable[[], int],
        log: AuditLog,
    ) -> None:
        self._accounts = accounts
        self._bills = bills
        self._orders = orders
        self._register = register
        self._now_ms = now_ms
        self._log = log

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/bills/account", self.account),
            web.post("/api/bills/orders", self.look_up),
            web.post("/api/bills/histories", self.histories),
            web.get("/api/bills", self.list_),
            web.post("/api/bills", self.begin),
            web.get(f"/api/bills/{_NUMBER}", self.show),
            web.get(f"/api/bills/{_NUMBER}/differences", self.differences),
            web.post(f"/api/bills/{_NUMBER}/differences", self.add),
            web.post(f"/api/bills/{_NUMBER}/finish", self.finish),
            web.post(f"/api/bills/{_NUMBER}/ask", self.ask),
        ]

    async def account(self, request: web.Request) -> web.Response:
        """Return the account of a file, whether Alipay can be asked about its orders, and who shares its seller."""
        given = await responses.body(request, AccountBody)
        account = chosen(given, self._accounts)
        if account.auth_app_ids and not given.auth_app_id:
            raise responses.bad_request(f"account {account.name} serves several merchants: add --auth-app-id NUMBER")
        answer = {
            "account": account.name,
            "scope": registered_scope(account, given.auth_app_id),
            "can_ask": not cannot_ask(account),
            "sharing": sharing(account, self._accounts),
        }
        return responses.json(answer)

    async def look_up(self, request: web.Request) -> web.Response:
        """Return the orders with these numbers, or with these trades."""
        given = await responses.body(request, NumbersBody)
        name = responses.known_account(self._accounts, given.account).name
        _check_count(given.orders, NUMBERS_MAX)
        _check_count(given.trades, NUMBERS_MAX)
        found = await self._bills.bill_orders(name, _unique(given.orders), _unique(given.trades))
        return responses.json({"orders": [bill_shapes.billed(page) for page in found]})

    async def histories(self, request: web.Request) -> web.Response:
        """Return when these orders were paid and refunded."""
        given = await responses.body(request, HistoriesBody)
        name = responses.known_account(self._accounts, given.account).name
        _check_count(given.orders, HISTORIES_MAX)
        found = []
        for each in given.orders:
            if not each.order.isprintable():
                continue
            page = await self._orders.order_page(scopes.joined(name, each.auth_app_id), each.order)
            if page is not None:
                history = bills.history(page)
                found.append(HistoryAnswer(order=each.order, auth_app_id=each.auth_app_id, history=history))
        return responses.json({"histories": found})

    async def list_(self, request: web.Request) -> web.Response:
        """Return a page of the imports, the newest first."""
        limit = max(1, responses.whole_number(request, "limit", default=IMPORTS_SHOWN, most=responses.LIMIT_MAX))
        before = responses.whole_number(request, "before", default=0) or None
        found = await self._bills.imports(limit, before)
        next_ = found[-1].number if len(found) == limit else None
        return responses.json({"imports": [bill_shapes.answer(each) for each in found], "before": next_})

    async def begin(self, request: web.Request) -> web.Response:
        """Begin a report; it is shown when it is finished."""
        given = await responses.body(request, ReportBody)
        account = responses.known_account(self._accounts, given.account)
        if _DIGEST.fullmatch(given.digest) is None:
            raise responses.bad_request("digest must be the SHA-256 of the file, in 64 hexadecimal digits")
        report = checked(structs.replace(given.report, by=sign_in.acting(request, given.by)))
        new = NewImport(account=account.name, digest=given.digest, report=report)
        number = await self._bills.begin_import(new, now_ms=self._now_ms())
        return responses.json({"number": number}, status=201)

    async def add(self, request: web.Request) -> web.Response:
        """Add differences to a report that is not finished; again is the same."""
        number = int(request.match_info["number"])
        given = await responses.body(request, DifferencesBody)
        found = await self._bills.bill_import(number)
        if found is None:
            raise _unknown(number)
        if not 1 <= given.first <= DIFFERENCES_MAX + 1 - len(given.differences):
            raise responses.bad_request(f"a report lists at most {DIFFERENCES_MAX} differences; places begin with 1")
        if any(scopes.account_of(each.scope) != found.account for each in given.differences):
            raise responses.bad_request(f"each difference must be of the account {found.account}")
        if not await self._bills.add_differences(number, given.first, given.differences):
            raise ApiError(409, "conflict", f"the report {number} is finished")
        return responses.json({"added": len(given.differences)})

    async def finish(self, request: web.Request) -> web.Response:
        """Finish a report. `replaces` is the number of the earlier report of the same file, null if there is none."""
        number = int(request.match_info["number"])
        by = sign_in.acting(request, (await responses.body(request, FinishBody)).by)
        replaced = await self._bills.finish_import(number, by=by, now_ms=self._now_ms())
        found = await self._finished(number)
        report = found.report
        self._log.info("bill_imported", account=found.account, count=report.differences, by=by)
        earlier = None if replaced is None else times.from_epoch_ms(replaced.begun_at_ms)
        return responses.json({"import": bill_shapes.answer(found), "replaces": earlier})

    async def show(self, request: web.Request) -> web.Response:
        """Return one import."""
        return responses.json(bill_shapes.answer(await self._finished(int(request.match_info["number"]))))

    async def differences(self, request: web.Request) -> web.Response:
        """Return a page of an import's differences."""
        found = await self._finished(int(request.match_info["number"]))
        limit = max(1, responses.whole_number(request, "limit", default=100, most=responses.LIMIT_MAX))
        after = _place(responses.whole_number(request, "after", default=0))
        listed = await self._bills.differences(found.number, after=after, limit=limit)
        next_ = listed[-1][0] if len(listed) == limit else None
        return responses.json({"differences": [bill_shapes.difference(*each) for each in listed], "after": next_})

    async def ask(self, request: web.Request) -> web.Response:
        """Register some of the orders that only the bill has, so that Alipay is asked about them.

        Orders that are here already, also at another account of the seller, are not registered again.
        """
        found = await self._finished(int(request.match_info["number"]))
        given = await responses.body(request, AskBody)
        if why := cannot_ask(responses.known_account(self._accounts, found.account)):
            raise ApiError(409, "cannot_ask", why)
        by = sign_in.acting(request, given.by)
        listed = await self._bills.differences(found.number, after=_place(given.after), limit=ASKED_AT_ONCE)
        registered, known, unusable = 0, 0, 0
        for _, each in listed:
            if each.kind is not DifferenceKind.PAYMENT_ONLY_IN_BILL:
                continue
            if each.is_known:
                known += 1
            elif each.scope != found.account or not _is_usable(each):
                unusable += 1
            elif await self._is_elsewhere(found.account, each):
                known += 1
            else:
                registered += await self._register(each.scope, each.order, _registration(each, found.report), by)
        after = listed[-1][0] if len(listed) == ASKED_AT_ONCE else None
        return responses.json({"registered": registered, "known": known, "unusable": unusable, "after": after})

    async def _is_elsewhere(self, name: str, each: BillDifference) -> bool:
        """Return whether another account of the seller has an order with this number or this trade."""
        numbers, trades = _unique([each.order]), _unique([each.trade])
        for other in sharing(responses.known_account(self._accounts, name), self._accounts):
            if await self._bills.bill_orders(other, numbers, trades):
                return True
        return False

    async def _finished(self, number: int) -> BillImport:
        found = await self._bills.bill_import(number)
        if found is None or found.finished_at_ms is None:
            raise _unknown(number)
        return found


def chosen(given: AccountBody, accounts: Mapping[str, Account]) -> Account:
    """Return the account that a bill is compared with.

    Raises:
        ApiError: there is no such account, the file names another merchant, or several accounts fit.
    """
    if given.account:
        account = responses.known_account(accounts, given.account)
        if not _fits(account, given):
            named = ", ".join(given.merchants) or "Antom" * given.is_antom or "Alipay"
            raise responses.bad_request(f"the bill is of {named}, and the account {account.name} is of another")
        return account
    fitting = [account for account in accounts.values() if _fits(account, given)]
    named_in_file = [account for account in fitting if given.merchants and _merchants(account)]
    found = named_in_file or fitting
    if len(found) != 1:
        names = ", ".join(account.name for account in found) or "none fits"
        raise responses.bad_request(f"name the account that the bill is of with --account: {names}")
    return found[0]


def _fits(account: Account, given: AccountBody) -> bool:
    """Return whether the file can be of this account; an account that names no merchant fits all of its family."""
    if (account.family is Family.ANTOM) != given.is_antom:
        return False
    known = _merchants(account)
    return not given.merchants or not known or not known.isdisjoint(given.merchants)


def _merchants(account: Account) -> set[str]:
    return {number for number in (account.seller_id, account.partner) if number}


def sharing(account: Account, accounts: Mapping[str, Account]) -> list[str]:
    """Return the names of the other accounts with a seller of this one, whose payments its bill has too."""
    known = _merchants(account)
    return [
        each.name for each in accounts.values() if each.name != account.name and not known.isdisjoint(_merchants(each))
    ]


def cannot_ask(account: Account) -> str:
    """Return why Alipay cannot be asked about orders of this account; empty if it can."""
    if account.auth_app_ids:
        return "the account serves several merchants: asking needs each merchant's token"
    if not account.queries:
        return "the account does not ask Alipay: set queries = true and merchant_key_file in accounts.toml"
    return ""


def checked(report: BillReport) -> BillReport:
    """Return the report if its texts and its period can be shown.

    Raises:
        ApiError: they cannot.
    """
    texts = (
        report.file,
        report.layout,
        report.auth_app_id,
        *report.faults,
        *report.disagreements,
        *report.left_out,
        *report.others,
    )
    if any(len(text) > TEXT_CHARACTERS_MAX or not text.isprintable() for text in texts):
        raise responses.bad_request(f"texts must be printable, and have at most {TEXT_CHARACTERS_MAX} characters")
    try:
        since, until = times.from_epoch_ms(report.since_ms), times.from_epoch_ms(report.until_ms)
    except (ValueError, OverflowError, OSError):
        raise responses.bad_request("since_ms and until_ms must be epoch milliseconds") from None
    if since >= until:
        raise responses.bad_request("the period must begin before it ends")
    return report


def _registration(found: BillDifference, report: BillReport) -> Registration:
    """Return the registration of an order with the bill's amount, or with any if its currency may be another one."""
    if found.bill_minor is None or report.layout == _UNCHECKED_CURRENCY:
        return Registration(amounts=())
    return Registration(amounts=(Money(found.bill_minor, found.bill_currency),))


def _is_usable(found: BillDifference) -> bool:
    """Return whether an order of a bill can be registered."""
    has_number = 0 < len(found.order) <= NUMBER_CHARACTERS_MAX and found.order.isprintable()
    minor = found.bill_minor
    return has_number and minor is not None and 0 < minor <= MINOR_MAX and money.is_code(found.bill_currency)


def _unique(numbers: Sequence[str]) -> list[str]:
    """Return the numbers that an order or a trade can have, each once."""
    return [*dict.fromkeys(number for number in numbers if number and number.isprintable())]


def _place(after: int) -> int:
    return min(max(0, after), DIFFERENCES_MAX)


def _check_count(given: Sequence[object], most: int) -> None:
    if len(given) > most:
        raise responses.bad_request(f"at most {most} in one question")


def _unknown(number: int) -> ApiError:
    return ApiError(404, "unknown_bill", f"there is no import {number}")
