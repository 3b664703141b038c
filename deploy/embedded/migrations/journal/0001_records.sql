-- The log of the one-machine engine: every record that was acknowledged, in the order of its commit.
-- Offsets are counted by the journal itself, from 1 and without gaps; pruning never removes the last row, so none is
-- ever given twice.
CREATE TABLE records (
    log_offset INTEGER PRIMARY KEY CHECK (log_offset > 0),
    appended_at_ms INTEGER NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    headers BLOB NOT NULL
) STRICT;
