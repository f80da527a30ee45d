"""Strict fakes of CRMs that cannot be installed here, each written from its maker's documentation.

What a fake does not know it refuses: a wrong login, another content type, an unknown parameter or field.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from attrs import define, field, frozen

from cti.numbers import NumberPlan
from tests.crm.http_server import HttpServer


@frozen
class Request:
    """What a client sent."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes

    @property
    def parts(self) -> list[str]:
        return self.path.strip("/").split("/")

    def only(self, *names: str, needed: Sequence[str] = ()) -> dict[str, str]:
        """The query, which has these parameters, each once, and no others."""
        return only(self.query, names, needed, "query parameter")

    def json(self) -> Any:
        said = self.headers.get("content-type", "")
        if said.partition(";")[0] != "application/json":
            raise Refused(415, {"error": f"content type {said!r} is not application/json"})
        return json.loads(self.body)

    def form(self, *names: str, needed: Sequence[str] = ()) -> dict[str, str]:
        said = self.headers.get("content-type", "")
        if said != "application/x-www-form-urlencoded":
            raise Refused(415, {"error": f"content type {said!r} is no form"})
        pairs = parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=bool(self.body))
        return only(pairs, names, needed, "field")


def only(
    pairs: Iterator[tuple[str, str]] | Sequence[tuple[str, str]],
    names: Sequence[str],
    needed: Sequence[str],
    what: str,
) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in names and name not in needed:
            raise Refused(400, {"error": f"unknown {what} {name!r}"})
        if name in found:
            raise Refused(400, {"error": f"{what} {name!r} twice"})
        found[name] = value
    for name in needed:
        if name not in found:
            raise Refused(400, {"error": f"{what} {name!r} is missing"})
    return found


def fields_of(value: Any, *names: str, needed: Sequence[str] = ()) -> dict[str, Any]:
    """A JSON object that has these entries and no others."""
    if not isinstance(value, dict):
        raise Refused(400, {"error": "an object is needed"})
    return dict(only(list(value.items()), names, needed, "field"))


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {body}")
        self.answer = Answer(status, body, headers or {})


@frozen
class Answer:
    """``body``: JSON, or bytes as they are; None is an empty body."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(factory=dict)


@define
class Person:
    """Somebody as the CRM holds them; ``fields`` as its API names them, ``numbers`` as they were typed."""

    id: str
    type: str
    fields: dict[str, Any]
    numbers: list[str] = field(factory=list)


class FakeCrm(HttpServer):
    """A web server on a free port; who derives from it says what it answers."""

    #: Type of a party → the fields for its numbers.
    number_fields: ClassVar[Mapping[str, Sequence[str]]] = {}
    #: Fields that everybody has.
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self) -> None:
        self.people: dict[str, Person] = {}
        self.calls: dict[str, dict[str, Any]] = {}
        self.notes: dict[str, dict[str, Any]] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        self.broken = False
        #: Answers given instead of its own, one each.
        self.instead: list[Answer] = []
        #: How many times a call is written and the answer gets lost.
        self.lose_answers = 0
        self.requests: list[Request] = []
        self.plan = NumberPlan("DE")
        self._ids = itertools.count(101)
        self._lock = threading.Lock()
        super().__init__()

    def handle(self, request: Request) -> Answer:
        raise NotImplementedError

    def new_id(self) -> str:
        return str(next(self._ids))

    def add(self, type: str, *numbers: str, **fields: Any) -> Person:
        person = Person(self.new_id(), type, {**self.defaults, **fields}, list(numbers))
        self.people[person.id] = person
        return person

    def record(self, person: Person) -> dict[str, Any]:
        """All fields, those for numbers among them."""
        names = self.number_fields[person.type]
        empty = [None] * (len(names) - len(person.numbers))
        return {**person.fields, **dict(zip(names, [*person.numbers, *empty], strict=True))}

    def take(self, type: str, sent: Mapping[str, Any], *allowed: str) -> Person:
        """A new person of a record as the API has it."""
        names = self.number_fields[type]
        given = fields_of(dict(sent), *allowed, *names)
        numbers = [given.pop(name) for name in names if name in given]
        return self.add(type, *(number for number in numbers if number), **given)

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("content-length") or 0)
        parts = urlsplit(handler.path)
        request = Request(
            handler.command,
            parts.path,
            tuple(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))),
            {name.lower(): value for name, value in handler.headers.items()},
            handler.rfile.read(length),
        )
        with self._lock:
            self.requests.append(request)
            if self.broken:
                handler.close_connection = True
                return
            calls = repr(self.calls)
            try:
                answer = self.instead.pop(0) if self.instead else self.handle(request)
            except Refused as refused:
                answer = refused.answer
            if self.lose_answers and repr(self.calls) != calls:
                self.lose_answers -= 1
                handler.close_connection = True
                return
        body = answer.body
        if body is None:
            data = b""
        elif isinstance(body, bytes):
            data = body
        else:
            data = json.dumps(body).encode()
        handler.send_response(answer.status)
        headers = {"content-type": "application/json; charset=utf-8", "content-length": str(len(data))}
        for name, value in (headers | dict(answer.headers)).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)


def digits(text: str) -> str:
    return "".join(c for c in text if c.isdigit())
