"""The part of the API about what is told to others: its rows of the route table, and their answers."""

from typing import Any, Final

from cti.calls.deliveries import STATES, delivery_json, detail_json
from cti.calls.notifications import NoSuchDestination
from cti.calls.present import moment
from cti.event_types import EVENT_TYPES
from cti.store.base import OutboxFilter
from cti.web.pages import CURSOR, limit, not_given_out
from cti.web.problems import Problem
from cti.web.routing_table import Answer, Asked, Parameter, Route, json_answer
from cti.web.schema import Schema
from cti.web.services import Services
from cti.web.shapes import STRING, TEXT, TIME, closed, listed, maybe, record
from cti.web.tokens import ADMIN

_ADMINS: Final = frozenset({ADMIN})
_MOST_IDS: Final = 500


async def deliveries(services: Services, asked: Asked) -> Answer:
    query = asked.query
    try:
        page, following = await services.deliveries.page(_filter(query), query["limit"], query.get("cursor"))
    except ValueError as error:
        raise not_given_out(error) from error
    return json_answer({"deliveries": [delivery_json(each) for each in page], "next": following})


async def delivery(services: Services, asked: Asked) -> Answer:
    id = asked.path["id"]
    detail = (
        await services.deliveries.one(int(id)) if id.isascii() and id.isdecimal() and len(id) < 19 else None
    )
    if detail is None:
        raise Problem(404, "there is no such delivery; GET /api/v1/outbox lists them")
    return json_answer(detail_json(detail))


async def destinations(services: Services, _asked: Asked) -> Answer:
    return json_answer({"destinations": await services.deliveries.destinations()})


async def retry(services: Services, asked: Asked) -> Answer:
    return await _decided(services, asked, "retry")


async def drop(services: Services, asked: Asked) -> Answer:
    return await _decided(services, asked, "drop")


async def try_now(services: Services, asked: Asked) -> Answer:
    try:
        trial = await services.try_destination(asked.path["name"])
    except NoSuchDestination as error:
        raise Problem(404, str(error)) from error
    return json_answer(
        {
            "ok": trial.error is None,
            "status": trial.status,
            "ms": round(trial.seconds * 1000),
            "error": trial.error,
        }
    )


async def _decided(services: Services, asked: Asked, decision: str) -> Answer:
    body = asked.body
    if "ids" not in body and "destination" not in body and "call" not in body:
        raise Problem(422, "body: ids, destination or call; which deliveries are meant?")
    where = _filter(body if "ids" in body else {"state": "dead", **body})
    changed, more = await services.deliveries.decide(decision, where)
    return json_answer({"changed": changed, "more": more})


def _filter(given: Any) -> OutboxFilter:
    return OutboxFilter(
        destination=given.get("destination"),
        state=given.get("state"),
        call=given.get("call"),
        type=given.get("type"),
        since=None if "since" not in given else moment(given["since"]),
        until=None if "until" not in given else moment(given["until"]),
        ids=given.get("ids"),
    )


_WHOLE: Final[Schema] = {"type": "integer"}
_STATE: Final[Schema] = {"type": "string", "enum": list(STATES)}
_TYPE: Final[Schema] = {"type": "string", "enum": list(EVENT_TYPES)}
_DELIVERY: Final = {
    "id": _WHOLE,
    "destination": STRING,
    "seq": {"type": "integer", "description": "the event's number in the stream"},
    "call": maybe(STRING),
    "type": STRING,
    "key": {**STRING, "description": "the idempotency key, the same at each attempt"},
    "state": {**_STATE, "description": "dead: given up by its age; dropped: by somebody"},
    "created": TIME,
    "attempts": _WHOLE,
    "due": {
        **maybe(TIME),
        "description": "when it may be tried; null: over, or behind another one of its call",
    },
    "finished": maybe(TIME),
    "error": maybe(STRING),
}
_ATTEMPT: Final = {
    "number": _WHOLE,
    "at": TIME,
    "ms": {"type": "integer", "description": "how long it took"},
    "status": {"type": ["integer", "null"], "description": "what a web server answered"},
    "error": {"type": ["string", "null"], "description": "null: it was taken"},
}
_DESTINATION: Final = {
    "name": {**STRING, "description": "a webhook's, `notify:NAME`, or `crm:ADAPTER` for the journal"},
    "configured": {
        "type": "boolean",
        "description": "false: what waits for it stays until somebody drops it",
    },
    "waiting": _WHOLE,
    "oldest_seconds": {"type": ["number", "null"], "description": "age of the oldest that waits"},
    "dead": _WHOLE,
    "failures": {"type": "integer", "description": "failed attempts in a row"},
    "error": {"type": ["string", "null"], "description": "of the last of them"},
    "next_attempt": maybe(TIME),
}
_CHOICE: Final = closed(
    {
        "ids": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1},
            "minItems": 1,
            "maxItems": _MOST_IDS,
        },
        "destination": TEXT,
        "call": TEXT,
        "type": _TYPE,
        "state": _STATE,
        "since": TIME,
        "until": TIME,
    }
) | {"examples": [{"destination": "crm"}]}
_CHANGED: Final = record(
    {
        "changed": _WHOLE,
        "more": {"type": "boolean", "description": "there are more than one request changes: send it again"},
    }
)
_WHICH: Final = (
    "By `ids`, or by `destination` or `call`, with `type`, `since` and `until`; then of those in one `state`, `dead`"
    " if it is left out."
)

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET",
        "/api/v1/outbox",
        deliveries,
        "What is on its way to CRMs and webhooks, and what became of it, newest first",
        roles=_ADMINS,
        query=(
            Parameter("destination", TEXT, "a webhook's name, `notify:NAME` or `crm:ADAPTER`"),
            Parameter("state", _STATE, "which"),
            Parameter("call", TEXT, "of this call"),
            Parameter("type", _TYPE, "events of this type"),
            Parameter("since", TIME, "made then or later"),
            Parameter("until", TIME, "made before"),
            limit(500),
            CURSOR,
        ),
        answers=(
            "application/json",
            record({"deliveries": listed(record(_DELIVERY)), "next": maybe(STRING)}),
        ),
        problems={422: "something in the request is not as described here"},
    ),
    Route(
        "GET",
        "/api/v1/outbox/destinations",
        destinations,
        "To whom something is told, and how each takes it",
        roles=_ADMINS,
        answers=("application/json", record({"destinations": listed(record(_DESTINATION))})),
    ),
    Route(
        "GET",
        "/api/v1/outbox/{id}",
        delivery,
        "One delivery with its event and the log of its latest attempts",
        roles=_ADMINS,
        audited=True,
        answers=(
            "application/json",
            record({**_DELIVERY, "event": {"type": "object"}, "log": listed(record(_ATTEMPT))}),
        ),
        problems={404: "no such delivery"},
    ),
    Route(
        "POST",
        "/api/v1/outbox/retry",
        retry,
        "Have deliveries tried again, those that were given up above all",
        _WHICH + " They come with the key that they had, before what came after them in their call.",
        roles=_ADMINS,
        body=_CHOICE,
        answers=("application/json", _CHANGED),
        problems={422: "nothing says which are meant"},
    ),
    Route(
        "POST",
        "/api/v1/outbox/drop",
        drop,
        "Give deliveries up for good: those that wait, or are dead",
        _WHICH + " They stay in the log as `dropped`.",
        roles=_ADMINS,
        body=_CHOICE,
        answers=("application/json", _CHANGED),
        problems={422: "nothing says which are meant"},
    ),
    Route(
        "POST",
        "/api/v1/webhooks/{name}/test",
        try_now,
        "Try a webhook, or `notify:NAME`, now",
        "A webhook is sent a signed event of the type `webhook.test`; of `notify`, the first address is opened for a"
        " call that never was, with the call id `0-sample`.",
        roles=_ADMINS,
        answers=(
            "application/json",
            record(
                {
                    "ok": {"type": "boolean"},
                    "status": {"type": ["integer", "null"]},
                    "ms": _WHOLE,
                    "error": maybe(STRING),
                }
            ),
        ),
        seconds=20.0,
        problems={404: "no such webhook"},
    ),
)
