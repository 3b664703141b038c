"""Asking Alipay whether a notification is one of ours: the old gateway's `notify_verify`.

Website notifications name no payee, and one key signs for every merchant, so only this call binds them to an account.
It is asked before the answer: once `success` was accepted, Alipay calls the id false.

The address and our partner number are the account's; the id is put into the query by a URL library; no redirect is
followed; TLS is verified. Only the whole body `true` confirms and only the whole body `false` denies. Everything else
(an error page, a redirect, a time-out, `invalid`) is "unknown": nothing is accepted, and Alipay will send again.
"""

from aiohttp import ClientError, ClientSession, ClientTimeout
from yarl import URL

from ingest.errors import NotConfirmed, Unavailable
from schemas.accounts import Account

TOTAL_S = 2.0
BODY_BYTES_MAX = 64  # the longest answer there is has seven characters


class NotifyVerify:
    """The client. The session belongs to whoever gives it."""

    def __init__(self, session: ClientSession, *, total_s: float = TOTAL_S) -> None:
        self._session = session
        self._timeout = ClientTimeout(total=total_s)

    async def confirm(self, account: Account, notify_id: str | bytes) -> None:
        """Return where Alipay says that it sent this account a notification with this id.

        Raises:
            NotConfirmed: Alipay says it did not, or the id is none that Alipay could have made.
            Unavailable: no clear answer in time.
        """
        text = notify_id if isinstance(notify_id, str) else notify_id.decode("ascii", "replace")
        if not text or not text.isascii() or not text.isprintable():
            raise NotConfirmed("there is no notify_id to ask about")
        status, answer = await self._ask(account, text)
        if status == 200 and answer == b"true":
            return
        if status == 200 and answer == b"false":
            raise NotConfirmed("notify_verify says false")
        raise Unavailable(f"notify_verify gave no clear answer, status {status}")

    async def _ask(self, account: Account, notify_id: str) -> tuple[int, bytes]:
        try:
            async with self._session.get(
                url_of(account, notify_id),
                allow_redirects=False,
                timeout=self._timeout,
                headers={"Accept-Encoding": "identity"},
            ) as response:
                answer = b""
                async for piece in response.content.iter_any():
                    answer += piece
                    if len(answer) > BODY_BYTES_MAX:
                        response.close()  # reading on is the other side's wish only
                        break
                return response.status, answer
        except (TimeoutError, ClientError, OSError, ValueError) as error:
            raise Unavailable(f"notify_verify cannot be asked: {type(error).__name__}") from error


def url_of(account: Account, notify_id: str) -> URL:
    """Where to ask about `notify_id`. Whatever the id holds stays inside its parameter."""
    return URL(account.notify_verify_url).with_query(
        {"service": "notify_verify", "partner": account.partner or "", "notify_id": notify_id}
    )
