"""The part of the API that the agents' desktop lives on: its rows of the route table, and what they are answered.

What a desk shows and what may be written is said in `cti.calls`; who may ask is said here.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from cti.agents.roster import AgentUnknown
from cti.calls.control import CallUnknown, took_part
from cti.calls.present import call_json, etag_of
from cti.calls.writing_up import (
    MAX_EXTENSION,
    DispositionMissing,
    ExtendedEnough,
    NotWritingUp,
)
from cti.calls.written import MAX_NOTES, Changed, NotWritten
from cti.web.call_control import asker
from cti.web.problems import Problem
from cti.web.routing_table import Answer, Asked, Parameter, Route, own_agent
from cti.web.schema import Schema
from cti.web.services import Services
from cti.web.shapes import STRING, TEXT, TIME, listed, maybe, named, record
from cti.web.tokens import ADMIN, AGENT, CRM, SUPERVISOR

_STAFF: Final = frozenset({AGENT, SUPERVISOR, ADMIN})
_EVERYBODY: Final = frozenset({AGENT, SUPERVISOR, ADMIN, CRM})


async def desk(services: Services, asked: Asked) -> Answer:
    agent = _whose(asked)
    try:
        return _json(services.desktop.desk.snapshot(agent))
    except AgentUnknown as error:
        raise Problem(404, f"{error}; GET /api/v1/agents lists them") from error


async def desk_call(services: Services, asked: Asked) -> Answer:
    agent = own_agent(asked.identity)
    detail = await services.calls.call(asked.path["id"])
    if detail is None or not took_part(detail, agent):
        raise Problem(404, "there is no such call, or you had no part in it", kind="no-such-call")
    return _json(services.desktop.desk.one(detail, agent))


async def card_painted(services: Services, asked: Asked) -> Answer:
    agent = own_agent(asked.identity)
    try:
        await services.desktop.painting.painted(agent, asked.path["id"], asked.body["attempt"])
    except CallUnknown as error:
        raise Problem(404, str(error), kind="no-such-call") from error
    return Answer(b"", 204)


async def write(services: Services, asked: Asked) -> Answer:
    if not asked.body:
        raise Problem(422, "body: notes, disposition or party; there is nothing to write")
    id = asked.path["id"]
    try:
        written = await services.desktop.written.write(
            asker(asked.identity), id, asked.body, precondition(asked)
        )
    except CallUnknown as error:
        raise Problem(404, str(error), kind="no-such-call") from error
    except NotWritten as error:
        raise Problem(422, str(error), kind="not-written") from error
    except Changed as error:
        etag = etag_of(error.record)
        current = {"call": call_json(error.record), "etag": etag}
        raise Problem(412, str(error), kind="changed", headers={"ETag": etag}, more=current) from error
    etag = etag_of(written)
    return Answer(orjson.dumps({"call": call_json(written), "etag": etag}), headers={"ETag": etag})


async def wrap_up(services: Services, asked: Asked) -> Answer:
    agent, id, body = own_agent(asked.identity), asked.path["id"], asked.body
    if ("extend" in body) == bool(body.get("finish")):
        raise Problem(422, 'body: either {"extend": seconds} or {"finish": true} would be right')
    writing_up = services.desktop.writing_up
    try:
        if "extend" in body:
            await writing_up.extend(agent, id, body["extend"])
        else:
            await writing_up.finish(agent, id)
    except NotWritingUp as error:
        raise Problem(409, str(error), kind="not-now") from error
    except DispositionMissing as error:
        raise Problem(409, str(error), kind="disposition-missing") from error
    except ExtendedEnough as error:
        raise Problem(422, str(error), kind="extended-enough") from error
    return _json(services.desktop.desk.snapshot(agent))


async def colleagues(services: Services, _asked: Asked) -> Answer:
    return _json({"colleagues": services.desktop.desk.colleagues()})


def precondition(asked: Asked) -> str:
    """The If-Match of a request. Raises `Problem` 428 without one."""
    given = asked.http.getHeader("If-Match")
    if given is None:
        raise Problem(
            428,
            "send If-Match with the ETag that you have seen, so that nobody's text is lost",
            kind="precondition-required",
        )
    return given


def _whose(asked: Asked) -> str:
    """Whose desk is meant: an agent's own, for others whom they name."""
    who, wanted = asked.identity, asked.query.get("agent")
    if who.role == AGENT:
        own = own_agent(who)
        if wanted not in (None, own):
            raise Problem(403, "an agent sees only their own desk; leave `agent` out")
        return own
    agent: str | None = wanted or who.agent
    if agent is None:
        raise Problem(422, "agent is missing: whose desk is meant")
    return agent


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(orjson.dumps(value), status)


def _body(properties: Mapping[str, Schema], *needed: str) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(needed),
        "properties": dict(properties),
    }


_AGENT_QUERY: Final = Parameter("agent", TEXT, "whose desk, for those who look at others'")
_COUNT: Final = record({"count": {"type": "integer"}})
_DESK_CALL: Final = record(
    {
        "call": named("Call"),
        "etag": STRING,
        "status": {
            "type": "string",
            "enum": ["offered", "ringing", "dialling", "talking", "held", "consulting", "wrap_up", "ended"],
        },
        "can": listed(STRING),
        "attempt": {"type": "integer"},
        "card": {"type": ["object", "null"]},
        "party": {"type": ["object", "null"]},
        "choose": {"type": "boolean"},
        "title": maybe(STRING),
        "dispositions": listed(record({"id": STRING, "label": STRING, "labels": {"type": "object"}})),
        "disposition_required": {"type": "boolean"},
        "open": {"type": "string", "enum": ["never", "ring", "answer", "button"]},
        "wrap_up_until": maybe(TIME),
        "quick_create": {"type": "boolean"},
    }
)
_DESK: Final = record(
    {
        "seq": {"type": "integer", "description": "the events after this one are news"},
        "now": TIME,
        "agent": {"type": "object"},
        "pause_reasons": listed(STRING),
        "calls": listed(_DESK_CALL),
        "unwritten": _COUNT,
        "missed": _COUNT,
    }
)
_WRITTEN: Final = record({"call": named("Call"), "etag": STRING})
_NO_CALL: Final = "no such call, or an agent who has no part in it"

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET",
        "/api/v1/desk",
        desk,
        "What an agent's desktop shows now",
        "The agent, their calls with what may be done to each (`can`), and how much waits for them. Read it again"
        " after an event, and stream events `after` its `seq`. An agent gets their own, others name the `agent`.",
        roles=_STAFF,
        query=(_AGENT_QUERY,),
        answers=("application/json", _DESK),
        problems={404: "no such agent", 422: "whose desk is meant"},
    ),
    Route(
        "GET",
        "/api/v1/desk/calls/{id}",
        desk_call,
        "One of an agent's own calls as the desk shows it, past ones too",
        roles=_STAFF,
        answers=("application/json", _DESK_CALL),
        problems={404: "no such call, or an agent who took no part in it"},
    ),
    Route(
        "POST",
        "/api/v1/calls/{id}/card",
        card_painted,
        "The agent's browser has painted the card",
        "The first time it is the event `card.shown`, and lets go a call that waits for it (`card_lead_ms`).",
        roles=_STAFF,
        body=_body({"attempt": {"type": "integer", "minimum": 0, "maximum": 10**6}}, "attempt"),
        status=204,
        problems={404: "no card of this call is on their desktop"},
    ),
    Route(
        "PATCH",
        "/api/v1/calls/{id}",
        write,
        "Write notes, the disposition, or which of several parties it is",
        "With `If-Match`, the ETag of what one has seen. If somebody else has written meanwhile it is 412 with the"
        " `call` and its `etag`, and nothing is changed. Agents write of calls that they talked in, or are offered.",
        roles=_EVERYBODY,
        body=_body(
            {
                "notes": {"type": ["string", "null"], "maxLength": MAX_NOTES},
                "disposition": {"type": ["string", "null"], "maxLength": 200},
                "party": {
                    "type": ["object", "null"],
                    "additionalProperties": False,
                    "required": ["adapter", "type", "id"],
                    "properties": {"adapter": TEXT, "type": TEXT, "id": TEXT},
                },
            }
        ),
        answers=("application/json", _WRITTEN),
        problems={
            404: "no such call, or an agent who did not talk in it",
            412: "somebody else has written meanwhile",
            422: "no such disposition or party",
            428: "no If-Match",
        },
    ),
    Route(
        "POST",
        "/api/v1/calls/{id}/wrap_up",
        wrap_up,
        "Extend the wrap-up, or end it",
        f"`extend` by at most {MAX_EXTENSION} s at once; `finish` wants the disposition, if the service does."
        " Answered with the desk.",
        roles=_STAFF,
        body=_body(
            {
                "extend": {"type": "integer", "minimum": 1, "maximum": MAX_EXTENSION},
                "finish": {"type": "boolean"},
            }
        ),
        answers=("application/json", _DESK),
        problems={
            409: "the agent does not write up this call, or its disposition is missing",
            422: "neither of both, or extended enough",
        },
    ),
    Route(
        "GET",
        "/api/v1/colleagues",
        colleagues,
        "Everybody to whom a call could be passed on, with their state",
        roles=_STAFF,
        answers=(
            "application/json",
            record(
                {
                    "colleagues": listed(
                        record({"id": STRING, "name": STRING, "state": STRING, "groups": listed(STRING)})
                    )
                }
            ),
        ),
    ),
)
