-- What agents' time went into, and what reports need of a call beyond its row.

-- One row for each time that an agent was in one state. Nobody is in a state while they are logged out, or while
-- nobody can say: then there is no row. None is longer than an hour; what goes on is the next row, so that the
-- periods of an hour are found among those that ended soon after it.
CREATE TABLE periods (
    agent  TEXT NOT NULL,
    began  DOUBLE PRECISION NOT NULL,
    state  TEXT NOT NULL,                      -- ready, paused, offered, busy, wrap_up
    reason TEXT,                               -- of a pause
    ended  DOUBLE PRECISION,                   -- NULL: it goes on, as far as the last sign of life knows
    PRIMARY KEY (began, agent)                 -- in the order in which they grow old
);
CREATE INDEX periods_by_end ON periods (ended, began) WHERE ended IS NOT NULL;
CREATE INDEX periods_open   ON periods (agent) WHERE ended IS NULL;

-- One row for each time that a server ran, written again every few seconds: what was open when it died was so until
-- `seen`, and nobody knows what was after that.
CREATE TABLE lives (
    began DOUBLE PRECISION NOT NULL PRIMARY KEY,
    seen  DOUBLE PRECISION NOT NULL            -- when it last said that it is there
);

-- How the first who answered knew the caller: owner, last_agent; NULL: not, or nobody has looked.
ALTER TABLE calls ADD COLUMN knew TEXT;
