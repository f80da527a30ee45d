-- Calls that are made at their time.

ALTER TABLE callbacks ADD COLUMN next         DOUBLE PRECISION;            -- when it is made by itself; NULL: it is not
ALTER TABLE callbacks ADD COLUMN anyway       DOUBLE PRECISION;            -- until then, whatever the hour is
ALTER TABLE callbacks ADD COLUMN calling      TEXT;                        -- the call in which they are being called
ALTER TABLE callbacks ADD COLUMN failed_tries INTEGER NOT NULL DEFAULT 0;  -- how often we have called them in vain
ALTER TABLE callbacks ADD COLUMN given_up     DOUBLE PRECISION;            -- since when it is left to people
ALTER TABLE callbacks ADD COLUMN why          TEXT;                        -- why the last try came to nothing
