"""Closed sets: the outcomes of requests, the dispositions of records, and the reasons for both.

Each value is a metric label, a log field or a column, so all of them are defined here.
"""

from enum import StrEnum


class Outcome(StrEnum):
    """The receiver's answer to one request; label of `alipay_notify_received_total`."""

    ACCEPTED = "accepted"
    MALFORMED = "malformed"
    BAD_SIGNATURE = "bad_signature"
    AMBIGUOUS = "ambiguous"  # no longer counted: such a form is accepted, and quarantined
    NOT_OURS = "not_ours"
    NOT_CONFIRMED = "not_confirmed"
    UNKNOWN_ACCOUNT = "unknown_account"
    UNSUPPORTED = "unsupported"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    GONE = "gone"


class Refusal(StrEnum):
    """The reason for refusing a request, finer than its `Outcome`; in logs and in `signature_failures_total`."""

    # malformed
    MALFORMED = "malformed"
    TOO_MANY_FIELDS = "too_many_fields"
    FIELD_TOO_LONG = "field_too_long"
    DUPLICATE_PARAM = "duplicate_param"
    AMBIGUOUS = "ambiguous"
    # not authentic
    MISSING_SIGN = "missing_sign"
    UNSUPPORTED_SIGN_TYPE = "unsupported_sign_type"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    NOT_CONFIRMED = "not_confirmed"
    # authentic, but for another merchant
    NOT_OURS = "not_ours"
    # refused before the signature was checked
    UNKNOWN_ACCOUNT = "unknown_account"
    UNKNOWN_PATH = "unknown_path"
    METHOD = "method"
    MEDIA_TYPE = "media_type"
    CONTENT_ENCODING = "content_encoding"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    THROTTLED = "throttled"
    # not durable, or not confirmed, in time
    UNAVAILABLE = "unavailable"


class Disposition(StrEnum):
    """The result of processing one record. `PARKED` is retried; every other disposition is final."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    STALE = "stale"
    PARKED = "parked"
    QUARANTINED = "quarantined"
    DEAD = "dead"


HELD = frozenset({Disposition.PARKED, Disposition.QUARANTINED, Disposition.DEAD})


class Reason(StrEnum):
    """The reason for a record's disposition."""

    # applied
    CHANGED = "changed"
    NOTED = "noted"  # authentic, but of a kind that changes no order (a dispute, a subscription, an unknown type)
    # duplicate
    SAME_ID = "same_id"
    SAME_FACT = "same_fact"
    # stale
    OLD_NEWS = "old_news"
    # parked
    UNKNOWN_ORDER = "unknown_order"
    UNKNOWN_TRADE = "unknown_trade"
    UNKNOWN_REFUND = "unknown_refund"
    NEWER_ENVELOPE = "newer_envelope"
    UNKNOWN_ACCOUNT = "unknown_account"  # not in the accounts.toml of this worker, or not yet
    UNVERIFIED = "unverified"  # the worker lacks the key, receipt key or setting by which its receiver accepted it
    LOCKED = "locked"  # another session of the database holds a row of its order
    # quarantined: the message is authentic, but incomplete, contradictory or wrong
    AMOUNT_MISMATCH = "amount_mismatch"
    CURRENCY_MISMATCH = "currency_mismatch"
    SECOND_TRADE = "second_trade"
    PAID_AND_EXPIRED = "paid_and_expired"
    OVER_REFUNDED = "over_refunded"
    ID_CONFLICT = "id_conflict"
    BAD_AMOUNT = "bad_amount"
    UNKNOWN_CURRENCY = "unknown_currency"  # ISO 4217 gives it no decimals, so a form's amount cannot be read
    BAD_TIME = "bad_time"
    BAD_REFUND = "bad_refund"
    BAD_CLOSE = "bad_close"
    CHARSET = "charset"
    CONTROL_CHAR = "control_char"
    MISSING_FIELD = "missing_field"
    AMBIGUOUS = "ambiguous"  # its signature also fits other parameters, so nothing in it can be believed
    NAMES_NOBODY = "names_nobody"  # a batch refund that names no merchant, signed by a key that all merchants share
    UNKNOWN_STATUS = "unknown_status"
    WAITED_TOO_LONG = "waited_too_long"  # parked for 25 hours without its order
    # dead: the record is no authentic notification, or processing it failed
    MALFORMED = "malformed"
    UNAUTHENTICATED = "unauthenticated"
    BAD_RECORD = "bad_record"
    OUR_FAULT = "our_fault"
    ENDED_PROCESS = "ended_process"  # the process that read or decided it ended, again and again


class Flag(StrEnum):
    """A problem of an order that consumers see: a contradiction, an unknown amount, or frozen funds."""

    AMOUNT_MISMATCH = "amount_mismatch"
    CURRENCY_MISMATCH = "currency_mismatch"
    SECOND_TRADE = "second_trade"
    PAID_AND_EXPIRED = "paid_and_expired"
    OVER_REFUNDED = "over_refunded"
    REFUND_AMOUNT_UNKNOWN = "refund_amount_unknown"  # partly refunded; the old gateway does not report the amount
    CAPTURE_FAILED = "capture_failed"  # a capture failed, and none was successful
    FROZEN = "frozen"  # paid, but the seller's account at Alipay is frozen
