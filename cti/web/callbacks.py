"""The part of the API about calls that somebody has to make: its rows of the route table, and their answers."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from cti.calls.callbacks import (
    STATES,
    WHY as WHY_NOT_MADE,
    CallbackChanged,
    CallbackUnknown,
    callback_etag,
    callback_json,
)
from cti.calls.control import BadTarget, CallUnknown
from cti.calls.present import call_json, moment
from cti.numbers import NumberKind
from cti.store.records import CallbackRecord
from cti.web.call_control import WHY, asker, told
from cti.web.etags import changed
from cti.web.pages import CURSOR, limit, not_given_out
from cti.web.problems import Problem
from cti.web.routing_table import Answer, Asked, Parameter, Route, json_answer, own_agent
from cti.web.schema import Schema
from cti.web.services import Services
from cti.web.shapes import NUMBER, STRING, TEXT, TIME, listed, maybe, named, record
from cti.web.tokens import ADMIN, AGENT, CRM, SUPERVISOR

_STAFF: Final = frozenset({AGENT, SUPERVISOR, ADMIN})
_EVERYBODY: Final = frozenset({AGENT, SUPERVISOR, ADMIN, CRM})
MAX_NOTE: Final = 2000
MAX_GROUPS: Final = 50


async def callbacks(services: Services, asked: Asked) -> Answer:
    query, who = asked.query, asker(asked.identity)
    if query.get("owner") == "me" and who.agent is None:
        raise Problem(422, "owner: this token belongs to no agent, so nothing is theirs")
    try:
        page, following = await services.desktop.callbacks.page(
            who, query["state"], query.get("owner"), query["limit"], query.get("cursor")
        )
    except ValueError as error:
        raise not_given_out(error) from error
    return json_answer({"callbacks": [_shown(services, each) for each in page], "next": following})


async def plan(services: Services, asked: Asked) -> Answer:
    body = asked.body
    number = services.numbers.parse(body["number"])
    if number.kind not in (NumberKind.E164, NumberKind.INTERNAL) or number.dialable is None:
        raise Problem(422, "number: this is no telephone number", kind="not-a-number")
    try:
        made = await services.desktop.callbacks.plan(asker(asked.identity), number.dialable, _given(body))
    except (BadTarget, CallUnknown) as error:
        raise Problem(422, str(error)) from error
    return _with_etag(_shown(services, made), 201)


async def change(services: Services, asked: Asked) -> Answer:
    if not asked.body:
        raise Problem(422, "body: owner, state, note, due or anyway; there is nothing to change")
    try:
        now = await services.desktop.callbacks.change(
            asker(asked.identity), asked.path["id"], _given(asked.body), asked.if_match
        )
    except CallbackUnknown as error:
        raise Problem(404, str(error)) from error
    except BadTarget as error:
        raise Problem(422, str(error)) from error
    except CallbackChanged as error:
        current = _shown(services, error.record)
        raise changed(str(error), callback_etag(error.record), callback=current) from error
    return _with_etag(_shown(services, now), 200)


async def dial(services: Services, asked: Asked) -> Answer:
    who = asked.identity
    try:
        done = await told(
            services.desktop.callbacks.dial(asker(who), asked.path["id"], own_agent(who)),
        )
    except CallbackUnknown as error:
        raise Problem(404, str(error)) from error
    return json_answer(call_json(done.call), 202)


def _given(body: Mapping[str, Any]) -> dict[str, Any]:
    given = {
        name: body[name] for name in ("owner", "groups", "state", "note", "call", "anyway") if name in body
    }
    if "due" in body:
        given["due"] = None if body["due"] is None else moment(body["due"])
    return given


def _shown(services: Services, callback: CallbackRecord) -> dict[str, Any]:
    return {**callback_json(callback), "display": services.numbers.display(callback.number)}


def _with_etag(callback: Mapping[str, Any], status: int) -> Answer:
    return Answer(orjson.dumps(callback), status, etag=callback["etag"])


_CHANGEABLE: Final[Mapping[str, Schema]] = {
    "owner": {**TEXT, "type": ["string", "null"], "description": "null: whoever may take it"},
    "note": {"type": ["string", "null"], "maxLength": MAX_NOTE},
    "due": {**maybe(TIME), "description": "when it is to be made, by itself; null: by nobody but people"},
    "anyway": {
        "type": "boolean",
        "description": "at that time whatever the hour is at the customer's, or up to an hour later",
    },
}
_CALLBACK: Final = record(
    {
        "id": STRING,
        "created": TIME,
        "number": STRING,
        "display": {**STRING, "description": "the number as people write it where this server stands"},
        "state": {"type": "string", "enum": list(STATES)},
        "service": maybe(STRING),
        "owner": maybe(STRING),
        "groups": {**listed(STRING), "description": "whose members may take it while it has no owner"},
        "note": maybe(STRING),
        "due": {**maybe(TIME), "description": "when it was planned for"},
        "next": {
            **maybe(TIME),
            "description": "when it is made by itself; null: it is not, or is being made",
        },
        "anyway": {"type": "boolean", "description": "whatever the hour is at the customer's"},
        "calling": {"type": ["string", "null"], "description": "the call in which they are being called now"},
        "failed_tries": {"type": "integer", "description": "how often we have called them in vain"},
        "given_up": {**maybe(TIME), "description": "since when it is left to people, after so many tries"},
        "in_line": {
            "type": "boolean",
            "description": "the caller keeps a place in a line, and is called when it is their turn",
        },
        "why": {
            "type": ["string", "null"],
            "enum": [*WHY_NOT_MADE, None],
            "description": "why the last try came to nothing",
        },
        "call": {
            "type": ["string", "null"],
            "description": "the call that was missed last, or that it is about",
        },
        "party": {"type": ["object", "null"]},
        "tries": {"type": "integer", "description": "how often they have tried to reach us"},
        "changed": TIME,
        "made_by": {"type": ["string", "null"], "description": "who planned it; null: it was missed"},
        "done_by": {"type": ["string", "null"], "description": "the call in which they were reached"},
        "etag": STRING,
    }
)

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET",
        "/api/v1/callbacks",
        callbacks,
        "Missed calls and planned ones, newest first",
        "An agent gets their own, and those of nobody that they were offered or that are their groups'.",
        roles=_EVERYBODY,
        audited=True,
        query=(
            Parameter("state", {"type": "string", "enum": list(STATES), "default": STATES[0]}, "which"),
            Parameter("owner", TEXT, "an agent's id, `me`, or `none`"),
            limit(200),
            CURSOR,
        ),
        answers=("application/json", record({"callbacks": listed(_CALLBACK), "next": maybe(STRING)})),
        problems={422: "something in the request is not as described here"},
    ),
    Route(
        "POST",
        "/api/v1/callbacks",
        plan,
        "Plan a call",
        "`owner` is who has to make it, the token's own agent if left out. `call`: which call it is about. At `due`"
        " the owner's phone rings, and then the customer's; `next` says when that will be, which is later where the"
        " hour is unkind there. With `owner` null, it is made by whoever of `groups` is idle for longest.",
        roles=_EVERYBODY,
        body={
            "type": "object",
            "additionalProperties": False,
            "required": ["number"],
            "properties": {
                "number": NUMBER,
                **_CHANGEABLE,
                "call": maybe(TEXT),
                "groups": {
                    "type": "array",
                    "items": TEXT,
                    "maxItems": MAX_GROUPS,
                    "description": "who may make it if nobody owns it; those of the token's own agent if left out",
                },
            },
            "examples": [
                {"number": "+49 152 28817386", "note": "wants an offer", "due": "2026-03-02T09:00:00Z"},
                {
                    "number": "+49 152 28817386",
                    "owner": None,
                    "groups": ["sales"],
                    "due": "2026-03-02T09:00:00Z",
                },
            ],
        },
        answers=("application/json", _CALLBACK),
        status=201,
        problems={422: "no telephone number, no such owner, group or call, or nobody to make it"},
        idempotent=True,
    ),
    Route(
        "PATCH",
        "/api/v1/callbacks/{id}",
        change,
        "Take a callback, give it away, plan it, write a note, close it",
        "With `If-Match`, the `etag` of what one has seen; 412 has the `callback` as it is. With another `due`, the"
        " tries are counted anew.",
        roles=_EVERYBODY,
        body={
            "type": "object",
            "additionalProperties": False,
            "properties": {**_CHANGEABLE, "state": {"type": "string", "enum": list(STATES)}},
            "examples": [{"note": "not before noon"}],
        },
        answers=("application/json", _CALLBACK),
        problems={
            404: "no such callback, or none of theirs",
            422: "no such owner",
        },
        etag=True,
    ),
    Route(
        "POST",
        "/api/v1/callbacks/{id}/dial",
        dial,
        "Take a callback and call: the agent's own phone rings first",
        "It closes by itself once they are reached.",
        roles=_STAFF,
        answers=("application/json", named("Call")),
        status=202,
        seconds=20.0,
        problems={**WHY, 429: "too many calls in a minute"},
        idempotent=True,
    ),
)
