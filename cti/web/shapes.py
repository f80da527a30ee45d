"""The shapes of what the API takes and answers, as JSON Schema. Requests are checked against them."""

from collections.abc import Mapping
from typing import Any, Final

from cti.event_types import EVENT_TYPES
from cti.metrics import ACTIONS, AGENT_STATES, DIRECTIONS, IDENTIFY_OUTCOMES, OUTCOMES
from cti.web.schema import Schema
from routing.facts import SKILL_LEVELS

TIME: Final[Schema] = {"type": "string", "format": "date-time", "maxLength": 40}
NUMBER: Final[Schema] = {
    "type": "string",
    "format": "telephone",
    "minLength": 1,
    "maxLength": 64,
    "examples": ["+4915228817386"],
}
TEXT: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 200}
STRING: Final[Schema] = {"type": "string"}
WISHES: Final = ("logged_out", "ready", "paused")


def maybe(schema: Schema) -> Schema:
    """The same, or null."""
    return {**schema, "type": [schema["type"], "null"]}


def listed(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def record(properties: Mapping[str, Schema]) -> Schema:
    """An object of ours, all of whose properties are always there."""
    return {"type": "object", "required": list(properties), "properties": dict(properties)}


def closed(properties: Mapping[str, Schema], *required: str) -> dict[str, Any]:
    """An object that a request brings: of these properties, and no others."""
    return {
        "type": "object",
        "required": list(required),
        "additionalProperties": False,
        "properties": dict(properties),
    }


def named(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_SECONDS: Final[Schema] = {"type": "number", "description": "decimal seconds"}
_WHOLE: Final[Schema] = {"type": "integer"}
_OBJECT: Final[Schema] = {"type": "object"}

_USER: Final = record(
    {
        "name": STRING,
        "role": STRING,
        "agent": maybe(STRING),
        "language": maybe(STRING),
        "disabled": {"type": "boolean"},
        "created": TIME,
        "changed": {**TIME, "description": "when the password was set"},
    }
)
_AUDIT: Final = record(
    {
        "id": _WHOLE,
        "at": TIME,
        "who": {"type": ["string", "null"], "description": "null: nobody who is known"},
        "kind": {"type": "string", "enum": ["user", "token", "command"]},
        "action": STRING,
        "object": maybe(STRING),
        "detail": maybe(_OBJECT),
        "address": maybe(STRING),
    }
)

_CALL: Final[Mapping[str, Schema]] = {
    "id": STRING,
    "parent": maybe(STRING),
    "pbx": STRING,
    "direction": {"type": "string", "enum": sorted(DIRECTIONS)},
    "from": {"type": ["string", "null"], "description": "E.164; null if there is none"},
    "from_raw": {"type": "string", "description": "as it came"},
    "to": maybe(STRING),
    "service": maybe(STRING),
    "party": {
        "type": ["object", "null"],
        "description": "who a CRM says the other side is; what a role may not see is left out",
        "properties": {key: maybe(STRING) for key in ("adapter", "type", "id", "name", "url")},
    },
    "agent": maybe(STRING),
    "outcome": {"type": ["string", "null"], "enum": [*sorted(OUTCOMES), None]},
    "started": TIME,
    "queued": maybe(TIME),
    "ringing": maybe(TIME),
    "answered": maybe(TIME),
    "ended": maybe(TIME),
    "duration": maybe(_SECONDS),
    "talk": maybe(_SECONDS),
    "wait": maybe(_SECONDS),
    "wrap_up": maybe(_SECONDS),
    "rule": maybe(STRING),
    "reason": maybe(STRING),
    "identify_ms": {"type": ["number", "null"]},
    "setup_ms": {"type": ["number", "null"]},
    "hangup_cause": {"type": ["integer", "null"], "description": "Q.850"},
    "notes": maybe(STRING),
    "disposition": maybe(STRING),
    "recording": maybe(STRING),
    "state": STRING,
    "mode": maybe(STRING),
    "attempt": _WHOLE,
    "from_kind": STRING,
    "to_raw": STRING,
    "uniqueid": maybe(STRING),
    "linkedid": maybe(STRING),
    "closed_by": {
        "type": ["string", "null"],
        "enum": ["asterisk", "age", None],
        "description": "who closed it, if nobody told of its end: Asterisk has no channel of it, or it is too old",
    },
}

_SEGMENT: Final[Mapping[str, Schema]] = {
    "number": _WHOLE,
    "attempt": _WHOLE,
    "service": maybe(STRING),
    "agents": listed(STRING),
    "agent": maybe(STRING),
    "target": STRING,
    "rule": maybe(STRING),
    "reason": STRING,
    "offered": TIME,
    "ringing": maybe(TIME),
    "answered": maybe(TIME),
    "ended": maybe(TIME),
    "rang": maybe(_SECONDS),
    "talk": maybe(_SECONDS),
    "wrap_up": maybe(_SECONDS),
    "result": maybe(STRING),
}
_CHANNEL: Final[Mapping[str, Schema]] = {
    "pbx": STRING,
    "uniqueid": STRING,
    "device": STRING,
    "role": STRING,
    "segment": {"type": ["integer", "null"]},
    "agent": maybe(STRING),
    "began": TIME,
    "answered": maybe(TIME),
    "ended": maybe(TIME),
    "cause": {"type": ["integer", "null"], "description": "Q.850"},
}

_GAP: Final[Mapping[str, Schema]] = {
    "pbx": STRING,
    "since": TIME,
    "until": TIME,
    "recovered": {"type": ["integer", "null"]},
    "why": maybe(STRING),
}

_TARGET: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 100,
    "description": "whom to reach; the first that fits: an agent's id, a group's name (the longest idle of it), a"
    " number of one of our services, a telephone number or an internal one. `agent:`, `group:`, `service:` (its"
    " name) or `tel:` before it leaves no doubt. Numbers must be of the configured classes and countries.",
}

_SKILLS: Final[Schema] = {
    "type": "object",
    "additionalProperties": {
        "type": "integer",
        "minimum": SKILL_LEVELS[0],
        "maximum": SKILL_LEVELS[-1],
    },
    "description": "what they are good at, and how good; 9 is the best",
}

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Problem": {
        "type": "object",
        "description": "RFC 9457; `detail` says what would be right",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "description": "`urn:problem-type:cordboard:KIND`, or `about:blank`"},
            "title": STRING,
            "status": _WHOLE,
            "detail": STRING,
            "errors": {**listed(STRING), "description": "each begins with the place, such as `body.to`"},
        },
    },
    "Health": record(
        {
            "ok": {"type": "boolean"},
            "components": {
                "type": "object",
                "additionalProperties": record({"ok": {"type": "boolean"}, "detail": STRING}),
            },
        }
    ),
    "Identification": {
        "type": "object",
        "description": "by a number, or by a key, whose kind is then `key`",
        "required": ["parties", "adapters", "ms"],
        "properties": {
            "key": STRING,
            "number": STRING,
            "e164": maybe(STRING),
            "kind": STRING,
            "ambiguous": {"type": "boolean", "description": "several parties have the number"},
            "ignored": {"type": "boolean", "description": "nobody looks for this number"},
            "party": {
                "type": ["object", "null"],
                "description": "which of the parties it is; null if there is none, or the agent has to say",
                "properties": dict.fromkeys(("adapter", "type", "id"), STRING),
            },
            "resolved_by": {"type": ["string", "null"], "description": "the policy that settled it"},
            "steps": listed(record({"policy": STRING, "note": STRING})),
            "parties": listed(named("Party")),
            "adapters": listed(
                {
                    "type": "object",
                    "required": ["adapter", "outcome", "ms"],
                    "properties": {
                        "adapter": STRING,
                        "outcome": {"type": "string", "enum": sorted(IDENTIFY_OUTCOMES)},
                        "ms": {"type": "number"},
                        "error": STRING,
                        "source": {"type": "string", "enum": ["live", "cache", "index"]},
                        "age": {
                            "type": "number",
                            "description": "seconds since the CRM said so, where it was not asked now",
                        },
                    },
                }
            ),
            "ms": {"type": "number"},
        },
    },
    "Party": {
        "type": "object",
        "description": "who a CRM says somebody is; what a role may not see is left out",
        "properties": {
            **dict.fromkeys(("adapter", "type", "id", "name", "company", "match", "notes"), STRING),
            **dict.fromkeys(
                ("url", "owner", "owner_user", "tier", "language", "organisation", "balance", "dunning"),
                maybe(STRING),
            ),
            "tags": listed(STRING),
            **dict.fromkeys(("cases", "last_contacts", "appointments", "tasks", "links"), listed(_OBJECT)),
        },
    },
    "Call": {
        **record(_CALL),
        "properties": {
            **_CALL,
            "display": {
                "type": "object",
                "description": "`from` and `to` as people write them where this server stands; in lists and on desks",
            },
        },
    },
    "CallPage": record({"calls": listed(named("Call")), "next": maybe(STRING)}),
    "CallDetail": record(
        {
            **_CALL,
            "segments": listed(record(_SEGMENT)),
            "channels": listed(record(_CHANNEL)),
            "events": listed(named("Event")),
            "card": {"type": ["object", "null"]},
            "cards": listed(_OBJECT),
            "decisions": listed(_OBJECT),
            "crm": listed(_OBJECT),
            "deliveries": listed(_OBJECT),
        }
    ),
    "Gaps": record({"gaps": listed(record(_GAP)), "next": maybe(STRING)}),
    "Agent": record(
        {
            "id": STRING,
            "name": STRING,
            "state": {"type": "string", "enum": list(AGENT_STATES)},
            "reason": maybe(STRING),
            "since": TIME,
            "phones": listed(STRING),
            "groups": listed(STRING),
            "skills": _SKILLS,
            "concurrency": {"type": "integer", "description": "how many calls they may have at once"},
            "call": {
                "type": ["string", "null"],
                "description": "that they are held for, the latest of several",
            },
            "why_not": {"type": ["string", "null"], "description": "why they can't be offered a call now"},
            "phone": {
                "type": ["string", "null"],
                "description": "where they sit, at one of theirs or at a desk's; null: all of theirs ring",
            },
            "pause": {
                "type": ["object", "null"],
                "description": "what is configured of the reason of their pause, `over` once its time is",
                "properties": {
                    "label": STRING,
                    "labels": {"type": "object", "additionalProperties": STRING},
                    "until": maybe(TIME),
                    "over": {"type": "boolean"},
                },
            },
        }
    ),
    "Agents": record({"agents": listed(named("Agent"))}),
    "AgentChange": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "state": {"type": "string", "enum": list(WISHES)},
            "reason": {"type": ["string", "null"], "maxLength": 200},
            "phone": {
                **TEXT,
                "type": ["string", "null"],
                "description": "one of theirs, or a free desk's; null: all of theirs ring",
            },
            "skills": _SKILLS,
        },
        "examples": [{"state": "paused", "reason": "lunch"}, {"state": "ready"}, {"skills": {"german": 5}}],
    },
    "Session": record(
        {
            "user": record(
                {"name": STRING, "role": STRING, "agent": maybe(STRING), "language": maybe(STRING)}
            ),
            "csrf": {
                "type": "string",
                "description": "for the header X-CSRF-Token of all that changes something",
            },
            "expires": {**TIME, "description": "unless it is used again"},
        }
    ),
    "User": _USER,
    "Users": record({"users": listed(named("User"))}),
    "AuditPage": record({"audit": listed(_AUDIT), "next": maybe(_WHOLE)}),
    "Target": _TARGET,
    "MakeCall": {
        "type": "object",
        "required": ["to"],
        "additionalProperties": False,
        "properties": {
            "agent": {**TEXT, "description": "who calls; an agent's token needs none"},
            "to": _TARGET,
        },
        "examples": [{"agent": "anna", "to": "+49 152 28817386"}],
    },
    "DryRun": {
        "type": "object",
        "required": ["from", "to"],
        "additionalProperties": False,
        "properties": {
            "from": {"type": "string", "maxLength": 64, "description": "empty for a withheld number"},
            "to": {"type": "string", "minLength": 1, "maxLength": 64},
            "at": {"type": ["string", "null"], "format": "date-time", "maxLength": 40},
        },
        "examples": [{"from": "+49 152 28817386", "to": "+49 40 66969100"}],
    },
    "Explanation": record(
        {
            "at": TIME,
            "from": record({"raw": STRING, "e164": maybe(STRING), "kind": STRING}),
            "to": record({"raw": STRING, "e164": maybe(STRING)}),
            "service": maybe(STRING),
            "mode": maybe(STRING),
            "identification": named("Identification"),
            "history": maybe(
                record(
                    {
                        "last_agent": maybe(STRING),
                        "last_spoken": maybe(TIME),
                        "tries": _WHOLE,
                        "age": {"type": ["number", "null"], "description": "seconds since the log was asked"},
                    }
                )
            ),
            "own": _OBJECT,
            "agents_at": {
                **TIME,
                "description": "when agents and lines were looked at: now, whatever `at` is",
            },
            "line": {
                **record({"calls": _WHOLE, "longest": {"type": "number"}}),
                "description": "who waits now",
            },
            "assumed": {**listed(STRING), "description": "in sentences, what is taken for what nobody knows"},
            "decision": record(
                {
                    "action": {"type": "string", "enum": sorted(ACTIONS)},
                    "agents": listed(STRING),
                    "target": STRING,
                    "then": STRING,
                    "timeout": {"type": "number"},
                    "rule": maybe(STRING),
                    "reason": STRING,
                    "trace": listed(_OBJECT),
                }
            ),
        }
    ),
    "Event": {
        "type": "object",
        "required": ["seq", "type", "at"],
        "properties": {
            "seq": _WHOLE,
            "type": {"type": "string", "enum": list(EVENT_TYPES)},
            "at": TIME,
        },
    },
}
