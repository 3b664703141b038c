-- expand
-- Where processes have begun with a batch, or with a record alone, that they have not brought to its end
-- (`workers.fatal_records`). A process that ends in between leaves its notes.

CREATE TABLE begun (
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    is_alone boolean NOT NULL,
    holder text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (log_partition, log_offset, is_alone, holder)
);
