"""The part of the API about the embedded directory: its parties, and their cases, appointments, tasks and notes.

Its rows of the route table, and their answers. How the directory keeps them is told in `adapters.directory_file`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import orjson
from attrs import evolve

from adapters.base import Party, PartyType
from adapters.directory import DirectoryAdapter
from adapters.directory_file import (
    NUMBERS_LIMIT,
    Directory,
    DirectoryError,
    Entry,
    EntryRefused,
    PartyKey,
    PartyUnknown,
    new_id,
)
from adapters.directory_records import RECORDS, Record
from adapters.party import ID_LIMIT, NAME_LIMIT, NOTES_LIMIT, TAGS_LIMIT, URL_LIMIT, WORD_LIMIT
from cti.calls.present import moment
from cti.web.etags import ANY, changed
from cti.web.pages import CURSOR, limit, not_given_out
from cti.web.problems import Problem
from cti.web.routing_table import Answer, Asked, Handler, Parameter, Route, json_answer
from cti.web.schema import Schema
from cti.web.services import Services
from cti.web.shapes import NUMBER, STRING, TEXT, TIME, closed, listed, maybe, record
from cti.web.tokens import ADMIN, AGENT, CRM, SUPERVISOR

_T = TypeVar("_T")

_WRITERS: Final = frozenset({SUPERVISOR, ADMIN, CRM})
_EVERYBODY: Final = frozenset({AGENT, SUPERVISOR, ADMIN, CRM})
_PARTIES: Final = "/api/v1/directory/parties"
_PARTY: Final = f"{_PARTIES}/{{id}}"


# Parties.


async def parties(services: Services, asked: Asked) -> Answer:
    adapter, query = _adapter(services, asked), asked.query
    after = query.get("cursor", "0")
    if not (after.isascii() and after.isdecimal() and len(after) < 19):
        raise not_given_out(ValueError("this is none of ours"))

    def page(directory: Directory) -> tuple[list[Entry], int | None]:
        if "search" not in query:
            return directory.page(int(after), query["limit"])
        found = (directory.get(party.id) for party in directory.search(query["search"], query["limit"]))
        return [entry for entry in found if entry is not None], None

    entries, following = await _carried_out(adapter, page)
    return json_answer(
        {
            "parties": [_entry_json(services, adapter, entry) for entry in entries],
            "next": None if following is None else str(following),
        }
    )


async def party(services: Services, asked: Asked) -> Answer:
    adapter = _adapter(services, asked)
    return await _carried_out(
        adapter, lambda directory: _shown(services, adapter, directory, asked.path["id"])
    )


async def add(services: Services, asked: Asked) -> Answer:
    adapter, body = _adapter(services, asked), asked.body
    with _checked():
        party = Party(adapter.name, PartyType.CONTACT, body.get("id") or new_id())

    def put(directory: Directory) -> None:
        if directory.get(party.id) is not None:
            raise Problem(409, "there is a party with this id already; PATCH changes it", kind="exists")
        directory.put(_with(adapter, Entry(party), body))

    return await _changed(services, adapter, party.id, put, 201)


async def change(services: Services, asked: Asked) -> Answer:
    adapter, party_id = _adapter(services, asked), asked.path["id"]

    def put(directory: Directory) -> None:
        entry = directory.get(party_id)
        if entry is None:
            raise PartyUnknown
        directory.put(_with(adapter, entry, asked.body))

    return await _changed(services, adapter, party_id, put, if_match=asked)


async def remove(services: Services, asked: Asked) -> Answer:
    adapter, party_id = _adapter(services, asked), asked.path["id"]

    def done(directory: Directory) -> None:
        with directory.writing():
            _see_that_it_is(services, adapter, directory, party_id, asked)
            directory.remove(party_id)

    await _carried_out(adapter, done)
    return Answer(b"", 204)


# What belongs to them.


def _adder(kind: str) -> Handler:
    async def add_record(services: Services, asked: Asked) -> Answer:
        adapter, body, party_id = _adapter(services, asked), dict(asked.body), asked.path["id"]
        if kind == "notes":
            if asked.identity.role == AGENT and body.get("user") is not None:
                raise Problem(403, "whose CRM user an agent is says the roster; leave user out")
            body.setdefault("at", datetime.fromtimestamp(services.clock.seconds(), UTC).isoformat())
        with _checked():
            made = _record(kind, {**body, "id": body.get("id") or new_id()})

        def put(directory: Directory) -> None:
            directory.put_record(party_id, kind, made)

        return await _changed(services, adapter, party_id, put, 201)

    return add_record


def _changer(kind: str) -> Handler:
    async def change_record(services: Services, asked: Asked) -> Answer:
        adapter, party_id = _adapter(services, asked), asked.path["id"]

        def put(directory: Directory) -> None:
            known = directory.record(party_id, kind, asked.path["record"]).as_json()
            directory.put_record(party_id, kind, _record(kind, {**known, **asked.body}))

        return await _changed(services, adapter, party_id, put, if_match=asked)

    return change_record


def _remover(kind: str) -> Handler:
    async def remove_record(services: Services, asked: Asked) -> Answer:
        adapter, party_id = _adapter(services, asked), asked.path["id"]

        def done(directory: Directory) -> None:
            directory.remove_record(party_id, kind, asked.path["record"])

        return await _changed(services, adapter, party_id, done, if_match=asked)

    return remove_record


# How it is done.


def _adapter(services: Services, asked: Asked) -> DirectoryAdapter:
    """The directory that is meant. Raises `Problem`."""
    able, name = services.directories(), asked.query.get("adapter")
    if not able:
        raise Problem(
            404, "there is no embedded directory here; `adapters: {directory: {kind: directory}}` is one"
        )
    if name is None and len(able) > 1:
        raise Problem(422, f"adapter: which directory is meant? There are {', '.join(able)}")
    if name is not None and name not in able:
        raise Problem(422, f"adapter: there is no directory of this name; there are {', '.join(able)}")
    return able[name] if name is not None else next(iter(able.values()))


async def _carried_out(adapter: DirectoryAdapter, work: Callable[[Directory], _T]) -> _T:
    """What the work gives, which is done beside the reactor; what the directory refuses is a problem."""
    try:
        return await adapter.apart(work)
    except PartyUnknown as error:
        raise Problem(404, str(error)) from error
    except EntryRefused as error:
        raise Problem(422, f"body: {error}") from error
    except DirectoryError as error:
        raise Problem(503, "the directory cannot be written just now; try again", kind="directory") from error


async def _changed(
    services: Services,
    adapter: DirectoryAdapter,
    party_id: str,
    work: Callable[[Directory], None],
    status: int = 200,
    *,
    if_match: Asked | None = None,
) -> Answer:
    """The party after the work; `if_match`: who asked for it, and means a certain version."""

    def done(directory: Directory) -> Answer:
        with directory.writing():
            if if_match is not None:
                _see_that_it_is(services, adapter, directory, party_id, if_match)
            work(directory)
            return _shown(services, adapter, directory, party_id, status)

    return await _carried_out(adapter, done)


def _see_that_it_is(
    services: Services, adapter: DirectoryAdapter, directory: Directory, party_id: str, asked: Asked
) -> None:
    """The party is of the version that is meant. Raises `Problem` 412, or `PartyUnknown`."""
    etag = _etag(directory, party_id)
    if ANY not in asked.if_match and etag not in asked.if_match:
        current = _party_json(services, adapter, directory, party_id)
        raise changed(
            "the party was changed meanwhile; put your change into what it is now", etag, party=current
        )


def _etag(directory: Directory, party_id: str) -> str:
    version = directory.version(party_id)
    if version is None:
        raise PartyUnknown
    return f'"{version}"'


def _with(adapter: DirectoryAdapter, entry: Entry, body: Mapping[str, Any]) -> Entry:
    """The entry with what a request says of it. Raises `EntryRefused`."""
    said = {name: body[name] for name in _SHAPE_OF_PARTY if name in body}
    entry = evolve(entry, party=evolve(entry.party, **said))
    if "numbers" in body:
        numbers = (adapter.party_number(each["raw"], each.get("label")) for each in body["numbers"])
        entry = evolve(entry, numbers=tuple(numbers))
    if "keys" in body:
        known = {key.name for key in adapter.editable_keys}
        if unknown := sorted(set(body["keys"]) - known):
            raise EntryRefused(
                f"there is no key {unknown[0][:WORD_LIMIT]!r}; there are {', '.join(sorted(known))}"
            )
        kept = (key for key in entry.keys if key.kind not in body["keys"])
        given = (PartyKey(kind, value) for kind, value in body["keys"].items() if value is not None)
        entry = evolve(entry, keys=(*kept, *given))
    return entry


def _record(kind: str, given: Mapping[str, Any]) -> Record:
    """Raises `ValueError` for an id of nothing but spaces."""
    said = {name: given[name] for name in RECORDS[kind].columns if name in given}
    for name, shape in _SHAPES[kind].items():
        if shape.get("format") == "date-time" and said.get(name) is not None:
            said[name] = datetime.fromtimestamp(moment(said[name]), UTC)
    made: Record = RECORDS[kind].made(**said)
    return made


@contextmanager
def _checked() -> Iterator[None]:
    """What no schema says of an id."""
    try:
        yield
    except ValueError as error:
        raise Problem(422, f"body: {error}") from error


# How it is shown.


def _entry_json(services: Services, adapter: DirectoryAdapter, entry: Entry) -> dict[str, Any]:
    # Who reads a sensitive key could say it; it is only for looking up.
    hidden = {key.name for key in adapter.keys if key.sensitive}
    return {
        "adapter": adapter.name,
        "id": entry.party.id,
        **{name: getattr(entry.party, name) for name in _SHAPE_OF_PARTY},
        "tags": list(entry.party.tags),
        "numbers": [
            {
                "raw": number.raw,
                "e164": number.e164,
                "display": services.numbers.display(number.e164),
                "label": number.label,
            }
            for number in entry.numbers
        ],
        "keys": {key.kind: key.value for key in entry.keys if key.kind not in hidden},
    }


def _party_json(
    services: Services, adapter: DirectoryAdapter, directory: Directory, party_id: str
) -> dict[str, Any]:
    entry = directory.get(party_id)
    if entry is None:
        raise PartyUnknown
    records = {kind: [each.as_json() for each in directory.records(party_id, kind)] for kind in RECORDS}
    return {
        **_entry_json(services, adapter, entry),
        **{_SHOWN_AS.get(kind, kind): found for kind, found in records.items()},
        "last_contacts": [contact.as_json() for contact in directory.contacts(party_id)],
    }


def _shown(
    services: Services, adapter: DirectoryAdapter, directory: Directory, party_id: str, status: int = 200
) -> Answer:
    etag = _etag(directory, party_id)
    shown = {**_party_json(services, adapter, directory, party_id), "etag": etag}
    return Answer(orjson.dumps(shown), status, etag=etag)


# The rows.


def _line(most: int, *, least: int = 0) -> Schema:
    return {"type": "string", "minLength": least, "maxLength": most}


_URL: Final[Schema] = {
    **maybe(_line(URL_LIMIT)),
    "pattern": r"^https?://[^\s<>\"'\\^`{|}]+$",
    "description": "an address that begins with http:// or https://",
    "examples": ["https://crm.example/17"],
}
_USER: Final[Schema] = {
    **maybe(_line(ID_LIMIT)),
    "description": "the id of a user in the directory, as in an agent's crm",
}
_WORD: Final = maybe(_line(WORD_LIMIT))

_SHAPE_OF_PARTY: Final[Mapping[str, Schema]] = {
    "type": {"type": "string", "enum": list(PartyType)},
    "name": _line(NAME_LIMIT, least=1),
    "company": _line(NAME_LIMIT),
    "url": _URL,
    "owner": _USER,
    "tier": _WORD,
    "language": {
        **_WORD,
        "pattern": "^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$",
        "description": "a code such as de, en, sl or pt-BR",
    },
    "tags": {
        "type": "array",
        "maxItems": TAGS_LIMIT,
        "items": {**_line(WORD_LIMIT, least=1), "pattern": "^[^;\n]+$"},
    },
    "notes": _line(NOTES_LIMIT),
    "organisation": {
        **maybe(_line(ID_LIMIT)),
        "description": "the id of the company that a person belongs to",
    },
    "balance": {**_WORD, "description": "what is owed, in a few words"},
    "dunning": {**_WORD, "description": "how far reminding has come, in a few words"},
}
_SAID_OF_PARTY: Final[Mapping[str, Schema]] = {
    **_SHAPE_OF_PARTY,
    "numbers": {
        "type": "array",
        "maxItems": NUMBERS_LIMIT,
        "items": closed({"raw": NUMBER, "label": _WORD}, "raw"),
        "description": "all of them, each as people write it",
    },
    "keys": {
        "type": "object",
        "additionalProperties": maybe(_line(ID_LIMIT, least=1)),
        "description": "by the names of the configured keys; null removes one, and those not named stay",
    },
}
_SHAPES: Final[Mapping[str, Mapping[str, Schema]]] = {
    "cases": {
        "title": _line(NAME_LIMIT),
        "status": {**_line(WORD_LIMIT), "description": "closed ones are on no card"},
        "opened": maybe(TIME),
        "url": _URL,
    },
    "appointments": {"at": TIME, "title": _line(NAME_LIMIT), "user": _USER, "url": _URL},
    "tasks": {
        "title": _line(NAME_LIMIT),
        "due": maybe(TIME),
        "user": {**_USER, "description": "whose task it is"},
        "text": _line(NOTES_LIMIT),
        "url": _URL,
        "done": {**maybe(TIME), "description": "since when; then it is on no card"},
    },
    "notes": {
        "text": _line(NOTES_LIMIT, least=1),
        "at": TIME,
        "user": {**_USER, "description": "who wrote it"},
    },
}
_NEEDED: Final = {"cases": "title", "appointments": "at", "tasks": "title", "notes": "text"}
_NAMES: Final = {"cases": "case", "appointments": "appointment", "tasks": "task", "notes": "note"}
_EXAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "cases": {"title": "Delivery is missing", "status": "open"},
    "appointments": {"at": "2026-03-02T09:00:00Z", "title": "Visit"},
    "tasks": {"title": "Send the offer", "due": "2026-03-02T09:00:00Z"},
    "notes": {"text": "Calls before noon"},
}
#: `notes` are what everybody should know of a party; these were written one by one.
_SHOWN_AS: Final = {"notes": "written_notes"}

_ENTRY: Final[Mapping[str, Schema]] = {
    "adapter": STRING,
    "id": STRING,
    # Of older files, and what a role may not see, some is not as it would be taken.
    **{
        name: {"type": shape["type"], **({"items": STRING} if name == "tags" else {})}
        for name, shape in _SHAPE_OF_PARTY.items()
    },
    "numbers": listed(
        record({"raw": STRING, "e164": STRING, "display": maybe(STRING), "label": maybe(STRING)})
    ),
    "keys": {"type": "object", "description": "but for the sensitive ones"},
}
_WHOLE: Final = record(
    {
        **_ENTRY,
        **{_SHOWN_AS.get(kind, kind): listed({"type": "object"}) for kind in RECORDS},
        "last_contacts": listed({"type": "object"}),
        "etag": STRING,
    }
)
_WHICH: Final = Parameter("adapter", TEXT, "where there are several directories, the adapter's name")
_BAD: Final = (
    "something in the request is not as described here, or no directory is named where there are several"
)
_NOBODY: Final = "no such party, or no embedded directory is configured"
_BUSY: Final = "the directory cannot be read or written just now"


def _of_kind(kind: str) -> tuple[Route, ...]:
    name, shape = _NAMES[kind], _SHAPES[kind]
    path = f"{_PARTY}/{kind}"
    article = "an" if name[0] in "aeiou" else "a"
    problems = {404: _NOBODY, 422: _BAD, 503: _BUSY}
    return (
        Route(
            "POST",
            path,
            _adder(kind),
            f"Add {article} {name} to a party of the directory; with an `id` that is there, replace it",
            roles=_EVERYBODY if kind in ("tasks", "notes") else _WRITERS,
            query=(_WHICH,),
            body={
                **closed({"id": _line(ID_LIMIT, least=1), **shape}, _NEEDED[kind]),
                "examples": [_EXAMPLES[kind]],
            },
            answers=("application/json", _WHOLE),
            status=201,
            problems=problems,
            idempotent=True,
        ),
        Route(
            "PATCH",
            f"{path}/{{record}}",
            _changer(kind),
            f"Change {article} {name} of a party of the directory",
            "With `If-Match`, the `etag` of the party.",
            roles=_EVERYBODY if kind == "tasks" else _WRITERS,
            query=(_WHICH,),
            body={**closed(shape), "examples": [_EXAMPLES[kind]]},
            answers=("application/json", _WHOLE),
            problems=problems,
            etag=True,
        ),
        Route(
            "DELETE",
            f"{path}/{{record}}",
            _remover(kind),
            f"Remove {article} {name} of a party of the directory",
            "With `If-Match`, the `etag` of the party.",
            roles=_WRITERS,
            query=(_WHICH,),
            answers=("application/json", _WHOLE),
            problems=problems,
            etag=True,
        ),
    )


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET",
        _PARTIES,
        parties,
        "The parties of the embedded directory, in the order in which they came",
        "With `search`, those in whose name, company or tags a word begins with each of these, the best first.",
        roles=_WRITERS,
        audited=True,
        query=(_WHICH, Parameter("search", TEXT, "words"), limit(500), CURSOR),
        answers=("application/json", record({"parties": listed(record(_ENTRY)), "next": maybe(STRING)})),
        problems={404: _NOBODY, 422: _BAD, 503: _BUSY},
    ),
    Route(
        "POST",
        _PARTIES,
        add,
        "Add a party to the embedded directory",
        roles=_WRITERS,
        query=(_WHICH,),
        body={
            **closed({"id": _line(ID_LIMIT, least=1), **_SAID_OF_PARTY}, "name"),
            "examples": [{"name": "Käthe Ørsted", "numbers": [{"raw": "0152 28817386", "label": "mobile"}]}],
        },
        answers=("application/json", _WHOLE),
        status=201,
        problems={404: _NOBODY, 409: "there is one with this `id`", 422: _BAD, 503: _BUSY},
        idempotent=True,
    ),
    Route(
        "GET",
        _PARTY,
        party,
        "A party of the embedded directory with all that belongs to it, also what no card shows any more",
        roles=_EVERYBODY,
        audited=True,
        query=(_WHICH,),
        answers=("application/json", _WHOLE),
        problems={404: _NOBODY, 422: _BAD, 503: _BUSY},
        etag=True,
    ),
    Route(
        "PATCH",
        _PARTY,
        change,
        "Change a party of the embedded directory",
        "With `If-Match`, its `etag`; 412 has the `party` as it is. `numbers` are replaced as a whole.",
        roles=_WRITERS,
        query=(_WHICH,),
        body={**closed(_SAID_OF_PARTY), "examples": [{"tier": "gold"}]},
        answers=("application/json", _WHOLE),
        problems={404: _NOBODY, 422: _BAD, 503: _BUSY},
        etag=True,
    ),
    Route(
        "DELETE",
        _PARTY,
        remove,
        "Remove a party of the embedded directory with all that belongs to it",
        "With `If-Match`, its `etag`.",
        roles=_WRITERS,
        query=(_WHICH,),
        status=204,
        problems={404: _NOBODY, 422: _BAD, 503: _BUSY},
        etag=True,
    ),
    *(route for kind in RECORDS for route in _of_kind(kind)),
)
