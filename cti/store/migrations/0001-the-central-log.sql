-- The central log, the outbox and the state of agents.
--
-- Times are seconds since the epoch (UTC), durations seconds unless the name ends in _ms. Columns said to be
-- JSON hold one compact JSON text. NULL means "not known" or "not yet", never "none" or "zero".
-- Which words a column may hold is said in records.py. No foreign keys: what is written together is one
-- transaction anyway, rows of one call may arrive in any order, and the check would cost a look-up a row.

-- What this database knows of itself: exactly one row.
CREATE TABLE store (
    one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    id       TEXT    NOT NULL,  -- random, made with the database; keeps idempotency keys of two databases apart
    last_seq BIGINT  NOT NULL   -- number of the newest event; never goes back, even when old events are purged
);

-- One row for each conversation that a caller asked for, whatever rings, transfers or fails on the way.
CREATE TABLE calls (
    id            TEXT NOT NULL PRIMARY KEY,   -- ours, minted at the first request; sorts by time
    pbx           TEXT NOT NULL,               -- name of the Asterisk it came in at
    started       DOUBLE PRECISION NOT NULL,   -- when we first heard of it
    direction     TEXT NOT NULL,               -- inbound, outbound, internal
    parent        TEXT,                        -- the call that this one is a consultation of, or came out of
    uniqueid      TEXT,                        -- Asterisk's id of the caller's first channel
    linkedid      TEXT,                        -- a hint only: Asterisk merges them when calls are bridged
    state         TEXT NOT NULL,               -- asked, offered, connected, elsewhere, ended
    from_number   TEXT,                        -- E.164, if it is a number
    from_raw      TEXT NOT NULL,               -- as it arrived
    from_kind     TEXT NOT NULL,               -- what `numbers` says it is: public, withheld, internal, ...
    to_number     TEXT,                        -- E.164 of the dialled number
    to_raw        TEXT NOT NULL,               -- as it arrived
    service       TEXT,                        -- the service that the dialled number belongs to
    mode          TEXT,                        -- observe, parallel, route: the service's at that time
    party         TEXT,                        -- JSON: who a CRM says the other side is
    agent         TEXT,                        -- who talked, or talks
    outcome       TEXT,                        -- NULL until the end
    queued        DOUBLE PRECISION,            -- when it first waited for an agent
    ringing       DOUBLE PRECISION,            -- when somebody's phone first rang
    answered      DOUBLE PRECISION,            -- when a person first talked
    ended         DOUBLE PRECISION,            -- when the caller was gone
    wrap_up       DOUBLE PRECISION,            -- how long the agent worked on it afterwards
    attempt       INTEGER NOT NULL,            -- number of the last decision
    rule          TEXT,                        -- name of the rule that made it
    reason        TEXT,                        -- the same as one readable line
    identify_ms   DOUBLE PRECISION,            -- how long it took to find out who is calling
    setup_ms      DOUBLE PRECISION,            -- from Asterisk's request to our answer
    hangup_cause  INTEGER,                     -- Q.850, as Asterisk tells it
    notes         TEXT,                        -- written by a person
    disposition   TEXT,                        -- chosen by a person
    recording     TEXT,                        -- where the recording is
    party_adapter TEXT,                        -- out of `party`, to be found by
    party_id      TEXT                         -- out of `party`, to be found by
);
-- Each ends in (started, id), the order of the call log, so that any page of a filtered list is one range.
-- An index leaves out the rows it could not find anything by.
CREATE INDEX calls_by_start   ON calls (started, id);
CREATE INDEX calls_by_from    ON calls (from_number, started, id) WHERE from_number IS NOT NULL;
CREATE INDEX calls_by_to      ON calls (to_number, started, id) WHERE to_number IS NOT NULL;
CREATE INDEX calls_by_agent   ON calls (agent, started, id) WHERE agent IS NOT NULL;
CREATE INDEX calls_by_party   ON calls (party_id, started, id) WHERE party_id IS NOT NULL;
CREATE INDEX calls_by_outcome ON calls (outcome, started, id) WHERE outcome IS NOT NULL;
-- What has to be looked at after a restart.
CREATE INDEX calls_open       ON calls (started) WHERE state <> 'ended';

-- One offer of a call to one or more agents, and what came of it.
CREATE TABLE segments (
    call     TEXT    NOT NULL,
    number   INTEGER NOT NULL,                 -- 1, 2, ... within the call
    attempt  INTEGER NOT NULL,                 -- number of the decision that made the offer
    service  TEXT,
    agents   TEXT    NOT NULL,                 -- JSON: all who were offered it
    target   TEXT    NOT NULL,                 -- what Asterisk was told to dial
    rule     TEXT,
    reason   TEXT    NOT NULL,
    offered  DOUBLE PRECISION NOT NULL,
    ringing  DOUBLE PRECISION,
    answered DOUBLE PRECISION,
    ended    DOUBLE PRECISION,
    agent    TEXT,                             -- who took it
    wrap_up  DOUBLE PRECISION,                 -- how long the agent worked on it afterwards
    result   TEXT,                             -- answered, no_answer, busy, failed, abandoned, lost; NULL while open
    PRIMARY KEY (call, number)
);

-- One channel of an Asterisk, and the call that it is part of now (transfer and pickup move it).
CREATE TABLE channels (
    pbx      TEXT NOT NULL,
    uniqueid TEXT NOT NULL,                    -- Asterisk's
    call     TEXT NOT NULL,
    device   TEXT NOT NULL,                    -- PJSIP/anna
    role     TEXT NOT NULL,                    -- caller, agent, peer, other
    began    DOUBLE PRECISION NOT NULL,
    segment  INTEGER,                          -- segments.number, for an agent's channel
    agent    TEXT,
    answered DOUBLE PRECISION,
    ended    DOUBLE PRECISION,
    cause    INTEGER,                          -- Q.850, as Asterisk tells it
    name     TEXT NOT NULL,                    -- PJSIP/anna-0000001f
    PRIMARY KEY (pbx, uniqueid)
);
CREATE INDEX channels_by_call ON channels (call);

-- One decision of the routing, so that "why?" can be answered later and the decision made again.
CREATE TABLE decisions (
    call           TEXT    NOT NULL,
    attempt        INTEGER NOT NULL,
    at             DOUBLE PRECISION NOT NULL,
    service        TEXT,
    mode           TEXT,
    action         TEXT    NOT NULL,           -- CTI_ACTION
    agents         TEXT    NOT NULL,           -- JSON: who was reserved
    target         TEXT    NOT NULL,           -- CTI_TARGET
    rule           TEXT,
    reason         TEXT    NOT NULL,
    facts          TEXT    NOT NULL,           -- JSON: all that the rules could see
    trace          TEXT    NOT NULL,           -- JSON: each step, in order
    identification TEXT,                       -- JSON: what each adapter answered, and how fast
    last           TEXT,                       -- DIALSTATUS of the attempt before
    PRIMARY KEY (call, attempt)
);

-- One client card offered to one agent.
CREATE TABLE cards (
    call      TEXT    NOT NULL,
    agent     TEXT    NOT NULL,
    attempt   INTEGER NOT NULL,
    offered   DOUBLE PRECISION NOT NULL,       -- written to the agent's event streams
    body      TEXT    NOT NULL,                -- JSON: what the agent got to see
    shown     DOUBLE PRECISION,                -- a browser says that it painted it
    withdrawn DOUBLE PRECISION,
    PRIMARY KEY (call, attempt, agent)
);

-- People who answer.
CREATE TABLE agents (
    id         TEXT NOT NULL PRIMARY KEY,
    name       TEXT NOT NULL,
    phones     TEXT NOT NULL,                  -- JSON: Asterisk devices, the preferred one first
    groups     TEXT NOT NULL,                  -- JSON: names of groups
    crm        TEXT NOT NULL,                  -- JSON: name of adapter to user id there
    wish       TEXT NOT NULL,                  -- what the person asked for: logged_out, ready, paused
    reason     TEXT,                           -- of a pause
    wish_since DOUBLE PRECISION NOT NULL,
    idle_since DOUBLE PRECISION NOT NULL       -- end of the last call; a group may go by longest idle
);

-- An agent held for a call. Expires by itself; the server renews it while the call lives.
CREATE TABLE reservations (
    agent     TEXT    NOT NULL,
    call      TEXT    NOT NULL,
    attempt   INTEGER NOT NULL,
    expires   DOUBLE PRECISION NOT NULL,
    connected INTEGER NOT NULL,                -- 1: the agent talks on that call
    PRIMARY KEY (agent, call)
);

-- What happened, numbered in commit order without holes; what every reader of events gets.
CREATE TABLE events (
    seq    INTEGER NOT NULL PRIMARY KEY,       -- (SQLite: INTEGER, not BIGINT, makes it the row's own address)
    type   TEXT   NOT NULL,                    -- call.routed, ...
    at     DOUBLE PRECISION NOT NULL,
    call   TEXT,
    agents TEXT,                               -- JSON: whose browsers it is meant for; NULL: nobody's in particular
    body   TEXT   NOT NULL                     -- the event's JSON without its start, {"seq":N,
);
CREATE INDEX events_by_call ON events (call, seq) WHERE call IS NOT NULL;

-- One event on its way to one destination. Kept when it is done: it is the delivery log.
CREATE TABLE outbox (
    id          INTEGER NOT NULL PRIMARY KEY,  -- rises in commit order
    destination TEXT    NOT NULL,              -- name in the configuration
    seq         BIGINT  NOT NULL,              -- the event
    lane        TEXT    NOT NULL,              -- what keeps its order: the call, else the agents it is about
    key         TEXT    NOT NULL,              -- idempotency key, the same at each try
    state       TEXT    NOT NULL,              -- waiting, delivered, dead
    created     DOUBLE PRECISION NOT NULL,
    attempts    INTEGER NOT NULL,
    due         DOUBLE PRECISION,              -- may be tried from then on; NULL: behind another one of its lane, or done
    finished    DOUBLE PRECISION,              -- when it was delivered or given up
    error       TEXT,                          -- what the last failed try said
    UNIQUE (seq, destination)
);
-- "What may be tried now?" is one range, however many wait behind others.
CREATE INDEX outbox_due  ON outbox (destination, due) WHERE state = 'waiting' AND due IS NOT NULL;
CREATE INDEX outbox_lane ON outbox (destination, lane, id) WHERE state = 'waiting';
-- "How many wait, and since when?"
CREATE INDEX outbox_age  ON outbox (destination, created) WHERE state = 'waiting';

-- Bearer tokens. The token itself is kept nowhere.
CREATE TABLE tokens (
    id      TEXT NOT NULL PRIMARY KEY,
    name    TEXT NOT NULL,
    role    TEXT NOT NULL,                     -- agent, supervisor, admin, crm
    digest  TEXT NOT NULL UNIQUE,              -- SHA-256, hexadecimal
    created DOUBLE PRECISION NOT NULL,
    agent   TEXT,                              -- whose it is
    expires DOUBLE PRECISION,
    revoked DOUBLE PRECISION
);
