"""What a row of the route table is, and how a request finds its row. The rows themselves are in `api`."""

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

import orjson
from attrs import field, frozen

from cti.web.problems import Problem
from cti.web.schema import Schema
from cti.web.services import Services
from cti.web.tokens import Address, Identity
from cti.web.transport import Request

JSON: Final = "application/json"
#: A handler that has not answered by then is given up, unless its row says otherwise.
ANSWER_SECONDS: Final = 10.0
_SEGMENT_LIMIT: Final = 16


@frozen
class Answer:
    """A whole answer. What only API answers need (`Cache-Control`, …) is added where it is sent.

    `etag`: the version of what is answered, in its quotes. Who asks for it again with `If-None-Match` gets 304.
    """

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = field(factory=dict)
    etag: str | None = None


def json_answer(value: Any, status: int = 200) -> Answer:
    """A value as JSON."""
    return Answer(orjson.dumps(value), status)


@frozen
class Asked:
    """A request, checked against its row: `path`, `query`, `headers` and `body` hold what the schemas there
    allow.

    `who` is None only where the row demands no token. `if_match`: the versions that a change is meant for, in rows
    with `etag` that change something.
    """

    http: Request
    route: "Route"
    address: Address | None
    who: Identity | None
    path: Mapping[str, str]
    query: Mapping[str, Any]
    headers: Mapping[str, Any]
    body: Any
    if_match: Collection[str] = ()

    @property
    def identity(self) -> Identity:
        """Who asks, in a row that demands a token."""
        if self.who is None:
            raise AssertionError(f"{self.route.path} asks for no token, but uses it")
        return self.who


def own_agent(who: Identity) -> str:
    """The agent whom a token belongs to. Raises `Problem` 403."""
    if who.agent is None:
        raise Problem(
            403,
            "this token belongs to no agent; `cti token add NAME --role agent --agent ID` makes one that does",
        )
    return who.agent


#: None: the handler has taken over the request and answers by itself.
Handler = Callable[[Services, Asked], Coroutine[Any, Any, Answer | None]]


@frozen
class Parameter:
    """A parameter in the query or a header; absent unless `schema` has a default."""

    name: str
    schema: Schema
    description: str
    required: bool = False


@frozen
class Route:
    """A row of the table.

    `roles`: whose token is taken, None if none is asked for. `without_token`: who needs none although `roles`
    are given. `answers`: the media type and the schema of what is answered with `status`, and with
    the statuses in `also`. `seconds`: an answer that takes longer is given up. A body all of whose parts may be left
    out may be left out itself. `etag`: the answer carries the version of what it shows, and if the row changes
    something, the request has to say by `If-Match` which versions it is meant for (`if_match`).
    `idempotent`: it makes something, and an `Idempotency-Key` makes sure that this is done once. Not for rows whose
    answer holds a secret: answers are kept.
    `audited`: whether it is written down who asked; None: where it changes something. `unwritten`: parameters that
    are not written down then.
    `token_in_query`: the parameter `token` may bring one that is a softphone's, and goes before a session, which a
    browser sends unasked.
    `scope`: the group of routes that a token may be limited to; without it, it follows from method and path.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    description: str = ""
    roles: frozenset[str] | None = None
    without_token: Callable[[Services, Address | None], bool] | None = None
    query: Sequence[Parameter] = ()
    headers: Sequence[Parameter] = ()
    body: Schema | None = None
    answers: tuple[str, Schema] = (JSON, {"type": "object"})
    status: int = 200
    seconds: float = ANSWER_SECONDS
    audited: bool | None = None
    unwritten: frozenset[str] = frozenset()
    scope: str = ""
    also: Mapping[int, str] = field(factory=dict)
    problems: Mapping[int, str] = field(factory=dict)
    etag: bool = False
    idempotent: bool = False
    token_in_query: bool = False

    @property
    def changes(self) -> bool:
        return self.method not in ("GET", "HEAD")

    @property
    def group(self) -> str:
        """What a token needs among its scopes: `read` for all that changes nothing, else the path's first word."""
        if self.scope or self.method == "GET":
            return self.scope or "read"
        return self.path.removeprefix("/api/v1/").partition("/")[0]

    @property
    def body_needed(self) -> bool:
        return self.body is not None and bool(self.body.get("required"))


class Table:
    """Finds the row for a method and a path."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._plain: dict[str, dict[str, Route]] = {}
        self._patterns: dict[tuple[str, ...], dict[str, Route]] = {}
        for route in routes:
            if "{" in route.path:
                rows = self._patterns.setdefault(tuple(route.path.split("/")), {})
            else:
                rows = self._plain.setdefault(route.path, {})
            rows[route.method] = route

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """The row and the values in the path. Raises `Problem` 404 or 405."""
        rows, values = self._at(path)
        route = rows.get("GET" if method == "HEAD" else method)
        if route is None or (method == "HEAD" and route.answers[0] == "text/event-stream"):
            allow = _allow(rows)
            raise Problem(405, f"this path takes {allow}", headers={"Allow": allow})
        return route, values

    def allow(self, path: str) -> str:
        """The methods that a path takes, as `Allow` lists them. Raises `Problem` 404."""
        return _allow(self._at(path)[0])

    def _at(self, path: str) -> tuple[Mapping[str, Route], Mapping[str, str]]:
        rows, values = self._rows(path)
        if rows is None:
            raise Problem(404, "there is nothing at this path; /openapi.json lists what there is")
        return rows, values

    def _rows(self, path: str) -> tuple[Mapping[str, Route] | None, Mapping[str, str]]:
        if path in self._plain:
            return self._plain[path], {}
        segments = path.split("/", _SEGMENT_LIMIT)
        for pattern, rows in self._patterns.items():
            values = _match(pattern, segments)
            if values is not None:
                return rows, values
        return None, {}


def _allow(rows: Mapping[str, Route]) -> str:
    allowed = {"OPTIONS", *rows}
    if any(row.method == "GET" and row.answers[0] != "text/event-stream" for row in rows.values()):
        allowed.add("HEAD")
    return ", ".join(sorted(allowed))


def _match(pattern: Sequence[str], segments: Sequence[str]) -> Mapping[str, str] | None:
    if len(pattern) != len(segments):
        return None
    values = {}
    for expected, found in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            try:
                value = unquote(found, errors="strict")
            except UnicodeDecodeError:
                return None
            if not value or len(value) > 200:
                return None
            values[expected[1:-1]] = value
        elif expected != found:
            return None
    return values
