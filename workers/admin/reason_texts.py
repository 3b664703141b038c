"""One sentence for each reason and flag, for the operator that looks at a payment; a held one also says what to do."""

from schemas.dispositions import Flag, Reason

_COMPARE = "Compare with Alipay's merchant portal, then retry or discard."

REASONS: dict[Reason, str] = {
    # applied
    Reason.CHANGED: "It changed the order.",
    Reason.NOTED: "It is authentic but changes no order; it is kept.",
    # duplicate
    Reason.SAME_ID: "Alipay sent this notification again.",
    Reason.SAME_FACT: "An earlier notification reported the same.",
    # stale
    Reason.OLD_NEWS: "It is older than the order's present state.",
    # parked
    Reason.UNKNOWN_ORDER: "It waits until the merchant registers the order.",
    Reason.UNKNOWN_TRADE: "It waits for the notification of the payment that it refunds.",
    Reason.UNKNOWN_REFUND: "It waits until the merchant registers the refund with its order.",
    Reason.NEWER_ENVELOPE: "A newer release wrote this record. It is retried until this process is upgraded.",
    Reason.LOCKED: "Another session of the database has locked a row that it needs: a shell with an open transaction, "
    "or a program that stalls. It is retried every 5 s, and applied once the lock is gone. pg_stat_activity shows it.",
    Reason.UNKNOWN_ACCOUNT: "The worker's accounts.toml lacks its account. It is retried, and applied once the account "
    "is added. If the account is gone for good, discard it.",
    Reason.UNVERIFIED: "This process lacks what its receiver verified it by: a key, a receipt key or a setting of the "
    "account. It is retried, and applied once the files here have it. If that was removed for good, discard it.",
    # quarantined
    Reason.AMOUNT_MISMATCH: "Its amount differs from the registered amount, or from an earlier notification's. "
    "If the amount is right, accept it. If not, discard it and settle with the buyer.",
    Reason.CURRENCY_MISMATCH: "Its currency differs from the registered currency, or from an earlier notification's. "
    "If the currency is right, accept it. If not, discard it and settle with the buyer.",
    Reason.SECOND_TRADE: "A second trade pays for the same order. Refund one of them: discard this one if it does not "
    "count, accept it if it counts instead of the first.",
    Reason.PAID_AND_EXPIRED: f"Notifications report the same trade as paid and as expired. {_COMPARE}",
    Reason.OVER_REFUNDED: "The refunds exceed the paid amount. Compare with Alipay's merchant portal: accept them "
    "if they are right, else discard this one.",
    Reason.ID_CONFLICT: f"An earlier notification had the same id and other content. {_COMPARE}",
    Reason.BAD_AMOUNT: f"An amount in it is malformed. {_COMPARE}",
    Reason.UNKNOWN_CURRENCY: f"Its currency has no decimals in ISO 4217, so the amount cannot be read. {_COMPARE}",
    Reason.BAD_TIME: f"A time in it is malformed or does not exist. {_COMPARE}",
    Reason.BAD_REFUND: f"Its refund fields contradict each other. {_COMPARE}",
    Reason.BAD_CLOSE: f"Its fields about closing the trade contradict each other. {_COMPARE}",
    Reason.CHARSET: f"Its text is not in the charset that it names. {_COMPARE}",
    Reason.CONTROL_CHAR: f"A field that decides the result contains a control character. {_COMPARE}",
    Reason.MISSING_FIELD: f"A required field is missing. {_COMPARE}",
    Reason.AMBIGUOUS: "A value in it contains & and a parameter's name, so its signature also fits other parameters. "
    "It touches no order. Look the trade up in Alipay's merchant portal, then discard it.",
    Reason.NAMES_NOBODY: "It names no merchant, and Alipay's key signs for all of them, so it may be another's. "
    f"With notify_verify = true, Alipay is asked. {_COMPARE}",
    Reason.UNKNOWN_STATUS: f"Its status is not documented by Alipay. {_COMPARE}",
    Reason.WAITED_TOO_LONG: "It waited 25 hours for an order, payment or refund that did not arrive. "
    "Register what is missing and retry, or discard it.",
    # dead
    Reason.MALFORMED: "The bytes are not a notification. Check which programs can write to the log, then discard it.",
    Reason.UNAUTHENTICATED: "No key of the account verifies it. If a key was removed too early, restore it and retry. "
    "Otherwise discard it.",
    Reason.BAD_RECORD: "The record's format is wrong, so no receiver wrote it. Check which programs can "
    "write to the log, then discard it.",
    Reason.ENDED_PROCESS: "This program ended each time it processed it. Report the error, and retry it only after an "
    "upgrade.",
    Reason.OUR_FAULT: "This program failed to process it. Report the error, and retry after an upgrade.",
}

FLAGS: dict[Flag, str] = {
    Flag.AMOUNT_MISMATCH: "The notifications or the registration name different amounts.",
    Flag.CURRENCY_MISMATCH: "The notifications or the registration name different currencies.",
    Flag.SECOND_TRADE: "More than one trade paid for it. Refund one of them.",
    Flag.PAID_AND_EXPIRED: "Notifications report its trade as paid and as expired.",
    Flag.OVER_REFUNDED: "The refunds exceed the paid amount.",
    Flag.REFUND_AMOUNT_UNKNOWN: "It is partly refunded, and Alipay did not report the amount.",
    Flag.CAPTURE_FAILED: "The amount was reserved, but taking it failed. Capture it again, or do not deliver.",
    Flag.FROZEN: "It is paid, but the seller's account at Alipay is frozen.",
}

assert REASONS.keys() == set(Reason)
assert FLAGS.keys() == set(Flag)
