"""`/openapi.json`: the route table as an OpenAPI 3.1 document."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cti.web.problems import MEDIA_TYPE
from cti.web.routing_table import JSON, Route
from cti.web.schema import Schema
from cti.web.sessions import CSRF_HEADER, USER_ROLES
from cti.web.shapes import SCHEMAS, STRING, named

_ETAG: Final[Schema] = {
    "type": "string",
    "pattern": r'^(\*|(W/)?"[!#-~]{0,100}")$',
    "examples": ['"5f0c9a7e1b"'],
}
_KEY: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": "^[ -~]+$",
    "examples": ["5c5e1f0e-8a53-4c58-9a1b-1f6f0f5c6a10"],
}
_IN_PATH: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 200}
_WITHOUT_BODY: Final = (204, 304)
_SECURITY: Final[Mapping[str, Any]] = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "made by `cti token add NAME --role ROLE`",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "cordboard",
        "description": "set by POST /api/v1/session; over TLS its name is `__Host-cordboard`",
    },
    "csrf": {
        "type": "apiKey",
        "in": "header",
        "name": CSRF_HEADER,
        "description": "`csrf` of GET /api/v1/session: with the cookie, for all that changes something",
    },
}


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The document, ready to become JSON; `version` is the server's."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Cordboard",
            "version": version,
            "description": "CTI server for Asterisk. Times are ISO 8601 in UTC, durations decimal seconds. Each path"
            " answers OPTIONS with the methods that it takes, and HEAD where it answers GET.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(map(_tag, routes))],
        "paths": paths,
        "components": {"schemas": dict(SCHEMAS), "securitySchemes": dict(_SECURITY)},
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "tags": [_tag(route)],
        "summary": route.summary,
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)],
        "responses": {str(status): answer for status, answer in sorted(_responses(route).items())},
    }
    if route.description:
        operation["description"] = route.description
    if route.roles is not None:
        operation["security"] = _security(route, route.roles)
        operation["x-roles"] = sorted(route.roles)
    if route.body is not None:
        operation["requestBody"] = {"required": route.body_needed, "content": {JSON: {"schema": route.body}}}
    return operation


def _operation_id(route: Route) -> str:
    words = re.findall(r"[a-z]+", route.path.replace("/api/v1", ""))
    return "_".join([route.method.lower(), *(words or ["front"])])


def _tag(route: Route) -> str:
    """What a path is about: its first word below the API, `server` for all that is beside it."""
    return route.path.split("/")[3] if route.path.startswith("/api/v1/") else "server"


def _security(route: Route, roles: frozenset[str]) -> list[dict[str, list[str]]]:
    ways: list[dict[str, list[str]]] = [{"token": []}]
    if roles & set(USER_ROLES):
        ways.append({"session": [], "csrf": []} if route.changes else {"session": []})
    if route.without_token is not None:
        ways.append({})
    return ways


# What a request has.


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _IN_PATH}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        _parameter("query", each.name, each.schema, each.description, required=each.required)
        for each in route.query
    ]


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    found = [
        _parameter("header", each.name, each.schema, each.description, required=each.required)
        for each in route.headers
    ]
    if route.etag and route.changes:
        why = "the ETag of what was read: the change is meant for that version, or, by `*`, for any"
        found.append(_parameter("header", "If-Match", _ETAG, why, required=True))
    if route.etag and not route.changes:
        found.append(_parameter("header", "If-None-Match", STRING, "the ETag of what is had already"))
    if route.idempotent:
        why = "of this request alone: sent again, it is answered again and not done again"
        found.append(_parameter("header", "Idempotency-Key", _KEY, why))
    return found


def _parameter(
    place: str, name: str, schema: Schema, description: str, *, required: bool = False
) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "description": description, "schema": schema}


# What is answered.


def _responses(route: Route) -> dict[int, dict[str, Any]]:
    answers = {
        status: _answer(route, status, why)
        for status, why in {route.status: route.summary, **route.also}.items()
    }
    if route.etag and not route.changes:
        answers[304] = {"description": "it is still the one of `If-None-Match`"}
    return {status: _problem(why) for status, why in _problems(route).items()} | answers


def _answer(route: Route, status: int, why: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": why}
    if status not in _WITHOUT_BODY:
        media, schema = route.answers
        answer["content"] = {media: {"schema": schema}}
    if route.etag:
        answer["headers"] = {"ETag": {"description": "the version of this", "schema": _ETAG}}
    return answer


def _problem(why: str) -> dict[str, Any]:
    return {"description": why, "content": {MEDIA_TYPE: {"schema": named("Problem")}}}


def _problems(route: Route) -> dict[int, str]:
    """What may go wrong with any row of this kind, and what the row itself says."""
    found = {400: "this is no request as HTTP has them"}
    if route.query or "{" in route.path:
        found[414] = "the URL is too long"
    if "{" in route.path:
        found[404] = "there is none of this name"
    if route.roles is not None:
        found |= {
            401: "nobody who is known",
            403: "not with this role, or not without the session's CSRF token",
            429: "too many requests a minute; `Retry-After`",
        }
    if route.roles is not None or route.body is not None:
        found |= {503: "the store does not answer; `Retry-After`", 504: "no answer in time"}
    if route.query or route.headers or route.body is not None:
        found[422] = "something in the request is not as described here; `errors` lists what"
    if route.body is not None:
        found |= {413: "the body is too long", 415: "the body is not declared as JSON"}
    if route.etag and route.changes:
        found |= {
            412: "it has changed since; the problem has what is there now",
            428: "`If-Match` is missing",
        }
    if route.idempotent:
        found |= {
            409: "the request with this `Idempotency-Key` is being carried out, or nobody knows what became of it",
            422: "the `Idempotency-Key` was another request's",
        }
    for status, why in route.problems.items():
        found[status] = f"{why}; or: {found[status]}" if status in found and status != 404 else why
    return found
