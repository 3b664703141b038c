-- The reports of comparisons with Alipay's bills (`workers.bills`). `report` and `difference` are JSON, since they are
-- only shown. A report without `finished_at_ms` is still being written, or its command has ended early.

CREATE TABLE bill_imports (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    digest TEXT NOT NULL,
    begun_at_ms INTEGER NOT NULL,
    finished_at_ms INTEGER,
    report TEXT NOT NULL
) STRICT;
CREATE INDEX bill_imports_of_file ON bill_imports (digest, account);
CREATE INDEX bill_imports_begun ON bill_imports (begun_at_ms);
CREATE TABLE bill_differences (
    bill INTEGER NOT NULL,
    place INTEGER NOT NULL,
    difference TEXT NOT NULL,
    PRIMARY KEY (bill, place)
) STRICT, WITHOUT ROWID;
