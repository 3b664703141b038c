-- Wakes that their own transaction has not finished (`deploy.embedded.wakes`): parked rows behind a position that wait for
-- a condition which has come true. The index has such rows in the order of their positions.

CREATE TABLE wakes (
    number INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    waits_for TEXT NOT NULL,
    after_partition INTEGER NOT NULL,
    after_offset INTEGER NOT NULL
) STRICT;
DROP INDEX held_waiting;
CREATE INDEX held_waiting ON held (waits_for, account, log_partition, log_offset)
    WHERE resolved_at_ms IS NULL AND disposition = 'parked';
