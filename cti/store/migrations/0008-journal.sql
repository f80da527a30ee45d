-- The journal: what has been written of each call into which CRM.

CREATE TABLE journal (
    call    TEXT NOT NULL,
    adapter TEXT NOT NULL,                     -- the CRM
    type    TEXT NOT NULL,                     -- which kind of record it is there, as the CRM says it
    id      TEXT NOT NULL,                     -- the record's there
    url     TEXT,                              -- where a browser finds it
    at      DOUBLE PRECISION NOT NULL,         -- when it was written last
    PRIMARY KEY (call, adapter, type, id)
);
