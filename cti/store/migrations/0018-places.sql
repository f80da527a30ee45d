-- Callers who pressed a key to be called back, and keep their place in the line.

-- {"service": …, "rule": …, "since": …}, since in epoch seconds, as JSON; NULL: in none, or called by now.
ALTER TABLE callbacks ADD COLUMN place TEXT;
