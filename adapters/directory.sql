-- The embedded directory: who the parties are, and their numbers. Version 1 (PRAGMA user_version).
-- Written by `cti contacts import` and by whoever keeps the data; the server only reads. All text is UTF-8,
-- all times are ISO 8601 in UTC with a Z, so that they sort.

CREATE TABLE party (
    key      INTEGER PRIMARY KEY,  -- ours, inside this file only: short, because every number carries it
    id       TEXT NOT NULL UNIQUE, -- the party's id as people and other systems know it; an import updates by it
    type     TEXT NOT NULL         -- what it is to the company
             CHECK (type IN ('contact', 'organisation', 'lead', 'partner', 'supplier')),
    name     TEXT NOT NULL,        -- shown on the card and on the phone; never empty
    company  TEXT NOT NULL,        -- where a person works; empty if that isn't known, and for an organisation
    owner    TEXT,                 -- the CRM's id of the user who looks after it; NULL: nobody
    tier     TEXT,                 -- the company's own word for how important it is; rules may ask for it
    language TEXT,                 -- the language it speaks, as BCP 47 writes it: de, en, sl, ru, pt-BR
    tags     TEXT NOT NULL,        -- words that rules may ask for, separated by newlines
    notes    TEXT NOT NULL,        -- what an agent should know before saying hello
    url      TEXT                  -- its page in the CRM (http or https); NULL: it has none
);

CREATE TABLE number (
    e164     TEXT NOT NULL,        -- the number with + and country code: what a caller is looked up by
    party    INTEGER NOT NULL      -- whose it is (party.key); several may share one number
             REFERENCES party (key) ON DELETE CASCADE,
    position INTEGER NOT NULL,     -- 0 is the party's first number, as in the imported list
    raw      TEXT NOT NULL,        -- as somebody typed it; what an export gives back
    label    TEXT,                 -- what it is: mobile, office, switchboard; NULL: not said
    PRIMARY KEY (e164, party)      -- clustered by number: one look-up reads one place
) WITHOUT ROWID;

-- An import compares and replaces the numbers of one party.
CREATE INDEX number_by_party ON number (party);

CREATE TABLE party_case (
    party    INTEGER NOT NULL      -- whose it is (party.key)
             REFERENCES party (key) ON DELETE CASCADE,
    id       TEXT NOT NULL,        -- the case's id in the CRM; putting it again replaces it
    title    TEXT NOT NULL,        -- one line
    status   TEXT NOT NULL,        -- the CRM's word; cases with the word closed are kept, and not shown
    opened   TEXT,                 -- when; NULL: not known
    url      TEXT,                 -- its page in the CRM (http or https); NULL: it has none
    PRIMARY KEY (party, id)
) WITHOUT ROWID;

CREATE TABLE last_contact (
    party    INTEGER NOT NULL      -- with whom (party.key)
             REFERENCES party (key) ON DELETE CASCADE,
    at       TEXT NOT NULL,        -- when
    kind     TEXT NOT NULL,        -- a word: call, mail, visit
    user     TEXT,                 -- the CRM's id of the user who was in it; NULL: nobody
    summary  TEXT NOT NULL,        -- a line or two
    PRIMARY KEY (party, at, kind)  -- putting it again replaces it
) WITHOUT ROWID;
