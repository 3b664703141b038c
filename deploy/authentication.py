"""What a process believes: the keys decide, and a receipt of our own vouches for what the keys have decided already.

A receiver that shares a secret with the workers marks each record that it has verified. A worker that finds the mark
good need not verify the signature again, which costs twenty times as much. Without the secret, or without the mark, the
signature is verified once more: what lies in a log proves nothing by lying there.

That Alipay confirmed a notification (notify_verify) is nothing that a signature could show later. The record says it in
a header, and whoever may write to the log can write that too: with a message that Alipay signed for another merchant,
and that names no payee, he would pay our orders. So where there are receipts, only a good one makes the header true.
"""

from collections.abc import Iterable, Sequence
from hmac import compare_digest

from msgspec import structs

from ingest import app
from ingest import authenticate as ingest_authenticate
from ingest.checkout import returns
from ingest.keys import Rings
from ingest.log_port import Logger
from schemas import record_format
from schemas.accounts import Account
from schemas.record_format import RecordContents
from workers.admin.returns import Returned


class Authenticator:
    """The receipts, the authentication and the Return check of one process. Without a secret there are no receipts; of
    several, the first makes them, and all are believed.

    `is_log_private`: nobody but this program writes to the log, so its records' word on notify_verify is good without.
    """

    def __init__(self, rings: Rings, secrets: Sequence[bytes], *, is_log_private: bool = False) -> None:
        self._rings = rings
        self._secrets = tuple(secrets)
        self._believes_log = is_log_private or not secrets

    def receipt(self, sealed: RecordContents) -> bytes:
        """The mark of having verified what is sealed; empty where nobody shares a secret with us."""
        return record_format.receipt(sealed, self._secrets[0]) if self._secrets else b""

    def authenticate(self, sealed: RecordContents, account: Account, *, anew: bool = False) -> None:
        """Returns for an authentic record; raises what `ingest.authenticate.recheck` does for another."""
        is_ours = bool(sealed.receipt) and self._has_made(sealed)
        if is_ours and not anew:
            return
        if sealed.confirmed and not (is_ours or self._believes_log):
            sealed = structs.replace(sealed, confirmed=False)
        ingest_authenticate.recheck(sealed, account, self._rings.current(account.name))

    def authenticate_anew(self, sealed: RecordContents, account: Account, *, anew: bool = True) -> None:
        """The same, always by the keys of now."""
        self.authenticate(sealed, account, anew=True)

    def check_return(self, text: str, account: Account) -> Returned:
        """What the buyer's app or browser brought back: whether Alipay signed it, and what it says."""
        checked = returns.check(text, account, self._rings.current(account.name))
        return Returned(
            authentic=checked.verdict is returns.ReturnVerdict.AUTHENTIC,
            reason=checked.detail or (checked.reason.value if checked.reason else ""),
            result_status=checked.result_status,
            meaning=checked.result_meaning,
            claims=checked.claims,
        )

    def _has_made(self, sealed: RecordContents) -> bool:
        return any(compare_digest(sealed.receipt, record_format.receipt(sealed, secret)) for secret in self._secrets)


def believing_the_log(accounts: Iterable[Account], secrets: Sequence[bytes]) -> list[str]:
    """Accounts of which whoever may write to the log can say that Alipay confirmed a notification: nobody vouches."""
    return [] if secrets else sorted(account.name for account in accounts if account.notify_verify)


async def keep_keys(rings: Rings, accounts: Iterable[str], logger: Logger, *, interval_s: float) -> None:
    """Look at the key files for ever, in a process that has no receiver to do it and to count them."""
    await app.reload_keys(rings, accounts, observer=_Nobody(), logger=logger, interval_s=interval_s)


class _Nobody:
    """Keys are counted where they verify what arrives."""

    def keys_in_use(self, keys: Iterable[tuple[str, str]], /) -> None: ...

    def keys_expire(self, expiries: dict[tuple[str, str], float], /) -> None: ...
