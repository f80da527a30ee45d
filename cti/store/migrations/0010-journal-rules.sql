-- What the journal has to remember beyond its records.

-- Whose the records are, so that they can be moved when it turns out to be somebody else; NULL of those written before.
ALTER TABLE journal ADD COLUMN party_type TEXT;
ALTER TABLE journal ADD COLUMN party_id TEXT;

-- A record that a CRM was asked to make, and of which nobody knows yet whether it did. Until a lost request is over,
-- a CRM that knows no key of ours cannot be searched for it; rows go with the answer.
CREATE TABLE journal_tries (
    call    TEXT NOT NULL,
    adapter TEXT NOT NULL,                      -- the name of its adapter
    at      DOUBLE PRECISION NOT NULL,          -- when it was asked last
    party_type TEXT,                            -- whose record it was to be; NULL: nobody's whom the CRM knows
    party_id   TEXT,
    PRIMARY KEY (call, adapter)
);
