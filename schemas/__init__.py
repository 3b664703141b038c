"""Data shapes and rules that the receiver, the workers and consumers share.

Pure: no I/O, no clock, no environment; imports only msgspec and the standard library. `ingest`, `workers` and `deploy`
exchange these types only. Public and typed for other Python programs: `schemas.events`, `schemas.topics`,
`schemas.consumer` and `ingest.checkout`. In the wheel they are `alipay_notify.schemas.events` and so on, and
`schemas.consumer` is `alipay_notify` itself. Every other module may change without notice.

Reading order:

    accounts           the merchant's configuration; accounts_toml reads it, account_rules refuses contradictions
    form, antom        the signed bytes: forms of the old gateway and the Open Platform, Antom's JSON
    record_format      the log record that holds these bytes
    interpret          a record's body -> Notification (interpret_form, interpret_antom, notification)
    orders             the state that notifications build: Claim, Refund, Order, View
    dispositions       closed sets of outcomes, dispositions and reasons
    events, topics     messages for consumers, and the topics that carry them
    money, times       leaves;  telemetry  names of metrics and log fields

Glossary:

    notification   The meaning of one signed message from Alipay. A *form* or a *message* is its raw text.
    claim          The facts that notifications report about one trade number at one amount.
    news           The event that a notification reports about a trade, for example PAID.
    outcome        The receiver's answer to a request. A *refusal* is the reason if it is not `success`.
    disposition    The result of processing one log record: applied, duplicate, stale, parked, quarantined or dead.
    held           Stored with its bytes because it is parked, quarantined or dead (a dead letter).
    receipt MAC    A keyed hash on a record. It shows a worker that a receiver has verified the signature.
    view           An order as consumers see it. Each change of the view is one *version* and one order event.
    family         The Alipay product that sent a notification: mapi, openapi or antom.
    Return         The text that the buyer's app or browser brings back from Alipay. It never changes an order.
"""
