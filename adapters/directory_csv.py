"""Contacts as CSV: how the directory is filled from a file, and written back to one.

A broken line is reported and the rest goes in. Where the contacts are kept is left to ``directory_file``.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from attrs import evolve, frozen

from adapters.base import AdapterError, Party, PartyType
from adapters.directory_file import NUMBERS_LIMIT, Change, Directory, Entry, PartyNumber
from adapters.party import (
    ID_LIMIT,
    NAME_LIMIT,
    NOTES_LIMIT,
    TAGS_LIMIT,
    WORD_LIMIT,
    clean_line,
    clean_text,
    web_url,
)
from cti.numbers import NumberKind, NumberPlan

COLUMNS = ("id", "type", "name", "company", "numbers", "owner", "tier", "language", "tags", "notes", "url")
#: Refused lines that a report tells one by one; more of them are only counted.
REFUSALS_LIMIT = 1000

_LINE_LIMIT = 65_536
# A field in quotes may go over several lines. A quote that somebody forgot to close ends here, too.
_RECORD_LINES = 100
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class ContactFileError(AdapterError):
    """The file as a whole cannot be taken: it is missing, empty, or its first line is not the header."""


@frozen
class Refusal:
    """A line (counted from 1, the header being one) that did not go in, and why."""

    line: int
    why: str


@frozen
class ImportReport:
    """What an import did. ``refused`` has the first ``REFUSALS_LIMIT`` of ``refused_count`` refused lines."""

    added: int
    updated: int
    unchanged: int
    refused: tuple[Refusal, ...]
    refused_count: int

    def as_json(self) -> dict[str, Any]:
        return {
            "added": self.added,
            "updated": self.updated,
            "unchanged": self.unchanged,
            "refused": [{"line": refusal.line, "why": refusal.why} for refusal in self.refused],
            "refused_count": self.refused_count,
        }


def import_csv(directory: Directory, plan: NumberPlan, source: Path | BinaryIO) -> ImportReport:
    """Add or update one party a line, by ``id``; readers see all of it at once, when it is complete.

    The file is UTF-8 (with or without a byte order mark), separated by commas, its first line the names of
    columns, of ``COLUMNS`` in any order. ``id`` has to be there; what a missing column would say stays as it
    is. ``numbers`` and ``tags`` are lists with ``;``. Reasons quote the line: they are for who owns the
    file, not for a log. Raises ``ContactFileError``, and ``DirectoryError`` if that cannot be written.
    """
    with _opened(source, "rb") as stream:
        lines = _Lines(stream)
        header = _header(lines)
        counts = dict.fromkeys(Change, 0)
        refused: list[Refusal] = []
        refused_count = 0
        first_lines: dict[str, int] = {}
        with directory.writing():
            for line, record in _records(lines, len(header)):
                try:
                    cells = _cells(record, header)
                    party_id = cells["id"]
                    if party_id in first_lines:
                        raise _BadLineError(f"id {party_id!r} is already on line {first_lines[party_id]}")
                    entry = _entry(cells, directory.get(party_id), directory.name, plan)
                    first_lines[party_id] = line
                    counts[directory.put(entry)] += 1
                except _BadLineError as error:
                    refused_count += 1
                    if len(refused) < REFUSALS_LIMIT:
                        refused.append(Refusal(line, str(error)))
    return ImportReport(
        counts[Change.ADDED], counts[Change.UPDATED], counts[Change.UNCHANGED], tuple(refused), refused_count
    )


def export_csv(directory: Directory, target: Path | BinaryIO) -> int:
    """Write every party by id, as ``import_csv`` reads it; how many. A new file is its owner's only.

    Raises ``ContactFileError`` if the file cannot be written.
    """
    count = 0
    with _opened(target, "wb") as stream:
        text = io.TextIOWrapper(stream, "utf-8", newline="")
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for entry in directory.entries():
            party = entry.party
            writer.writerow(
                (
                    party.id,
                    party.type.value,
                    party.name,
                    party.company,
                    # What would be taken for two numbers is given as one.
                    ";".join(each.e164 if ";" in each.raw else each.raw for each in entry.numbers),
                    party.owner or "",
                    party.tier or "",
                    party.language or "",
                    ";".join(party.tags),
                    party.notes,
                    party.url or "",
                )
            )
            count += 1
        text.flush()
        text.detach()
    return count


class _BadLineError(Exception):
    """Why one line is refused."""


class _Lines:
    """The file's lines with their numbers; lines can be given back, to be read again."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._number = 0
        self._returned: deque[tuple[int, bytes]] = deque()

    def take(self) -> tuple[int, bytes] | None:
        """The next line with its end; of a line that is too long the beginning. ``None`` at the end."""
        if self._returned:
            return self._returned.popleft()
        line = self._stream.readline(_LINE_LIMIT + 1)
        if not line:
            return None
        self._number += 1
        rest = line
        while len(rest) > _LINE_LIMIT and not rest.endswith(b"\n"):
            rest = self._stream.readline(_LINE_LIMIT + 1)
        if self._number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        return self._number, line

    def give_back(self, lines: Sequence[tuple[int, bytes]]) -> None:
        self._returned.extendleft(reversed(lines))


def _records(lines: _Lines, width: int) -> Iterator[tuple[int, list[str] | _BadLineError]]:
    """Each record's first line, and its cells or what is wrong with it. Empty lines are nothing."""
    while True:
        taken: list[tuple[int, bytes]] = []
        try:
            cells = _read_record(lines, taken)
            if cells is None:
                return
            if len(cells) != width and any(cell.strip() for cell in cells):
                raise _BadLineError(f"it has {len(cells)} columns, and the header {width}")
        except _BadLineError as error:
            # Perhaps a quote was never closed, and has swallowed good lines.
            lines.give_back(taken[1:])
            yield taken[0][0], error
        else:
            if any(cell.strip() for cell in cells):
                yield taken[0][0], cells


def _read_record(lines: _Lines, taken: list[tuple[int, bytes]]) -> list[str] | None:
    def texts() -> Iterator[str]:
        while len(taken) < _RECORD_LINES and (line := lines.take()) is not None:
            taken.append(line)
            yield _decoded(line[1])

    try:
        # The reader takes only as many lines as the record has.
        return next(csv.reader(texts(), strict=True), None)
    except csv.Error as error:
        raise _BadLineError('a field in " is not closed, or a " inside it is not written twice') from error


def _decoded(line: bytes) -> str:
    if len(line) > _LINE_LIMIT:
        raise _BadLineError(f"it has more than {_LINE_LIMIT} bytes")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _BadLineError("it is not UTF-8; save the file as “CSV UTF-8”") from error


def _header(lines: _Lines) -> tuple[str, ...]:
    try:
        cells = _read_record(lines, [])
    except _BadLineError as error:
        raise ContactFileError(f"line 1, the names of the columns: {error}") from error
    if not cells:
        raise ContactFileError(f"the first line is empty; it names the columns: {','.join(COLUMNS)}")
    names = tuple(cell.strip().lower() for cell in cells)
    if len(names) == 1 and (found := re.search(r"[;\t|]", names[0])):
        raise ContactFileError(f"line 1: the columns are separated by {found[0]!r}; separate them by commas")
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise ContactFileError(
            f"line 1: there is no column {_quoted(unknown[0])}; the columns are {','.join(COLUMNS)}"
        )
    doubled = [name for name in COLUMNS if names.count(name) > 1]
    if doubled:
        raise ContactFileError(f"line 1: the column {doubled[0]!r} is there more than once")
    if "id" not in names:
        raise ContactFileError("line 1: the column 'id' is missing, by which a contact is found again")
    return names


def _cells(record: list[str] | _BadLineError, header: Sequence[str]) -> dict[str, str]:
    if isinstance(record, _BadLineError):
        raise record
    cells = {name: cell.strip() for name, cell in zip(header, record, strict=True)}
    cells["id"] = _bounded(cells, "id", ID_LIMIT)
    if not cells["id"]:
        raise _BadLineError("its id is empty")
    return cells


def _entry(cells: Mapping[str, str], known: Entry | None, adapter: str, plan: NumberPlan) -> Entry:
    party = known.party if known is not None else Party(adapter, PartyType.CONTACT, cells["id"])
    party = evolve(party, **{name: read(cells) for name, read in _READERS.items() if name in cells})
    if not party.name:
        raise _BadLineError("its name is empty")
    numbers = known.numbers if known is not None else ()
    if "numbers" in cells:
        numbers = _numbers(cells["numbers"], {number.e164: number.label for number in numbers}, plan)
    return Entry(party, numbers)


def _bounded(cells: Mapping[str, str], name: str, limit: int) -> str:
    # A CRM's text is cut to fit; a file's is refused, because somebody can still mend it.
    if len(cells[name]) > limit:
        raise _BadLineError(f"its {name} has {len(cells[name])} characters, and at most {limit} fit")
    return (clean_text if name == "notes" else clean_line)(cells[name], limit)


def _type(cells: Mapping[str, str]) -> PartyType:
    value = cells["type"].lower() or PartyType.CONTACT
    if value not in set(PartyType):
        raise _BadLineError(f"its type {_quoted(value)} is none of {', '.join(PartyType)}")
    return PartyType(value)


def _language(cells: Mapping[str, str]) -> str | None:
    value = cells["language"]
    if value and (len(value) > WORD_LIMIT or not _LANGUAGE.fullmatch(value)):
        raise _BadLineError(f"its language {_quoted(value)} is no code such as de, en, sl or pt-BR")
    return value or None


def _tags(cells: Mapping[str, str]) -> tuple[str, ...]:
    tags = [tag.strip() for tag in cells["tags"].split(";") if tag.strip()]
    if len(tags) > TAGS_LIMIT:
        raise _BadLineError(f"it has {len(tags)} tags, and at most {TAGS_LIMIT} fit")
    if any(len(tag) > WORD_LIMIT for tag in tags):
        raise _BadLineError(f"a tag of it has more than {WORD_LIMIT} characters")
    return tuple(tags)


def _address(cells: Mapping[str, str]) -> str | None:
    value = cells["url"]
    if value and web_url(value) is None:
        raise _BadLineError("its url is no address that begins with http:// or https://")
    return value or None


#: How each column but ``id`` and ``numbers`` becomes the party's attribute of the same name.
_READERS: Mapping[str, Any] = {
    "type": _type,
    "name": lambda cells: _bounded(cells, "name", NAME_LIMIT),
    "company": lambda cells: _bounded(cells, "company", NAME_LIMIT),
    "owner": lambda cells: _bounded(cells, "owner", ID_LIMIT) or None,
    "tier": lambda cells: _bounded(cells, "tier", WORD_LIMIT) or None,
    "language": _language,
    "tags": _tags,
    "notes": lambda cells: _bounded(cells, "notes", NOTES_LIMIT),
    "url": _address,
}


def _numbers(cell: str, labels: Mapping[str, str | None], plan: NumberPlan) -> tuple[PartyNumber, ...]:
    numbers: dict[str, PartyNumber] = {}
    for text in cell.split(";"):
        if not (written := text.strip()):
            continue
        number = plan.parse(written)
        if number.kind is not NumberKind.E164 or number.e164 is None:
            raise _BadLineError(
                f"its number {_quoted(written)} is no public telephone number; write it like +49 152 28817386"
            )
        numbers.setdefault(number.e164, PartyNumber(number.raw, number.e164, labels.get(number.e164)))
    if len(numbers) > NUMBERS_LIMIT:
        raise _BadLineError(f"it has {len(numbers)} numbers, and at most {NUMBERS_LIMIT} fit")
    return tuple(numbers.values())


def _quoted(text: str) -> str:
    return repr(clean_line(text, WORD_LIMIT))


@contextmanager
def _opened(file: Path | BinaryIO, mode: str) -> Iterator[BinaryIO]:
    if not isinstance(file, Path):
        yield file
        return
    try:
        stream: Any = open(file, mode, opener=lambda path, flags: os.open(path, flags, 0o600))  # noqa: SIM115
    except OSError as error:
        raise ContactFileError(f"{file} cannot be opened: {error.strerror}") from error
    with stream:
        yield stream
