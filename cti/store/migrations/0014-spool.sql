-- What has been written by whom: how it is known, after an answer was lost, whether something is in already.

-- One row for each process that writes.
CREATE TABLE writers (
    writer TEXT   NOT NULL PRIMARY KEY,        -- random, made when the process opens the store
    number BIGINT NOT NULL,                    -- of its latest transaction, or unit out of its spool
    at     DOUBLE PRECISION NOT NULL           -- when that was
);
