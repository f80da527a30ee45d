-- Who may come in, and what they did.

-- People who log in. No password is kept, only what it takes to check one.
CREATE TABLE users (
    name     TEXT NOT NULL PRIMARY KEY,        -- lower-case
    role     TEXT NOT NULL,                    -- agent, supervisor, admin
    password TEXT NOT NULL,                    -- argon2id, with its salt and parameters
    created  DOUBLE PRECISION NOT NULL,
    changed  DOUBLE PRECISION NOT NULL,        -- when the password was set
    agent    TEXT,                             -- agents.id, of who answers calls
    language TEXT,                             -- of the pages, chosen by themselves; NULL: the browser's
    disabled INTEGER NOT NULL                  -- 1: may not log in
);

-- Somebody who is logged in with a browser. The session's id itself is kept nowhere.
CREATE TABLE sessions (
    digest  TEXT NOT NULL PRIMARY KEY,         -- SHA-256 of the id, hexadecimal
    "user"  TEXT NOT NULL,                     -- users.name
    created DOUBLE PRECISION NOT NULL,
    used    DOUBLE PRECISION NOT NULL,         -- last time, to the minute
    expires DOUBLE PRECISION NOT NULL          -- however much it is used
);
CREATE INDEX sessions_by_user ON sessions ("user");

-- Who looked at what of whom, and who changed what. Only added to.
CREATE TABLE audit (
    id      INTEGER NOT NULL PRIMARY KEY,      -- rises in commit order
    at      DOUBLE PRECISION NOT NULL,
    who     TEXT,                              -- name of the user or the token; NULL: nobody who is known
    kind    TEXT NOT NULL,                     -- what `who` is: user, token, command
    action  TEXT NOT NULL,                     -- call.read, user.added, ...
    object  TEXT,                              -- whose: the call's id, the user's name, ...
    detail  TEXT,                              -- JSON: what else is worth knowing, never a password
    address TEXT                               -- where it was asked from
);

-- Random keys of this database, made when they are first needed.
CREATE TABLE keys (
    name  TEXT NOT NULL PRIMARY KEY,           -- what it is for
    value TEXT NOT NULL                        -- hexadecimal
);

-- JSON: what a token is good for; NULL: all that its role may.
ALTER TABLE tokens ADD COLUMN scopes TEXT;
