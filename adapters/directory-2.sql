-- The embedded directory, from version 1 to 2: what else is known of a party, what is written by agents, the calls,
-- words to search by, and what the phone index needs to hear of changes.

ALTER TABLE party ADD COLUMN organisation TEXT; -- the id of the company that a person belongs to; NULL: none
ALTER TABLE party ADD COLUMN balance TEXT;      -- what is owed, in a few words; NULL: not said
ALTER TABLE party ADD COLUMN dunning TEXT;      -- how far reminding has come, in a few words; NULL: not said
ALTER TABLE party ADD COLUMN changed INTEGER NOT NULL DEFAULT 0; -- state.seq when it or what belongs to it changed
ALTER TABLE party ADD COLUMN more INTEGER NOT NULL DEFAULT 0;    -- 1: it may have cases and the like, to be looked for

UPDATE party SET more = EXISTS (SELECT 1 FROM party_case WHERE party_case.party = party.key)
                     OR EXISTS (SELECT 1 FROM last_contact WHERE last_contact.party = party.key);

CREATE INDEX party_by_change ON party (changed);

CREATE TABLE state (
    one      INTEGER PRIMARY KEY   -- there is one row
             CHECK (one = 1),
    file     TEXT NOT NULL,        -- which file this is: a mark of another one says nothing here
    seq      INTEGER NOT NULL      -- counts the changes
);

INSERT INTO state VALUES (1, lower(hex(randomblob(8))), 0);

CREATE TABLE gone (
    seq      INTEGER PRIMARY KEY,  -- state.seq when it was removed
    type     TEXT NOT NULL,        -- the party's type
    id       TEXT NOT NULL         -- and its id
);

CREATE TABLE party_key (
    kind     TEXT NOT NULL,        -- which key: customer, contract, as the configuration names them
    value    TEXT NOT NULL,        -- the key as it is written on a letter
    party    INTEGER NOT NULL      -- whose it is (party.key); nobody else has it
             REFERENCES party (key) ON DELETE CASCADE,
    PRIMARY KEY (kind, value)
) WITHOUT ROWID;

CREATE INDEX party_key_by_party ON party_key (party);

CREATE TABLE appointment (
    party    INTEGER NOT NULL      -- with whom (party.key)
             REFERENCES party (key) ON DELETE CASCADE,
    id       TEXT NOT NULL,        -- putting it again replaces it
    at       TEXT NOT NULL,        -- when; what is over is kept, and not shown
    title    TEXT NOT NULL,        -- one line
    user     TEXT,                 -- the CRM's id of the user who goes; NULL: nobody yet
    url      TEXT,                 -- its page (http or https); NULL: it has none
    PRIMARY KEY (party, id)
) WITHOUT ROWID;

CREATE TABLE task (
    party    INTEGER NOT NULL      -- for whom (party.key)
             REFERENCES party (key) ON DELETE CASCADE,
    id       TEXT NOT NULL,        -- putting it again replaces it
    title    TEXT NOT NULL,        -- one line
    due      TEXT,                 -- until when; NULL: whenever
    user     TEXT,                 -- the CRM's id of the user who does it; NULL: whoever
    text     TEXT NOT NULL,        -- more about it
    url      TEXT,                 -- its page (http or https); NULL: it has none
    done     TEXT,                 -- since when it is done; then it is kept, and not shown
    PRIMARY KEY (party, id)
) WITHOUT ROWID;

CREATE TABLE note (
    party    INTEGER NOT NULL      -- about whom (party.key)
             REFERENCES party (key) ON DELETE CASCADE,
    id       TEXT NOT NULL,        -- putting it again replaces it
    at       TEXT NOT NULL,        -- when it was written
    user     TEXT,                 -- the CRM's id of the user who wrote it; NULL: not known
    text     TEXT NOT NULL,        -- as written, in lines
    PRIMARY KEY (party, id)
) WITHOUT ROWID;

CREATE TABLE activity (
    key      TEXT PRIMARY KEY,     -- the call's id; putting it again replaces it
    party    INTEGER               -- with whom (party.key); NULL: nobody who is here (any more)
             REFERENCES party (key) ON DELETE SET NULL,
    number   TEXT NOT NULL,        -- the other side's, E.164; empty if it was withheld
    state    TEXT NOT NULL,        -- how far the call is: ringing, connected, ended, missed
    direction TEXT NOT NULL,       -- inbound, outbound
    started  TEXT NOT NULL,        -- when
    ended    TEXT,                 -- when; NULL: not yet
    user     TEXT,                 -- the CRM's id of the user who talked, or should have; NULL: nobody
    duration REAL NOT NULL,        -- seconds from start to end
    talk     REAL NOT NULL,        -- seconds of talk
    subject  TEXT NOT NULL,        -- one line for people
    text     TEXT NOT NULL,        -- more of it
    disposition TEXT NOT NULL,     -- how it came out, in the company's words
    recording TEXT                 -- its address (http or https); NULL: there is none
) WITHOUT ROWID;

CREATE INDEX activity_by_party ON activity (party, started);

-- The words that a party is searched by. It holds no text itself: its rows are those of party, and who writes those
-- writes these. Not by triggers, in which SQLite runs no such table while the schema of the file is not trusted.
CREATE VIRTUAL TABLE party_words USING
fts5 (name, company, tags, content = 'party', content_rowid = 'key', tokenize = 'unicode61 remove_diacritics 2');

INSERT INTO party_words (party_words) VALUES ('rebuild');
