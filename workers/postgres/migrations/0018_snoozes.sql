-- expand
-- Until when a held row is out of the first list and of the gauges, by whom and why.

ALTER TABLE held ADD COLUMN snoozed_until timestamptz;
ALTER TABLE held ADD COLUMN snoozed_by text;
ALTER TABLE held ADD COLUMN snoozed_why text;
CREATE INDEX held_snoozed ON held (snoozed_until) WHERE resolved_at IS NULL AND snoozed_until IS NOT NULL;
