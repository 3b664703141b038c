"""Authenticate records: verify the signature, unless a valid receipt shows that one of our receivers already did.

A receipt is a MAC over the record. Receivers that share a receipt key with the workers add one to each record that they
have verified, and a worker that finds it valid skips the signature check, which costs twenty times as much. Without a
key or a receipt the signature is verified again, because a record is not authentic merely by being in the topic.

A signature cannot show that Alipay confirmed a notification (notify_verify). The record's header `confirmed` states
it, and any program that can write to the topic can set that header too: on a message that Alipay signed for another
merchant and that names no payee, which would then pay our orders. Therefore, if there are receipt keys, the header
counts only with a valid receipt. For the same reason `received-at` decides on a retiring key only then: otherwise the
record counts as received now.

Receivers and workers read their files on separate clocks. `lacking` finds out whether a record is refused only because
this process has not read the files of its receiver. Such a record is not believed: it waits, and has no effect.
"""

from collections.abc import Iterable, Sequence
from hmac import compare_digest
from itertools import repeat

from msgspec import structs

from deploy.accounts_reload import AccountsReloader
from ingest import authenticate as ingest_authenticate
from ingest.accounts_in_use import AccountsInUse
from ingest.checkout import returns
from ingest.clock import Clock, SystemClock
from ingest.errors import Malformed, Refused
from schemas import record_format
from schemas.accounts import Account
from schemas.dispositions import Refusal
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
        self._receipt_keys = receipt_keys  # a reload may replace its content
        self._is_log_private = is_log_private

    def receipt(self, contents: RecordContents) -> bytes:
        """Return the receipt for a record that was verified, or nothing if there is no receipt key."""
        return record_format.receipt(contents, self._receipt_keys[0]) if self._receipt_keys else b""

    def authenticate(self, contents: RecordContents, account: Account, *, anew: bool = False) -> bool:
        """Return whether the authentic record counts as confirmed. If `anew`, verify despite a valid receipt.

        Raises:
            Refused: as `ingest.authenticate.recheck`.
        """
        if not anew and contents.receipt and self._is_valid(contents):
            return contents.confirmed
        believed = self._believed(contents, account)
        ingest_authenticate.recheck(believed, account, self._accounts.ring(account.name))
        return believed.confirmed

    def verify(self, contents: RecordContents, account: Account) -> str:
        """Return the id of the key that verifies the record now.

        Raises:
            Refused: as `ingest.authenticate.recheck`.
        """
        return ingest_authenticate.recheck(
            self._believed(contents, account), account, self._accounts.ring(account.name)
        )

    def _believed(self, contents: RecordContents, account: Account) -> RecordContents:
        """Return the contents without the claims of headers that any program that writes to the log can make."""
        has_receipt = bool(contents.receipt) and self._is_valid(contents)
        if not (has_receipt or self._trusts_header()):
            if contents.confirmed:
                contents = structs.replace(contents, confirmed=False)
            if account.retiring:
                contents = structs.replace(contents, received_at_ms=self._clock.epoch_ms())
        return contents

    def authenticate_anew(self, contents: RecordContents, account: Account, *, anew: bool = True) -> bool:
        """Return as `authenticate`, by the current keys; receipts do not replace the signature."""
        return self.authenticate(contents, account, anew=True)

    def lacking(self, contents: RecordContents, account: Account, error: Exception) -> str:
        """Return the part that this process lacks, and the receiver may have had, if `authenticate` raised `error`.

        Empty if no key and no setting could help: the record is no signed message, or this process has the very key
        that the record names, and it did not make the signature.
        """
        if not isinstance(error, Refused) or isinstance(error, Malformed) or error.reason is Refusal.MISSING_SIGN:
            return ""
        known = self._accounts.ring(account.name).digests.get(contents.key_id)
        if contents.key_id and (known is None or (contents.key_digest and contents.key_digest != known)):
            return f"the key {contents.key_id[:80]} of its receiver is missing here, or has another content"
        if error.reason is Refusal.BAD_SIGNATURE:
            return ""
        return self.misses_receipt(contents) or f"the settings of its account here refuse it: {error}"

    def misses_receipt(self, contents: RecordContents) -> str:
        """Return why no receipt shows here that a receiver wrote the record; empty if one does, or none is needed."""
        if self._trusts_header() or (contents.receipt and self._is_valid(contents)):
            return ""
        if contents.receipt:
            return "its receipt MAC was made with a receipt key that is missing here"
        return "its receiver confirmed it without a receipt key, which is set here" if contents.confirmed else ""

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

    def _trusts_header(self) -> bool:
        return self._is_log_private or not self._receipt_keys

    def _is_valid(self, contents: RecordContents) -> bool:
        receipts = [record_format.receipt(contents, key) for key in self._receipt_keys]
        return any(map(compare_digest, receipts, repeat(contents.receipt)))


class FilesInUse:
    """The files of this process, for records that need newer ones: `workers.record_reader.AccountsFiles`."""

    def __init__(self, authenticator: Authenticator, reloader: AccountsReloader) -> None:
        self._reloader = reloader
        self.lacking = authenticator.lacking
        self.misses_receipt = authenticator.misses_receipt
        self.read_again = reloader.look_soon

    @property
    def version(self) -> int:
        return self._reloader.version


def forgeable_confirmations(accounts: Iterable[Account], receipt_keys: Sequence[bytes]) -> list[str]:
    """Return the accounts whose header `confirmed` anyone who can write to the topic can set."""
    return [] if receipt_keys else sorted(each.name for each in accounts if each.notify_verify or each.queries)
