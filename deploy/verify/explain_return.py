"""Explain a Return: the text with which the buyer's app or browser comes back from Alipay."""

from deploy.verify import advice
from deploy.verify.advice import Advice
from deploy.verify.capture import Captured
from deploy.verify.explain import Explanation
from ingest.checkout import returns
from ingest.checkout.returns import Return, ReturnVerdict
from ingest.clock import SystemClock
from ingest.keys import KeyRing
from schemas.accounts import Account, Family
from schemas.dispositions import Refusal


def text_of(captured: Captured, account: Account) -> str:
    """Return the Return in a capture; empty if it can only be a notification, or is for an account without Returns.

    A Return is a result string of an app, JSON around a response, or the query of a GET request or address. A bare
    query may be a Return if it has no notification's id, or if it says how the gateway was called.
    """
    if account.family is Family.ANTOM:
        return ""
    text = captured.body.decode("utf-8", "replace").strip("\r\n \t")
    if not text:
        return captured.target.partition("?")[2]
    is_response = text.startswith("{") and ("_response" in text or "resultStatus" in text)
    is_app_s = text.startswith("resultStatus=") or '="' in text.partition("&")[0]
    is_address = text.startswith(("http://", "https://", "?")) and "sign=" in text
    is_query = "sign=" in text and ("notify_id=" not in text or "is_success=" in text) and "\n" not in text
    return text if is_response or is_app_s or is_address or is_query else ""


def query_of(text: str) -> str:
    """Return the query of a redirect, alone or in its address; empty for the formats of apps."""
    if text.startswith(("{", "resultStatus=")) or '="' in text.partition("&")[0]:
        return ""
    return text.partition("?")[2].partition("#")[0] if "://" in text.partition("?")[0] else text.removeprefix("?")


def explain_return(text: str, account: Account, ring: KeyRing, captured: Captured) -> Explanation:
    """Return the verdict on a Return, with its cause."""
    found = returns.check(text, account, ring, SystemClock().epoch_ms())
    advised = _advise(found)
    former = next((each for each in ring.retiring if each.named(found.key_id)), ring)
    return Explanation(
        account=account.name,
        accepted=found.verdict is ReturnVerdict.AUTHENTIC,
        reason=found.reason,
        cause=advised.cause,
        remedy=advised.remedy,
        key=found.key_id,
        sign_type=former.sign_type.value,
        ignored=found.ignored,
        read_as=captured.read_as,
        is_decoded=captured.is_decoded,
    )


def _advise(found: Return) -> Advice:
    if found.verdict is ReturnVerdict.AUTHENTIC:
        ignored = f" {', '.join(found.ignored)} is none of Alipay's names and was ignored." if found.ignored else ""
        detail = f" Note: {found.detail}." if found.detail else ""
        return Advice(
            f"This Return is authentic (验签成功).{ignored}{detail} It decides nothing; wait for the notification.",
            "Take only the parameters that Alipay signed." if found.ignored else "",
        )
    if found.verdict is ReturnVerdict.UNSIGNED:
        return Advice(
            f"This Return carries nothing signed: {found.result_meaning}.", "Query the order's state instead."
        )
    if found.reason is None:
        return Advice(
            f"{advice.FAILED}: this Return cannot be read ({found.detail}).",
            "Pass the SDK's result, or the whole query of the address, on unchanged.",
        )
    if found.reason is Refusal.BAD_SIGNATURE:
        return Advice(
            f"{advice.FAILED}: {found.detail}: it was changed on the way, or another key signed it.",
            "Pass the SDK's result on unchanged: the signature covers its text, in its order and with the quotes. The "
            "old gateway signs Returns with RSA (SHA-1) only.",
        )
    return advice.refusal(found.reason, found.detail)
