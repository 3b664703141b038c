"""The state in which an order must end, written a second time and from the documents alone.

A judge that shared code with the accused would share its mistakes, so nothing of the product is imported here and the
two are only compared. A *fact* is one authentic notification: `{"id": …, "fields": {…}}` for a form, decoded, or
`{"id": …, "message": {…}}` for an Antom message. Facts are a set: the fold below never looks at their order, at the
number of their copies, or at any time they carry. Ids are taken to be honest (one id, one content).
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

Fact = Mapping[str, Any]
# {"amount_minor", "currency", "refunds": […]}, or {"amounts": [(minor units, currency), …], …}; every key may be absent
Registration = Mapping[str, Any]
Final = dict[str, Any]
ClaimKey = tuple[str, int, str]  # trade, minor units, currency
Statement = dict[str, Any]  # the content of one notification about one claim
Statements = dict[str, list[tuple[ClaimKey, Statement]]]  # by order

WAITING, AUTHORIZED, LAPSED, PAID, FINISHED, REFUNDED = range(6)
STATUS = ("WAITING", "WAITING", "CLOSED", "PAID", "FINISHED", "CLOSED")
WORDS = {
    "WAIT_BUYER_PAY": WAITING,
    "TRADE_PENDING": PAID,
    "TRADE_SUCCESS": PAID,
    "TRADE_FINISHED": FINISHED,
    "TRADE_CLOSED": LAPSED,
}
WHOLE_UNITS = ("JPY", "KRW", "VND", "CLP")
THREE_DECIMALS = ("KWD", "BHD")
SUBSCRIPTION = ("subscriptionRequestId", "subscriptionId")
REFUND_ACTIONS = ("refundFPAction", "reverseAction")  # of notify_action_type, beside or in place of gmt_refund


def final(
    facts: Iterable[Fact], account: Mapping[str, Any], registered: Mapping[str, Registration]
) -> dict[str, Final]:
    """Every order that exists once all facts and registrations are known, by its number.

    `account` has `family`, `currency` (what amounts of the old gateway are in), `orders` (`any` or `registered`) and
    `capture` (`automatic` or `manual`). An order is registered by its amount; refund numbers alone only assign refunds
    to it. A payment that only its subscription names may be filed under the payment's number instead.
    """
    statements: Statements = {}
    refunds: list[list[dict[str, Any]]] = []  # one list per notification
    captures: list[dict[str, Any]] = []
    for fact in facts:
        if "message" in fact:
            _read_message(fact["message"], account, statements, refunds)
            captures += _captures(fact["message"])
        elif fact["fields"].get("notify_type") == "batch_refund_notify":
            refunds.append(_batch(fact["fields"], account["currency"]))
        else:
            _read_form(fact["fields"], account, statements)
    priced = {number for number, expected in registered.items() if {"amount_minor", "amounts"} & expected.keys()}
    _merge_by_trade(statements)
    theirs = statements if account["orders"] == "any" else _accepted(statements, priced)
    claims = {number: _claims(own, registered.get(number, {})) for number, own in theirs.items()}
    trades = {key[0] for joined, _ in claims.values() for key in joined}
    # A batch waits as a whole until all of its trades are known.
    known = [one for batch in refunds if all(one["trade"] in trades | {None} for one in batch) for one in batch]
    orders = {}
    for number in claims.keys() | registered.keys():
        expected = registered.get(number, {})
        joined, flags = claims.get(number, ({}, set()))
        own = [one for one in known if one["trade"] is not None or one["id"] in expected.get("refunds", ())]
        if joined or number in priced:
            orders[number] = _order(joined, flags, own, expected, captures)
    return orders


def _read_form(fields: Mapping[str, str], account: Mapping[str, Any], statements: Statements) -> None:
    """Add the content of one form of a trade; a form without reliable content adds nothing."""
    openapi = account["family"] == "openapi"
    currency = fields.get("trans_currency" if openapi else "currency", account["currency"])
    amount = _minor(fields.get("total_amount" if openapi else "total_fee", ""), currency)
    word = fields.get("trade_status", "")
    if not amount or word not in WORDS or fields.get("notify_type") != "trade_status_sync":
        return
    action = fields.get("notify_action_type")
    back = _minor(fields["refund_fee"], currency) if "refund_fee" in fields else 0
    refunded = bool(back) or fields.get("refund_status") == "REFUND_SUCCESS" or action == "refundFPAction"
    is_confirmed = "gmt_refund" in fields or (action in REFUND_ACTIONS and fields.get("refund_status") is None)
    if back is None or (refunded and (not is_confirmed or word == "WAIT_BUYER_PAY")):
        return
    if action == "reverseAction" and word != "TRADE_CLOSED" and not refunded:
        return  # cancelled, but not closed
    statement: Statement = {"rank": WORDS[word], "frozen": word == "TRADE_PENDING" and not refunded}
    statement["unlisted"] = openapi and currency not in (account["currency"], *account.get("currencies", ()))
    if word == "TRADE_CLOSED" and refunded:
        statement |= {"rank": REFUNDED, "back": amount, "impossible": back > amount}
    elif word == "TRADE_CLOSED" and action == "reverseAction":
        statement["reversed"] = True
    elif word == "TRADE_CLOSED":
        if "gmt_payment" in fields:
            return  # paid, closed, and no refund: the documents do not explain this
        statement["lapsed"] = "expired"
    elif refunded:
        statement |= {"back": back, "vague": not back, "impossible": back > amount}
    statements.setdefault(fields["out_trade_no"], []).append(((fields["trade_no"], amount, currency), statement))


def _merge_by_trade(statements: Statements) -> None:
    """One payment is one order: what names it by its own number alone belongs to the order that it is also told of."""
    orders_of: dict[str, list[str]] = {}
    for number, own in statements.items():
        for trade in {key[0] for key, _ in own}:
            orders_of.setdefault(trade, []).append(number)
    for number in list(statements):
        told = {key[0] for key, _ in statements[number]}
        other = next((o for o in orders_of.get(number, ()) if o != number and o in statements), None)
        if other is not None and told == {number}:
            statements[other] += statements.pop(number)


def _accepted(statements: Statements, priced: set[str]) -> Statements:
    """What counts if orders must be registered: registered orders, and the payments of subscriptions."""
    periodic = {key[0] for own in statements.values() for key, statement in own if statement.get("periodic")}
    accepted = {number: [one for one in own if one[0][0] in periodic] for number, own in statements.items()}
    return {n: own for n, own in accepted.items() if own} | {number: statements.get(number, []) for number in priced}


def _captures(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    if message.get("notifyType") != "CAPTURE_RESULT":
        return []
    money, succeeded = message.get("captureAmount", {}), message["result"]["resultStatus"] == "S"
    capture = {"id": message.get("captureId", message.get("captureRequestId")), "trade": message["paymentId"]}
    return [capture | {"minor": int(money["value"]) if succeeded else 0, "currency": money.get("currency")}]


def _read_message(
    message: Mapping[str, Any], account: Mapping[str, Any], statements: Statements, refunds: list[list[dict[str, Any]]]
) -> None:
    periodic = "paymentAmount" in message and any(name in message for name in SUBSCRIPTION)
    kind, outcome = message.get("notifyType"), message.get("result", {}).get("resultStatus")
    if kind is None and periodic:
        kind = "PAYMENT_RESULT"
    if kind == "REFUND_RESULT" and message["refundStatus"] == "SUCCESS":
        money = message["refundAmount"]
        entry = {"id": message["refundRequestId"], "trade": message.get("paymentId"), "currency": money["currency"]}
        refunds.append([entry | {"minor": int(money["value"])}])
    if kind not in ("PAYMENT_RESULT", "PAYMENT_PENDING") or outcome not in ("S", "F"):
        return
    money = message["paymentAmount"]
    statement: Statement = {"rank": PAID if kind == "PAYMENT_RESULT" else WAITING}
    if outcome == "F":
        statement = {"rank": LAPSED, "lapsed": "failed"}
    elif kind == "PAYMENT_RESULT" and account.get("capture") == "manual" and message.get("authExpiryTime"):
        until = datetime.fromisoformat(message["authExpiryTime"]).astimezone(UTC)
        statement = {"rank": AUTHORIZED, "until": until}
    statement["periodic"] = periodic
    key = (message["paymentId"], int(money["value"]), money["currency"])
    statements.setdefault(message.get("paymentRequestId", message["paymentId"]), []).append((key, statement))


def _batch(fields: Mapping[str, str], currency: str) -> list[dict[str, Any]]:
    """The refunds of a batch that came about; each is one fact, named by batch and trade."""
    entries = []
    for text in fields["result_details"].split("#"):
        trade, amount, result = text.split("$")[0].split("^")
        if result == "SUCCESS":
            entry = {"id": f"{fields['batch_no']}/{trade}", "trade": trade, "currency": currency}
            entries.append(entry | {"minor": _minor(amount, currency)})
    return entries


def _prices(expected: Registration) -> dict[str, int]:
    """The registered amounts by their currency; none if every amount is right."""
    if "amounts" in expected:
        return {currency: minor for minor, currency in expected["amounts"]}
    return {expected["currency"]: expected["amount_minor"]} if "amount_minor" in expected else {}


def _claims(
    statements: list[tuple[ClaimKey, Statement]], expected: Registration
) -> tuple[dict[ClaimKey, list[Statement]], set[str]]:
    """The statements that may be joined, by trade and amount, and the flags of the others."""
    claims: dict[ClaimKey, list[Statement]] = {}
    flags: set[str] = set()
    prices = _prices(expected)
    for key, statement in statements:
        if (prices and key[2] not in prices) or (not prices and statement.get("unlisted")):
            flags.add("currency_mismatch")
        elif prices and prices[key[2]] != key[1]:
            flags.add("amount_mismatch")
        elif statement.get("impossible"):
            flags.add("over_refunded")
        else:
            claims.setdefault(key, []).append(statement)
    return claims, flags


def _order(
    claims: dict[ClaimKey, list[Statement]],
    refused: set[str],
    refunds: list[dict[str, Any]],
    expected: Registration,
    captures: list[dict[str, Any]],
) -> Final:
    flags = set(refused)
    prices = _prices(expected)
    if not claims:
        nothing = {"status": "WAITING", "closed_because": None, "trade": None, "refunded_minor": 0, "flags": flags}
        currency, amount_minor = next(iter(prices.items()), (None, None))
        nothing |= {"authorized_minor": None, "authorized_until": None, "refund_accepted_minor": None}
        return nothing | {"amount_minor": amount_minor, "currency": currency, "claims": []}
    if not prices and len({amount for _, amount, _ in claims}) > 1:
        flags.add("amount_mismatch")
    if not prices and len({currency for _, _, currency in claims}) > 1:
        flags.add("currency_mismatch")
    ended = {}
    for key, own in claims.items():
        # With several prices, a refund is of the payment in its own currency, if there is one.
        known = (
            {(named, currency) for trade, _, currency in claims for named in (trade, None)} if len(prices) > 1 else ()
        )
        mine = [one for one in refunds if one["currency"] == key[2] or (one["trade"], one["currency"]) not in known]
        ended[key] = _claim(key, own, mine, captures, flags)
    paid = {key[0] for key, end in ended.items() if end["rank"] >= PAID}
    if len(paid) > 1:
        flags.add("second_trade")
    if paid & {key[0] for key, end in ended.items() if end["lapsed"]}:
        flags.add("paid_and_expired")
    standing = min(ended, key=lambda key: (-ended[key]["rank"], key))
    end = ended[standing]
    flags |= {flag for flag in ("frozen", "refund_amount_unknown") if end[flag]}
    because = {LAPSED: end["lapsed"] or "expired", REFUNDED: "refunded"}.get(end["rank"])
    amount = {"amount_minor": end["paid"], "currency": standing[2], "refunded_minor": end["back"]}
    amount |= {"authorized_minor": standing[1] if end["until"] else None, "authorized_until": end["until"]}
    amount |= {"refund_accepted_minor": None}  # operators decide that, and no history has one
    amount |= {"claims": _differing(ended, flags)}
    return {"status": STATUS[end["rank"]], "closed_because": because, "trade": standing[0], "flags": flags} | amount


def _differing(ended: Mapping[ClaimKey, Mapping[str, Any]], flags: set[str]) -> list[dict[str, Any]]:
    """The payments of which only one can be right, if there is more than one."""
    if len(ended) == 1 or not flags & {"amount_mismatch", "currency_mismatch", "second_trade"}:
        return []
    is_price = flags & {"amount_mismatch", "currency_mismatch"}
    keys = sorted(key for key in ended if is_price or ended[key]["rank"] >= PAID)
    return [
        {"trade": key[0], "status": STATUS[ended[key]["rank"]], "amount_minor": ended[key]["paid"], "currency": key[2],
         "refunded_minor": ended[key]["back"]}
        for key in keys
    ]  # fmt: skip


def _claim(
    key: ClaimKey,
    statements: list[Statement],
    refunds: list[dict[str, Any]],
    captures: list[dict[str, Any]],
    flags: set[str],
) -> dict[str, Any]:
    """The final state of one trade at one amount, after all its notifications."""
    trade, amount, currency = key
    rank = max(entry["rank"] for entry in statements)
    captured = _captured(key, captures, flags)
    if not any("until" in entry or "lapsed" in entry for entry in statements):
        captured = 0  # a capture counts once its payment is reported as authorised, or as failed
    paid = captured if captured and rank < PAID else amount
    rank = max(rank, PAID) if captured else rank
    single: dict[str, int] = {}
    for refund in refunds:
        if refund["trade"] not in (None, trade):
            continue
        if refund["currency"] != currency:
            flags.add("currency_mismatch")
        elif refund["minor"] > amount:
            flags.add("over_refunded")
        else:
            single[refund["id"]] = max(refund["minor"], single.get(refund["id"], 0))
    if sum(single.values()) > paid:
        flags.add("over_refunded")
    back = max(max(entry.get("back") or 0 for entry in statements), min(sum(single.values()), paid))
    if back:
        rank = REFUNDED if back == paid else max(rank, PAID)
    if rank >= PAID and any(entry.get("reversed") for entry in statements):
        rank, back = REFUNDED, paid
    thawed = back or captured or any(entry["rank"] >= PAID and not entry.get("frozen") for entry in statements)
    return {
        "rank": rank,
        "paid": paid,
        "back": back,
        "until": max((entry["until"] for entry in statements if "until" in entry), default=None),
        "lapsed": next((entry["lapsed"] for entry in statements if "lapsed" in entry), None),
        "frozen": rank >= PAID and not thawed,
        "refund_amount_unknown": back == 0 and any(entry.get("vague") for entry in statements),
    }


def _captured(key: ClaimKey, captures: list[dict[str, Any]], flags: set[str]) -> int:
    """What was captured of one trade at one amount; a number that is told twice is one capture."""
    trade, amount, currency = key
    successful: dict[str, int] = {}
    own = [capture for capture in captures if capture["trade"] == trade]
    for capture in own:
        if not capture["minor"]:
            continue
        if capture["currency"] != currency:
            flags.add("currency_mismatch")
        elif capture["minor"] > amount:
            flags.add("amount_mismatch")
        else:
            successful[capture["id"]] = max(capture["minor"], successful.get(capture["id"], 0))
    if sum(successful.values()) > amount:
        flags.add("amount_mismatch")
    if not successful and any(not capture["minor"] for capture in own):
        flags.add("capture_failed")
    return min(sum(successful.values()), amount)


def _minor(text: str, currency: str) -> int | None:
    """Minor units, or nothing where the text is not exactly an amount."""
    if currency in WHOLE_UNITS:
        return int(text.split(".")[0]) if re.fullmatch(r"[0-9]{1,9}(\.00)?", text, re.ASCII) else None
    decimals = 3 if currency in THREE_DECIMALS else 2
    return int(text.replace(".", "")) if re.fullmatch(rf"[0-9]{{1,9}}\.[0-9]{{{decimals}}}", text, re.ASCII) else None
