-- What an operator says was refunded outside, in Alipay's own portal: the money of a held payment.

ALTER TABLE decisions ADD COLUMN amount_minor INTEGER;
ALTER TABLE decisions ADD COLUMN currency TEXT;
