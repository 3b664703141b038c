-- expand
-- The numbers that notifications name beside their order, each with the position of the notification's delivery. The
-- key leads with the number that people search by, and has no second row for one number of one notification.

CREATE TABLE numbers (
    number text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    PRIMARY KEY (number, account, kind, log_partition, log_offset)
);
