-- How many calls an agent may have at once: a switchboard holds one while it takes the next.

ALTER TABLE agents ADD COLUMN concurrency INTEGER NOT NULL DEFAULT 1;   -- 1 to 20
