"""Who may ask what: every row of the table, by everybody, about their own things and others'.

What has to come back is derived from the row. What a row cannot say stands in the tables here: what an agent is told
of others' things, and what a role that may ask is refused all the same. A row that needs an entry there and has none
fails, and so does an entry that no row needs.
"""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from attrs import frozen

from cti.web.api import ROUTES
from cti.web.openapi import document
from cti.web.routing_table import Route
from cti.web.schema import Schema
from cti.web.sessions import CSRF_HEADER, USER_ROLES
from cti.web.tokens import ADMIN, AGENT, ROLES, SUPERVISOR
from tests.api.site import Reply, Site

DESCRIBED = document(ROUTES, "test")["paths"]


@frozen
class Thing:
    """What a path names, by the agent whose it is; `told` is what an agent hears of another's."""

    annas: str
    bens: str
    told: int


CALL = Thing("anna-1", "ben-1", 404)
#: By what stands before it in the path.
THINGS: Mapping[str, Thing] = {
    "/api/v1/calls/{id}": CALL,
    "/api/v1/desk/calls/{id}": CALL,
    "/api/v1/agents/{id}": Thing("anna", "ben", 403),
    "/api/v1/callbacks/{id}": Thing("annas", "bens", 404),
}
#: Things that belong to no agent.
NOBODYS: Mapping[str, str] = {
    "/api/v1/users/{name}": "uma",
    "/static/{name}": "desk.css",
    "/api/v1/outbox/{id}": "1",
    "/api/v1/webhooks/{name}": "crm",
    # Nobody's caller: the first who may remove them does.
    "/api/v1/directory/parties/{id}": "18",
    "/api/v1/erasures/{id}": "e1",
    "/api/v1/numbers/blocked/{number}": "+49900*",
    "/api/v1/numbers/ignored/{number}": "+49900*",
}
#: Rows that tell an agent something else: that it is not they who write this call up, whoever's it is.
TOLD_OTHERWISE: Mapping[str, int] = {"/api/v1/calls/{id}/wrap_up": 409}
#: Roles that are let in and refused with 403 all the same: who hears no recordings, and who is no agent.
REFUSED_ALL_THE_SAME: Mapping[str, frozenset[str]] = {
    "/api/v1/calls/{id}/recording": frozenset({AGENT}),
    "/api/v1/calls/{id}/card": frozenset({SUPERVISOR, ADMIN}),
    "/api/v1/calls/{id}/wrap_up": frozenset({SUPERVISOR, ADMIN}),
    "/api/v1/callbacks/{id}/dial": frozenset({SUPERVISOR, ADMIN}),
    "/api/v1/desk/calls/{id}": frozenset({SUPERVISOR, ADMIN}),
    # Figures of single agents are off, but for one's own.
    **{f"/api/v1/reports/agents{ending}": frozenset({SUPERVISOR, ADMIN}) for ending in ("", ".csv", ".svg")},
    # An agent's token or session is no softphone's.
    **{
        f"/api/v1/softphone/{news}": frozenset({AGENT})
        for news in ("ringing", "connected", "ended", "missed")
    },
}


def request_for(route: Route, thing: str) -> tuple[str, Any, dict[str, str]]:
    """A path, a body and headers that the row takes."""
    path = re.sub(r"\{\w+\}", thing, route.path)
    needed = [f"{each.name}={text_of(each.schema)}" for each in route.query if each.required]
    body = None if route.body is None else value_of(route.body)
    headers = {"If-Match": "*"} if route.etag and route.changes else {}
    return path + ("?" + "&".join(needed) if needed else ""), body, headers


def value_of(schema: Schema) -> Any:
    """The least that a schema takes."""
    if "examples" in schema:
        return schema["examples"][0]
    if "enum" in schema:
        return schema["enum"][0]
    type = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if type[0] == "object":
        return {name: value_of(schema["properties"][name]) for name in schema.get("required", ())}
    if type[0] == "array":
        return [value_of(schema["items"])]
    return {"string": "x" * schema.get("minLength", 1), "integer": schema.get("minimum", 1), "boolean": True}[
        type[0]
    ]


def text_of(schema: Schema) -> str:
    return str(value_of(schema)).replace("+", "%2B")


def thing_of(route: Route) -> Thing | None:
    """Whose thing the path names; None if it names none, or nobody's."""
    if "{" not in route.path or any(route.path.startswith(below) for below in NOBODYS):
        return None
    found = [thing for below, thing in THINGS.items() if route.path.startswith(below)]
    assert found, (
        f"{route.path} names something: say in THINGS or NOBODYS whose, and what others are told of it"
    )
    return found[0]


def name_of(route: Route) -> str:
    """What stands in the path where the asker may see it."""
    thing = thing_of(route)
    if thing is not None:
        return thing.annas
    return next((name for below, name in NOBODYS.items() if route.path.startswith(below)), "")


def ask(site: Site, route: Route, thing: str | None = None, **who: Any) -> Reply:
    path, body, headers = request_for(route, name_of(route) if thing is None else thing)
    headers |= who.pop("headers", {})
    return site.ask(route.method, path, body=body, headers=headers, **who)


def may(route: Route, role: str, reply: Reply) -> None:
    """See that who has this role was let in, and answered as described."""
    assert str(reply.status) in DESCRIBED[route.path][route.method.lower()]["responses"], reply
    if role in REFUSED_ALL_THE_SAME.get(route.path, ()):
        assert reply.status == 403, reply
    else:
        assert reply.status not in (401, 403), reply


def every_row(*, with_roles: bool = True) -> pytest.MarkDecorator:
    rows = [route for route in ROUTES if route.roles is not None or not with_roles]
    return pytest.mark.parametrize("route", rows, ids=[f"{row.method} {row.path}" for row in rows])


@every_row()
@pytest.mark.parametrize("token", [None, "expired", "revoked", "wrong"])
def test_nobody_is_told_anything(site: Site, route: Route, token: str | None) -> None:
    reply = ask(site, route, token=None if token is None else site.tokens.get(token, "cti_" + "x" * 43))
    assert reply.status == 401
    assert "WWW-Authenticate" in reply.headers


@every_row()
@pytest.mark.parametrize("role", ROLES)
def test_a_token_may_what_its_role_may(site: Site, route: Route, role: str) -> None:
    assert route.roles is not None
    reply = ask(site, route, token=site.tokens[role])
    if role not in route.roles:
        assert (reply.status, reply.kind) == (403, "about:blank")
        assert "this is for the roles" in reply.json["detail"]
    elif route.path.startswith("/api/v1/session"):
        assert (reply.status, reply.kind) == (403, "no-session")
    else:
        may(route, role, reply)


@every_row()
@pytest.mark.parametrize("role", USER_ROLES)
def test_a_person_may_what_their_role_may_from_our_own_pages(site: Site, route: Route, role: str) -> None:
    assert route.roles is not None
    # Who logs out needs a session that nobody else needs.
    cookies = site.spare if (route.method, route.path) == ("DELETE", "/api/v1/session") else site.cookies
    cookie, csrf = cookies[role], site.csrf_of(cookies[role])
    foreign = ask(
        site, route, cookie=cookie, headers={CSRF_HEADER: csrf, "Origin": "https://elsewhere.example"}
    )
    assert (foreign.status, foreign.kind) == (403, "csrf")
    if route.changes:
        forged = ask(site, route, cookie=cookie)
        assert (forged.status, forged.kind) == (403, "csrf")
    reply = ask(site, route, cookie=cookie, headers={CSRF_HEADER: csrf})
    if role in route.roles:
        may(route, role, reply)
    else:
        assert (reply.status, reply.kind) == (403, "about:blank")


@every_row()
def test_an_agent_hears_of_others_things_only_what_the_table_says(site: Site, route: Route) -> None:
    assert route.roles is not None
    thing = thing_of(route)
    if thing is None or AGENT not in route.roles:
        return
    reply = ask(site, route, thing.bens, token=site.tokens[AGENT])
    assert reply.status == TOLD_OTHERWISE.get(route.path, thing.told), reply


@every_row()
def test_an_agent_who_names_another_is_refused(site: Site, route: Route) -> None:
    assert route.roles is not None
    if AGENT not in route.roles:
        return
    path, body, headers = request_for(route, name_of(route))
    if any(each.name == "agent" for each in route.query):
        assert site.ask(route.method, f"{path}?agent=ben", token=site.tokens[AGENT]).status == 403
    if route.body is not None and "agent" in route.body.get("properties", {}):
        named = {**body, "agent": "ben"}
        # Of a call that is over, there is nothing to be done by anybody.
        told = (403, 409) if "{" in route.path else (403,)
        assert (
            site.ask(route.method, path, token=site.tokens[AGENT], body=named, headers=headers).status in told
        )


@every_row(with_roles=False)
def test_what_needs_no_login_is_what_anybody_may_see(site: Site, route: Route) -> None:
    if route.roles is None:
        reply = ask(site, route)
        assert reply.status == (401 if route.path == "/api/v1/session" else 200)


def test_the_tables_name_only_what_there_is() -> None:
    paths = [route.path for route in ROUTES]
    for below in (*THINGS, *NOBODYS):
        assert any(path.startswith(below) for path in paths)
    assert (TOLD_OTHERWISE.keys() | REFUSED_ALL_THE_SAME.keys()) <= set(paths)
    assert {route.path for route in ROUTES if route.roles is None} == {
        "/",
        "/api/v1/session",
        "/dial",
        "/docs",
        "/healthz",
        "/openapi.json",
        "/readyz",
        "/static/{name}",
    }
