"""The API: the table of its routes, and what each of them does with what the other rooms offer.

Routing, authorisation, checking and `/openapi.json` all come from `ROUTES`; how HTTP is spoken is `server`'s.
"""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any, Final

import orjson

from cti import __version__
from cti.agents.roster import AgentNotReady, AgentUnknown, AgentView, PhoneUnknown
from cti.calls.control import took_part
from cti.calls.present import (
    agent_json,
    call_detail_json,
    call_json,
    etag_of,
    gap_json,
    moment,
    pause_json,
    with_display,
)
from cti.event_types import EVENT_TYPES
from cti.metrics import CONTENT_TYPE
from cti.store.base import CallFilter
from cti.web import (
    call_control,
    callbacks,
    desk,
    directory,
    doors,
    numbers,
    openapi,
    outbox,
    page,
    privacy,
    reports,
    search,
    softphones,
)
from cti.web.download import Download
from cti.web.events import Reader
from cti.web.export import CallExport, CallsAsCsv, CallsAsLines
from cti.web.pages import CURSOR, limit, not_given_out
from cti.web.problems import Problem
from cti.web.routing_table import Answer, Asked, Parameter, Route, json_answer, own_agent
from cti.web.schema import Schema
from cti.web.search import not_a_number
from cti.web.services import Component, DryRun, Services
from cti.web.shapes import NUMBER, SCHEMAS, STRING, TEXT, TIME, named
from cti.web.tokens import ADMIN, AGENT, CRM, SUPERVISOR, Address, Identity

_LAST_SEQ: Final = 2**53


async def description(_services: Services, _asked: Asked) -> Answer:
    return Answer(_description())


async def healthz(services: Services, _asked: Asked) -> Answer:
    return _health(services.health.health())


async def readyz(services: Services, _asked: Asked) -> Answer:
    return _health(services.health.ready())


async def metrics(services: Services, _asked: Asked) -> Answer:
    services.metrics.refresh()
    return Answer(await services.in_thread(services.metrics.render), content_type=CONTENT_TYPE)


async def calls(services: Services, asked: Asked) -> Answer:
    query, where = asked.query, _which(services, asked)
    try:
        found, following = await services.calls.calls(where, query["limit"], query.get("cursor"))
    except ValueError as error:
        raise not_given_out(error) from error
    shown = [with_display(call_json(call), services.numbers.display) for call in found]
    return json_answer({"calls": shown, "next": following})


async def calls_as_csv(services: Services, asked: Asked) -> None:
    await _export(services, asked, CallsAsCsv)


async def calls_as_lines(services: Services, asked: Asked) -> None:
    await _export(services, asked, CallsAsLines)


async def _export(services: Services, asked: Asked, form: type[CallsAsCsv] | type[CallsAsLines]) -> None:
    """The whole of it, bit by bit and no faster than it is taken."""
    where, role = _which(services, asked), asked.identity.role
    masked = partial(services.masking.masked, role) if services.masking.hides(role) else None
    request = asked.http
    with services.exports.one() as closed:
        export = CallExport(services.calls, where, form(masked), services.in_thread, services.clock, closed)
        await export.begin()
        request.setHeader("Content-Type", form.MEDIA_TYPE)  # type: ignore[no-untyped-call]
        if request.method == b"HEAD":
            # What nobody gets need not be read.
            export.close()
            request.finish()  # type: ignore[no-untyped-call]
        else:
            Download(request, export, services.clock).start()


async def call(services: Services, asked: Asked) -> Answer:
    who = asked.identity
    detail = await services.calls.call(asked.path["id"])
    # To an agent, a call that they had no part in is not there: its id says nothing to them either.
    if detail is None or (who.role == AGENT and not took_part(detail, own_agent(who))):
        raise Problem(404, "there is no such call, or you had no part in it")
    whole = call_detail_json(detail)
    if who.role == AGENT:
        _keep_reasons(whole["decisions"], own_agent(who))
    # What people have written of it can be changed with this tag.
    return Answer(orjson.dumps(whole), headers={"ETag": etag_of(detail.call)})


def _keep_reasons(decisions: Sequence[dict[str, Any]], own: str) -> None:
    """That colleagues were paused, an agent sees everywhere; the reason that they gave is not for them."""
    for decision in decisions:
        decision["trace"] = [
            {
                **step,
                "candidates": [
                    each
                    if each["why_not"] is None or each["agent"] == own
                    else {**each, "why_not": each["why_not"].partition(": ")[0]}
                    for each in step.get("candidates", ())
                ],
            }
            for step in decision["trace"]
        ]


async def gaps(services: Services, asked: Asked) -> Answer:
    query = asked.query
    since, until = _time(query.get("since")), _time(query.get("until"))
    try:
        found, following = await services.calls.gaps(since, until, query["limit"], query.get("cursor"))
    except ValueError as error:
        raise not_given_out(error) from error
    return json_answer({"gaps": [gap_json(gap) for gap in found], "next": following})


async def agents(services: Services, asked: Asked) -> Answer:
    who = asked.identity
    own = own_agent(who) if who.role == AGENT else None
    views = services.agents.views()
    return json_answer(
        {"agents": [_agent_json(services, view) for view in views if own is None or view.id == own]}
    )


async def change_agent(services: Services, asked: Asked) -> Answer:
    who, agent = asked.identity, asked.path["id"]
    if who.role == AGENT and agent != own_agent(who):
        raise Problem(403, f"an agent changes only their own state: /api/v1/agents/{who.agent}")
    body = asked.body
    if not body.keys() & {"state", "phone", "skills"}:
        raise Problem(422, "body: state, phone or skills; there is nothing to change")
    skills = body.get("skills")
    if skills is not None and who.role == AGENT:
        raise Problem(403, "skills are set by a supervisor")
    try:
        if "phone" in body:
            await services.agents.choose_phone(agent, body["phone"], body.get("state"), who.name)
        if skills is not None:
            try:
                await services.agents.set_skills(agent, skills, who.name)
            except ValueError as error:
                raise Problem(422, f"skills: {error}") from error
            await services.audit.note(who, "agent.changed", agent, asked.address, {"skills": skills})
        if "state" in body:
            await services.agents.set_wish(agent, body["state"], body.get("reason"), who.name)
    except AgentUnknown as error:
        raise Problem(404, f"{error}; GET /api/v1/agents lists them") from error
    except PhoneUnknown as error:
        raise Problem(422, f"phone: {error}") from error
    except AgentNotReady as error:
        raise Problem(409, f"phone: {error}", kind="not-now") from error
    for view in services.agents.views():
        if view.id == agent:
            return json_answer(_agent_json(services, view))
    raise Problem(404, "this agent was removed meanwhile")


async def explain(services: Services, asked: Asked) -> Answer:
    body = asked.body
    return json_answer(dict(await services.explain(DryRun(body["from"], body["to"], _time(body.get("at"))))))


async def events(services: Services, asked: Asked) -> None:
    who = asked.identity
    if who.role == AGENT:
        own_agent(who)
    types = asked.query.get("types")
    chosen = None if types is None else frozenset(types.split(","))
    if chosen is not None and not chosen <= frozenset(EVENT_TYPES):
        unknown = ", ".join(sorted(chosen - frozenset(EVENT_TYPES)))
        raise Problem(422, f"types: {unknown} unknown; known are {', '.join(EVENT_TYPES)}")
    after = _resume_after(asked)
    if who.role != AGENT:
        # Everybody's cards; an agent's own are in the log already, as offered to them.
        await services.audit.note(who, "GET /api/v1/events", None, asked.address, asked.query)
    services.hub.open(asked.http, Reader(who, chosen), after)


def metrics_reader(services: Services, address: Address | None) -> bool:
    """Whether an address may read the metrics without a token."""
    if address is None:
        return False
    return address.is_loopback or any(address in network for network in services.options.metrics_allow)


_EVERYBODY: Final = frozenset({AGENT, SUPERVISOR, ADMIN, CRM})
_STAFF: Final = frozenset({AGENT, SUPERVISOR, ADMIN})

_SEQ: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": _LAST_SEQ}
_BAD: Final = "something in the request is not as described here"

_WHICH_CALLS: Final = (
    Parameter("since", TIME, "calls that started then or later; a time or a date, UTC without a zone"),
    Parameter("until", TIME, "calls that started before"),
    Parameter("number", NUMBER, "on either side; a telephone number or an internal one"),
    Parameter("agent", TEXT, "the id of an agent who talked, or was offered the call"),
    Parameter("party", TEXT, "a party's id"),
    Parameter("direction", SCHEMAS["Call"]["properties"]["direction"], "which way"),
    Parameter(
        "outcome",
        {"type": "string", "enum": [*SCHEMAS["Call"]["properties"]["outcome"]["enum"][:-1]]},
        "what came of it",
    ),
)

ROUTES: Final[tuple[Route, ...]] = (
    *page.ROUTES,
    Route("GET", "/openapi.json", description, "This document"),
    Route(
        "GET",
        "/healthz",
        healthz,
        "Whether the server is well, part by part",
        answers=("application/json", named("Health")),
        also={503: "some part is not well"},
    ),
    Route(
        "GET",
        "/readyz",
        readyz,
        "Whether the server can take calls, part by part",
        "`ami.*` are shown, but need not be up: calls are routed without them.",
        answers=("application/json", named("Health")),
        also={503: "the store or FastAGI is not ready"},
    ),
    Route(
        "GET",
        "/metrics",
        metrics,
        "Figures for Prometheus",
        "From loopback and the networks in `metrics_allow` no token is asked for.",
        roles=_EVERYBODY,
        scope="metrics",
        without_token=metrics_reader,
        answers=(CONTENT_TYPE, STRING),
    ),
    Route(
        "GET",
        "/api/v1/calls",
        calls,
        "The call log, newest first",
        "An agent gets the calls that they talked in or were offered.",
        roles=_EVERYBODY,
        audited=True,
        query=(*_WHICH_CALLS, limit(500), CURSOR),
        answers=("application/json", named("CallPage")),
        problems={422: _BAD},
    ),
    *(
        Route(
            "GET",
            f"/api/v1/calls.{ending}",
            handler,
            f"The whole call log, newest first, as {what}",
            "Sent while it is read, as fast as it is taken. A connection that is closed before the end has not sent"
            " all. No limit but the times asked for.",
            roles=frozenset({SUPERVISOR, ADMIN, CRM}),
            audited=True,
            query=_WHICH_CALLS,
            answers=(form.MEDIA_TYPE, STRING),
            problems={422: _BAD, 503: "too many at once"},
        )
        for ending, what, form, handler in (
            ("csv", "CSV", CallsAsCsv, calls_as_csv),
            ("jsonl", "lines of JSON", CallsAsLines, calls_as_lines),
        )
    ),
    Route(
        "GET",
        "/api/v1/calls/{id}",
        call,
        "One call with all that belongs to it",
        roles=_EVERYBODY,
        audited=True,
        answers=("application/json", named("CallDetail")),
        problems={404: "no such call, or an agent who took no part in it"},
    ),
    Route(
        "GET",
        "/api/v1/gaps",
        gaps,
        "When an Asterisk was not heard, newest first: what the call log may lack",
        "`recovered` is how many calls were made up for out of its call records; null where they could not be read.",
        roles=frozenset({SUPERVISOR, ADMIN, CRM}),
        query=(
            Parameter("since", TIME, "gaps that ended then or later"),
            Parameter("until", TIME, "gaps that began before"),
            limit(500),
            CURSOR,
        ),
        answers=("application/json", named("Gaps")),
        problems={422: _BAD},
    ),
    Route(
        "GET",
        "/api/v1/agents",
        agents,
        "Who is there; an agent gets themselves",
        roles=_STAFF,
        answers=("application/json", named("Agents")),
    ),
    Route(
        "PATCH",
        "/api/v1/agents/{id}",
        change_agent,
        "Log an agent in or out, pause them, say which phone they sit at, or what they are good at",
        "An agent changes only themselves, and not their `skills`, which are replaced as a whole."
        " `offered`, `busy` and `wrap_up` follow from calls; a new state ends a"
        " wrap-up.",
        roles=_STAFF,
        body=SCHEMAS["AgentChange"],
        answers=("application/json", named("Agent")),
        problems={404: "no such agent", 422: _BAD},
    ),
    Route(
        "POST",
        "/api/v1/explain",
        explain,
        "Where a call would go, and why; nothing is changed",
        roles=frozenset({SUPERVISOR, ADMIN, CRM}),
        body=SCHEMAS["DryRun"],
        answers=("application/json", named("Explanation")),
        problems={422: _BAD},
    ),
    Route(
        "GET",
        "/api/v1/events",
        events,
        "Server-Sent Events, numbered in commit order",
        "`Last-Event-ID` (or `after`) resumes with nothing lost and nothing twice; past what is kept, the stream"
        " starts with a `reset` that names the oldest event there is. Without it the stream begins now. Agents"
        " get what is meant for them, a CRM `call.*`, others all.",
        roles=_EVERYBODY,
        scope="events",
        query=(
            Parameter("after", _SEQ, "the number of the last event received"),
            Parameter(
                "types",
                {"type": "string", "minLength": 1, "maxLength": 400, "examples": ["call.ended,call.missed"]},
                "only these, by commas",
            ),
        ),
        headers=(
            Parameter(
                "Last-Event-ID", _SEQ, "the same; browsers send it by themselves, and it goes before `after`"
            ),
        ),
        answers=("text/event-stream", named("Event")),
        problems={422: _BAD, 503: "too many streams"},
    ),
    *search.ROUTES,
    *softphones.ROUTES,
    *call_control.ROUTES,
    *desk.ROUTES,
    *doors.ROUTES,
    *callbacks.ROUTES,
    *numbers.ROUTES,
    *directory.ROUTES,
    *privacy.ROUTES,
    *reports.ROUTES,
    *outbox.ROUTES,
)


@cache
def _description() -> bytes:
    return orjson.dumps(openapi.document(ROUTES, __version__))


def _health(components: Mapping[str, Component]) -> Answer:
    parts = {name: {"ok": part.ok, "detail": part.detail} for name, part in components.items()}
    ok = all(part.ok for part in components.values() if part.needed)
    return Answer(orjson.dumps({"ok": ok, "components": parts}), 200 if ok else 503)


def _agent_json(services: Services, view: AgentView) -> dict[str, Any]:
    pause = pause_json(view, services.options.pauses(), services.clock.seconds())
    return agent_json(view) | {"why_not": view.why_not, "phone": view.phone, "pause": pause}


def _which(services: Services, asked: Asked) -> CallFilter:
    query = asked.query
    return CallFilter(
        since=_time(query.get("since")),
        until=_time(query.get("until")),
        number=_number(services, query.get("number")),
        agent=_agent_filter(asked.identity, query.get("agent")),
        party=query.get("party"),
        direction=query.get("direction"),
        outcome=query.get("outcome"),
    )


def _agent_filter(who: Identity, wanted: str | None) -> str | None:
    if who.role != AGENT:
        return wanted
    own = own_agent(who)
    if wanted not in (None, own):
        raise Problem(403, "an agent sees only calls they took part in; leave `agent` out")
    return own


def _time(text: str | None) -> float | None:
    return None if text is None else moment(text)


def _number(services: Services, raw: str | None) -> str | None:
    if raw is None:
        return None
    number = services.numbers.parse(raw)
    if number.dialable is None:
        raise not_a_number()
    return number.dialable


def _resume_after(asked: Asked) -> int | None:
    # A browser that connects again repeats the URL with its old `after`, and knows better by the header.
    last: int | None = asked.headers.get("Last-Event-ID", asked.query.get("after"))
    return last
