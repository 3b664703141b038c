-- Lists and counts of held notifications that read only the rows they show, however many are held. Each list has an
-- index in its own order, because a sort reads all rows before it returns the first.

DROP INDEX held_due;
DROP INDEX held_open;
DROP INDEX held_counted;
DROP INDEX held_by_order;
CREATE INDEX held_next_due ON held (due_at_ms, log_partition, log_offset)
    WHERE resolved_at_ms IS NULL AND due_at_ms IS NOT NULL;
CREATE INDEX held_by_disposition ON held (disposition, first_at_ms, log_partition, log_offset)
    WHERE resolved_at_ms IS NULL;
CREATE INDEX held_by_reason ON held (disposition, reason, first_at_ms, log_partition, log_offset)
    WHERE resolved_at_ms IS NULL;
CREATE INDEX held_by_account
    ON held (substr(account, 1, instr(account || '/', '/') - 1), first_at_ms, log_partition, log_offset)
    WHERE resolved_at_ms IS NULL;
CREATE INDEX held_by_scope ON held (account, first_at_ms, log_partition, log_offset) WHERE resolved_at_ms IS NULL;
CREATE INDEX held_by_account_and_reason ON held (
    substr(account, 1, instr(account || '/', '/') - 1), disposition, reason, first_at_ms, log_partition, log_offset
) WHERE resolved_at_ms IS NULL;
CREATE INDEX held_of_order ON held (order_number, first_at_ms, log_partition, log_offset);
CREATE INDEX held_done ON held (first_at_ms, log_partition, log_offset) WHERE resolved_at_ms IS NOT NULL;
DROP INDEX orders_by_change;
CREATE INDEX orders_changed ON orders (changed_at_ms, order_number, account);

-- Kept counts. `attempts` is that of parked rows, 2 for more; `oldest_ms` is exact for resolved rows, which stay
-- resolved.
CREATE TABLE held_counts (
    is_resolved INTEGER NOT NULL,
    disposition TEXT NOT NULL,
    reason TEXT NOT NULL,
    account TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    count INTEGER NOT NULL,
    oldest_ms INTEGER NOT NULL,
    PRIMARY KEY (is_resolved, disposition, reason, account, attempts)
) STRICT, WITHOUT ROWID;

INSERT INTO held_counts (is_resolved, disposition, reason, account, attempts, count, oldest_ms)
SELECT resolved_at_ms IS NOT NULL, disposition, reason, account,
    iif(resolved_at_ms IS NULL AND disposition = 'parked', min(attempts, 2), 0), count(*), min(first_at_ms)
FROM held GROUP BY 1, 2, 3, 4, 5;

CREATE TRIGGER held_counted_in AFTER INSERT ON held
BEGIN
    INSERT INTO held_counts (is_resolved, disposition, reason, account, attempts, count, oldest_ms)
    VALUES (
        NEW.resolved_at_ms IS NOT NULL, NEW.disposition, NEW.reason, NEW.account,
        iif(NEW.resolved_at_ms IS NULL AND NEW.disposition = 'parked', min(NEW.attempts, 2), 0), 1, NEW.first_at_ms
    ) ON CONFLICT DO UPDATE SET count = count + 1, oldest_ms = min(oldest_ms, excluded.oldest_ms);
END;
CREATE TRIGGER held_counted_out AFTER DELETE ON held
BEGIN
    UPDATE held_counts SET count = count - 1
    WHERE is_resolved = (OLD.resolved_at_ms IS NOT NULL) AND disposition = OLD.disposition AND reason = OLD.reason
        AND account = OLD.account
        AND attempts = iif(OLD.resolved_at_ms IS NULL AND OLD.disposition = 'parked', min(OLD.attempts, 2), 0);
END;
CREATE TRIGGER held_counted_again AFTER UPDATE OF resolved_at_ms, disposition, reason, account, attempts ON held
BEGIN
    UPDATE held_counts SET count = count - 1
    WHERE is_resolved = (OLD.resolved_at_ms IS NOT NULL) AND disposition = OLD.disposition AND reason = OLD.reason
        AND account = OLD.account
        AND attempts = iif(OLD.resolved_at_ms IS NULL AND OLD.disposition = 'parked', min(OLD.attempts, 2), 0);
    INSERT INTO held_counts (is_resolved, disposition, reason, account, attempts, count, oldest_ms)
    VALUES (
        NEW.resolved_at_ms IS NOT NULL, NEW.disposition, NEW.reason, NEW.account,
        iif(NEW.resolved_at_ms IS NULL AND NEW.disposition = 'parked', min(NEW.attempts, 2), 0), 1, NEW.first_at_ms
    ) ON CONFLICT DO UPDATE SET count = count + 1, oldest_ms = min(oldest_ms, excluded.oldest_ms);
END;
