"""Ask Alipay about one order, and verify the answer: `workers.reconciliation.Ask` over HTTP.

The question is signed with the merchant's own key. Address and identities come from the account; redirects are not
followed, TLS is verified. An answer counts if a key of the account signed it, it names no other merchant, and it is
about the order that was asked about. All others, too long ones included, change nothing.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar
from msgspec import Struct, structs
from prometheus_client import CollectorRegistry

from deploy.process import Chore
from ingest import answers as answer_checks
from ingest.accounts_in_use import AccountsInUse
from ingest.checkout import merchant_keys, questions
from ingest.checkout.merchant_keys import MerchantKeys
from ingest.checkout.questions import Question
from ingest.checkout.requests import BadRequest
from ingest.errors import Malformed, NotOurs, Refused
from ingest.key_files import BadKey
from ingest.receive import Receipts
from schemas import interpret_answer, record_format, telemetry, times
from schemas.accounts import Account
from schemas.answers import BYTES_MAX, BadAnswer
from schemas.record_format import RecordContents
from workers import metrics
from workers.log_lines import Logger
from workers.reconciliation import Answered, AnswerKind, AppendRecord, OrderLists, Reconciliation

TOTAL_S = 10.0  # Alipay's gateways answer within a second or two
# Alipay's words for "try again later"; every other error is about the question itself.
BUSY = frozenset(
    """
    ACQ.SYSTEM_ERROR SYSTEM_ERROR UNKNOWN_EXCEPTION PROCESS_FAIL REQUEST_TRAFFIC_EXCEED_LIMIT 20000
    isp.unknow-error isp.unknown-error aop.unknow-error isv.app-call-limited EXTERFACE_SYSTEM_ERROR
    """.split()
)
WHAT_TO_DO = (
    "Alipay refuses the question: check merchant_key_file (is its public key uploaded?), the account's numbers, and "
    "that the product includes queries; of a service provider also app_auth_token_file"
)


class _Received(Struct, frozen=True):
    """An answer as received."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Asker:
    """Asks. The caller owns the session. Key files are relative to `directory`."""

    def __init__(
        self,
        session: ClientSession,
        accounts: AccountsInUse,
        directory: Path,
        *,
        receipts: Receipts,
        now_ms: Callable[[], int],
        total_s: float = TOTAL_S,
    ) -> None:
        self._session = session
        self._accounts = accounts
        self._directory = directory
        self._keys = MerchantKeys(directory)
        self._receipts = receipts
        self._now_ms = now_ms
        self._timeout = ClientTimeout(total=total_s)

    async def __call__(self, account: Account, order: str, /) -> Answered:
        """Ask Alipay about an order of this account, and verify the answer. Never raises."""
        try:
            key = self._keys.of(account)
            if key is None:
                return Answered(kind=AnswerKind.REFUSED, detail="the account has no merchant_key_file")
            token = merchant_keys.app_auth_token(account, self._directory)
            now = times.from_epoch_ms(self._now_ms())
            question = questions.ask(account, order, key, now=now, app_auth_token=token)
            received = await self._fetch(question)
        except BadKey as bad:
            return Answered(kind=AnswerKind.REFUSED, detail=str(bad))
        except BadRequest as bad:
            return Answered(kind=AnswerKind.UNASKABLE, detail=str(bad))
        except (TimeoutError, ClientError, OSError, ValueError) as error:
            return Answered(kind=AnswerKind.NO_ANSWER, detail=f"the gateway cannot be reached: {type(error).__name__}")
        if received.status != 200:
            return Answered(kind=AnswerKind.NO_ANSWER, detail=f"the gateway answered with status {received.status}")
        if len(received.body) > BYTES_MAX:
            return Answered(kind=AnswerKind.UNREADABLE, detail=f"an answer of more than {BYTES_MAX} bytes")
        return self._judged(account, order, question, received)

    async def _fetch(self, question: Question) -> _Received:
        async with self._session.post(
            question.url,
            data=question.body,
            headers={**question.headers, "Accept-Encoding": "identity"},
            allow_redirects=False,
            timeout=self._timeout,
        ) as response:
            body = b""
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > BYTES_MAX:
                    response.close()  # do not read the rest
                    break
            return _Received(response.status, response.headers, body)

    def _judged(self, account: Account, order: str, question: Question, received: _Received) -> Answered:
        family, body = account.family, received.body
        keyed = self._accounts.keyed.get(account.name)
        if keyed is None:
            return Answered(kind=AnswerKind.NO_ANSWER, detail="the account was removed meanwhile")
        try:
            if error := interpret_answer.error_of(body, family):
                return _error(error)
            contents = self._contents(account, question, received)
            key_id = answer_checks.check(contents, account, keyed.ring)
            if interpret_answer.order_of(body, family) != order:
                return Answered(kind=AnswerKind.NOT_OURS, detail="the answer is about another order")
            if interpret_answer.is_waiting(body, family):
                return Answered(kind=AnswerKind.UNPAID)
        except (BadAnswer, Malformed) as bad:
            return Answered(kind=AnswerKind.UNREADABLE, detail=str(bad))
        except NotOurs as other:
            return Answered(kind=AnswerKind.NOT_OURS, detail=str(other))
        except Refused as refused:
            detail = f"the answer is not signed by a key of this account: {refused}; check keys in accounts.toml"
            return Answered(kind=AnswerKind.UNAUTHENTIC, detail=detail)
        contents = structs.replace(contents, key_id=key_id, key_digest=keyed.ring.digests.get(key_id, b""))
        record = record_format.encode(contents, order, self._receipts(contents))
        return Answered(kind=AnswerKind.NEWS, record=record)

    def _contents(self, account: Account, question: Question, received: _Received) -> RecordContents:
        named = {
            name: received.headers.get(name, "").strip().encode("utf-8", "replace")
            for name in ("content-type", "client-id", "response-time", "signature")
        }
        return RecordContents(
            account=account.name,
            family=account.family.value,
            received_at_ms=self._now_ms(),
            path=question.path.encode(),
            content_type=named["content-type"],
            key_id="",
            confirmed=True,
            body=received.body,
            client_id=named["client-id"],
            request_time=named["response-time"],
            signature=named["signature"],
            is_answer=True,
        )


def _error(code: str) -> Answered:
    if code in interpret_answer.NOT_FOUND:
        return Answered(kind=AnswerKind.NOT_FOUND)
    if code in BUSY:
        return Answered(kind=AnswerKind.NO_ANSWER, detail=f"Alipay is busy: {code}")
    return Answered(kind=AnswerKind.REFUSED, detail=f"{code[:80]}: {WHAT_TO_DO}")


def reconciling(
    *,
    accounts: AccountsInUse,
    directory: Path,
    orders: OrderLists,
    append: AppendRecord,
    receipts: Receipts,
    leads: Callable[[], bool],
    now_ms: Callable[[], int],
    after_s: float,
    per_s: float,
    registry: CollectorRegistry,
    log: Logger,
) -> Chore:
    """Return the chore that asks about unpaid orders. It does nothing while no account has `queries`."""
    counter = metrics.by_account(telemetry.QUESTIONS, registry)

    async def run() -> None:
        async with ClientSession(cookie_jar=DummyCookieJar()) as session:
            loop = Reconciliation(
                accounts=accounts,
                orders=orders,
                ask=Asker(session, accounts, directory, receipts=receipts, now_ms=now_ms),
                append=append,
                leads=leads,
                now_ms=now_ms,
                after_s=after_s,
                per_s=per_s,
                questions=counter,
                log=log,
            )
            await loop.run()

    return run
