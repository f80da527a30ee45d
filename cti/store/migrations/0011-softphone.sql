-- Calls of phones that no Asterisk of ours carries, and calls that never ended.

-- The softphone that a token is of; NULL: of none. Such a token tells of this extension's calls, and does nothing else.
ALTER TABLE tokens ADD COLUMN extension TEXT;

-- Who closed a call whose end nobody told: asterisk (it has no channel of it any more), age; NULL: it ended by itself.
ALTER TABLE calls ADD COLUMN closed_by TEXT;
