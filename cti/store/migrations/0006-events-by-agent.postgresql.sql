-- A desktop that comes back reads what is its agent's; without this it would read everybody's, and thousands of them
-- at once would keep the server from its calls.

-- One row for each event and agent whose browsers it is meant for; who deletes the event deletes these.
CREATE TABLE event_agents (
    agent TEXT   NOT NULL,
    seq   BIGINT NOT NULL,                     -- the event
    PRIMARY KEY (agent, seq)
);

INSERT INTO event_agents SELECT DISTINCT each.value, events.seq FROM events, json_each(events.agents) AS each;
