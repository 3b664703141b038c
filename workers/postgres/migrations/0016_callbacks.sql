-- expand
-- Callbacks: what each endpoint was sent, and up to which event (`workers.callbacks.deliveries`). An endpoint's row is
-- locked by each transaction that changes its deliveries.

CREATE TABLE callback_endpoints (
    name text COLLATE "C" PRIMARY KEY,
    url text NOT NULL,
    is_configured boolean NOT NULL DEFAULT true,
    last_number bigint NOT NULL, -- of the outbox: the events up to it have their rows
    failing_since timestamptz,
    disabled_at timestamptz,
    disabled_why text NOT NULL DEFAULT '',
    delivered_at timestamptz -- the last time
);
CREATE TABLE callback_deliveries (
    endpoint text COLLATE "C" NOT NULL,
    number bigint NOT NULL, -- of the event in the outbox
    key bytea NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    type text NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'given_up')),
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    first_at timestamptz, -- the first attempt
    due_at timestamptz, -- NULL: at its end, or behind an earlier event of its order
    tried_at timestamptz,
    done_at timestamptz,
    outcome text NOT NULL DEFAULT '',
    status integer NOT NULL DEFAULT 0,
    detail text NOT NULL DEFAULT '',
    took_ms bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (endpoint, number)
);
CREATE INDEX callback_deliveries_of_key ON callback_deliveries (endpoint, key, number);
CREATE INDEX callback_deliveries_pending ON callback_deliveries (endpoint, number) WHERE state = 'pending';
CREATE INDEX callback_deliveries_due ON callback_deliveries (endpoint, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX callback_deliveries_done ON callback_deliveries (done_at) WHERE done_at IS NOT NULL;
