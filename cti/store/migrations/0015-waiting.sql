-- Calls that wait in a line for an agent.

-- Where the call stands in lines, by SERVICE/RULE: {"since": …, "step": …, "step_since": …}, times in epoch seconds, as
-- JSON; NULL: in none. It keeps its place when the server is started again.
ALTER TABLE calls ADD COLUMN places TEXT;
