"""Read one record of the log: its format, its account, its signature, and the notification in it.

No record makes reading raise: a record without a notification is returned with the reason. Reading awaits nothing.

Receivers and workers look at the files of accounts and keys on separate clocks. So a record may need an account, a key,
a receipt key or a setting that its receiver had and this process has not read yet (`AccountsFiles.lacking`). It is
parked and waits for its account; `Processing` has the files read at once before it lets a record wait.
"""

import hashlib
import traceback
from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct, structs

from schemas import interpret, record_format, scopes
from schemas.accounts import NAME, Account, Family
from schemas.dispositions import Disposition, Reason
from schemas.notification import Unreadable
from schemas.record_format import RecordContents
from workers import record_bounds
from workers.errors import UnknownAccount, Unverified
from workers.settlement import parking
from workers.settlement.plan import HeldRow, LogRecord, ParsedRecord, ParseFailure

DETAIL_CHARACTERS_MAX = 1000
FAMILIES = frozenset(family.value for family in Family)

_END_PROCESS = (KeyboardInterrupt, SystemExit, GeneratorExit)  # never a record's failure


class Authenticate(Protocol):
    """The receiver's signature check, repeated: anything that can write to the log can put a record there."""

    def __call__(self, contents: RecordContents, account: Account, /, *, anew: bool = False) -> bool:
        """Return whether Alipay confirmed the record; raise any exception if no key of this account signed it.

        `anew`: check against today's keys, and do not accept a receipt MAC instead.
        """


class AccountsFiles(Protocol):
    """The files of accounts, keys and receipt keys, of which receivers may have read newer ones than this process."""

    @property
    def version(self) -> int:
        """The number of reloads that changed something."""

    def lacking(self, contents: RecordContents, account: Account, error: Exception) -> str:
        """Return the part that the receiver had and this process lacks, if `error` of the check could come from that.

        Empty if the record would be refused with every key and every setting.
        """

    def misses_receipt(self, contents: RecordContents) -> str:
        """Return why a confirmation by Alipay, which the record states, cannot be believed here; empty if it can."""

    async def read_again(self) -> None:
        """Read changed files now, and return when they are in use; or soon, if that takes long. Never raises."""


class FixedFiles:
    """Files that are not read again: nothing in them can be newer."""

    version = 0

    def lacking(self, contents: RecordContents, account: Account, error: Exception) -> str:
        return ""

    def misses_receipt(self, contents: RecordContents) -> str:
        return ""

    async def read_again(self) -> None: ...


class Opened(Struct, frozen=True, gc=False):
    """An authentic record, whose notification is still to be read."""

    log_record: LogRecord
    held: HeldRow | None
    contents: RecordContents
    account: Account
    is_confirmed: bool


class RecordReader:
    """Reads records by the accounts and keys in use: first `open`, then `read`.

    Each goes through a batch before the next begins. The processor then has less code to keep at hand, which saves a
    twelfth of its time.
    """

    def __init__(self, accounts: Mapping[str, Account], authenticate: Authenticate, files: AccountsFiles) -> None:
        self._accounts = accounts
        self._authenticate = authenticate
        self._files = files

    def open(self, given: tuple[LogRecord, HeldRow | None], *, now_ms: int) -> Opened | ParsedRecord:
        """Return the record if it is authentic, else with the reason why it has no notification. Never raises.

        It is given with its held row, if it is retried. A record without a valid receive time counts as received at
        `now_ms`; a held one when it was first held.
        """
        log_record, held = given
        record, contents = log_record.record, None
        received_at_ms = now_ms if held is None else held.first_at_ms
        try:
            record_bounds.check(record)
            contents = record_format.decode(record, now_ms=received_at_ms)
            received_at_ms = contents.received_at_ms
            account = self._account(contents)
            # A receipt MAC saves the check once. A held record may be days old: check it against today's keys.
            is_confirmed = self._check_authentic(contents, account, anew=held is not None)
            _check_merchants(record.key, account)
        except _END_PROCESS:
            raise
        except BaseException as error:
            name, family = ("", "") if contents is None else (contents.account, contents.family)
            return _unread(log_record, held, _failed(error, family), account=name, received_at_ms=received_at_ms)
        return Opened(log_record, held, contents, account, is_confirmed)

    def read(self, opened: Opened | ParsedRecord) -> ParsedRecord:
        """Return the record with its notification, or with the reason why it has none. No record makes this raise."""
        if isinstance(opened, ParsedRecord):
            return opened
        log_record, held, contents = opened.log_record, opened.held, opened.contents
        scope = contents.account
        try:
            try:
                notification = interpret.read(
                    contents.body, opened.account, is_confirmed=opened.is_confirmed, is_answer=contents.is_answer
                )
            except Unreadable as error:
                scope = interpret.scope(contents.body, opened.account)
                self._check_confirmable(contents, opened.account, error)
                raise
            except Exception:
                scope = interpret.scope(contents.body, opened.account)
                raise
        except _END_PROCESS:
            raise
        except BaseException as error:
            if isinstance(error, Unverified):
                scope = contents.account  # the scope of its merchant is not certain
            failure = _failed(error, contents.family)
            return _unread(log_record, held, failure, account=scope, received_at_ms=contents.received_at_ms)
        return ParsedRecord(
            position=log_record.position,
            record=log_record.record,
            account=notification.account,
            received_at_ms=contents.received_at_ms,
            notification=notification,
            held=held,
        )

    def _account(self, contents: RecordContents) -> Account:
        account = self._accounts.get(contents.account)
        if account is None or account.family != contents.family:
            if NAME.fullmatch(contents.account) is None or contents.family not in FAMILIES:
                raise record_format.BadRecord("the record names an account or a family that cannot exist")
            raise UnknownAccount(contents.family)
        return account

    def _check_authentic(self, contents: RecordContents, account: Account, *, anew: bool) -> bool:
        try:
            return self._authenticate(contents, account, anew=anew)
        except Exception as error:
            if lacking := self._files.lacking(contents, account, error):
                raise Unverified(lacking) from None
            detail = f"not signed by a key of this account: {type(error).__name__}"
            raise Unreadable(Reason.UNAUTHENTICATED, detail, disposition=Disposition.DEAD) from None

    def _check_confirmable(self, contents: RecordContents, account: Account, error: Unreadable) -> None:
        """Let a batch refund wait that names no merchant, if only a receipt key is missing to believe Alipay's word."""
        if error.reason is Reason.NAMES_NOBODY and contents.confirmed and (why := self._files.misses_receipt(contents)):
            raise Unverified(why)


def _check_merchants(key: bytes, account: Account) -> None:
    """Let a record wait whose receiver keeps merchants apart that this process does not know of.

    Otherwise the orders of several merchants would become those of the account, where equal numbers are one order. The
    account's only merchant is known: the account may have had several before.
    """
    name, slash, rest = key.partition(b":")[0].partition(b"/")
    if not slash or account.auth_app_ids or name != account.name.encode():
        return
    merchant = rest.decode("ascii", "replace")
    if not scopes.is_merchant(merchant):
        return
    if merchant != (account.auth_app_id or account.app_id):
        raise Unverified("its receiver knows merchants of this account: accounts.toml here has no list in auth_app_id")


def unread(log_record: LogRecord, cause: BaseException, *, now_ms: int, held: HeldRow | None) -> ParsedRecord:
    """Return a record whose reading was interrupted as a dead letter by our own fault."""
    return _without_reading(log_record, Reason.OUR_FAULT, cause, now_ms=now_ms, held=held)


class ProcessEnded(Exception):
    """The processes that handled a record ended, so that none of them could say why."""


def fatal(log_record: LogRecord, *, now_ms: int, held: HeldRow | None) -> ParsedRecord:
    """Return a record that ends the processes which handle it as a dead letter."""
    why = ProcessEnded("processes ended with this record alone in hand")
    return _without_reading(log_record, Reason.ENDED_PROCESS, why, now_ms=now_ms, held=held)


def _without_reading(
    log_record: LogRecord, reason: Reason, cause: BaseException, *, now_ms: int, held: HeldRow | None
) -> ParsedRecord:
    failure = _failure(Disposition.DEAD, reason, cause)
    if reason is Reason.ENDED_PROCESS:  # the step is not known
        failure = structs.replace(failure, step="")
    if held is not None:
        return _unread(log_record, held, failure, account=held.account, received_at_ms=held.first_at_ms)
    # The receive time is in the header, and by it the store recognises the record when it is redelivered.
    try:
        received_at_ms = record_format.decode(log_record.record, now_ms=now_ms).received_at_ms
    except (record_format.BadRecord, record_format.NewerRecord):
        received_at_ms = now_ms
    return _unread(log_record, None, failure, account="", received_at_ms=received_at_ms)


def _unread(
    log_record: LogRecord, held: HeldRow | None, failure: ParseFailure, *, account: str, received_at_ms: int
) -> ParsedRecord:
    return ParsedRecord(
        position=log_record.position,
        record=record_bounds.trimmed(log_record.record),
        account=account,
        received_at_ms=received_at_ms,
        notification=None,
        failure=_identified(failure, held),
        held=held,
    )


def _failed(error: BaseException, family: str) -> ParseFailure:
    """Return why there is no notification. Reading awaits nothing, so the record is to blame even for a cancellation
    that is raised within it."""
    match error:
        case record_format.NewerRecord():
            return _failure(Disposition.PARKED, Reason.NEWER_ENVELOPE, error)
        case UnknownAccount():
            return _waiting(Reason.UNKNOWN_ACCOUNT, error, error.family)
        case Unverified():
            return _waiting(Reason.UNVERIFIED, error, family)
        case record_format.BadRecord():
            return _failure(Disposition.DEAD, Reason.BAD_RECORD, error)
        case Unreadable():
            failure = _failure(error.disposition, error.reason, error, error.order, error.notification_id, error.digest)
            return structs.replace(failure, numbers=error.numbers, scopes=error.scopes)
    return _failure(Disposition.DEAD, Reason.OUR_FAULT, error)


def dead_letter(parsed: ParsedRecord, cause: BaseException) -> ParsedRecord:
    """Return a record as a dead letter by our own fault."""
    notification = parsed.notification
    order, notification_id = ("", "") if notification is None else (notification.order, notification.id)
    failure = _failure(Disposition.DEAD, Reason.OUR_FAULT, cause, order, notification_id)
    failure = structs.replace(failure, step="decide")
    return structs.replace(
        parsed, account=storable(parsed.account), notification=None, failure=_identified(failure, parsed.held)
    )


def locked(parsed: ParsedRecord) -> ParsedRecord:
    """Return a record that waits until another session releases the lock of some row. It needs no row but its own."""
    notification, failure = parsed.notification, parsed.failure
    order, notification_id = ("", "") if failure is None else (failure.order, failure.notification_id)
    if notification is not None:
        order, notification_id = notification.order, notification.id
    waiting = ParseFailure(
        disposition=Disposition.PARKED,
        reason=Reason.LOCKED,
        detail=parking.LOCKED,
        order=_number(order),
        notification_id=_number(notification_id),
        step="decide",
    )
    return structs.replace(
        parsed, account=storable(parsed.account), notification=None, failure=_identified(waiting, parsed.held)
    )


def _waiting(reason: Reason, error: Exception, family: str) -> ParseFailure:
    failure = _failure(Disposition.PARKED, reason, error)
    return structs.replace(failure, waits_for=parking.account_key(family))


def _failure(
    disposition: Disposition,
    reason: Reason,
    error: BaseException,
    order: str = "",
    notification_id: str = "",
    digest: bytes = b"",
) -> ParseFailure:
    detail = str(error)
    if reason is Reason.OUR_FAULT:
        trace = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")
        detail = f"{type(error).__name__}, traceback {hashlib.sha256(trace).hexdigest()[:12]}"
    id_ = _number(notification_id)
    return ParseFailure(
        disposition=disposition,
        reason=reason,
        detail=storable(detail)[:DETAIL_CHARACTERS_MAX],
        order=_number(order),
        notification_id=id_,
        digest=digest if id_ else b"",
        error_class=type(error).__name__,
    )


def _identified(failure: ParseFailure, held: HeldRow | None) -> ParseFailure:
    """Return the failure with the row's order and id, if it has none of its own.

    A row keeps them while its account or key is away, because an operator looks for it by them.
    """
    if held is None or failure.notification_id:
        return failure
    return structs.replace(failure, order=failure.order or held.order, notification_id=held.notification_id)


def _number(text: str) -> str:
    """Return a number to file a held row under; empty if it must be escaped, because that could be another's number."""
    return text if storable(text) == text else ""


def storable(text: str) -> str:
    """Escape the characters that a database cannot hold: NUL and lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
