-- expand
-- The reports of comparisons with Alipay's bills (`workers.bills`). `report` and `difference` are JSON, since they are
-- only shown. A report without `finished_at` is still being written, or its command has ended early.

CREATE TABLE bill_imports (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    begun_at timestamptz NOT NULL,
    finished_at timestamptz,
    report text NOT NULL
);
CREATE INDEX bill_imports_of_file ON bill_imports (digest, account);
CREATE INDEX bill_imports_begun ON bill_imports (begun_at);
CREATE TABLE bill_differences (
    bill bigint NOT NULL,
    place integer NOT NULL,
    difference text NOT NULL,
    PRIMARY KEY (bill, place)
);
