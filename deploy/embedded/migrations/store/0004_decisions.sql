-- Decisions of operators on held notifications, replays of many of them, and indexes for lists and counts of any length.

CREATE INDEX held_by_age ON held (first_at_ms, log_partition, log_offset) WHERE resolved_at_ms IS NULL;
CREATE INDEX held_counted ON held (disposition, reason, account, first_at_ms) WHERE resolved_at_ms IS NULL;

-- One row for each order that a decision is about. `version` is the one that it gave the order, NULL if none.
CREATE TABLE decisions (
    entry INTEGER PRIMARY KEY AUTOINCREMENT,
    log_partition INTEGER NOT NULL,
    log_offset INTEGER NOT NULL,
    account TEXT NOT NULL,
    order_number TEXT NOT NULL,
    notification_id TEXT NOT NULL,
    version INTEGER,
    action TEXT NOT NULL,
    by_whom TEXT NOT NULL,
    why TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX decisions_by_order ON decisions (order_number, account);

-- Replays of many held notifications. The `after_` columns are the cursor: rows up to it are done and counted.
CREATE TABLE replays (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    state TEXT NOT NULL CHECK (state IN ('running', 'cancelled', 'finished')),
    account TEXT,
    order_number TEXT,
    disposition TEXT,
    reason TEXT,
    since_ms INTEGER,
    before_ms INTEGER NOT NULL,
    rate INTEGER NOT NULL,
    total INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    applied INTEGER NOT NULL DEFAULT 0,
    duplicate INTEGER NOT NULL DEFAULT 0,
    stale INTEGER NOT NULL DEFAULT 0,
    held_again INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    after_first_at_ms INTEGER NOT NULL DEFAULT -1,
    after_partition INTEGER NOT NULL DEFAULT 0,
    after_offset INTEGER NOT NULL DEFAULT 0,
    by_whom TEXT NOT NULL,
    why TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    finished_at_ms INTEGER
) STRICT;
CREATE INDEX replays_running ON replays (number) WHERE state = 'running';

-- The replay that tried a held row last: its progress is counted from the rows, so that a crash does not lose count.
ALTER TABLE held ADD COLUMN replay INTEGER;
CREATE INDEX held_by_replay ON held (replay, first_at_ms, log_partition, log_offset) WHERE replay IS NOT NULL;

-- A status falls in rank only by an operator's decision, which is written first and names the very version.
DROP TRIGGER orders_rise;
CREATE TRIGGER orders_rise BEFORE UPDATE ON orders
WHEN NEW.version < OLD.version
    OR (NEW.rank < OLD.rank AND (NEW.version = OLD.version OR NOT EXISTS (
        SELECT 1 FROM decisions
        WHERE order_number = NEW.order_number AND account = NEW.account AND version = NEW.version
    )))
    OR (NEW.version > OLD.version AND NOT EXISTS (
        SELECT 1 FROM outbox WHERE id = NEW.account || ':' || NEW.order_number || ':' || NEW.version
    ))
BEGIN SELECT RAISE(ABORT, 'an order may not fall, nor skip its event'); END;
