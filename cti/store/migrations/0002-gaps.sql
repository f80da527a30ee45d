-- Calls that do not pass our dialplan are known from AMI only. While nobody listened, they went by unseen.

-- Until when each Asterisk was heard: one row each.
CREATE TABLE heard (
    pbx TEXT NOT NULL PRIMARY KEY,      -- name of the Asterisk
    at  DOUBLE PRECISION NOT NULL       -- everything that it said until then has been heard
);

-- One row for each time that an Asterisk was not heard: what the log may lack.
CREATE TABLE gaps (
    pbx       TEXT NOT NULL,
    since     DOUBLE PRECISION NOT NULL, -- from when
    until     DOUBLE PRECISION NOT NULL, -- to when it was not heard
    recovered INTEGER,                   -- calls made up for out of its call records; NULL: none could be read
    why       TEXT,                      -- why they could not be read
    PRIMARY KEY (pbx, since)
);
