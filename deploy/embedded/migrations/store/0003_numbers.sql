-- The numbers that notifications name beside their order, each with the position of the notification's delivery. The
-- key leads with the number that people search by, and has no second row for one number of one notification.

CREATE TABLE numbers (
    number TEXT NOT NULL,
    account TEXT NOT NULL,
    kind TEXT NOT NULL,
    log_partition INTEGER NOT NULL,
    log_offset INTEGER NOT NULL,
    PRIMARY KEY (number, account, kind, log_partition, log_offset)
) STRICT, WITHOUT ROWID;
