-- The audit rows of one order: its registrations, and the replays of its held rows.

CREATE INDEX audit_by_subject ON audit (subject);
