"""`cti report`: figures of calls and of agents' time, as a table with definitions, CSV, JSON or a picture."""

import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cti.commands import CommandFailed, WrongUse
from cti.commands.configuration import configuration, reading
from cti.commands.output import printable, seconds, write_csv, write_json, write_pairs, write_table
from cti.commands.running import run
from cti.metrics import DIRECTIONS
from cti.reports.calendar import By, TooManyPieces, instant, zone_named
from cti.reports.measures import Measure, Unit, Value
from cti.reports.plot import TooManyBars, svg, terminal_bars
from cti.reports.report import (
    MEASURES,
    Kind,
    Levels,
    Question,
    Report,
    definitions,
    make_report,
    report_json,
    report_table,
)
from cti.settings import Settings
from cti.store.counts import Count, Row
from cti.store.queries import Reader
from routing.words import unknown

_DAY: Final = 86_400.0


def report(arguments: Namespace) -> int:
    settings = configuration(arguments)
    if arguments.kind == "measures":
        _explain(Levels.of(settings), arguments.format)
        return 0
    question = _question(arguments, settings)
    with reading(settings) as reader:
        if reader is None:
            raise CommandFailed("there is no call log yet: the store is made when `cti serve` first runs")
        made = _made(question, settings, reader)
    if arguments.plot is not None:
        _plot(made, arguments.plot)
    elif arguments.format == "json":
        write_json(report_json(made))
    elif arguments.format == "csv":
        write_csv(*report_table(made))
    else:
        _tell(made)
    return 0


def _made(question: Question, settings: Settings, reader: Reader) -> Report:
    async def ask(count: Count, since: float, until: float) -> Sequence[Row]:
        return reader.counted(count, since, until)

    async def work(_reactor: Any) -> Report:
        hidden = not settings.reports.agents
        return await make_report(question, Levels.of(settings), ask, hide_small_teams=hidden)

    try:
        return run(work)
    except TooManyPieces as error:
        raise WrongUse(f"--by: {error}") from error


def _question(arguments: Namespace, settings: Settings) -> Question:
    for what, word, known in (
        ("report", arguments.kind, [*map(str, Kind), "measures"]),
        ("span", arguments.by, [str(each) for each in By]),
        ("direction", arguments.direction, DIRECTIONS),
        ("service", arguments.service, settings.services),
    ):
        if word is not None and word not in known:
            raise WrongUse(unknown(what, word, known))
    kind = Kind(arguments.kind)
    if kind is Kind.AGENTS and not settings.reports.agents:
        raise CommandFailed(
            "figures of single agents are off: in many countries they need an agreement with those whose work they"
            " measure; `reports: {agents: true}` turns them on, and `cti report team` has no names"
        )
    now = time.time()
    try:
        zone = settings.reports.zone if arguments.time_zone is None else zone_named(arguments.time_zone)
        until = now if arguments.until is None else min(instant(arguments.until, zone), now + _DAY)
        since = until - 7 * _DAY if arguments.since is None else max(instant(arguments.since, zone), 0.0)
    except ValueError as error:
        raise WrongUse(printable(str(error))) from error
    if since >= until:
        raise WrongUse("--since is not before --until, and before now; an earlier time would be right")
    return Question(
        kind,
        since,
        until,
        zone,
        By(arguments.by),
        by_service=kind is Kind.CALLS and not arguments.together,
        service=arguments.service,
        agent=arguments.agent,
        direction=arguments.direction if kind is Kind.CALLS else None,
    )


def _plot(made: Report, where: str) -> None:
    try:
        if where == "-":
            write_pairs(terminal_bars(made))
        else:
            Path(where).write_text(svg(made), encoding="utf-8")
    except TooManyBars as error:
        raise WrongUse(f"--by: {error}") from error


def _tell(made: Report) -> None:
    shown = [measure for measure in made.measures if measure.brief]
    head, rows = report_table(made)
    first = len(head) - len(made.measures)
    places = [head.index(measure.name) for measure in shown]
    write_table(
        [*(name.upper() for name in head[:first]), *(measure.name.upper() for measure in shown)],
        [
            [
                *row[:first],
                *(_told(measure, row[place]) for measure, place in zip(shown, places, strict=True)),
            ]
            for row in rows
        ],
    )
    print()
    meant = definitions(shown, made.levels)
    write_pairs((name, each["definition"]) for name, each in meant.items())
    print(f"\nDays and hours of {made.question.zone.key}. --format csv and json have all measures.")


def _told(measure: Measure, value: str | Value) -> str:
    if value is None or isinstance(value, str):
        return "" if value is None else value
    if measure.unit is Unit.SECONDS:
        return seconds(value)
    return f"{value:.1%}" if measure.unit is Unit.SHARE else f"{value}"


def _explain(levels: Levels, form: str) -> None:
    meant = {str(kind): definitions(measures, levels) for kind, measures in MEASURES.items()}
    if form == "json":
        write_json(meant)
        return
    head = ("report", "measure", "unit", "definition")
    rows = [
        (kind, name, each["unit"], each["definition"])
        for kind, measures in meant.items()
        for name, each in measures.items()
    ]
    if form == "csv":
        write_csv(head, rows)
    else:
        write_pairs((f"{kind}.{name}", text) for kind, name, _, text in rows)
