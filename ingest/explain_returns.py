"""The same explanation for a Return: what came back with the buyer, rather than from Alipay's servers."""

from ingest import explain_words as words
from ingest import returns
from ingest.explain import Explanation
from ingest.keys import KeyRing
from ingest.returns import Return, Verdict
from schemas.accounts import Account, Family
from schemas.dispositions import Refusal


def looks_like_one(body: bytes, account: Account) -> bool:
    """Whether a body can only be an app's Return: a result string, or JSON where the account's messages are forms."""
    if account.family is Family.ANTOM:
        return False
    start = body.lstrip()
    return start.startswith((b"resultStatus=", b"{")) or b'="' in start.partition(b"&")[0]


def explain(body: bytes, account: Account, ring: KeyRing) -> Explanation:
    """The verdict on a Return, with its cause. A line end after it does not count as part of it."""
    found = returns.check(body.decode("utf-8", "replace").rstrip("\r\n"), account, ring)
    cause, remedy = _words(found)
    return Explanation(
        account=account.name,
        accepted=found.verdict is Verdict.AUTHENTIC,
        reason=found.reason,
        cause=cause,
        remedy=remedy,
        key=found.key_id,
        sign_type=account.sign_type.value,
    )


def _words(found: Return) -> tuple[str, str]:
    if found.verdict is Verdict.AUTHENTIC:
        return "This Return is authentic (验签成功). It decides nothing: wait for the notification.", ""
    if found.verdict is Verdict.UNSIGNED:
        return f"This Return carries nothing signed: {found.result_meaning}.", "Ask for the order's state instead."
    if found.reason is None:
        return f"{words.FAILED}: this is no Return that can be read ({found.detail}).", ""
    if found.reason is Refusal.BAD_SIGNATURE:
        return (
            f"{words.FAILED}: {found.detail}: it was changed on the way, or another key signed it.",
            "Hand over the SDK's result untouched: signed is its text in its own order, with the quotes. The old "
            "gateway signs Returns with RSA (SHA-1) only.",
        )
    advice = words.refusal(found.reason, found.detail)
    return advice.cause, advice.remedy
