-- contract
-- An index that another has replaced. No program names it, and the statements of the release before use the new one.

DROP INDEX held_waiting;
