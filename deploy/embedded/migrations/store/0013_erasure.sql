-- When personal data was erased from the bytes of a notification, and up to which position of each partition that is
-- done (`workers.erasure`). Held notifications are erased apart, once they are resolved.

ALTER TABLE notifications ADD COLUMN erased_at_ms INTEGER;
ALTER TABLE held ADD COLUMN erased_at_ms INTEGER;
CREATE INDEX held_to_erase ON held (resolved_at_ms, log_partition, log_offset)
    WHERE resolved_at_ms IS NOT NULL AND erased_at_ms IS NULL;
CREATE TABLE erasures (
    log_partition INTEGER PRIMARY KEY,
    log_offset INTEGER NOT NULL
) STRICT;
