"""A report: what was counted, piece by piece of a span, as rows with measures.

The store is asked for a day at most at a time, so that a report over years holds nobody up: between two questions
everybody else gets theirs, and who gives up waiting stops it there.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import partial, reduce
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson
from attrs import field, frozen

from cti.reports.calendar import WEEKDAYS, By, Piece, local, pieces
from cti.reports.measures import AGENT_MEASURES, CALL_MEASURES, TEAM_MEASURES, Counts, Measure, Value
from cti.settings import Settings
from cti.store.counts import CallCount, Count, MadeCount, OfferCount, PeriodCount, Row

#: Fewer agents than this are no team: its figures would be one person's.
LEAST_TEAM: Final = 3
#: No service, in a report by service.
NO_SERVICE: Final = ""

#: Asks the store (`IStore.counted`).
Ask = Callable[[Count, float, float], Awaitable[Sequence[Row]]]


class Kind(StrEnum):
    """Which report."""

    CALLS = "calls"
    AGENTS = "agents"
    TEAM = "team"


@frozen
class Levels:
    """`within`: the threshold of the service level of each service that has its own, `otherwise` of all others.

    `short`: who leaves sooner gave up at once. All in seconds.
    """

    otherwise: float = 20.0
    within: Mapping[str, float] = field(factory=dict)
    short: float = 5.0

    @classmethod
    def of(cls, settings: Settings) -> "Levels":
        own = {
            name: float(service.service_level)
            for name, service in settings.services.items()
            if service.service_level is not None
        }
        return cls(settings.reports.service_level, own, settings.reports.short)

    def said(self) -> str:
        """In words, for a definition."""
        own = ", ".join(f"{name} {seconds:g} s" for name, seconds in sorted(self.within.items()))
        return f"{self.otherwise:g} s; {own}" if own else f"{self.otherwise:g} s"


@frozen
class Question:
    """What a report is to say. `service` and `agent`: only of these; `direction`: only calls of this direction.

    `by_service`: a row for each service, not one for all.
    """

    kind: Kind
    since: float
    until: float
    zone: ZoneInfo
    by: By = By.TOTAL
    by_service: bool = True
    service: str | None = None
    agent: str | None = None
    direction: str | None = "inbound"


@frozen
class ReportRow:
    """Figures of a piece of time (`label`), `since` and `until` its ends if it is one piece.

    `of`: the service or the agent; None for all. A figure is None where there is nothing to tell.
    """

    label: str
    since: float | None
    until: float | None
    of: str | None
    figures: Mapping[str, Value]


@frozen
class Report:
    """`of`: what `ReportRow.of` names, `service` or `agent`; None where rows name nothing. `total`: of all rows."""

    question: Question
    measures: Sequence[Measure]
    of: str | None
    rows: Sequence[ReportRow]
    total: Mapping[str, Value]
    levels: Levels

    def definitions(self) -> dict[str, dict[str, str]]:
        """What each measure means, with the thresholds that it was counted with."""
        return definitions(self.measures, self.levels)


def definitions(measures: Iterable[Measure], levels: Levels) -> dict[str, dict[str, str]]:
    """What measures are called and mean, by their names."""
    words = {"levels": levels.said(), "short": f"{levels.short:g}"}
    return {
        measure.name: {
            "title": measure.title,
            "unit": str(measure.unit),
            # Not by `format`, to which a service's name would be no text.
            "definition": reduce(
                lambda text, word: text.replace(f"{{{word}}}", words[word]), words, measure.definition
            ),
        }
        for measure in measures
    }


async def make_report(
    question: Question, levels: Levels, ask: Ask, *, hide_small_teams: bool = True
) -> Report:
    """Raises `TooManyPieces`, and what `ask` does.

    `hide_small_teams`: of fewer agents than `LEAST_TEAM`, a team's times are not told.
    """
    counters = _counters(question, levels)
    found: dict[str, tuple[list[Piece], dict[str | None, Counts]]] = {}
    for piece in pieces(question.since, question.until, question.by, question.zone):
        parts, groups = found.setdefault(piece.label, ([], {}))
        parts.append(piece)
        for count, sort in counters:
            for group, counts in sort(await ask(count, piece.since, piece.until)):
                groups.setdefault(group, Counts()).add(counts)
    least = LEAST_TEAM if question.kind is Kind.TEAM and hide_small_teams else 0
    figures = partial(_figures, MEASURES[question.kind], least)
    together = question.by in _IN_ORDER
    whole: dict[str | None, Counts] = {}
    rows: list[ReportRow] = []
    for label in _labels(question.by, found):
        parts, groups = found[label]
        for group, counts in groups.items():
            whole.setdefault(group, Counts()).add(counts)
        since, until = (None, None) if together else (parts[0].since, parts[-1].until)
        for group, counts in _shown(question, groups):
            rows.append(ReportRow(label, since, until, group, figures(counts)))
    return Report(
        question,
        MEASURES[question.kind],
        _OF[question.kind] if question.kind is not Kind.CALLS or question.by_service else None,
        rows,
        figures(_all_of(whole)),
        levels,
    )


def _shown(question: Question, groups: Mapping[str | None, Counts]) -> Iterable[tuple[str | None, Counts]]:
    """The groups that get a row, in order; of what has no groups, one, also where nothing was counted."""
    if question.kind is Kind.AGENTS or (question.kind is Kind.CALLS and question.by_service):
        return sorted(groups.items(), key=lambda item: item[0] or "")
    return [(None, _all_of(groups))]


def _all_of(groups: Mapping[str | None, Counts]) -> Counts:
    whole = Counts()
    for counts in groups.values():
        whole.add(counts)
    whole["agents"] = len(groups)
    return whole


def _figures(measures: Sequence[Measure], least: int, counts: Counts) -> dict[str, Value]:
    hidden = 0 < counts["agents"] < least
    return {
        measure.name: None if hidden and measure.name != "agents" else measure.of(counts)
        for measure in measures
    }


# Out of the store's rows.

_Sort = Callable[[Sequence[Row]], Iterator[tuple[str | None, Counts]]]


def _counters(question: Question, levels: Levels) -> list[tuple[Count, _Sort]]:
    if question.kind is Kind.CALLS:
        return [
            (CallCount(levels.within, levels.otherwise, levels.short), partial(_calls, question)),
        ]
    times: tuple[Count, _Sort] = (PeriodCount(), partial(_times, question))
    if question.kind is Kind.TEAM:
        return [times]
    return [(OfferCount(), partial(_offers, question)), (MadeCount(), partial(_made, question)), times]


def _calls(question: Question, rows: Sequence[Row]) -> Iterator[tuple[str | None, Counts]]:
    for service, direction, outcome, calls, waited, longest, talk, wrap_up, within, short, knew in rows:
        if question.direction not in (None, direction) or question.service not in (None, service):
            continue
        counts = Counts({"calls": calls, outcome or "open": calls})
        if outcome is not None:
            counts["wrap_up"] = wrap_up or 0.0
        if outcome == "answered":
            counts |= {"wait": waited or 0.0, "longest_wait": longest or 0.0, "talk": talk or 0.0}
            counts |= {"within": within, "knew": knew}
        elif outcome in ("missed", "abandoned"):
            counts |= {"wait_lost": waited or 0.0, "short": short}
        yield (service or NO_SERVICE) if question.by_service else None, counts


def _offers(question: Question, rows: Sequence[Row]) -> Iterator[tuple[str | None, Counts]]:
    for service, offered, by, result, offers, answered, talk, wrap_up in rows:
        if question.service not in (None, service):
            continue
        # One that is still open is no offer that came to anything yet.
        over = offers if result is not None else answered
        for agent in dict.fromkeys((*orjson.loads(offered), *([] if by is None else [by]))):
            if question.agent not in (None, agent):
                continue
            counts = Counts({"offers": over})
            counts[_NOT_ANSWERED.get(result, "not_reached")] += over - answered
            if agent == by:
                counts |= {"taken": answered, "talk": talk or 0.0, "wrap_up": wrap_up or 0.0}
            else:
                counts["taken_by_others"] = answered
            yield agent, counts


def _made(question: Question, rows: Sequence[Row]) -> Iterator[tuple[str | None, Counts]]:
    for agent, calls, reached, talk in rows:
        if question.agent in (None, agent):
            yield agent, Counts({"made": calls, "reached": reached, "made_talk": talk or 0.0})


def _times(question: Question, rows: Sequence[Row]) -> Iterator[tuple[str | None, Counts]]:
    for agent, state, seconds in rows:
        if question.agent in (None, agent):
            yield agent, Counts({f"{state}_time": seconds})


_NOT_ANSWERED: Final[Mapping[str, str]] = {"no_answer": "not_taken", "abandoned": "caller_left"}
MEASURES: Final[Mapping[Kind, Sequence[Measure]]] = {
    Kind.CALLS: CALL_MEASURES,
    Kind.AGENTS: AGENT_MEASURES,
    Kind.TEAM: TEAM_MEASURES,
}
_OF: Final[Mapping[Kind, str | None]] = {Kind.CALLS: "service", Kind.AGENTS: "agent", Kind.TEAM: None}
#: Labels that come again, in the order in which people read them.
_IN_ORDER: Final[Mapping[By, Sequence[str]]] = {
    By.HOUR_OF_DAY: tuple(f"{hour:02d}" for hour in range(24)),
    By.WEEKDAY: WEEKDAYS,
}


def _labels(by: By, found: Mapping[str, object]) -> list[str]:
    return [label for label in _IN_ORDER[by] if label in found] if by in _IN_ORDER else list(found)


# As it is written.


def report_json(report: Report) -> dict[str, Any]:
    """The whole report, with what its measures mean."""
    question = report.question
    return {
        "report": str(question.kind),
        "since": local(question.since, question.zone),
        "until": local(question.until, question.zone),
        "time_zone": question.zone.key,
        "by": str(question.by),
        **({"direction": question.direction} if question.kind is Kind.CALLS else {}),
        **({"service": question.service} if question.service is not None else {}),
        "rows": [
            {
                "label": row.label,
                **({} if row.since is None else {"since": local(row.since, question.zone)}),
                **({} if row.until is None else {"until": local(row.until, question.zone)}),
                **({} if report.of is None else {report.of: row.of}),
                **row.figures,
            }
            for row in report.rows
        ],
        "total": dict(report.total),
        "measures": report.definitions(),
    }


def report_table(report: Report) -> tuple[list[str], list[list[str | int | float | None]]]:
    """Head and rows, a row for the total last; shares as numbers from 0 to 1."""
    head = [str(report.question.by), *([] if report.of is None else [report.of])]
    names = [measure.name for measure in report.measures]
    rows: list[list[str | int | float | None]] = [
        [row.label, *([] if report.of is None else [row.of]), *(row.figures[name] for name in names)]
        for row in report.rows
    ]
    rows.append(["total", *([] if report.of is None else [None]), *(report.total[name] for name in names)])
    return [*head, *names], rows
