"""Choose, among everything that a file may be and all accounts that it may be for, the pair that explains most."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from urllib.parse import urlsplit

from msgspec import structs

from deploy.verify import advice, capture, explain, explain_return, variants
from deploy.verify.capture import Captured
from deploy.verify.explain import Explanation
from ingest.keys import Key, KeyRing
from schemas.accounts import Account, Family
from schemas.dispositions import Refusal
from schemas.form import KNOWN_NAMES

Rings = Mapping[str, KeyRing]
GivenKeys = Mapping[str, Key]  # the key to compare with, by account, because its family decides how a file is read
UnlistedKeys = Mapping[str, Sequence[Key]]  # by account

_READINGS_MAX = 40
_SANDBOX = (b"9021", b"2088621", b"2088721", b"2088722")  # how numbers in Alipay's sandbox usually begin
_MERCHANT = (b"seller_id", b"partner", b"partner_id", b"pay_user_id")
_OF_ANTOM = (b'"paymentRequestId"', b'"notifyType"', b'"refundRequestId"', b'"subscriptionRequestId"', b'"paymentId"')


class Unclear(Exception):
    """No account verifies the message, and it may be for each of these."""

    def __init__(self, accounts: list[str]) -> None:
        super().__init__(", ".join(accounts))
        self.accounts = accounts


def diagnose(
    readings: Sequence[Captured],
    accounts: Sequence[Account],
    rings: Rings,
    given: GivenKeys,
    unlisted: UnlistedKeys = MappingProxyType({}),
) -> Explanation:
    """Return the explanation of the reading and account that verify, else of the best reading.

    Raises:
        Unclear: several accounts remain, and nothing tells them apart.
    """
    readings = readings[:_READINGS_MAX]
    for captured in readings:
        for account in candidates(captured, accounts):
            found = _accepted(captured, account, rings[account.name])
            if found is not None:
                return found
    best = max(readings, key=_weight)
    possible = candidates(best, accounts)
    found_all = [_refused(best, account, rings, given, unlisted) for account in possible]
    explained = [each for each in found_all if each.departures] if len(found_all) > 1 else found_all
    foreign = _foreign(best, accounts)
    if len(explained) != 1 and not (foreign and found_all):
        raise Unclear([each.name for each in possible])
    chosen = (explained or found_all)[0]
    if foreign and (chosen.cause == advice.UNKNOWN_SIGNER.cause or chosen.reason is Refusal.NOT_OURS):
        name, number = foreign
        advised = advice.other_account(
            name.decode(),
            number.decode("utf-8", "backslashreplace")[:64],
            looks_like_sandbox=number.startswith(_SANDBOX),
        )
        only = chosen.account if len(possible) == 1 else ""
        return structs.replace(chosen, account=only, cause=advised.cause, remedy=advised.remedy)
    return chosen


def candidates(captured: Captured, accounts: Sequence[Account]) -> list[Account]:
    """Return the accounts that a message may be for: the one in its path, else those named in it, else its family's."""
    named = urlsplit(captured.target).path.rpartition("/")[2] if captured.target.isascii() else ""
    of_path = [each for each in accounts if each.name == named]
    if of_path or len(accounts) == 1:
        return of_path or list(accounts)
    is_antom = "signature" in captured.headers or _is_antom(captured.body)
    of_family = [each for each in accounts if (each.family is Family.ANTOM) == is_antom]
    if is_antom:
        return [each for each in of_family if each.client_id == captured.headers.get("client-id")] or of_family
    fields = _fields(captured)
    likeness = {each.name: _likeness(fields, each) for each in of_family}
    highest = max(likeness.values(), default=0)
    if highest:
        return [each for each in of_family if likeness[each.name] == highest]
    wanted = Family.OPENAPI if fields.get(b"app_id") else None
    return [each for each in of_family if each.family is wanted] or of_family


def _likeness(fields: Mapping[bytes, bytes], account: Account) -> int:
    """Return how well a form names an account: by its application, or else by its merchant."""
    app, merchant = fields.get(b"app_id"), account.seller_id or account.partner
    if app and account.app_id:
        return 2 + _is_merchant(fields, merchant) if app == account.app_id.encode() else 0
    return _is_merchant(fields, merchant) or _is_merchant(fields, account.partner)


def _is_merchant(fields: Mapping[bytes, bytes], number: str | None) -> int:
    return int(number is not None and any(fields.get(name) == number.encode() for name in _MERCHANT))


def _accepted(captured: Captured, account: Account, ring: KeyRing) -> Explanation | None:
    found = explain.accepted(captured, account, ring)
    text = explain_return.text_of(captured, account)
    if found is None and text:
        found = explain_return.explain_return(text, account, ring, captured)
    return found if found is not None and found.accepted else None


def _refused(
    captured: Captured, account: Account, rings: Rings, given: GivenKeys, unlisted: UnlistedKeys
) -> Explanation:
    text = explain_return.text_of(captured, account)
    query = explain_return.query_of(text)
    if text and not query:
        return explain_return.explain_return(text, account, rings[account.name], captured)
    if query:
        captured = structs.replace(captured, body=query.encode("utf-8", "replace"))
    return explain.explain(
        captured,
        account,
        rings[account.name],
        others=rings,
        given=given.get(account.name),
        unlisted=unlisted.get(account.name, ()),
    )


def _foreign(captured: Captured, accounts: Sequence[Account]) -> tuple[bytes, bytes] | None:
    """Return the application or merchant that a message names, if no account here has that number."""
    fields = _fields(captured)
    apps = {each.app_id for each in accounts}
    merchants = {number for each in accounts for number in (each.seller_id, each.partner) if number}
    for name, own in ((b"app_id", apps), (b"seller_id", merchants), (b"partner_id", merchants)):
        number = fields.get(name, b"")
        if number:
            return None if number.decode("utf-8", "replace") in own else (name, number)
    return None


def _fields(captured: Captured) -> dict[bytes, bytes]:
    return dict(variants.pairs_of(captured.body or captured.target.partition("?")[2].encode("utf-8", "replace")))


def _is_antom(body: bytes) -> bool:
    is_object = body.lstrip().startswith(b"{")
    return is_object and b'"sign"' not in body and b'_response"' not in body and any(name in body for name in _OF_ANTOM)


def _weight(captured: Captured) -> int:
    """Return how much of a message a reading has: its signature, then as many of Alipay's names and as few others."""
    if "signature" in captured.headers:
        return 1000
    names = _fields(captured).keys()
    return 500 * (b"sign" in names) + 2 * len(names & KNOWN_NAMES) - len(names)


def read(content: bytes, *, headers: Mapping[str, str], path: str) -> list[Captured]:
    """Return everything that a file may be, with the headers and the path that were given besides."""
    return [
        structs.replace(each, headers={**each.headers, **headers}, target=path or each.target)
        for each in capture.readings(content)
    ]
