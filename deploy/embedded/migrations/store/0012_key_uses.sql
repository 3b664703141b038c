-- When each key verified messages last, and how many, in slots of ten minutes (`workers.key_uses`).

CREATE TABLE key_uses (
    account TEXT NOT NULL,
    key_id TEXT NOT NULL,
    slot_ms INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    last_at_ms INTEGER NOT NULL,
    PRIMARY KEY (account, key_id, slot_ms)
) STRICT, WITHOUT ROWID;
