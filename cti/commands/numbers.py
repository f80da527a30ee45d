"""`cti numbers`: what stands in a file as telephone numbers becomes keys, and what people read."""

import csv
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from cti.calls.present import number_json
from cti.commands import CommandFailed, WrongUse
from cti.commands.configuration import configuration
from cti.commands.output import say, write_csv, write_json, write_table
from cti.numbers import NumberPlan
from routing.words import unknown

_ADDED: Final = ("e164", "display", "error")


def normalise_numbers(arguments: Namespace) -> int:
    plan = _plan(arguments)
    with _opened(arguments.file) as source:
        try:
            head, rows, place = _rows(source, arguments.column)
            answers = [(row, number_json(row[place], plan)) for row in rows]
        except UnicodeDecodeError as error:
            raise CommandFailed(f"{arguments.file} is not UTF-8; save it as “CSV UTF-8”") from error
        except csv.Error as error:
            raise CommandFailed(f"{arguments.file} is no CSV: {error}") from error
    if arguments.format == "json":
        write_json({"numbers": [answer for _, answer in answers]})
    else:
        write = write_csv if arguments.format == "csv" else write_table
        write(
            [*head, *_ADDED] if arguments.format == "csv" else [name.upper() for name in (*head, *_ADDED)],
            ([*row, *(answer[name] or "" for name in _ADDED)] for row, answer in answers),
        )
    without = sum(answer["e164"] is None for _, answer in answers)
    if without:
        say(f"{without} of {len(answers)} are no public numbers")
    return 1 if without else 0


def _plan(arguments: Namespace) -> NumberPlan:
    if arguments.region is None:
        return configuration(arguments).plan
    try:
        return NumberPlan(arguments.region)
    except ValueError as error:
        raise WrongUse(str(error)) from error


@contextmanager
def _opened(file: str) -> Iterator[TextIO]:
    if file != "-":
        with open(file, encoding="utf-8-sig", newline="") as stream:
            yield stream
        return
    # The terminal's own encoding may be another, and would not say so.
    reconfigure = getattr(sys.stdin, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(encoding="utf-8-sig", errors="strict")
    yield sys.stdin


def _rows(source: TextIO, column: str | None) -> tuple[list[str], Iterator[list[str]], int]:
    """The head, the rows, and the place of the number in each."""
    if column is None:
        return ["raw"], ([line.strip()] for line in source if line.strip()), 0
    reader = csv.reader(source, strict=True)
    head = next(reader, [])
    if column not in head:
        raise WrongUse(unknown("column", column, head))
    # A short row has empty cells in its place, as spreadsheets leave them out.
    rows = ([*row, *[""] * (len(head) - len(row))][: len(head)] for row in reader if any(row))
    return head, rows, head.index(column)
