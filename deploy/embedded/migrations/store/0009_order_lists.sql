-- Lists of orders by account, and of those that need somebody, in the order of their last change.

CREATE INDEX orders_by_account
    ON orders (substr(account, 1, instr(account || '/', '/') - 1), changed_at_ms, order_number, account);
CREATE INDEX orders_flagged ON orders (changed_at_ms, order_number, account) WHERE flags <> '';
