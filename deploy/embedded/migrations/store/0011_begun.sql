-- Where runs of the engine have begun with a batch, or with a record alone, that they have not brought to its end
-- (`workers.fatal_records`). A run that ends in between leaves its notes.

CREATE TABLE begun (
    log_partition INTEGER NOT NULL,
    log_offset INTEGER NOT NULL,
    is_alone INTEGER NOT NULL,
    holder TEXT NOT NULL,
    PRIMARY KEY (log_partition, log_offset, is_alone, holder)
) STRICT, WITHOUT ROWID;
