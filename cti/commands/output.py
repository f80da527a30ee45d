"""How commands write: tables and times for people on stdout, JSON and CSV for programs, remarks on stderr."""

import csv
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from cti.calls.present import harmless, moment
from cti.commands import WrongUse

_CELL_LIMIT: Final = 40


def say(text: str) -> None:
    """A remark for who typed the command."""
    print(f"cti: {text}", file=sys.stderr)


def write_json(document: Any) -> None:
    sys.stdout.write(json_text(document) + "\n")


def json_text(document: Any) -> str:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()


def write_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns below each other, on terminals of two-column characters too; long cells are cut."""
    cells = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())


def write_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """A line for each name and text, the texts below each other."""
    listed = list(pairs)
    width = max((len(name) for name, _ in listed), default=0)
    for name, text in listed:
        print(f"{name:<{width}}  {printable(text)}".rstrip())


def write_csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """RFC 4180, as spreadsheets read it. A text that they would run as a formula gets a ' in front."""
    writer = csv.writer(sys.stdout)
    writer.writerow(head)
    for row in rows:
        writer.writerow([harmless(cell) for cell in row])


def printable(text: str) -> str:
    """`text` without what would move the cursor or colour the terminal: a caller's name is anybody's."""
    return "".join(character if character.isprintable() else "�" for character in text)


def local(at: float | None) -> str:
    """A time for people: local, to the second; nothing for None."""
    return "" if at is None else f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S}"


def local_moment(text: str | None) -> float | None:
    """Epoch seconds of an ISO 8601 date or time that somebody typed, local where it names no zone."""
    if text is None:
        return None
    try:
        at = moment(text)
        written = datetime.fromisoformat(text)
        return at if written.tzinfo is not None else written.timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise WrongUse(str(error)) from error


def seconds(duration: float | None) -> str:
    """A duration for people: `75:03`, minutes and seconds; nothing for None."""
    return "" if duration is None else f"{int(duration) // 60}:{int(duration) % 60:02}"


def _cell(value: object) -> str:
    text = "" if value is None else printable(str(value))
    return text if len(text) <= _CELL_LIMIT else text[: _CELL_LIMIT - 1] + "…"


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text
    )
