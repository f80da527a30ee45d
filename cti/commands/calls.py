"""`cti calls`: the call log, newest first, page by page, so that a year of it needs no more memory than a day."""

import sys
from argparse import Namespace
from collections.abc import Iterator

import orjson

from cti.calls.present import CALL_COLUMNS, call_json, call_row
from cti.commands import CommandFailed, WrongUse
from cti.commands.configuration import configuration, reading
from cti.commands.output import (
    json_text,
    local,
    local_moment,
    printable,
    say,
    seconds,
    write_csv,
    write_table,
)
from cti.metrics import DIRECTIONS, OUTCOMES
from cti.numbers import NumberKind
from cti.settings import Settings
from cti.store.base import CallFilter
from cti.store.queries import Reader
from cti.store.records import CallRecord
from routing.words import unknown

_PAGE = 1000
_GAPS_LOOKED_AT, _GAPS_SHOWN = 100, 3
_HEAD = ("STARTED", "DIRECTION", "FROM", "PARTY", "TO", "SERVICE", "AGENT", "OUTCOME", "WAIT", "TALK", "ID")


def list_calls(arguments: Namespace) -> int:
    settings = configuration(arguments)
    where = _filter(arguments, settings)
    with reading(settings) as reader:
        if reader is None:
            raise CommandFailed("there is no call log yet: the store is made when `cti serve` first runs")
        found = _Found(reader, where, sys.maxsize if arguments.all else arguments.limit)
        if arguments.format == "json":
            _write_json(found)
        elif arguments.format == "jsonl":
            for call in found:
                sys.stdout.write(orjson.dumps(call_json(call)).decode() + "\n")
        elif arguments.format == "csv":
            write_csv(CALL_COLUMNS, map(call_row, found))
        else:
            rows = [_row(call) for call in found]
            write_table(_HEAD, rows)
            _say_gaps(reader, where)
            if found.following is not None:
                say(f"these are the newest {len(rows)}; --limit N shows more, --since and --until others")
    return 0


class _Found:
    """The calls, each once; `following` says afterwards whether there are more."""

    def __init__(self, reader: Reader, where: CallFilter, limit: int) -> None:
        self.following: str | None = None
        self._reader = reader
        self._where = where
        self._limit = limit

    def __iter__(self) -> Iterator[CallRecord]:
        left = self._limit
        while left > 0:
            page, self.following = self._reader.calls(self._where, min(left, _PAGE), self.following)
            yield from page
            left -= len(page)
            if self.following is None:
                return


def _write_json(found: _Found) -> None:
    """As `GET /api/v1/calls` answers, written as it is read."""
    before = '{"calls": ['
    for call in found:
        sys.stdout.write(before + json_text(call_json(call)))
        before = ","
    if before != ",":
        sys.stdout.write(before)
    sys.stdout.write(f'],\n"next": {json_text(found.following)}}}\n')


def _say_gaps(reader: Reader, where: CallFilter) -> None:
    """What the list may lack, as far as anybody can say."""
    found, _ = reader.gaps(where.since, where.until, _GAPS_LOOKED_AT)
    open_gaps = [gap for gap in found if gap.recovered is None]
    for gap in open_gaps[:_GAPS_SHOWN]:
        say(
            f"from {local(gap.since)} to {local(gap.until)} Asterisk {gap.pbx} was not heard: calls that did not"
            f" pass our dialplan then may be missing ({gap.why})"
        )
    if len(open_gaps) > _GAPS_SHOWN:
        say(f"and {len(open_gaps) - _GAPS_SHOWN} or more such times; GET /api/v1/gaps has them all")


def _filter(arguments: Namespace, settings: Settings) -> CallFilter:
    for what, word, known in (
        ("direction", arguments.direction, DIRECTIONS),
        ("outcome", arguments.outcome, OUTCOMES),
    ):
        if word is not None and word not in known:
            raise WrongUse(unknown(what, word, known))
    return CallFilter(
        since=local_moment(arguments.since),
        until=local_moment(arguments.until),
        number=_number(arguments.number, settings),
        agent=arguments.agent,
        party=arguments.party,
        direction=arguments.direction,
        outcome=arguments.outcome,
    )


def _number(written: str | None, settings: Settings) -> str | None:
    if written is None:
        return None
    number = settings.plan.parse(written)
    if number.kind is NumberKind.INTERNAL:
        return number.raw
    if number.e164 is None:
        raise WrongUse(
            f'--number "{printable(number.raw)}" is not a telephone number;'
            " one is written like +4915228817386 or 0152 28817386"
        )
    return number.e164


def _row(call: CallRecord) -> tuple[object, ...]:
    values = dict(zip(CALL_COLUMNS, call_row(call), strict=True))
    times = call_json(call)
    return (
        local(call.started),
        call.direction,
        call.from_number or call.from_raw or call.from_kind,
        values["party"],
        values["to"],
        call.service,
        call.agent,
        call.outcome or f"({call.state})",
        seconds(times["wait"]),
        seconds(times["talk"]),
        call.id,
    )
