-- expand
-- The audit rows of one order: its registrations, and the replays of its held rows. A hash, since a B-tree refuses a
-- subject of some kilobytes.

CREATE INDEX audit_by_subject ON audit USING hash (subject);
