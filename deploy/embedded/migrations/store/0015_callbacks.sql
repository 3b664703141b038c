-- Callbacks: what each endpoint was sent, and up to which event (`workers.callbacks.deliveries`).

CREATE TABLE callback_endpoints (
    name TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    is_configured INTEGER NOT NULL DEFAULT 1,
    last_number INTEGER NOT NULL, -- of the outbox: the events up to it have their rows
    failing_since_ms INTEGER,
    disabled_at_ms INTEGER,
    disabled_why TEXT NOT NULL DEFAULT '',
    delivered_at_ms INTEGER -- the last time
) STRICT, WITHOUT ROWID;
CREATE TABLE callback_deliveries (
    endpoint TEXT NOT NULL,
    number INTEGER NOT NULL, -- of the event in the outbox
    key BLOB NOT NULL,
    event_id TEXT NOT NULL,
    type TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'given_up')),
    attempts INTEGER NOT NULL DEFAULT 0,
    created_at_ms INTEGER NOT NULL,
    first_at_ms INTEGER, -- the first attempt
    due_at_ms INTEGER, -- NULL: at its end, or behind an earlier event of its order
    tried_at_ms INTEGER,
    done_at_ms INTEGER,
    outcome TEXT NOT NULL DEFAULT '',
    status INTEGER NOT NULL DEFAULT 0,
    detail TEXT NOT NULL DEFAULT '',
    took_ms INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (endpoint, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX callback_deliveries_of_key ON callback_deliveries (endpoint, key, number);
CREATE INDEX callback_deliveries_pending ON callback_deliveries (endpoint, number) WHERE state = 'pending';
CREATE INDEX callback_deliveries_due ON callback_deliveries (endpoint, due_at_ms) WHERE due_at_ms IS NOT NULL;
CREATE INDEX callback_deliveries_done ON callback_deliveries (done_at_ms) WHERE done_at_ms IS NOT NULL;
