-- Until when a held row is out of the first list and of the gauges, by whom and why.

ALTER TABLE held ADD COLUMN snoozed_until_ms INTEGER;
ALTER TABLE held ADD COLUMN snoozed_by TEXT;
ALTER TABLE held ADD COLUMN snoozed_why TEXT;
CREATE INDEX held_snoozed ON held (snoozed_until_ms) WHERE resolved_at_ms IS NULL AND snoozed_until_ms IS NOT NULL;
