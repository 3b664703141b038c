"""What the sender reads: fixed texts, in the words of the account's family.

Nothing of the request is ever in an answer, and no version, path or reason: whoever forges learns only that it failed.
Alipay stops sending when it reads exactly `success`; Antom reads its JSON. Neither verifies a signature on the answer.
"""

from http import HTTPStatus

import msgspec
from msgspec import Struct

from schemas.accounts import Account, Family

SERVER = "alipay-notify"  # the name alone: a version would tell an attacker where to look
RETRY_AFTER_S = 60  # for load balancers and people; Alipay follows its own schedule
ALLOW = "POST"

# Antom's own result codes for what our status means. 408 and 503 say "unknown", so that it sends again.
_ANTOM_CODES = {
    400: ("PARAM_ILLEGAL", "F"),
    401: ("INVALID_SIGNATURE", "F"),
    403: ("ACCESS_DENIED", "F"),
    404: ("NO_INTERFACE_DEF", "F"),
    405: ("METHOD_NOT_SUPPORTED", "F"),
    408: ("PROCESS_FAIL", "U"),
    413: ("PARAM_ILLEGAL", "F"),
    415: ("MEDIA_TYPE_NOT_ACCEPTABLE", "F"),
    503: ("UNKNOWN_EXCEPTION", "U"),
}
STATUSES = tuple(_ANTOM_CODES)


class Answer(Struct, frozen=True, kw_only=True):
    """One answer: its status, its header lines but for those that change, and its body.

    `is_timed`: Antom's success carries a `response-time`.
    """

    status: int
    head: bytes
    body: bytes
    is_timed: bool = False


def success(account: Account) -> Answer:
    """The answer that ends the re-sending."""
    if account.family is not Family.ANTOM:
        return _answer(200, "text/plain", b"success")
    body = _antom_body("SUCCESS", "S", "success")
    return _answer(200, "application/json", body, {"client-id": account.client_id or ""}, is_timed=True)


def refusal(family: Family | None, status: int) -> Answer:
    """The answer to a request that is refused with `status`; without a family, to what was no notification at all."""
    headers = {}
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ALLOW
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if family is not Family.ANTOM:
        return _answer(status, "text/plain", b"fail", headers)
    code, result_status = _ANTOM_CODES[status]
    return _answer(status, "application/json", _antom_body(code, result_status, "fail"), headers)


def refusals(family: Family | None) -> dict[int, Answer]:
    """Every refusal in the family's words, by status."""
    return {status: refusal(family, status) for status in STATUSES}


def _antom_body(code: str, status: str, message: str) -> bytes:
    return msgspec.json.encode({"result": {"resultCode": code, "resultStatus": status, "resultMessage": message}})


def _answer(
    status: int, content_type: str, body: bytes, headers: dict[str, str] | None = None, *, is_timed: bool = False
) -> Answer:
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Server: {SERVER}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return Answer(status=status, head="".join(line + "\r\n" for line in lines).encode(), body=body, is_timed=is_timed)
