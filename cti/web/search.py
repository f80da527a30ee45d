"""Who is it: the part of the API that finds parties, by number, key or words, and shows one of them.

Each of these looks into a CRM about somebody: it is written down who asked, and nobody may ask without a pause.
"""

from collections.abc import Mapping
from math import ceil
from typing import Any, Final

from cti.calls.card import with_links
from cti.calls.finder import MAX_KEY, MAX_WORDS, NotAsked, UnknownKey, key_json
from cti.numbers import NumberKind
from cti.web.problems import Problem
from cti.web.routing_table import Answer, Asked, Parameter, Route, json_answer
from cti.web.services import Services
from cti.web.shapes import NUMBER, STRING, TEXT, closed, listed, named, record
from cti.web.tokens import ADMIN, AGENT, CRM, SUPERVISOR

#: Parties that one search answers with at most, and by itself.
MOST_FOUND: Final = 50
USUALLY_FOUND: Final = 20
#: What a list of parties has of each; the rest is on their card.
_BRIEF: Final = (
    "adapter",
    "type",
    "id",
    "name",
    "company",
    "url",
    "owner",
    "owner_user",
    "match",
    "tier",
    "language",
    "tags",
)


async def identify(services: Services, asked: Asked) -> Answer:
    query = asked.query
    by_number = "number" in query and not ("key" in query or "value" in query)
    if not by_number and not ("key" in query and "value" in query and "number" not in query):
        raise Problem(422, "either number, or key and value, would be right")
    if not by_number:
        kind = services.desktop.finder.kinds.get(query["key"])
        if kind is not None and kind.sensitive:
            raise Problem(
                422,
                f"a {kind.name} must stand in no address, which logs keep; POST /api/v1/identify with key and value"
                " in its body would be right",
                kind="sensitive-key",
            )
        return await _by_key(services, asked, query)
    number = services.numbers.parse(query["number"])
    if number.kind not in (NumberKind.E164, NumberKind.INTERNAL):
        raise not_a_number()
    return json_answer((await services.identifier.identify(number)).as_json())


async def identify_by_key(services: Services, asked: Asked) -> Answer:
    return await _by_key(services, asked, asked.body)


async def _by_key(services: Services, asked: Asked, given: Mapping[str, Any]) -> Answer:
    _spend(services, asked)
    key = given["key"]
    try:
        found = await services.desktop.finder.by_key(
            key, given["value"].strip(), services.numbers.parse(None)
        )
    except UnknownKey as error:
        raise Problem(422, f"key: {error}") from error
    except ValueError as error:
        raise Problem(422, f"value: {error}") from error
    return json_answer(key_json(key, found))


async def search(services: Services, asked: Asked) -> Answer:
    words, limit = asked.query["q"].strip(), asked.query["limit"]
    if len(words) < 2:
        raise Problem(422, "q: two characters or more would be right")
    _spend(services, asked)
    finder = services.desktop.finder
    found = await finder.search(words, services.numbers.parse(words), limit)
    return json_answer(
        {
            "parties": [{name: finder.party_json(party)[name] for name in _BRIEF} for party in found.parties],
            "adapters": [reply.as_json() for reply in found.replies],
            "complete": found.complete,
        }
    )


async def card(services: Services, asked: Asked) -> Answer:
    query = asked.query
    _spend(services, asked)
    try:
        party = await services.desktop.finder.confirmed(query["adapter"], query["type"], query["id"])
    except ValueError as error:
        raise Problem(422, str(error)) from error
    except NotAsked as error:
        raise Problem(502, f"the CRM did not say: {error}", kind="adapter-failed") from error
    if party is None:
        raise Problem(404, "no adapter knows this party, or nobody has found them lately")
    return json_answer(with_links(party, services.options.links(), None, None))


def not_a_number() -> Problem:
    return Problem(
        422,
        "number: this is no telephone number; one is written like +4915228817386 (in a URL %2B for +),"
        " 0152 28817386, or 200 for an internal one",
        kind="not-a-number",
    )


def _spend(services: Services, asked: Asked) -> None:
    wait = services.searches.take(asked.identity.token)
    if wait > 0:
        seconds = str(max(1, ceil(wait)))
        raise Problem(
            429,
            f"too many look-ups; the next is answered in {seconds} s",
            kind="too-many-requests",
            headers={"Retry-After": seconds},
        )


_EVERYBODY: Final = frozenset({AGENT, SUPERVISOR, ADMIN, CRM})
_KEY: Final = {**TEXT, "maxLength": 64, "examples": ["customer"]}
_VALUE: Final = {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "examples": ["4711"]}
_TOO_MANY: Final = "too many look-ups in a minute; `Retry-After`"

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET",
        "/api/v1/identify",
        identify,
        "Who has this number, or this key",
        "By `number`, or by `key` (the kind, such as `customer`) and `value`. Nobody found is 200 with no parties. An"
        " adapter that failed is among `adapters`, not an error.",
        roles=_EVERYBODY,
        audited=True,
        unwritten=frozenset({"value"}),
        query=(
            Parameter("number", NUMBER, "as people write it"),
            Parameter("key", _KEY, "a kind of key; `keys` of `/api/v1/desk` lists those that there are"),
            Parameter("value", _VALUE, "the key itself, compared whole"),
        ),
        answers=("application/json", named("Identification")),
        problems={422: "not a telephone number, no such kind of key, or a sensitive one", 429: _TOO_MANY},
    ),
    Route(
        "POST",
        "/api/v1/identify",
        identify_by_key,
        "Who has this key, which stands in no address and no log",
        "The same as with `key` and `value` in the address, for keys of all kinds.",
        roles=_EVERYBODY,
        scope="read",
        audited=True,
        body=closed({"key": _KEY, "value": _VALUE}, "key", "value")
        | {"examples": [{"key": "customer", "value": "4711"}]},
        answers=("application/json", named("Identification")),
        problems={422: "no such kind of key, or no key", 429: _TOO_MANY},
    ),
    Route(
        "GET",
        "/api/v1/search",
        search,
        "Parties by words, number or key, in all CRMs at once",
        "`q` is looked for as words, as a telephone number in any form, and as a key of each kind that is not"
        " sensitive; keys first, words last. `complete` is false where an adapter failed, or more were found. The"
        " whole of one is `/api/v1/card`.",
        roles=_EVERYBODY,
        audited=True,
        query=(
            Parameter(
                "q",
                {"type": "string", "minLength": 1, "maxLength": MAX_WORDS, "examples": ["Brandt"]},
                "what is known of them",
                required=True,
            ),
            Parameter(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": MOST_FOUND, "default": USUALLY_FOUND},
                "how many at most",
            ),
        ),
        answers=(
            "application/json",
            record(
                {
                    "parties": listed(named("Party")),
                    "adapters": listed(
                        {
                            "type": "object",
                            "required": ["adapter", "by", "outcome", "ms"],
                            "properties": {
                                "adapter": STRING,
                                "by": {
                                    "type": "string",
                                    "description": "`words`, `number`, `key:KIND`",
                                },
                                "outcome": STRING,
                                "ms": {"type": "number"},
                                "error": STRING,
                            },
                        }
                    ),
                    "complete": {"type": "boolean"},
                }
            ),
        ),
        problems={422: "too short", 429: _TOO_MANY},
    ),
    Route(
        "GET",
        "/api/v1/card",
        card,
        "All that is known of one party, asked of their CRM now",
        "Where the adapter cannot say more of somebody, what a search has found of them in the last ten minutes.",
        roles=_EVERYBODY,
        audited=True,
        query=tuple(
            Parameter(name, {**TEXT, "examples": [example]}, "as in what a search answers", required=True)
            for name, example in (("adapter", "directory"), ("type", "contact"), ("id", "17"))
        ),
        answers=("application/json", named("Party")),
        problems={
            404: "nobody knows them",
            422: "no such type of party",
            429: _TOO_MANY,
            502: "the CRM did not say",
        },
    ),
)
