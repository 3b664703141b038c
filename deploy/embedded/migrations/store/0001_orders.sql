-- The order store of the one-machine engine. Money in minor units, times in UTC epoch milliseconds.
-- Keys lead with the number that people search by, since the account alone narrows nothing.

CREATE TABLE cursors (
    log_partition INTEGER PRIMARY KEY,
    log_offset INTEGER NOT NULL
) STRICT;

CREATE TABLE orders (
    order_number TEXT NOT NULL,
    account TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 0),
    facts BLOB NOT NULL,
    rank INTEGER NOT NULL,
    status TEXT NOT NULL,
    closed_because TEXT,
    trade TEXT,
    amount_minor INTEGER,
    currency TEXT,
    refunded_minor INTEGER NOT NULL,
    flags TEXT NOT NULL,
    changed_at_ms INTEGER NOT NULL,
    PRIMARY KEY (order_number, account)
) STRICT, WITHOUT ROWID;
CREATE INDEX orders_by_change ON orders (changed_at_ms);

CREATE TABLE trades (
    trade TEXT NOT NULL,
    account TEXT NOT NULL,
    order_number TEXT NOT NULL,
    PRIMARY KEY (trade, account)
) STRICT, WITHOUT ROWID;

CREATE TABLE refund_links (
    refund TEXT NOT NULL,
    account TEXT NOT NULL,
    order_number TEXT NOT NULL,
    PRIMARY KEY (refund, account)
) STRICT, WITHOUT ROWID;

-- The unique id of each notification, with the bytes that were signed: the evidence, kept for years.
CREATE TABLE notifications (
    entry INTEGER PRIMARY KEY,
    notification_id TEXT NOT NULL,
    account TEXT NOT NULL,
    order_number TEXT NOT NULL,
    digest BLOB NOT NULL,
    log_partition INTEGER NOT NULL,
    log_offset INTEGER NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    headers BLOB NOT NULL,
    UNIQUE (notification_id, account)
) STRICT;

-- One row per record: its disposition. The key is what makes a second one impossible.
CREATE TABLE deliveries (
    log_partition INTEGER NOT NULL,
    log_offset INTEGER NOT NULL,
    account TEXT NOT NULL,
    order_number TEXT NOT NULL,
    notification_id TEXT NOT NULL,
    type TEXT NOT NULL,
    status TEXT NOT NULL,
    news TEXT NOT NULL,
    disposition TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    version INTEGER,
    received_at_ms INTEGER NOT NULL,
    decided_at_ms INTEGER NOT NULL,
    PRIMARY KEY (log_partition, log_offset)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_by_order ON deliveries (order_number, account);

CREATE TABLE held (
    log_partition INTEGER NOT NULL,
    log_offset INTEGER NOT NULL,
    account TEXT NOT NULL,
    order_number TEXT NOT NULL,
    notification_id TEXT NOT NULL,
    disposition TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    headers BLOB NOT NULL,
    first_at_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    due_at_ms INTEGER,
    waits_for TEXT NOT NULL,
    resolved_at_ms INTEGER,
    resolution TEXT NOT NULL DEFAULT '',
    by_whom TEXT NOT NULL DEFAULT '',
    why TEXT NOT NULL DEFAULT '',
    replays INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (log_partition, log_offset),
    CHECK ((resolved_at_ms IS NULL) = (resolution = ''))
) STRICT;
CREATE INDEX held_due ON held (due_at_ms) WHERE resolved_at_ms IS NULL AND due_at_ms IS NOT NULL;
CREATE INDEX held_waiting ON held (waits_for, account) WHERE resolved_at_ms IS NULL AND disposition = 'parked';
CREATE INDEX held_open ON held (disposition, first_at_ms) WHERE resolved_at_ms IS NULL;
CREATE INDEX held_by_order ON held (order_number, account);
CREATE INDEX held_by_notification ON held (notification_id);

-- Outgoing events and notices. `version` is that of an order event, NULL for a notice.
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    headers BLOB NOT NULL,
    version INTEGER,
    written_at_ms INTEGER NOT NULL,
    sent_at_ms INTEGER
) STRICT;
CREATE INDEX outbox_unsent ON outbox (number) WHERE sent_at_ms IS NULL;

CREATE TABLE audit (
    entry INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    by_whom TEXT NOT NULL,
    why TEXT NOT NULL
) STRICT;

-- Versions are 1..n without gaps: an event follows its predecessor's (ids end in the version, and pruning keeps the
-- newest event of each order), an order's version has its event, and ids are unique. A status never falls in rank.
CREATE TRIGGER outbox_without_gaps BEFORE INSERT ON outbox
WHEN NEW.version > 1 AND NOT EXISTS (
    SELECT 1 FROM outbox
    WHERE id = substr(NEW.id, 1, length(NEW.id) - length(NEW.version)) || (NEW.version - 1)
)
BEGIN SELECT RAISE(ABORT, 'an event without the one before it'); END;

CREATE TRIGGER orders_begin AFTER INSERT ON orders
WHEN NEW.version > 0
    AND NOT EXISTS (SELECT 1 FROM outbox WHERE id = NEW.account || ':' || NEW.order_number || ':' || NEW.version)
BEGIN SELECT RAISE(ABORT, 'an order version without its event'); END;

CREATE TRIGGER orders_rise BEFORE UPDATE ON orders
WHEN NEW.version < OLD.version OR NEW.rank < OLD.rank
    OR (NEW.version > OLD.version AND NOT EXISTS (
        SELECT 1 FROM outbox WHERE id = NEW.account || ':' || NEW.order_number || ':' || NEW.version
    ))
BEGIN SELECT RAISE(ABORT, 'an order may not fall, nor skip its event'); END;
