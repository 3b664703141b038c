-- Tasks that accept or discard held rows, and tasks over a selection of them (`workers.replays`).
--
-- The release before replays the rows of each running task, and knows no selection. A task that it cannot do is
-- 'cancelled' in the column that it reads, and has its state in another one; it cannot resume it.

ALTER TABLE replays ADD COLUMN action TEXT NOT NULL DEFAULT 'replay';
ALTER TABLE replays ADD COLUMN ids TEXT; -- separated by spaces; NULL for all that match the filter
ALTER TABLE replays ADD COLUMN own_state TEXT CONSTRAINT task_of_a_newer_release CHECK (own_state IS NULL OR state = 'cancelled');
ALTER TABLE replays ADD COLUMN decided INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replays ADD COLUMN failures TEXT NOT NULL DEFAULT '{}'; -- JSON: the number of rows for each reason
CREATE INDEX replays_own_running ON replays (number) WHERE own_state = 'running';
