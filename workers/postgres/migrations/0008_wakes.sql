-- expand
-- Wakes that their own transaction has not finished (`workers.postgres.wakes`): parked rows that wait for a condition
-- which has come true, behind one position and up to another. The index has such rows in the order of their positions.

CREATE TABLE wakes (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    waits_for text COLLATE "C" NOT NULL,
    after_partition integer NOT NULL,
    after_offset bigint NOT NULL,
    upto_partition integer NOT NULL,
    upto_offset bigint NOT NULL
);
CREATE INDEX held_waiting_in_order ON held (waits_for, account, log_partition, log_offset)
    WHERE resolved_at IS NULL AND disposition = 'parked';
