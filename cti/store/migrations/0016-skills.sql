-- What agents are good at, and how good: rules may ask for a skill at a level.

ALTER TABLE agents ADD COLUMN skills TEXT NOT NULL DEFAULT '{}';   -- JSON: name of the skill to level, 1 to 9 (best)
