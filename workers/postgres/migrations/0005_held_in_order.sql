-- expand
-- Lists and counts of held notifications that read only the rows they show, however many are held.
--
-- Each list has an index in its own order, because a sort reads all rows before it returns the first. A part of the
-- order number is enough to find it, and fits into a B-tree, which refuses a text of some kilobytes.

CREATE INDEX held_next_due ON held (due_at, log_partition, log_offset)
    WHERE resolved_at IS NULL AND due_at IS NOT NULL;
CREATE INDEX held_by_disposition ON held (disposition, first_at, log_partition, log_offset) WHERE resolved_at IS NULL;
CREATE INDEX held_by_reason ON held (disposition, reason, first_at, log_partition, log_offset)
    WHERE resolved_at IS NULL;
CREATE INDEX held_by_account ON held (split_part(account, '/', 1), first_at, log_partition, log_offset)
    WHERE resolved_at IS NULL;
CREATE INDEX held_by_scope ON held (account, first_at, log_partition, log_offset) WHERE resolved_at IS NULL;
CREATE INDEX held_by_account_and_reason
    ON held (split_part(account, '/', 1), disposition, reason, first_at, log_partition, log_offset)
    WHERE resolved_at IS NULL;
CREATE INDEX held_of_order ON held (left(order_number, 64), first_at, log_partition, log_offset);
CREATE INDEX held_done ON held (first_at, log_partition, log_offset) WHERE resolved_at IS NOT NULL;
CREATE INDEX orders_changed ON orders (changed_at, order_number, account);

-- Kept counts. A batch adds its changes as rows of their own, because two workers that raised one sum would wait for
-- each other; the leading worker adds the changes up. `attempts` is that of parked rows, 2 for more; `oldest` is exact
-- for resolved rows, which stay resolved.
CREATE TABLE held_counts (
    is_resolved boolean NOT NULL,
    disposition text NOT NULL, -- collated as in `held`, or its indexes could not be used
    reason text NOT NULL,
    account text COLLATE "C" NOT NULL,
    attempts integer NOT NULL,
    count bigint NOT NULL,
    oldest timestamptz NOT NULL,
    PRIMARY KEY (is_resolved, disposition, reason, account, attempts)
);
CREATE TABLE held_count_changes (
    entry bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    is_resolved boolean NOT NULL,
    disposition text NOT NULL, -- collated as in `held`, or its indexes could not be used
    reason text NOT NULL,
    account text COLLATE "C" NOT NULL,
    attempts integer NOT NULL,
    count bigint NOT NULL,
    oldest timestamptz NOT NULL
);
CREATE INDEX held_count_changes_by_key ON held_count_changes (is_resolved, disposition, reason, account);

CREATE FUNCTION held_attempts_counted(resolved_at timestamptz, disposition text, attempts integer) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN resolved_at IS NULL AND disposition = 'parked' THEN least(attempts, 2) ELSE 0 END;

-- With its owner's rights, so that programs of the release before, which have none to the new tables, go on working.
CREATE FUNCTION count_held() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO held_count_changes (is_resolved, disposition, reason, account, attempts, count, oldest)
        SELECT resolved_at IS NOT NULL, disposition, reason, account,
            held_attempts_counted(resolved_at, disposition, attempts), count(*), min(first_at)
        FROM written GROUP BY 1, 2, 3, 4, 5;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO held_count_changes (is_resolved, disposition, reason, account, attempts, count, oldest)
        SELECT resolved_at IS NOT NULL, disposition, reason, account,
            held_attempts_counted(resolved_at, disposition, attempts), -count(*), min(first_at)
        FROM removed GROUP BY 1, 2, 3, 4, 5;
    ELSE
        INSERT INTO held_count_changes (is_resolved, disposition, reason, account, attempts, count, oldest)
        SELECT resolved_at IS NOT NULL, disposition, reason, account,
            held_attempts_counted(resolved_at, disposition, attempts), sum(change), min(first_at)
        FROM (
            SELECT resolved_at, disposition, reason, account, attempts, first_at, 1 AS change FROM written
            UNION ALL SELECT resolved_at, disposition, reason, account, attempts, first_at, -1 FROM removed
        ) AS each GROUP BY 1, 2, 3, 4, 5 HAVING sum(change) <> 0;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER held_counted_in AFTER INSERT ON held
REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION count_held();
CREATE TRIGGER held_counted_again AFTER UPDATE ON held
REFERENCING NEW TABLE AS written OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION count_held();
CREATE TRIGGER held_counted_out AFTER DELETE ON held
REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION count_held();

INSERT INTO held_counts (is_resolved, disposition, reason, account, attempts, count, oldest)
SELECT resolved_at IS NOT NULL, disposition, reason, account,
    held_attempts_counted(resolved_at, disposition, attempts), count(*), min(first_at)
FROM held GROUP BY 1, 2, 3, 4, 5;
