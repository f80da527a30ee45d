-- One adapter's part of the phone index: who has which number, as the CRM listed them. All of it can be read again from
-- the CRM, so nothing here is migrated: a file of another layout is thrown away, and made anew.

-- Everybody who was listed.
CREATE TABLE party (
    key     INTEGER PRIMARY KEY,
    type    TEXT NOT NULL,          -- as in adapters.party.PartyType
    id      TEXT NOT NULL,          -- the CRM's; unique within its type
    sort    TEXT NOT NULL,          -- the name as phones look it up: without capitals and accents
    body    BLOB NOT NULL,          -- JSON: what a route and a first card need, by position (cti.index.file)
    numbers BLOB NOT NULL           -- JSON: [[as the CRM holds it, E.164, stem or null], …]
);

-- Which number finds whom. Digits without the plus, as a whole number: half the size of a text, and quicker to compare.
CREATE TABLE number (
    e164  INTEGER NOT NULL,
    party INTEGER NOT NULL REFERENCES party (key),
    PRIMARY KEY (e164, party)
) WITHOUT ROWID;

-- Which number without its extension finds the company whose switchboard it is: 040 66969 of 040 66969-0.
CREATE TABLE stem (
    e164  INTEGER NOT NULL,
    party INTEGER NOT NULL REFERENCES party (key),
    PRIMARY KEY (e164, party)
) WITHOUT ROWID;

-- What is known of the file itself: whether it is whole, how far the CRM's changes are in it, and when that was.
CREATE TABLE about (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
