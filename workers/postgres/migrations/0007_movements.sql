-- expand
-- The refunds and captures of orders that have many, each fact once. `named` is a digest of kind and id, `stated` of the
-- rest, since a B-tree refuses a text of some kilobytes. `number` is the order in which they became known.

CREATE TABLE movements (
    number bigint GENERATED ALWAYS AS IDENTITY,
    order_number text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    named bigint NOT NULL,
    stated bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('refund', 'capture')),
    id text NOT NULL,
    trade text NOT NULL,
    currency text NOT NULL,
    amount_minor bigint NOT NULL,
    PRIMARY KEY (order_number, account, named, stated)
);
CREATE INDEX movements_listed ON movements (order_number, account, number);

-- Such an order keeps the sums of its movements in its facts, under a name that a program of the release before does not
-- know and would drop. It is made to wait instead, as if the order were locked, until it is upgraded.
CREATE FUNCTION orders_wait_for_upgrade() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'order % has many refunds or captures: upgrade the programs that do not know them as rows',
        OLD.order_number USING ERRCODE = 'lock_not_available';
END $$;
CREATE TRIGGER orders_keep_sums BEFORE UPDATE ON orders FOR EACH ROW
WHEN (position('movement_sums'::bytea IN OLD.facts) > 0 AND position('movement_sums'::bytea IN NEW.facts) = 0)
EXECUTE FUNCTION orders_wait_for_upgrade();
