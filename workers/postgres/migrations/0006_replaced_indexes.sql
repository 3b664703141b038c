-- contract
-- Indexes that others have replaced. No program names them, and the statements of the release before use the new ones.

DROP INDEX held_due;
DROP INDEX held_open;
DROP INDEX held_resolved;
DROP INDEX held_counted;
DROP INDEX held_by_order;
DROP INDEX orders_by_change;
