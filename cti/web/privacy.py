"""The part of the API about what is kept of people: one erased, or shown; and the old removed."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from cti.calls.present import iso
from cti.numbers import INPUT_LIMIT, NumberKind
from cti.privacy.traces import Subject
from cti.store.records import ErasureRecord
from cti.web.problems import Problem
from cti.web.routing_table import Answer, Asked, Route, json_answer
from cti.web.schema import Schema
from cti.web.services import Services
from cti.web.shapes import STRING, TEXT, TIME, closed, listed, maybe, record
from cti.web.tokens import ADMIN

_ADMIN: Final = frozenset({ADMIN})
_AT_ONCE: Final = 100
#: What an answer may take; more is for `cti export`, which writes as it reads.
_ANSWER_BYTES: Final = 32 * 1024 * 1024
_LONG_SECONDS: Final = 600.0


async def erase(services: Services, asked: Asked) -> Answer:
    body = asked.body
    erasure = await services.privacy.erasures.ask(_subject(services, body), body.get("directory", False))
    return json_answer(_shown(erasure), 202)


async def erasures(services: Services, _asked: Asked) -> Answer:
    found = await services.privacy.store.read(lambda reader: reader.all_erasures(_AT_ONCE))
    return json_answer({"erasures": [_shown(each) for each in found]})


async def erasure(services: Services, asked: Asked) -> Answer:
    found = await services.privacy.store.read(lambda reader: reader.erasure(asked.path["id"]))
    if found is None:
        raise Problem(404, "nobody was erased under this id; GET /api/v1/erasures lists who was")
    return json_answer(_shown(found))


async def export(services: Services, asked: Asked) -> Answer:
    records, size = [], 0
    async for kind, kept in services.privacy.gathered(_subject(services, asked.body)):
        records.append(orjson.dumps({"kind": kind, **kept}))
        size += len(records[-1])
        if size > _ANSWER_BYTES:
            raise Problem(
                422, "more is kept of them than fits into one answer; `cti export` writes all of it"
            )
    return Answer(b'{"records":[' + b",".join(records) + b"]}")


async def purge(services: Services, asked: Asked) -> Answer:
    dry = asked.body.get("dry_run", False)
    return json_answer({"removed": dict(await services.privacy.purge(dry)), "dry_run": dry})


def _subject(services: Services, body: Mapping[str, Any]) -> Subject:
    numbers = set()
    for written in body.get("numbers", ()):
        number = services.numbers.parse(written)
        if number.kind is not NumberKind.E164 or number.e164 is None:
            raise Problem(422, "numbers: one is no public telephone number", kind="not-a-number")
        numbers.add(number.e164)
    parties = frozenset((each["adapter"], each["id"]) for each in body.get("parties", ()))
    if not numbers and not parties:
        raise Problem(422, "body: numbers or parties; there is nobody to look for")
    return Subject(frozenset(numbers), parties, frozenset(body.get("names", ())))


def _shown(erasure: ErasureRecord) -> dict[str, Any]:
    """Never whom it is about: who asked knows, and nobody else is to."""
    return {
        "id": erasure.id,
        "asked": iso(erasure.asked),
        "state": erasure.state,
        "done": None if erasure.done is None else iso(erasure.done),
        "report": None if erasure.report is None else dict(erasure.report),
    }


_WHOM: Final[Mapping[str, Schema]] = {
    "numbers": {
        "type": "array",
        "maxItems": 50,
        "items": {"type": "string", "minLength": 1, "maxLength": INPUT_LIMIT},
    },
    "parties": {
        "type": "array",
        "maxItems": 50,
        "items": closed({"adapter": TEXT, "id": TEXT}, "adapter", "id"),
    },
    "names": {"type": "array", "maxItems": 50, "items": TEXT},
}
_EXAMPLES: Final = {
    "examples": [{"numbers": ["+4917139200007"], "parties": [{"adapter": "directory", "id": "k-7"}]}]
}
_ERASURE: Final = record(
    {
        "id": STRING,
        "asked": TIME,
        "state": {"type": "string", "enum": ["asked", "waiting", "done"]},
        "done": maybe(TIME),
        "report": {
            "type": ["object", "null"],
            "description": "`erased`: rows and files by kind. `delivered`: how often which destination was told of"
            " them, `records`: what CRMs have of their calls; there they are to be erased as well. `waits`: calls of"
            " theirs that go on. `left`: where they still show",
        },
    }
)
_NOBODY: Final = {422: "something in the request is not as described here, or names nobody"}

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "POST",
        "/api/v1/erasures",
        erase,
        "Take a person out of everything that is kept",
        "Their numbers as people write them, who they are in CRMs, and what else they are called. The log keeps that"
        " there were calls, and nothing of who made them. With `directory`, out of the embedded directories as well."
        " It goes on behind the answer; calls of theirs that are not over are erased when they are.",
        roles=_ADMIN,
        audited=True,
        body=closed({**_WHOM, "directory": {"type": "boolean"}}) | _EXAMPLES,
        status=202,
        answers=("application/json", _ERASURE),
        problems=_NOBODY,
    ),
    Route(
        "GET",
        "/api/v1/erasures",
        erasures,
        "The newest erasures, without whom they were about",
        roles=_ADMIN,
        answers=("application/json", record({"erasures": listed(_ERASURE)})),
    ),
    Route(
        "GET",
        "/api/v1/erasures/{id}",
        erasure,
        "How far an erasure is, and what came of it",
        roles=_ADMIN,
        answers=("application/json", _ERASURE),
        problems={404: "no such erasure"},
    ),
    Route(
        "POST",
        "/api/v1/export",
        export,
        "Everything that is kept of a person",
        "Calls with all that belongs to them, and everything else that is about them, each with its `kind`.",
        roles=_ADMIN,
        audited=True,
        seconds=_LONG_SECONDS,
        body=closed(_WHOM) | _EXAMPLES,
        answers=("application/json", record({"records": listed({"type": "object"})})),
        problems=_NOBODY,
    ),
    Route(
        "POST",
        "/api/v1/purge",
        purge,
        "Remove what is older than the configuration keeps it, now",
        "What the server does by itself once a day; with `dry_run` it only counts.",
        roles=_ADMIN,
        audited=True,
        seconds=_LONG_SECONDS,
        body=closed({"dry_run": {"type": "boolean"}}) | {"examples": [{"dry_run": True}]},
        answers=("application/json", record({"removed": {"type": "object"}, "dry_run": {"type": "boolean"}})),
    ),
)
