-- Who is at the other end: what people have chosen, and what may not be asked.

-- Numbers that are turned away, and those that nobody looks for, beside those of the configuration.
CREATE TABLE number_lists (
    list    TEXT NOT NULL,                     -- blocked, ignored
    pattern TEXT NOT NULL,                     -- E.164, or the beginning of it with a * behind
    added   DOUBLE PRECISION NOT NULL,
    made_by TEXT NOT NULL,                     -- who has put it there
    note    TEXT,                              -- why
    PRIMARY KEY (list, pattern)
);

-- Of several parties with one number, those whom agents said that it was: the next call shows them first.
CREATE TABLE choices (
    number  TEXT NOT NULL,                     -- E.164
    adapter TEXT NOT NULL,
    type    TEXT NOT NULL,
    id      TEXT NOT NULL,                     -- the party's, in its CRM
    at      DOUBLE PRECISION NOT NULL,         -- when they were chosen last
    call    TEXT NOT NULL,                     -- of which call it was said
    PRIMARY KEY (number, adapter, type, id)
);

-- Callers whom nobody knew and whom a service wants in a CRM: one row each, so that nobody is taken in twice.
CREATE TABLE newcomers (
    adapter TEXT NOT NULL,                     -- the CRM that takes them
    number  TEXT NOT NULL,                     -- E.164
    type    TEXT NOT NULL,                     -- what they become there: lead, contact
    call    TEXT NOT NULL,                     -- the first of theirs
    service TEXT NOT NULL,                     -- which they dialled
    began   DOUBLE PRECISION NOT NULL,         -- when that call did
    state   TEXT NOT NULL,                     -- waiting, done
    due     DOUBLE PRECISION NOT NULL,         -- when it is tried next
    tries   INTEGER NOT NULL,                  -- how often it has failed
    party   TEXT,                              -- JSON: who they are there, once it is done
    PRIMARY KEY (adapter, number)
);
CREATE INDEX newcomers_waiting ON newcomers (due) WHERE state = 'waiting';
