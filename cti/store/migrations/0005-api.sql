-- What was answered to requests that may be sent again.

-- One row for each Idempotency-Key, from before its request is carried out; a day later it is forgotten.
CREATE TABLE asked_once (
    who        TEXT NOT NULL,               -- whose key it is: a token's id, ...
    key        TEXT NOT NULL,               -- as it was sent
    digest     TEXT NOT NULL,               -- SHA-256 of the request, hexadecimal: the same key for another is refused
    at         DOUBLE PRECISION NOT NULL,   -- when it was asked
    status     INTEGER,                     -- of the answer; NULL: not known whether it was done
    media_type TEXT,                        -- of the answer
    headers    TEXT,                        -- JSON: those that only this answer has
    body       TEXT,                        -- the answer
    PRIMARY KEY (who, key)
);
CREATE INDEX asked_once_by_time ON asked_once (at);
CREATE INDEX asked_once_by_who  ON asked_once (who, at);
