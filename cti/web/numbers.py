"""The part of the API about numbers: those in other systems' forms, and the lists of blocked and ignored ones."""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from cti.calls.present import iso, number_json
from cti.calls.turned_away import NotListed
from cti.identify.lists import BLOCKED, IGNORED, LISTS
from cti.numbers import INPUT_LIMIT, NumberKind
from cti.store.records import ListedNumber
from cti.web.problems import Problem
from cti.web.routing_table import Answer, Asked, Handler, Route, json_answer
from cti.web.services import Services
from cti.web.shapes import STRING, TEXT, TIME, closed, listed, maybe, record
from cti.web.tokens import ADMIN, AGENT, CRM, SUPERVISOR

#: Some 50 µs each, which calls have to wait for.
MAX_NUMBERS: Final = 200


async def normalise(services: Services, asked: Asked) -> Answer:
    region = asked.body.get("region")
    try:
        plan = services.numbers if region is None else services.numbers.for_region(region)
    except ValueError as error:
        raise Problem(422, f"body.region: {error}") from error
    return Answer(
        orjson.dumps({"numbers": [number_json(written, plan) for written in asked.body["numbers"]]})
    )


def _list(name: str) -> Handler:
    async def show(services: Services, _asked: Asked) -> Answer:
        configured, kept = services.turned_away.listed(name)
        return json_answer({"configured": list(configured), "numbers": [_listed_json(each) for each in kept]})

    return show


def _add(name: str) -> Handler:
    async def add(services: Services, asked: Asked) -> Answer:
        pattern = _pattern(services, asked.body["number"])
        note = asked.body.get("note") or None
        try:
            added = await services.turned_away.add(name, pattern, asked.identity.name, note)
        except NotListed as error:
            raise Problem(422, f"body.number: {error}") from error
        return json_answer(_listed_json(added))

    return add


def _remove(name: str) -> Handler:
    async def remove(services: Services, asked: Asked) -> Answer:
        try:
            await services.turned_away.remove(name, _pattern(services, asked.path["number"]))
        except NotListed as error:
            raise Problem(404, f"{error}; GET /api/v1/numbers/{name} lists them") from error
        return Answer(b"", 204)

    return remove


def _pattern(services: Services, written: str) -> str:
    """A number as people write it becomes its key; a prefix has to stand as it is."""
    number = services.numbers.parse(written)
    return number.e164 if number.kind is NumberKind.E164 and number.e164 is not None else written.strip()


def _listed_json(each: ListedNumber) -> dict[str, Any]:
    return {"number": each.pattern, "added": iso(each.added), "by": each.made_by, "note": each.note}


_CHIEFS: Final = frozenset({SUPERVISOR, ADMIN})
_LISTED: Final = record({"number": STRING, "added": TIME, "by": STRING, "note": maybe(STRING)})
_WHAT_FOR: Final = {
    BLOCKED: "Their calls are rejected",
    IGNORED: "Their calls are carried like any, and nobody looks in a CRM who they are",
}


def _routes_of(name: str) -> Sequence[Route]:
    path = f"/api/v1/numbers/{name}"
    return (
        Route(
            "GET",
            path,
            _list(name),
            f"The list of {name} numbers",
            f"{_WHAT_FOR[name]}. `configured` are those of the configuration, `numbers` those added here; of both,"
            " one that ends in `*` stands for all that begin so.",
            roles=_CHIEFS,
            audited=True,
            answers=("application/json", record({"configured": listed(STRING), "numbers": listed(_LISTED)})),
        ),
        Route(
            "POST",
            path,
            _add(name),
            f"Put a number onto the list of {name} numbers",
            "A number as people write it, or the beginning of numbers in E.164 with a `*` behind, at least four"
            " digits. One that is there already gets the new note.",
            roles=_CHIEFS,
            body=closed(
                {"number": {**STRING, "maxLength": INPUT_LIMIT, "minLength": 1}, "note": TEXT}, "number"
            )
            | {"examples": [{"number": "+49900*", "note": "premium numbers"}]},
            answers=("application/json", _LISTED),
            problems={422: "no number, and no beginning of numbers"},
        ),
        Route(
            "DELETE",
            f"{path}/{{number}}",
            _remove(name),
            f"Take a number off the list of {name} numbers",
            roles=_CHIEFS,
            status=204,
            problems={404: "not on the list, or on that of the configuration"},
        ),
    )


ROUTES: Final[tuple[Route, ...]] = (
    *(route for name in LISTS for route in _routes_of(name)),
    Route(
        "POST",
        "/api/v1/numbers/normalise",
        normalise,
        "What numbers are, as people write them, in the same order",
        "For forms of other systems that format a number while it is typed, and for what they keep. `region` is the"
        " country whose national forms they are, without it the configured one. What is no public number has an"
        " `error` in place of `e164`; an internal number is among these, and has a `display` form.",
        roles=frozenset({AGENT, SUPERVISOR, ADMIN, CRM}),
        body={
            "type": "object",
            "required": ["numbers"],
            "additionalProperties": False,
            "properties": {
                "region": {"type": "string", "minLength": 2, "maxLength": 2},
                "numbers": {
                    "type": "array",
                    "maxItems": MAX_NUMBERS,
                    "items": {"type": "string", "maxLength": INPUT_LIMIT},
                },
            },
        },
        answers=(
            "application/json",
            record(
                {
                    "numbers": listed(
                        record(
                            {
                                "raw": STRING,
                                "e164": maybe(STRING),
                                "display": maybe(STRING),
                                "error": maybe(STRING),
                            }
                        )
                    )
                }
            ),
        ),
        problems={422: "something in the request is not as described here, or no such region"},
    ),
)
