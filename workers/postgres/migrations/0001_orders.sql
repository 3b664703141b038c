-- expand
-- The order store of the cluster engine. Money in minor units.
-- Keys lead with the number that people search by, since the account alone narrows nothing. Texts compare by their
-- bytes: the same order on every machine, in the program, and after the operating system changed its collations.

CREATE TABLE orders (
    order_number text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version >= 0),
    facts bytea NOT NULL,
    rank smallint NOT NULL,
    status text NOT NULL,
    closed_because text,
    trade text,
    amount_minor bigint,
    currency text,
    refunded_minor bigint NOT NULL,
    flags text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (order_number, account)
);
CREATE INDEX orders_by_change ON orders (changed_at);

CREATE TABLE trades (
    trade text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    order_number text COLLATE "C" NOT NULL,
    PRIMARY KEY (trade, account)
);

CREATE TABLE refund_links (
    refund text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    order_number text COLLATE "C" NOT NULL,
    PRIMARY KEY (refund, account)
);

-- The unique id of each notification, with the bytes that were signed: the evidence, kept for years.
CREATE TABLE notifications (
    notification_id text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    order_number text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    key bytea NOT NULL,
    value bytea NOT NULL,
    headers bytea NOT NULL,
    PRIMARY KEY (notification_id, account)
);

-- One row per record: its disposition. The key is what makes a second one impossible.
-- The indexes by which people search are hashes: a B-tree refuses a text of some kilobytes, and what names an order
-- that way has to be held all the same.
CREATE TABLE deliveries (
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    account text COLLATE "C" NOT NULL,
    order_number text COLLATE "C" NOT NULL,
    notification_id text COLLATE "C" NOT NULL,
    type text NOT NULL,
    status text NOT NULL,
    news text NOT NULL,
    disposition text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    version bigint,
    received_at timestamptz NOT NULL,
    decided_at timestamptz NOT NULL,
    PRIMARY KEY (log_partition, log_offset)
);
CREATE INDEX deliveries_by_order ON deliveries USING hash (order_number);

CREATE TABLE held (
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    account text COLLATE "C" NOT NULL,
    order_number text COLLATE "C" NOT NULL,
    notification_id text COLLATE "C" NOT NULL,
    disposition text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    key bytea NOT NULL,
    value bytea NOT NULL,
    headers bytea NOT NULL,
    first_at timestamptz NOT NULL,
    attempts integer NOT NULL,
    due_at timestamptz,
    waits_for text COLLATE "C" NOT NULL,
    resolved_at timestamptz,
    resolution text NOT NULL DEFAULT '',
    by_whom text NOT NULL DEFAULT '',
    why text NOT NULL DEFAULT '',
    replays integer NOT NULL DEFAULT 0,
    PRIMARY KEY (log_partition, log_offset),
    CHECK ((resolved_at IS NULL) = (resolution = ''))
);
CREATE INDEX held_due ON held (due_at) WHERE resolved_at IS NULL AND due_at IS NOT NULL;
CREATE INDEX held_waiting ON held (waits_for, account) WHERE resolved_at IS NULL AND disposition = 'parked';
CREATE INDEX held_open ON held (disposition, first_at, attempts) WHERE resolved_at IS NULL;
CREATE INDEX held_resolved ON held (first_at) WHERE resolved_at IS NOT NULL;
CREATE INDEX held_by_order ON held USING hash (order_number);
CREATE INDEX held_by_notification ON held USING hash (notification_id);

-- Outgoing events and notices. `version` is that of an order event, NULL for a notice. Of one order, numbers rise with
-- the versions, since whoever writes the next version has waited for the commit of the one before.
CREATE TABLE outbox (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    topic text NOT NULL,
    key bytea NOT NULL,
    value bytea NOT NULL,
    headers bytea NOT NULL,
    version bigint,
    written_at timestamptz NOT NULL,
    sent_at timestamptz,
    again_at timestamptz -- when the state of its order is to be sent to the compacted topic once more
);
CREATE INDEX outbox_unsent ON outbox (number) WHERE sent_at IS NULL;
CREATE INDEX outbox_again ON outbox (again_at) WHERE again_at IS NOT NULL;

CREATE TABLE audit (
    entry bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    by_whom text NOT NULL,
    why text NOT NULL
);

-- Who does what only one worker need do: sweep, and send what others left behind.
CREATE TABLE leases (
    role text PRIMARY KEY,
    holder text NOT NULL,
    until timestamptz NOT NULL
);

-- Versions are 1..n without gaps: an event follows its predecessor's (ids end in the version, and pruning keeps the
-- newest event of each order), an order's version has its event, and ids are unique. A status never falls in rank.
-- The first two are asked once per statement, of all its rows together.
CREATE FUNCTION outbox_has_no_gaps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM written WHERE version > 1 AND NOT EXISTS (
            SELECT 1 FROM outbox AS previous
            WHERE previous.id = left(written.id, -length(written.version::text)) || (written.version - 1)
        )
    ) THEN
        RAISE EXCEPTION 'an event without the one before it' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER outbox_without_gaps AFTER INSERT ON outbox
REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION outbox_has_no_gaps();

CREATE FUNCTION orders_have_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM written WHERE version > 0 AND NOT EXISTS (
            SELECT 1 FROM outbox
            WHERE outbox.id = written.account || ':' || written.order_number || ':' || written.version
        )
    ) THEN
        RAISE EXCEPTION 'an order version without its event' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER orders_begin AFTER INSERT ON orders
REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION orders_have_events();
CREATE TRIGGER orders_go_on AFTER UPDATE ON orders
REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION orders_have_events();

CREATE FUNCTION orders_may_not_fall() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'an order may not fall' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER orders_rise BEFORE UPDATE ON orders FOR EACH ROW
WHEN (NEW.version < OLD.version OR NEW.rank < OLD.rank) EXECUTE FUNCTION orders_may_not_fall();
