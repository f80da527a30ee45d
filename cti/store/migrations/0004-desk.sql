-- What agents write of their calls, and whom they have to call back.

-- The phone that an agent sits at, out of `phones`; NULL: all of them ring.
ALTER TABLE agents ADD COLUMN phone TEXT;

-- An agent who writes a call up: held for nobody until then. One row each, gone when it is over.
CREATE TABLE wrap_ups (
    agent   TEXT    NOT NULL PRIMARY KEY,
    call    TEXT    NOT NULL,
    segment INTEGER NOT NULL,                  -- segments.number: the part of the call that was theirs
    began   DOUBLE PRECISION NOT NULL,
    until   DOUBLE PRECISION NOT NULL,         -- free again then, whatever is written
    added   DOUBLE PRECISION NOT NULL          -- seconds by which the agent has extended it
);

-- A call whose service wants a disposition, and who talked in it and has not chosen one.
CREATE TABLE unwritten (
    agent TEXT NOT NULL,
    call  TEXT NOT NULL,
    since DOUBLE PRECISION NOT NULL,           -- when their part in it ended
    PRIMARY KEY (agent, call)
);
CREATE INDEX unwritten_in_order ON unwritten (agent, since, call);
CREATE INDEX unwritten_by_call  ON unwritten (call);

-- A call that somebody has to make: back to who was missed, or planned.
CREATE TABLE callbacks (
    id       TEXT NOT NULL PRIMARY KEY,        -- ours; sorts by time
    created  DOUBLE PRECISION NOT NULL,
    number   TEXT NOT NULL,                    -- E.164, or an internal number
    state    TEXT NOT NULL,                    -- open, done, cancelled
    service  TEXT,                             -- which they had dialled
    owner    TEXT,                             -- the agent who has to; NULL: any of `agents` and `groups`
    agents   TEXT NOT NULL,                    -- JSON: who was offered the call
    groups   TEXT NOT NULL,                    -- JSON: the groups that the service's rules ring
    note     TEXT,
    due      DOUBLE PRECISION,                 -- when they want to be called
    call     TEXT,                             -- the call that was missed last, or that it is about
    party    TEXT,                             -- JSON: who a CRM says it is
    tries    INTEGER NOT NULL,                 -- how often they have tried to reach us
    changed  DOUBLE PRECISION NOT NULL,
    made_by  TEXT,                             -- who planned it; NULL: a missed call
    done_by  TEXT                              -- the call in which they were reached
);
CREATE INDEX callbacks_in_order ON callbacks (state, created, id);
