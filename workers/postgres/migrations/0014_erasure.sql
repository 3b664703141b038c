-- expand
-- When personal data was erased from the bytes of a notification, and up to which position of each partition that is
-- done (`workers.erasure`). Held notifications are erased apart, once they are resolved.

ALTER TABLE notifications ADD COLUMN erased_at timestamptz;
ALTER TABLE held ADD COLUMN erased_at timestamptz;
CREATE INDEX held_to_erase ON held (resolved_at, log_partition, log_offset)
    WHERE resolved_at IS NOT NULL AND erased_at IS NULL;
CREATE TABLE erasures (
    log_partition integer PRIMARY KEY,
    log_offset bigint NOT NULL
);
