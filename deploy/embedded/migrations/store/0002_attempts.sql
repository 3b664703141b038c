-- The gauge of what is parked asks, every few seconds, how often each was tried: answered from an index alone.

DROP INDEX held_open;
CREATE INDEX held_open ON held (disposition, first_at_ms, attempts) WHERE resolved_at_ms IS NULL;
