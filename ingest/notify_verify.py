"""Client of the old gateway's `notify_verify`, which asks Alipay whether it sent a notification to this merchant.

Website notifications name no payee, and Alipay signs for all merchants with one key, so only this call binds them to an
account. The receiver must ask before it answers, because Alipay answers `false` for an id once it has read `success`.

Address and partner number come from the account, redirects are not followed, and TLS is verified. Only the exact body
`true` confirms, and only the exact body `false` denies. Any other answer (an error page, a redirect, a timeout,
`invalid`) means unknown: the receiver answers 503, and Alipay sends the notification again.
"""

from aiohttp import ClientError, ClientSession, ClientTimeout
from yarl import URL

from ingest.errors import NotConfirmed, Unavailable
from schemas.accounts import Account

TOTAL_S = 2.0
ANSWER_BYTES_MAX = 64  # the longest documented answer has seven characters


class NotifyVerify:
    """Asks `notify_verify`. The caller owns the session and closes it."""

    def __init__(self, session: ClientSession, *, total_s: float = TOTAL_S) -> None:
        self._session = session
        self._timeout = ClientTimeout(total=total_s)

    async def confirm(self, account: Account, notify_id: str | bytes) -> None:
        """Return if Alipay confirms that it sent this notification to this account.

        Raises:
            NotConfirmed: Alipay answers `false`, or the id is empty or not printable ASCII.
            Unavailable: no clear answer in time.
        """
        text = notify_id if isinstance(notify_id, str) else notify_id.decode("ascii", "replace")
        if not text or not text.isascii() or not text.isprintable():
            raise NotConfirmed("notify_id is missing or not printable ASCII")
        status, answer = await self._ask(account, text)
        if status == 200 and answer == b"true":
            return
        if status == 200 and answer == b"false":
            raise NotConfirmed("notify_verify answered false")
        raise Unavailable(f"notify_verify answered neither true nor false; status {status}")

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
                    if len(answer) > ANSWER_BYTES_MAX:
                        response.close()  # too long for an answer: do not read the rest
                        break
                return response.status, answer
        except (TimeoutError, ClientError, OSError, ValueError) as error:
            raise Unavailable(f"notify_verify cannot be reached: {type(error).__name__}") from error


def url_of(account: Account, notify_id: str) -> URL:
    """Return the address that asks about `notify_id`. The id is escaped and cannot add parameters."""
    return URL(account.notify_verify_url).with_query(
        {"service": "notify_verify", "partner": account.partner or "", "notify_id": notify_id}
    )
