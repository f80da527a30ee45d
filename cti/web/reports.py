"""Reports over the API: as JSON with the definitions of their measures, as CSV, and as a picture.

What is counted, and how, is the business of `cti.reports`; who may see figures of single agents is settled here.
"""

import csv
import io
from collections.abc import Callable
from functools import partial
from typing import Final

from cti.metrics import DIRECTIONS
from cti.reports.calendar import By, TooManyPieces, instant, zone_named
from cti.reports.desk import TooManyReports
from cti.reports.plot import TooManyBars, svg
from cti.reports.report import (
    MEASURES,
    Kind,
    Question,
    Report,
    definitions,
    report_json,
    report_table,
)
from cti.web.problems import Problem
from cti.web.routing_table import Answer, Asked, Handler, Parameter, Route, json_answer, own_agent
from cti.web.schema import Schema
from cti.web.services import Services
from cti.web.shapes import STRING, TEXT, TIME, listed, record
from cti.web.tokens import ADMIN, AGENT, SUPERVISOR

#: Seconds that a report over many years may take.
REPORT_SECONDS: Final = 120.0
#: A day ahead is as far as anything can have been counted, whatever the time zone.
_AHEAD: Final = 86_400.0
_WEEK: Final = 7 * 86_400.0

AGENTS_OFF: Final = (
    "figures of single agents are off: in many countries they need an agreement with those whose work they measure;"
    " `reports: {agents: true}` in the configuration turns them on, and /api/v1/reports/team has no names"
)


async def measures(services: Services, _asked: Asked) -> Answer:
    levels = services.reports.levels()
    return json_answer({str(kind): definitions(each, levels) for kind, each in MEASURES.items()})


async def _report(kind: Kind, services: Services, asked: Asked) -> Report:
    who, query = asked.identity, asked.query
    agent = query.get("agent")
    if who.role == AGENT:
        # Their own are nobody's surveillance.
        if agent not in (None, own_agent(who)):
            raise Problem(403, "an agent sees their own figures; leave `agent` out")
        agent = own_agent(who)
    elif kind is Kind.AGENTS and not services.options.reports().agents:
        raise Problem(403, AGENTS_OFF, kind="agent-reports-off")
    given = {name: query[name] for name in ("since", "until") if name in query}
    try:
        zone = zone_named(query["time_zone"]) if "time_zone" in query else services.options.reports().zone
        times = {name: instant(text, zone) for name, text in given.items()}
    except ValueError as error:
        raise Problem(422, str(error)) from error
    now = services.clock.seconds()
    until = min(times.get("until", now), now + _AHEAD)
    since = max(times.get("since", until - _WEEK), 0.0)
    if since >= until:
        raise Problem(422, "since: is not before until, and before now; an earlier time would be right")
    question = Question(
        kind,
        since,
        until,
        zone,
        By(query["by"]),
        by_service=query.get("by_service", False),
        service=query.get("service"),
        agent=agent,
        direction=query.get("direction"),
    )
    try:
        return await services.reports.make(question, hide_small_teams=not services.options.reports().agents)
    except TooManyPieces as error:
        raise Problem(422, f"by: {error}") from error
    except TooManyReports as error:
        raise Problem(503, str(error), headers={"Retry-After": "5"}, kind="too-many-reports") from error


def _as_json(report: Report) -> Answer:
    return json_answer(report_json(report))


def _as_csv(report: Report) -> Answer:
    text = io.StringIO()
    head, rows = report_table(report)
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows(rows)
    return Answer(
        text.getvalue().encode(), content_type=CSV, headers={"Link": f'<{_MEASURES}>; rel="describedby"'}
    )


def _as_svg(report: Report) -> Answer:
    try:
        return Answer(svg(report).encode(), content_type=SVG)
    except TooManyBars as error:
        raise Problem(422, f"by: {error}") from error


def _handler(kind: Kind, write: Callable[[Report], Answer]) -> Handler:
    async def handle(services: Services, asked: Asked) -> Answer:
        report = await _report(kind, services, asked)
        # An hour of each day of a year, of hundreds of services: not in the reactor.
        answer: Answer = await services.in_thread(partial(write, report))
        return answer

    return handle


CSV: Final = "text/csv; charset=utf-8"
SVG: Final = "image/svg+xml"
_MEASURES: Final = "/api/v1/reports/measures"
_NAME: Final[Schema] = {**TEXT, "maxLength": 64}
_TIMES: Final = (
    Parameter("since", TIME, "from then on; local to the report without a zone. Without it, a week"),
    Parameter("until", TIME, "before then; without it, now"),
    Parameter(
        "by",
        {"type": "string", "enum": [str(each) for each in By], "default": "day"},
        "a row for each of these",
    ),
    Parameter(
        "time_zone",
        {**_NAME, "examples": ["Europe/Berlin"]},
        "whose hours and days; without it, `reports.time_zone` of the configuration",
    ),
)
_SERVICE: Final = Parameter("service", TEXT, "only this service")
_PARAMETERS: Final = {
    Kind.CALLS: (
        *_TIMES,
        _SERVICE,
        Parameter("by_service", {"type": "boolean", "default": True}, "a row for each service"),
        Parameter(
            "direction",
            {"type": "string", "enum": sorted(DIRECTIONS), "default": "inbound"},
            "only calls of this direction",
        ),
    ),
    Kind.AGENTS: (*_TIMES, _SERVICE, Parameter("agent", TEXT, "only this agent")),
    Kind.TEAM: _TIMES,
}
_ABOUT: Final = {
    Kind.CALLS: ("What became of calls", ""),
    Kind.AGENTS: (
        "What agents' time went into, agent by agent",
        "Off unless `reports.agents` is set; an agent gets themselves, always.",
    ),
    Kind.TEAM: (
        "What all agents' time went into, together",
        "Unless `reports.agents` is set, the times of fewer than three agents are null: they would be one person's.",
    ),
}
_FIGURE: Final[Schema] = {"type": ["string", "number", "null"]}
_REPORT: Final = {
    **record(
        {
            "report": STRING,
            "since": TIME,
            "until": TIME,
            "time_zone": STRING,
            "by": STRING,
            "rows": listed({"type": "object", "additionalProperties": _FIGURE}),
            "total": {"type": "object", "additionalProperties": _FIGURE},
            "measures": {
                "type": "object",
                "additionalProperties": record({"title": STRING, "unit": STRING, "definition": STRING}),
            },
        }
    ),
    "description": "Rows and the total have a figure for each of `measures`; null where there is nothing to tell.",
}
_FORMS: Final[tuple[tuple[str, str, tuple[str, Schema], Callable[[Report], Answer]], ...]] = (
    ("", "", ("application/json", _REPORT), _as_json),
    (".csv", ", as CSV", (CSV, STRING), _as_csv),
    (".svg", ", as a picture", (SVG, STRING), _as_svg),
)

ROUTES: Final = (
    Route(
        "GET",
        _MEASURES,
        measures,
        "What the figures of the reports mean",
        roles=frozenset({AGENT, SUPERVISOR, ADMIN}),
        answers=("application/json", {"type": "object", "additionalProperties": {"type": "object"}}),
    ),
    *(
        Route(
            "GET",
            f"/api/v1/reports/{kind}{ending}",
            _handler(kind, write),
            _ABOUT[kind][0] + how,
            _ABOUT[kind][1],
            roles=frozenset({AGENT, SUPERVISOR, ADMIN} if kind is Kind.AGENTS else {SUPERVISOR, ADMIN}),
            audited=kind is Kind.AGENTS,
            query=_PARAMETERS[kind],
            answers=answers,
            seconds=REPORT_SECONDS,
            problems={422: "something in the request is not as described here", 503: "too many at once"},
        )
        for kind in Kind
        for ending, how, answers, write in _FORMS
    ),
)
