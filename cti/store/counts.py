"""What can be counted in the central log: one SQL statement for each question of a report, over one span of time.

Each gives a few rows for however many calls, so that a thread of the store's is held for as long as the database
takes and no longer; what the figures mean, and which spans are asked for, is the business of `cti.reports`. The SQL
is understood by SQLite and PostgreSQL.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

Row = Sequence[Any]

#: A period is no longer than this (seconds), by the statement that ends it.
LONGEST_PERIOD = 3660.0


class Count(Protocol):
    """A question of a report."""

    def statement(self, since: float, until: float) -> tuple[str, Row]:
        """SQL and its parameters, for what began at `since` or later, and before `until` (epoch seconds)."""


@frozen
class CallCount:
    """Calls by service, direction and outcome (None: not over yet), of those that started in the span.

    Rows: service, direction, outcome, calls, seconds waited, the longest of them, seconds talked, seconds written up,
    answered within the threshold, given up in less than `short` seconds, answered by who knew the caller. A wait is
    until the answer, or else the end. `within`: thresholds of services (seconds), `otherwise` of all others.
    """

    within: Mapping[str, float]
    otherwise: float
    short: float

    def statement(self, since: float, until: float) -> tuple[str, Row]:
        levels: list[Any] = []
        level = "CAST(? AS DOUBLE PRECISION)"
        if self.within:
            level = f"CASE service {f'WHEN ? THEN {level} ' * len(self.within)}ELSE {level} END"
            levels += [value for service in self.within.items() for value in service]
        sql = (
            "SELECT service, direction, outcome, COUNT(*), SUM(waited), MAX(waited), SUM(talked), SUM(wrap_up),"
            " COUNT(CASE WHEN answered IS NOT NULL AND waited <= level THEN 1 END),"
            " COUNT(CASE WHEN answered IS NULL AND waited < CAST(? AS DOUBLE PRECISION) THEN 1 END), COUNT(knew)"
            " FROM (SELECT service, direction, outcome, answered, wrap_up, knew,"
            " CASE WHEN COALESCE(answered, ended) < started THEN 0.0 ELSE COALESCE(answered, ended) - started END"
            " AS waited,"
            " CASE WHEN ended < answered THEN 0.0 ELSE ended - answered END AS talked,"
            f" {level} AS level"
            " FROM calls WHERE started >= ? AND started < ?) AS each_call"
            " GROUP BY service, direction, outcome"
        )
        return sql, (self.short, *levels, self.otherwise, since, until)


@frozen
class OfferCount:
    """Offers of calls that started in the span, by who was offered them (JSON), who took them and what came of them.

    Rows: service, agents, agent, result, offers, answered, seconds talked, seconds written up.
    """

    def statement(self, since: float, until: float) -> tuple[str, Row]:
        sql = (
            "SELECT segments.service, segments.agents, segments.agent, segments.result, COUNT(*),"
            " COUNT(segments.answered), SUM(CASE WHEN segments.ended < segments.answered THEN 0.0"
            " ELSE segments.ended - segments.answered END), SUM(segments.wrap_up)"
            " FROM calls JOIN segments ON segments.call = calls.id"
            " WHERE calls.started >= ? AND calls.started < ?"
            " GROUP BY segments.service, segments.agents, segments.agent, segments.result"
        )
        return sql, (since, until)


@frozen
class MadeCount:
    """Outgoing calls that started in the span, by who made them. Rows: agent, calls, answered, seconds talked."""

    def statement(self, since: float, until: float) -> tuple[str, Row]:
        sql = (
            "SELECT agent, COUNT(*), COUNT(answered),"
            " SUM(CASE WHEN ended < answered THEN 0.0 ELSE ended - answered END)"
            " FROM calls WHERE started >= ? AND started < ? AND direction = 'outbound' AND agent IS NOT NULL"
            " GROUP BY agent"
        )
        return sql, (since, until)


@frozen
class PeriodCount:
    """Agents' time in the span, cut off at its ends. Rows: agent, state, seconds.

    What goes on is counted until the last sign of life of a server, which is a few seconds ago, or when it died.
    """

    def statement(self, since: float, until: float) -> tuple[str, Row]:
        sql = (
            "SELECT agent, state, SUM(CASE WHEN stop < ? THEN stop ELSE ? END"
            " - CASE WHEN began > ? THEN began ELSE ? END)"
            " FROM (SELECT agent, state, began, ended AS stop FROM periods"
            " WHERE ended IS NOT NULL AND ended > ? AND ended < ?"
            " UNION ALL SELECT agent, state, began, (SELECT MAX(seen) FROM lives) AS stop FROM periods"
            " WHERE ended IS NULL) AS held"
            " WHERE began < ? AND stop > ? AND stop > began GROUP BY agent, state"
        )
        beyond = until + LONGEST_PERIOD + 1.0
        return sql, (until, until, since, since, since, beyond, until, since)
