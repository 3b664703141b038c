-- expand
-- Lists of orders by account, and of those that need somebody, in the order of their last change.
--
-- The account's index ends with the time, to cost each change of an order little: the few orders that changed at one
-- moment are sorted when they are read.

CREATE INDEX orders_by_account ON orders (split_part(account, '/', 1), changed_at);
CREATE INDEX orders_flagged ON orders (changed_at, order_number, account) WHERE flags <> '';
