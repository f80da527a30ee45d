"""The part of the API about who comes in: its rows of the route table for sessions, users and the audit.

How a password is checked is `login`'s, how a session is kept `sessions`'.
"""

from typing import Any, Final

from attrs import evolve

from cti.calls.present import iso
from cti.store.records import AuditRecord, UserRecord
from cti.web.login import From, Opened
from cti.web.pages import limit
from cti.web.passwords import LONGEST, wrong_with
from cti.web.problems import Problem
from cti.web.routing_table import Answer, Asked, Parameter, Route, json_answer
from cti.web.schema import Schema
from cti.web.services import Services
from cti.web.sessions import (
    USER_ROLES,
    device_of,
    drop_session,
    is_secure,
    keep_device,
    keep_session,
    refuse_foreign,
    session_id,
)
from cti.web.shapes import TEXT, closed, maybe, named
from cti.web.tokens import ADMIN, AGENT, SUPERVISOR, Identity
from cti.web.users import user_json, user_name, wrong_with_user

_PEOPLE: Final = frozenset({AGENT, SUPERVISOR, ADMIN})
_ADMINS: Final = frozenset({ADMIN})


# Sessions.


async def log_in(services: Services, asked: Asked) -> Answer:
    request, secure = asked.http, _secure(services, asked)
    refuse_foreign(request, secure, services.options.url)
    name = user_name(asked.body["username"])
    device = services.sessions.device(name, device_of(request, secure, name))
    opened = await services.login.log_in(
        name, asked.body["password"], From(asked.address, device), session_id(request, secure)
    )
    return _begun(services, asked, opened)


async def session(services: Services, asked: Asked) -> Answer:
    return json_answer(_session(services, _person(asked), _user(services, asked)))


async def change_session(services: Services, asked: Asked) -> Answer:
    who, user = _person(asked), _user(services, asked)
    unit = services.users.unit()
    user = evolve(user, language=asked.body["language"])
    unit.put_user(user)
    await services.users.commit(unit)
    services.sessions.forget()
    return json_answer(_session(services, who, user))


async def change_password(services: Services, asked: Asked) -> Answer:
    who, secure = _person(asked), _secure(services, asked)
    device = services.sessions.device(who.name, device_of(asked.http, secure, who.name))
    where = From(asked.address, device)
    opened = await services.login.change_password(who, asked.body["old"], asked.body["new"], where)
    services.hub.recheck(of=who.token)
    return _begun(services, asked, opened)


async def log_out(services: Services, asked: Asked) -> Answer:
    who = _person(asked)
    await services.login.log_out(who, asked.address, everywhere=asked.query["all"])
    services.hub.recheck(of=who.token)
    drop_session(asked.http, _secure(services, asked))
    return Answer(b"", 204)


def _begun(services: Services, asked: Asked, opened: Opened) -> Answer:
    request, secure, name = asked.http, _secure(services, asked), opened.user.name
    sessions = services.sessions
    expires = sessions.expires(opened.identity)
    keep_session(request, secure, opened.id, sessions.longest)
    keep_device(request, secure, name, sessions.device_cookie(name))
    return json_answer(_session_json(opened.user, sessions.csrf(opened.identity), expires))


def _session(services: Services, who: Identity, user: UserRecord) -> dict[str, Any]:
    return _session_json(user, services.sessions.csrf(who), services.sessions.expires(who))


def _session_json(user: UserRecord, csrf: str, expires: float) -> dict[str, Any]:
    shown = {"name": user.name, "role": user.role, "agent": user.agent, "language": user.language}
    return {"user": shown, "csrf": csrf, "expires": iso(expires)}


def _person(asked: Asked) -> Identity:
    if not asked.identity.user:
        raise Problem(403, "this is for people who have logged in; a token has no session", kind="no-session")
    return asked.identity


def _user(services: Services, asked: Asked) -> UserRecord:
    user = services.users.user(asked.identity.name)
    if user is None:
        raise Problem(401, "this user was removed meanwhile", kind="session-ended")
    return user


def _secure(services: Services, asked: Asked) -> bool:
    return is_secure(asked.http, services.options.behind_proxy)


# Users.


async def users(services: Services, _asked: Asked) -> Answer:
    return json_answer({"users": [user_json(user) for user in services.users.users()]})


async def add_user(services: Services, asked: Asked) -> Answer:
    body = asked.body
    name = user_name(body["name"])
    if services.users.user(name) is not None:
        raise Problem(409, f"there is a user {name} already; PATCH changes them", kind="exists")
    now = services.clock.seconds()
    user = UserRecord(name, body["role"], "", now, now, body.get("agent"), body.get("language"))
    _refuse_wrong(services, user)
    user = evolve(user, password=await _kept(services, user.name, body["password"]))
    if services.users.user(name) is not None:
        raise Problem(409, f"there is a user {name} already; PATCH changes them", kind="exists")
    return json_answer(await _put(services, asked, user, "user.added"), 201)


async def change_user(services: Services, asked: Asked) -> Answer:
    user = _named_user(services, asked)
    given = {key: value for key, value in asked.body.items() if key != "password"}
    changed = evolve(user, **given)
    if "password" in asked.body:
        kept = await _kept(services, user.name, asked.body["password"])
        changed = evolve(changed, password=kept, changed=services.clock.seconds())
    _refuse_wrong(services, changed)
    if services.users.user(user.name) != user:
        raise Problem(409, "this user was changed meanwhile; look again", kind="changed")
    if changed.disabled or changed.role != ADMIN:
        _keep_an_admin(services, user)
    ends = bool(asked.body.keys() - {"language"})
    return json_answer(await _put(services, asked, changed, "user.changed", ends=ends))


async def remove_user(services: Services, asked: Asked) -> Answer:
    user = _named_user(services, asked)
    _keep_an_admin(services, user)
    unit = services.users.unit()
    unit.remove_user(user.name)
    unit.end_sessions(user.name)
    services.audit.add(unit, asked.identity, "user.removed", user.name, asked.address)
    await services.users.commit(unit)
    _ended(services, user.name)
    return Answer(b"", 204)


async def _put(
    services: Services, asked: Asked, user: UserRecord, action: str, *, ends: bool = False
) -> dict[str, Any]:
    unit = services.users.unit()
    unit.put_user(user)
    if ends:
        unit.end_sessions(user.name)
    changed = sorted(asked.body)
    services.audit.add(unit, asked.identity, action, user.name, asked.address, {"given": changed})
    await services.users.commit(unit)
    _ended(services, user.name)
    return user_json(user)


def _ended(services: Services, name: str) -> None:
    services.sessions.forget()
    services.hub.recheck(of=f"user {name}")


async def _kept(services: Services, name: str, password: str) -> str:
    wrong = wrong_with(password, name)
    if wrong is not None:
        raise Problem(422, wrong, kind="weak-password")
    return await services.login.hash(password)


def _refuse_wrong(services: Services, user: UserRecord) -> None:
    wrong = wrong_with_user(user.name, user.role, user.agent, {view.id for view in services.agents.views()})
    if wrong is not None:
        raise Problem(422, wrong)


def _named_user(services: Services, asked: Asked) -> UserRecord:
    user = services.users.user(user_name(asked.path["name"]))
    if user is None:
        raise Problem(404, "there is no user of this name; GET /api/v1/users lists them")
    return user


def _keep_an_admin(services: Services, user: UserRecord) -> None:
    if user.role != ADMIN or user.disabled:
        return
    others = [each for each in services.users.users() if each.name != user.name]
    if not any(each.role == ADMIN and not each.disabled for each in others):
        raise Problem(409, f"{user.name} is the only admin; make another one first", kind="last-admin")


# The audit.


async def audit(services: Services, asked: Asked) -> Answer:
    query = asked.query
    entries, following = await services.users.audit(
        query.get("who"), query.get("object"), query["limit"], query.get("cursor")
    )
    return json_answer({"audit": [_entry(*each) for each in entries], "next": following})


def _entry(id: int, entry: AuditRecord) -> dict[str, Any]:
    return {
        "id": id,
        "at": iso(entry.at),
        "who": entry.who,
        "kind": entry.kind,
        "action": entry.action,
        "object": entry.object,
        "detail": entry.detail,
        "address": entry.address,
    }


_LANGUAGE: Final[Schema] = {"type": ["string", "null"], "minLength": 2, "maxLength": 35}
_PASSWORD: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": LONGEST}
_ROLE: Final[Schema] = {"type": "string", "enum": list(USER_ROLES)}
_CHANGES: Final[dict[str, Schema]] = {
    "role": _ROLE,
    "agent": maybe(TEXT),
    "password": _PASSWORD,
    "language": _LANGUAGE,
}
_SESSION: Final = ("application/json", named("Session"))
_NO_SESSION: Final = "not in a session of this user"


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "POST",
        "/api/v1/session",
        log_in,
        "Log in: the answer sets the session's cookie",
        "A name that nobody has takes as long, and is answered the same, as a wrong password. Too many wrong ones"
        " slow down the next, by account and by address; a browser that has logged in before has a pace of its own.",
        body=closed({"username": TEXT, "password": _PASSWORD}, "username", "password"),
        answers=_SESSION,
        seconds=30.0,
        problems={
            401: "name or password is wrong",
            403: "from a page of another site",
            429: "too many wrong passwords",
            503: "too many log in at once",
        },
    ),
    Route("GET", "/api/v1/session", session, "Who is logged in", roles=_PEOPLE, answers=_SESSION),
    Route(
        "PATCH",
        "/api/v1/session",
        change_session,
        "Choose a language",
        roles=_PEOPLE,
        body=closed({"language": _LANGUAGE}, "language"),
        answers=_SESSION,
    ),
    Route(
        "POST",
        "/api/v1/session/password",
        change_password,
        "Change one's own password; all one's sessions end, and a new one begins",
        roles=_PEOPLE,
        audited=False,
        body=closed({"old": _PASSWORD, "new": _PASSWORD}, "old", "new"),
        answers=_SESSION,
        seconds=30.0,
        problems={
            422: "the new password is too short, or one that is tried first",
            429: "too many wrong ones",
        },
    ),
    Route(
        "DELETE",
        "/api/v1/session",
        log_out,
        "Log out",
        roles=_PEOPLE,
        audited=False,
        query=(Parameter("all", {"type": "boolean", "default": False}, "everywhere"),),
        status=204,
    ),
    Route(
        "GET",
        "/api/v1/users",
        users,
        "Who may log in",
        roles=_ADMINS,
        answers=("application/json", named("Users")),
    ),
    Route(
        "POST",
        "/api/v1/users",
        add_user,
        "Add a user",
        roles=_ADMINS,
        audited=False,
        body=closed({"name": TEXT, **_CHANGES}, "name", "role", "password"),
        answers=("application/json", named("User")),
        status=201,
        problems={409: "there is one of this name", 422: "no such agent, or a password that is tried first"},
    ),
    Route(
        "PATCH",
        "/api/v1/users/{name}",
        change_user,
        "Change a user; their sessions end, but for a change of the language",
        roles=_ADMINS,
        audited=False,
        body=closed({**_CHANGES, "disabled": {"type": "boolean"}}),
        answers=("application/json", named("User")),
        problems={
            404: "no such user",
            409: "the only admin, or changed meanwhile",
            422: "not as it should be",
        },
    ),
    Route(
        "DELETE",
        "/api/v1/users/{name}",
        remove_user,
        "Remove a user",
        roles=_ADMINS,
        audited=False,
        status=204,
        problems={404: "no such user", 409: "the only admin"},
    ),
    Route(
        "GET",
        "/api/v1/audit",
        audit,
        "Who looked at what, and changed what; newest first",
        roles=_ADMINS,
        audited=True,
        query=(
            Parameter("who", TEXT, "the name of a user or a token"),
            Parameter("object", TEXT, "a call's id, a user's name, …"),
            limit(500),
            Parameter(
                "cursor", {"type": "integer", "minimum": 1, "maximum": 2**53}, "`next` of the page before"
            ),
        ),
        answers=("application/json", named("AuditPage")),
    ),
)
