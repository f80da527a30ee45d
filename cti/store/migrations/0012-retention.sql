-- How long what is kept, and who is to be taken out.

-- Up to when what is old has been looked through, for those kinds of data that leave their rows behind.
CREATE TABLE purged (
    kind  TEXT NOT NULL PRIMARY KEY,           -- numbers, decisions, recordings; day: when all of it was done last
    until DOUBLE PRECISION NOT NULL            -- what began before that has been done
);

-- People who are taken out of everything, and what came of it. Nothing in a row that is done tells who they were.
CREATE TABLE erasures (
    id        TEXT NOT NULL PRIMARY KEY,       -- ours; sorts by time
    asked     DOUBLE PRECISION NOT NULL,
    state     TEXT NOT NULL,                   -- asked; waiting: for calls of theirs to end; done
    subject   TEXT,                            -- JSON: numbers, parties, names; NULL once it is done
    directory INTEGER NOT NULL,                -- 1: out of embedded directories as well
    done      DOUBLE PRECISION,
    report    TEXT                             -- JSON: how much was erased where, and who else was told of them
);
