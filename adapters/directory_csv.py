"""Contacts as CSV: what each column means, and how a line becomes a party and a party a line.

What becomes of a broken line is told in ``contact_files``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from attrs import evolve

from adapters.base import Party, PartyType
from adapters.contact_files import (
    LINE_LIMIT,
    BadLineError,
    ContactFileError,
    ImportReport,
    Intake,
    Lines,
    Progress,
    each_once,
    number_of,
    opened,
    quoted,
    watched,
)
from adapters.directory_file import Directory, Entry, PartyKey
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
from cti.numbers import NumberPlan

COLUMNS = ("id", "type", "name", "company", "numbers", "owner", "tier", "language", "tags", "notes", "url")
#: Written only where somebody has them, and read wherever they stand; so are keys, by their names.
MORE_COLUMNS: Final = ("organisation", "balance", "dunning")

# A field in quotes may go over several lines. A quote that somebody forgot to close ends here, too.
_RECORD_LINES = 100
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")


def import_csv(
    directory: Directory,
    plan: NumberPlan,
    source: Path | BinaryIO,
    *,
    keys: Sequence[str] = (),
    progress: Progress | None = None,
) -> ImportReport:
    """Add or update one party a line, by ``id``; readers see all of it at once, when it is complete.

    The file is UTF-8 (with or without a byte order mark), separated by commas, its first line the names of
    columns, of ``COLUMNS``, ``MORE_COLUMNS`` and ``keys`` in any order. ``id`` has to be there; what a missing
    column would say stays as it is. ``numbers`` and ``tags`` are lists with ``;``. Reasons quote the line: they are
    for who owns the file, not for a log. Raises ``ContactFileError``, and ``DirectoryError`` if that cannot be
    written.
    """
    intake = Intake(directory)
    with opened(source, "rb") as stream:
        lines = Lines(stream, progress)
        header = _header(lines, (*COLUMNS, *MORE_COLUMNS, *keys))
        with directory.writing():
            for line, record in _records(lines, len(header)):
                try:
                    cells = _cells(record, header)
                    intake.take(
                        line,
                        cells["id"],
                        lambda known, cells=cells: _entry(cells, known, directory.name, plan, keys),  # type: ignore[misc]
                    )
                except BadLineError as error:
                    intake.refuse(line, str(error))
    return intake.report()


def export_csv(
    directory: Directory,
    target: Path | BinaryIO,
    *,
    keys: Sequence[str] = (),
    progress: Progress | None = None,
) -> int:
    """Write every party by id, as ``import_csv`` reads it; how many. A new file is its owner's only.

    Raises ``ContactFileError`` if the file cannot be written.
    """
    count = 0
    more = [column for column in MORE_COLUMNS if directory.anybody_has(column)]
    with opened(target, "wb") as stream:
        text = io.TextIOWrapper(stream, "utf-8", newline="")
        writer = csv.writer(text)
        writer.writerow((*COLUMNS, *more, *keys))
        for entry in watched(directory.entries(), len(directory), progress):
            count += 1
            party = entry.party
            values = {key.kind: key.value for key in entry.keys}
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
                    *(getattr(party, column) or "" for column in more),
                    *(values.get(key, "") for key in keys),
                )
            )
        text.flush()
        text.detach()
    return count


def _records(lines: Lines, width: int) -> Iterator[tuple[int, list[str] | BadLineError]]:
    """Each record's first line, and its cells or what is wrong with it. Empty lines are nothing."""
    while True:
        taken: list[tuple[int, bytes]] = []
        try:
            cells = _read_record(lines, taken)
            if cells is None:
                return
            if len(cells) != width and any(cell.strip() for cell in cells):
                raise BadLineError(f"it has {len(cells)} columns, and the header {width}")
        except BadLineError as error:
            # Perhaps a quote was never closed, and has swallowed good lines.
            lines.give_back(taken[1:])
            yield taken[0][0], error
        else:
            if any(cell.strip() for cell in cells):
                yield taken[0][0], cells


def _read_record(lines: Lines, taken: list[tuple[int, bytes]]) -> list[str] | None:
    def texts() -> Iterator[str]:
        while len(taken) < _RECORD_LINES and (line := lines.take()) is not None:
            taken.append(line)
            yield _decoded(line[1])

    try:
        # The reader takes only as many lines as the record has.
        return next(csv.reader(texts(), strict=True), None)
    except csv.Error as error:
        raise BadLineError('a field in " is not closed, or a " inside it is not written twice') from error


def _decoded(line: bytes) -> str:
    if len(line) > LINE_LIMIT:
        raise BadLineError(f"it has more than {LINE_LIMIT} bytes")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadLineError("it is not UTF-8; save the file as “CSV UTF-8”") from error


def _header(lines: Lines, known: Sequence[str]) -> tuple[str, ...]:
    try:
        cells = _read_record(lines, [])
    except BadLineError as error:
        raise ContactFileError(f"line 1, the names of the columns: {error}") from error
    if not cells:
        raise ContactFileError(f"the first line is empty; it names the columns: {','.join(COLUMNS)}")
    names = tuple(cell.strip().lower() for cell in cells)
    if len(names) == 1 and (found := re.search(r"[;\t|]", names[0])):
        raise ContactFileError(f"line 1: the columns are separated by {found[0]!r}; separate them by commas")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ContactFileError(
            f"line 1: there is no column {quoted(unknown[0])}; the columns are {','.join(known)}"
        )
    doubled = [name for name in known if names.count(name) > 1]
    if doubled:
        raise ContactFileError(f"line 1: the column {doubled[0]!r} is there more than once")
    if "id" not in names:
        raise ContactFileError("line 1: the column 'id' is missing, by which a contact is found again")
    return names


def _cells(record: list[str] | BadLineError, header: Sequence[str]) -> dict[str, str]:
    if isinstance(record, BadLineError):
        raise record
    cells = {name: cell.strip() for name, cell in zip(header, record, strict=True)}
    cells["id"] = _bounded(cells, "id", ID_LIMIT)
    if not cells["id"]:
        raise BadLineError("its id is empty")
    return cells


def _entry(
    cells: Mapping[str, str], known: Entry | None, adapter: str, plan: NumberPlan, keys: Sequence[str]
) -> Entry:
    entry = known or Entry(Party(adapter, PartyType.CONTACT, cells["id"]))
    party = evolve(entry.party, **{name: read(cells) for name, read in _READERS.items() if name in cells})
    if not party.name:
        raise BadLineError("its name is empty")
    if "numbers" in cells:
        labels = {number.e164: number.label for number in entry.numbers}
        found = (number_of(text.strip(), None, plan) for text in cells["numbers"].split(";") if text.strip())
        entry = evolve(entry, numbers=each_once(evolve(each, label=labels.get(each.e164)) for each in found))
    said = {key: _bounded(cells, key, ID_LIMIT) for key in keys if key in cells}
    kept = (key for key in entry.keys if key.kind not in said)
    return evolve(entry, party=party, keys=(*kept, *(PartyKey(*each) for each in said.items() if each[1])))


def _bounded(cells: Mapping[str, str], name: str, limit: int) -> str:
    # A CRM's text is cut to fit; a file's is refused, because somebody can still mend it.
    if len(cells[name]) > limit:
        raise BadLineError(f"its {name} has {len(cells[name])} characters, and at most {limit} fit")
    return (clean_text if name == "notes" else clean_line)(cells[name], limit)


def _type(cells: Mapping[str, str]) -> PartyType:
    value = cells["type"].lower() or PartyType.CONTACT
    if value not in set(PartyType):
        raise BadLineError(f"its type {quoted(value)} is none of {', '.join(PartyType)}")
    return PartyType(value)


def _language(cells: Mapping[str, str]) -> str | None:
    value = cells["language"]
    if value and (len(value) > WORD_LIMIT or not _LANGUAGE.fullmatch(value)):
        raise BadLineError(f"its language {quoted(value)} is no code such as de, en, sl or pt-BR")
    return value or None


def _tags(cells: Mapping[str, str]) -> tuple[str, ...]:
    tags = [tag.strip() for tag in cells["tags"].split(";") if tag.strip()]
    if len(tags) > TAGS_LIMIT:
        raise BadLineError(f"it has {len(tags)} tags, and at most {TAGS_LIMIT} fit")
    if any(len(tag) > WORD_LIMIT for tag in tags):
        raise BadLineError(f"a tag of it has more than {WORD_LIMIT} characters")
    return tuple(tags)


def _address(cells: Mapping[str, str]) -> str | None:
    value = cells["url"]
    if value and web_url(value) is None:
        raise BadLineError("its url is no address that begins with http:// or https://")
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
    "organisation": lambda cells: _bounded(cells, "organisation", ID_LIMIT) or None,
    "balance": lambda cells: _bounded(cells, "balance", WORD_LIMIT) or None,
    "dunning": lambda cells: _bounded(cells, "dunning", WORD_LIMIT) or None,
}
