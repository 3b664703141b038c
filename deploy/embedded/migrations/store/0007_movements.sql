-- The refunds and captures of orders that have many, each fact once. `named` is a digest of kind and id, `stated` of the
-- rest. `number` is the order in which they became known.

CREATE TABLE movements (
    number INTEGER PRIMARY KEY,
    order_number TEXT NOT NULL,
    account TEXT NOT NULL,
    named INTEGER NOT NULL,
    stated INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('refund', 'capture')),
    id TEXT NOT NULL,
    trade TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_minor INTEGER NOT NULL,
    UNIQUE (order_number, account, named, stated)
) STRICT;
CREATE INDEX movements_listed ON movements (order_number, account, number);
