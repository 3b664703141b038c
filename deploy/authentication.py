"""Authenticate records: verify the signature, unless a valid receipt shows that one of our receivers already did.

A receipt is a MAC over the record. Receivers that share a receipt key with the workers add one to each record that they
have verified, and a worker that finds it valid skips the signature check, which costs twenty times as much. Without a
key or a receipt the signature is verified again, because a record is not authentic merely by being in the topic.

A signature cannot show that Alipay confirmed a notification (notify_verify). The record's header `confirmed` states
it, and any program that can write to the topic can set that header too: on a message that Alipay signed for another
merchant and that names no payee, which would then pay our orders. Therefore, if there are receipt keys, the header
counts only with a valid receipt. For the same reason `received-at` decides on a retiring key only then: otherwise the
record counts as received now.
"""

from collections.abc import Iterable, Sequence
from hmac import compare_digest

from msgspec import structs

from ingest import authenticate as ingest_authenticate
from ingest.accounts_in_use import AccountsInUse
from ingest.checkout import returns
from ingest.clock import Clock, SystemClock
from schemas import record_format
from schemas.accounts import Account
from schemas.record_format import RecordContents
from workers.admin.returns import Returned


class Authenticator:
    """Makes and checks receipts, authenticates records, and checks Returns.

    The first receipt key makes receipts, all verify them; without keys there are no receipts. `is_log_private` means
    that only this process can write to the log, so that the header `confirmed` counts without a receipt.
    """

    def __init__(
        self,
        accounts: AccountsInUse,
        receipt_keys: Sequence[bytes],
        *,
        is_log_private: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._accounts = accounts
        self._clock = clock or SystemClock()
        self._receipt_keys = tuple(receipt_keys)
        self._trusts_header = is_log_private or not receipt_keys

    def receipt(self, contents: RecordContents) -> bytes:
        """Return the receipt for a record that was verified, or nothing if there is no receipt key."""
        return record_format.receipt(contents, self._receipt_keys[0]) if self._receipt_keys else b""

    def authenticate(self, contents: RecordContents, account: Account, *, anew: bool = False) -> bool:
        """Return whether the authentic record counts as confirmed. If `anew`, verify despite a valid receipt.

        Raises:
            Refused: as `ingest.authenticate.recheck`.
        """
        has_receipt = bool(contents.receipt) and self._is_valid(contents)
        if has_receipt and not anew:
            return contents.confirmed
        if not (has_receipt or self._trusts_header):
            if contents.confirmed:
                contents = structs.replace(contents, confirmed=False)
            if account.retiring:
                contents = structs.replace(contents, received_at_ms=self._clock.epoch_ms())
        ingest_authenticate.recheck(contents, account, self._accounts.ring(account.name))
        return contents.confirmed

    def authenticate_anew(self, contents: RecordContents, account: Account, *, anew: bool = True) -> bool:
        """Return as `authenticate`, by the current keys; receipts do not replace the signature."""
        return self.authenticate(contents, account, anew=True)

    def check_return(self, text: str, account: Account) -> Returned:
        """Check the query with which the buyer came back: whether Alipay signed it, and what it claims."""
        checked = returns.check(text, account, self._accounts.ring(account.name), self._clock.epoch_ms())
        return Returned(
            authentic=checked.verdict is returns.ReturnVerdict.AUTHENTIC,
            reason=checked.detail or (checked.reason.value if checked.reason else ""),
            result_status=checked.result_status,
            meaning=checked.result_meaning,
            claims=checked.claims,
            ignored=checked.ignored,
        )

    def _is_valid(self, contents: RecordContents) -> bool:
        receipts = (record_format.receipt(contents, key) for key in self._receipt_keys)
        return any(compare_digest(contents.receipt, receipt) for receipt in receipts)


def forgeable_confirmations(accounts: Iterable[Account], receipt_keys: Sequence[bytes]) -> list[str]:
    """Return the accounts whose header `confirmed` anyone who can write to the topic can set."""
    return [] if receipt_keys else sorted(account.name for account in accounts if account.notify_verify)
