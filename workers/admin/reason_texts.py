"""What each reason means, in a sentence for the person who looks at a payment. Total over the reasons."""

from schemas.dispositions import Flag, Reason

REASONS: dict[Reason, str] = {
    Reason.CHANGED: "It changed the order.",
    Reason.NOTED: "Authentic news that moves no order; it is kept.",
    Reason.SAME_ID: "Alipay sent this notification again.",
    Reason.SAME_FACT: "Another notification had said the same.",
    Reason.OLD_NEWS: "It is older than what is known.",
    Reason.UNKNOWN_ORDER: "It waits until the merchant registers the order.",
    Reason.UNKNOWN_TRADE: "It waits for the payment that it refunds.",
    Reason.UNKNOWN_REFUND: "It waits until the merchant registers the refund.",
    Reason.NEWER_ENVELOPE: "A newer version of this program wrote the record; it waits for the upgrade.",
    Reason.AMOUNT_MISMATCH: "The amount is not the one that was registered or named before.",
    Reason.CURRENCY_MISMATCH: "The currency is not the one that was registered or named before.",
    Reason.SECOND_TRADE: "A second trade pays for the same order.",
    Reason.PAID_AND_EXPIRED: "The same trade is said to be paid and to have expired.",
    Reason.OVER_REFUNDED: "More is refunded than was paid.",
    Reason.ID_CONFLICT: "The id is known with other content.",
    Reason.BAD_AMOUNT: "The amount is not in its exact form.",
    Reason.BAD_TIME: "A time in it does not exist or is not in its form.",
    Reason.BAD_REFUND: "What it says of a refund contradicts itself.",
    Reason.BAD_CLOSE: "What it says of the closing contradicts itself.",
    Reason.CHARSET: "Its text is not in the charset that it names.",
    Reason.CONTROL_CHAR: "There is a control character in a value that decides something.",
    Reason.MISSING_FIELD: "A field that it needs is not there.",
    Reason.UNKNOWN_STATUS: "Its status is none that is documented.",
    Reason.WAITED_TOO_LONG: "It waited for 25 hours, and what it waited for never came.",
    Reason.MALFORMED: "The bytes are no notification.",
    Reason.UNAUTHENTICATED: "No key of the account has signed it.",
    Reason.BAD_RECORD: "The record was not written by this program's receiver.",
    Reason.OUR_FAULT: "This program failed on it: a fault of ours.",
}

FLAGS: dict[Flag, str] = {
    Flag.AMOUNT_MISMATCH: "Notifications or the registration name different amounts.",
    Flag.CURRENCY_MISMATCH: "Notifications or the registration name different currencies.",
    Flag.SECOND_TRADE: "More than one trade paid for it: one is to be refunded.",
    Flag.PAID_AND_EXPIRED: "Its trade is said to be paid and to have expired.",
    Flag.OVER_REFUNDED: "More is refunded than was paid.",
    Flag.REFUND_AMOUNT_UNKNOWN: "It is partly refunded, and Alipay did not say how much.",
    Flag.FROZEN: "It is paid, and the seller's account at Alipay is frozen.",
}

assert REASONS.keys() == set(Reason)
assert FLAGS.keys() == set(Flag)
