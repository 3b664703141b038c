-- expand
-- Decisions of operators on held notifications, replays of many of them, and indexes for lists and counts of any length.

CREATE INDEX held_by_age ON held (first_at, log_partition, log_offset) WHERE resolved_at IS NULL;
CREATE INDEX held_counted ON held (disposition, reason, account, first_at) WHERE resolved_at IS NULL;

-- One row for each order that a decision is about. `version` is the one that it gave the order, NULL if none.
CREATE TABLE decisions (
    entry bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    account text COLLATE "C" NOT NULL,
    order_number text COLLATE "C" NOT NULL,
    notification_id text COLLATE "C" NOT NULL,
    version bigint,
    action text NOT NULL,
    by_whom text NOT NULL,
    why text NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX decisions_by_order ON decisions USING hash (order_number);

-- Replays of many held notifications. The `after_` columns are the cursor: rows up to it are done and counted.
CREATE TABLE replays (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('running', 'cancelled', 'finished')),
    account text,
    order_number text,
    disposition text,
    reason text,
    since timestamptz,
    before timestamptz NOT NULL,
    rate integer NOT NULL,
    total bigint NOT NULL,
    done bigint NOT NULL DEFAULT 0,
    applied bigint NOT NULL DEFAULT 0,
    duplicate bigint NOT NULL DEFAULT 0,
    stale bigint NOT NULL DEFAULT 0,
    held_again bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    after_first_at timestamptz NOT NULL DEFAULT '1970-01-01T00:00:00Z',
    after_partition integer NOT NULL DEFAULT 0,
    after_offset bigint NOT NULL DEFAULT 0,
    by_whom text NOT NULL,
    why text NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz
);
CREATE INDEX replays_running ON replays (number) WHERE state = 'running';

-- The replay that tried a held row last: its progress is counted from the rows, so that a crash does not lose count.
ALTER TABLE held ADD COLUMN replay bigint;
CREATE INDEX held_by_replay ON held (replay, first_at, log_partition, log_offset) WHERE replay IS NOT NULL;

-- A status falls in rank only by an operator's decision, which is written first and names the very version.
CREATE OR REPLACE FUNCTION orders_may_not_fall() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.version > OLD.version AND EXISTS (
        SELECT 1 FROM decisions
        WHERE decisions.order_number = NEW.order_number AND decisions.account = NEW.account
            AND decisions.version = NEW.version
    ) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'an order may not fall' USING ERRCODE = 'check_violation';
END $$;
