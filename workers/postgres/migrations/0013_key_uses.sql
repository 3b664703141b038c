-- expand
-- When each key verified messages last, and how many, in slots of ten minutes (`workers.key_uses`).

CREATE TABLE key_uses (
    account text COLLATE "C" NOT NULL,
    key_id text COLLATE "C" NOT NULL,
    slot timestamptz NOT NULL,
    messages bigint NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (account, key_id, slot)
);
