-- expand
-- Replays of the held notifications of one merchant of a service provider: its scope, NULL for any.

ALTER TABLE replays ADD COLUMN scope text;
