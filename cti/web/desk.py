"""The part of the API that the agents' desktop lives on: its rows of the route table, and what they are answered.

What a desk shows and what may be written is said in `cti.calls`; who may ask is said here.
"""

from collections.abc import Collection
from typing import Any, Final

import orjson

from adapters.base import AdapterError, NewParty
from cti.agents.roster import AgentUnknown
from cti.calls.control import CallUnknown, took_part
from cti.calls.parties import NoCreator
from cti.calls.present import call_json, etag_of, with_display
from cti.calls.writing_up import (
    MAX_EXTENSION,
    DispositionMissing,
    ExtendedEnough,
    NotWritingUp,
)
from cti.calls.written import MAX_NOTES, Changed, NotWritten
from cti.store.base import CallFilter
from cti.store.records import CallRecord
from cti.web.call_control import asker
from cti.web.etags import changed
from cti.web.pages import CURSOR, limit, not_given_out
from cti.web.problems import Problem
from cti.web.routing_table import Answer, Asked, Parameter, Route, json_answer, own_agent
from cti.web.services import Services
from cti.web.shapes import NUMBER, STRING, TEXT, TIME, closed, listed, maybe, named, record
from cti.web.tokens import ADMIN, AGENT, CRM, SUPERVISOR

_STAFF: Final = frozenset({AGENT, SUPERVISOR, ADMIN})
_EVERYBODY: Final = frozenset({AGENT, SUPERVISOR, ADMIN, CRM})


async def desk(services: Services, asked: Asked) -> Answer:
    agent = _whose(asked)
    if agent != asked.identity.agent:
        # Somebody else's cards; one's own are in the log already, as offered.
        await services.audit.note(asked.identity, "GET /api/v1/desk", agent, asked.address)
    try:
        return json_answer(services.desktop.desk.snapshot(agent))
    except AgentUnknown as error:
        raise Problem(404, f"{error}; GET /api/v1/agents lists them") from error


async def desk_call(services: Services, asked: Asked) -> Answer:
    agent = own_agent(asked.identity)
    detail = await services.calls.call(asked.path["id"])
    if detail is None or not took_part(detail, agent):
        raise Problem(404, "there is no such call, or you had no part in it", kind="no-such-call")
    return json_answer(services.desktop.desk.one(detail, agent))


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
        written = await services.desktop.written.write(asker(asked.identity), id, asked.body, asked.if_match)
    except CallUnknown as error:
        raise Problem(404, str(error), kind="no-such-call") from error
    except NotWritten as error:
        raise Problem(422, str(error), kind="not-written") from error
    except Changed as error:
        raise changed(str(error), etag_of(error.record), call=call_json(error.record)) from error
    etag = etag_of(written)
    return Answer(orjson.dumps({"call": call_json(written), "etag": etag}), etag=etag)


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
    return json_answer(services.desktop.desk.snapshot(agent))


async def unwritten(services: Services, asked: Asked) -> Answer:
    agent, query = _whose(asked), asked.query
    try:
        page, following = await services.calls.unwritten(agent, query["limit"], query.get("cursor"))
    except ValueError as error:
        raise not_given_out(error) from error
    return json_answer({"calls": services.desktop.desk.unwritten(page, agent), "next": following})


async def history(services: Services, asked: Asked) -> Answer:
    """Earlier calls with the same party, and from or to the same number, whoever of ours talked."""
    who, limit = asked.identity, asked.query["limit"]
    detail = await services.calls.call(asked.path["id"])
    if detail is None or (who.role == AGENT and not took_part(detail, own_agent(who))):
        raise Problem(404, "there is no such call, or you had no part in it")
    call = detail.call
    number = call.from_number if call.direction == "inbound" else call.to_number
    same = [] if number is None else [CallFilter(until=call.started, number=number)]
    if call.party is not None and call.party.get("id") is not None:
        party = f"{call.party.get('adapter')}:{call.party['id']}"
        same.append(CallFilter(until=call.started, party=party))
    found: dict[str, CallRecord] = {}
    for where in same:
        page, _ = await services.calls.calls(where, limit)
        found.update({each.id: each for each in page})
    newest = sorted(found.values(), key=lambda each: (each.started, each.id), reverse=True)[:limit]
    fields = _BRIEF if who.role == AGENT else None
    shown = (with_display(call_json(each), services.numbers.display) for each in newest)
    return json_answer({"calls": [_brief(each, fields) for each in shown]})


async def create_party(services: Services, asked: Asked) -> Answer:
    body = asked.body
    number = services.numbers.parse(body["number"])
    if number.e164 is None:
        raise Problem(422, "number: this is no telephone number that a party could have", kind="not-a-number")
    try:
        wanted = NewParty(
            body["type"], number.e164, body["name"], body.get("company") or "", body.get("notes") or ""
        )
        created = await services.desktop.parties.create(
            asker(asked.identity), wanted, number, body.get("adapter"), body.get("call")
        )
    except (ValueError, NoCreator) as error:
        raise Problem(422, str(error)) from error
    except CallUnknown as error:
        raise Problem(404, str(error), kind="no-such-call") from error
    except AdapterError as error:
        raise Problem(502, f"the CRM did not take it: {error}", kind="adapter-failed") from error
    return json_answer(created.party.as_json(), 201 if created.new else 200)


def _brief(call: dict[str, Any], fields: Collection[str] | None) -> dict[str, Any]:
    return call if fields is None else {name: call[name] for name in fields}


async def colleagues(services: Services, _asked: Asked) -> Answer:
    return json_answer({"colleagues": services.desktop.desk.colleagues()})


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


#: What an agent gets to see of a call of others with the same party.
_BRIEF: Final = (
    "id",
    "display",
    "direction",
    "from",
    "to",
    "service",
    "party",
    "agent",
    "outcome",
    "started",
    "answered",
    "ended",
    "talk",
    "notes",
    "disposition",
)
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
        "dispositions": listed(record({"id": STRING, "label": STRING, "labels": {"type": "object"}})),
        "disposition_required": {"type": "boolean"},
        "open": {"type": "string", "enum": ["never", "ring", "answer", "button"]},
        "wrap_up_until": maybe(TIME),
        "quick_create": {"type": "boolean"},
        "quick_create_type": {"type": "string", "enum": ["contact", "lead"]},
    }
)
_DESK: Final = record(
    {
        "seq": {"type": "integer", "description": "the events after this one are news"},
        "now": TIME,
        "agent": {"type": "object"},
        "services": {"type": "object", "additionalProperties": STRING, "description": "name → title"},
        "pause_reasons": listed(STRING),
        "pauses": {
            **listed(
                record(
                    {
                        "id": STRING,
                        "label": STRING,
                        "labels": {"type": "object", "additionalProperties": STRING},
                        "minutes": {"type": ["integer", "null"]},
                    }
                )
            ),
            "description": "those of the reasons of which more is configured",
        },
        "desks": {**listed(STRING), "description": "phones of desks at which nobody sits"},
        "keys": {
            **listed(record({"name": STRING, "title": STRING, "sensitive": {"type": "boolean"}})),
            "description": "by which kinds of key `/api/v1/identify` finds parties",
        },
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
        audited=True,
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
        body=closed({"attempt": {"type": "integer", "minimum": 0, "maximum": 10**6}}, "attempt"),
        status=204,
        problems={404: "no card of this call is on their desktop"},
    ),
    Route(
        "PATCH",
        "/api/v1/calls/{id}",
        write,
        "Write notes, the disposition, or which of several parties it is",
        "With `If-Match`, the ETag of what one has seen. If somebody else has written meanwhile it is 412 with the"
        " `call` and its `etag`, and nothing is changed. Agents write of calls that they talked in, or are offered."
        " `party` is one of the card's, or any other that its adapter confirms.",
        roles=_EVERYBODY,
        body=closed(
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
        )
        | {"examples": [{"notes": "Will call back on Monday."}]},
        answers=("application/json", _WRITTEN),
        problems={
            404: "no such call, or an agent who did not talk in it",
            422: "no such disposition or party",
        },
        etag=True,
    ),
    Route(
        "POST",
        "/api/v1/calls/{id}/wrap_up",
        wrap_up,
        "Extend the wrap-up, or end it",
        f"`extend` by at most {MAX_EXTENSION} s at once; `finish` wants the disposition, if the service does."
        " Answered with the desk.",
        roles=_STAFF,
        body=closed(
            {
                "extend": {"type": "integer", "minimum": 1, "maximum": MAX_EXTENSION},
                "finish": {"type": "boolean"},
            }
        )
        | {"examples": [{"extend": 60}, {"finish": True}]},
        answers=("application/json", _DESK),
        problems={
            409: "the agent does not write up this call, or its disposition is missing",
            422: "neither of both, or extended enough",
        },
        idempotent=True,
    ),
    Route(
        "GET",
        "/api/v1/desk/unwritten",
        unwritten,
        "Calls that still lack the disposition that their service wants, newest first",
        "`PATCH` of the call takes it out. An agent gets their own, others name the `agent`.",
        roles=_STAFF,
        audited=True,
        query=(_AGENT_QUERY, limit(100), CURSOR),
        answers=("application/json", record({"calls": listed(_DESK_CALL), "next": maybe(STRING)})),
        problems={422: "whose desk is meant; or no such cursor"},
    ),
    Route(
        "GET",
        "/api/v1/calls/{id}/history",
        history,
        "Earlier calls with the same party or number, newest first",
        "For whoever may see the call. An agent gets the main fields of each.",
        roles=_EVERYBODY,
        audited=True,
        query=(limit(100, 20),),
        answers=("application/json", record({"calls": listed({"type": "object"})})),
        problems={404: _NO_CALL},
    ),
    Route(
        "POST",
        "/api/v1/parties",
        create_party,
        "Take an unknown caller into the CRM",
        "`adapter`: that of the call's service, or the first that can, if left out. With `call` it is who that was."
        " Who has the number already is not made again: 200 and they.",
        roles=_EVERYBODY,
        body=closed(
            {
                "adapter": TEXT,
                "type": {"type": "string", "enum": ["contact", "lead"]},
                "name": TEXT,
                "company": {"type": ["string", "null"], "maxLength": 200},
                "number": NUMBER,
                "notes": {"type": ["string", "null"], "maxLength": 4000},
                "call": TEXT,
            },
            "type",
            "name",
            "number",
        )
        | {"examples": [{"type": "contact", "name": "Käthe Ørsted", "number": "+49 152 28817386"}]},
        answers=("application/json", {"type": "object"}),
        status=201,
        also={200: "somebody of this type has the number already"},
        problems={
            404: "no such call",
            422: "no telephone number, or no adapter that takes parties",
            502: "the CRM did not take it",
        },
        idempotent=True,
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
