-- The outbox as people see it: each attempt with what came of it, and what they decided of a delivery.
--
-- A delivery that somebody does not want any more has the state `dropped`.

ALTER TABLE outbox ADD COLUMN again DOUBLE PRECISION;  -- when somebody had it tried again: its age counts from then

-- "What was given up?"
CREATE INDEX outbox_dead ON outbox (destination, id) WHERE state = 'dead';

-- The delivery log: one row for each of the latest attempts at a delivery.
CREATE TABLE outbox_attempts (
    delivery BIGINT  NOT NULL,               -- outbox.id
    number   INTEGER NOT NULL,               -- counts from 1
    at       DOUBLE PRECISION NOT NULL,      -- when it began
    took     DOUBLE PRECISION NOT NULL,
    status   INTEGER,                        -- what a web server answered
    error    TEXT,                           -- what went wrong; NULL: it was taken
    PRIMARY KEY (delivery, number)
);
