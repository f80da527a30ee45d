"""`/openapi.json`: the route table as an OpenAPI 3.1 document."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from cti.web.problems import MEDIA_TYPE
from cti.web.routing_table import JSON, Route
from cti.web.schema import Schema
from cti.web.shapes import SCHEMAS, named


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
            "description": "CTI server for Asterisk. Times are ISO 8601 in UTC, durations decimal seconds.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "made by `cti token add NAME --role ROLE`",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "cordboard",
                    "description": "set by POST /api/v1/session, over TLS as `__Host-cordboard`; with it, all but GET"
                    " needs the header X-CSRF-Token",
                },
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    media, schema = route.answers
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {
            **{
                str(status): {"description": why} | _content(status, media, schema)
                for status, why in {route.status: route.summary, **route.also}.items()
            },
            **{str(status): _problem(why) for status, why in sorted(_problems(route).items())},
        },
    }
    if route.description:
        operation["description"] = route.description
    if route.roles is not None:
        operation["security"] = [{"token": []}, {"session": []}, *([{}] if route.without_token else [])]
        operation["x-roles"] = sorted(route.roles)
    if route.body is not None:
        operation["requestBody"] = {"required": route.body_needed, "content": {JSON: {"schema": route.body}}}
    return operation


def _content(status: int, media: str, schema: Schema) -> dict[str, Any]:
    return {} if status == HTTPStatus.NO_CONTENT else {"content": {media: {"schema": schema}}}


def _operation_id(route: Route) -> str:
    words = re.findall(r"[a-z]+", route.path.replace("/api/v1", ""))
    return "_".join([route.method.lower(), *(words or ["front"])])


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": parameter.name,
            "in": "query",
            "required": parameter.required,
            "description": parameter.description,
            "schema": parameter.schema,
        }
        for parameter in route.query
    ]


def _problems(route: Route) -> dict[int, str]:
    found = dict(route.problems)
    if route.roles is not None:
        found |= {401: "no valid token", 403: "not with this token"}
    if route.body is not None:
        found |= {400: "not JSON", 413: "the body is too long", 415: "the body is not declared as JSON"}
    return found


def _problem(why: str) -> dict[str, Any]:
    return {"description": why, "content": {MEDIA_TYPE: {"schema": named("Problem")}}}
