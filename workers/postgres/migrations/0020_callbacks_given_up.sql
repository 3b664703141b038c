-- expand
-- Deliveries that were given up, for the list of an endpoint's log: among those of a week they are few.

CREATE INDEX callback_deliveries_given_up ON callback_deliveries (endpoint, number) WHERE state = 'given_up';
