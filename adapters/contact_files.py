"""Files of contacts, whatever they are written in: how they are read and reported on, and what a party may hold.

A broken line is reported and the rest goes in. What the lines mean is left to ``directory_csv`` and
``directory_vcard``; where the contacts are kept, to ``directory_file``.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from attrs import define, field, frozen

from adapters.base import AdapterError
from adapters.directory_file import NUMBERS_LIMIT, Change, Directory, Entry, EntryRefused, PartyNumber
from adapters.party import WORD_LIMIT, clean_line
from cti.numbers import NumberKind, NumberPlan

_T = TypeVar("_T")

#: Refused lines that a report tells one by one; more of them are only counted.
REFUSALS_LIMIT: Final = 1000
LINE_LIMIT: Final = 65_536
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
#: Lines and contacts after which somebody who waits is told how far it is.
_STEP: Final = 500

#: Is told how much is done, and of how much; 0 if nobody knows.
Progress = Callable[[int, int], None]


class Form(StrEnum):
    """What a file of contacts may be written in."""

    CSV = "csv"
    #: What nearly everybody reads.
    VCARD3 = "vcard3"
    VCARD4 = "vcard4"

    @classmethod
    def of(cls, file: str) -> Form | None:
        """What the file's name says."""
        return _ENDINGS.get(Path(file).suffix.lower())


_ENDINGS: Final = {".csv": Form.CSV, ".txt": Form.CSV, ".vcf": Form.VCARD3, ".vcard": Form.VCARD3}


class ContactFileError(AdapterError):
    """The file as a whole cannot be taken: it is missing, empty, or not what it should be."""


class BadLineError(Exception):
    """Why one contact is refused."""


@frozen
class Refusal:
    """A line (counted from 1, a header being one) that did not go in, and why."""

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


@define
class Intake:
    """Puts contacts into the directory one by one, and keeps what is to be told of it."""

    directory: Directory
    _counts: dict[Change, int] = field(factory=lambda: dict.fromkeys(Change, 0), init=False)
    _refused: list[Refusal] = field(factory=list, init=False)
    _refused_count: int = field(default=0, init=False)
    _first_lines: dict[str, int] = field(factory=dict, init=False)

    def take(self, line: int, party_id: str, entry: Callable[[Entry | None], Entry]) -> None:
        """Put what ``entry`` makes of the one that is there with this id. Raises ``BadLineError``."""
        if party_id in self._first_lines:
            raise BadLineError(f"id {party_id!r} is already on line {self._first_lines[party_id]}")
        made = entry(self.directory.get(party_id))
        try:
            change = self.directory.put(made)
        except EntryRefused as error:
            raise BadLineError(str(error)) from error
        self._first_lines[party_id] = line
        self._counts[change] += 1

    def refuse(self, line: int, why: str) -> None:
        self._refused_count += 1
        if len(self._refused) < REFUSALS_LIMIT:
            self._refused.append(Refusal(line, why))

    def report(self) -> ImportReport:
        return ImportReport(
            self._counts[Change.ADDED],
            self._counts[Change.UPDATED],
            self._counts[Change.UNCHANGED],
            tuple(self._refused),
            self._refused_count,
        )


class Lines:
    """A file's lines with their numbers; lines can be given back, to be read again."""

    def __init__(self, stream: BinaryIO, progress: Progress | None = None) -> None:
        self._stream = stream
        self._progress = progress
        self._size = _size_of(stream)
        self._read = 0
        self._number = 0
        self._returned: deque[tuple[int, bytes]] = deque()

    def take(self) -> tuple[int, bytes] | None:
        """The next line with its end; of a line that is too long the beginning. ``None`` at the end."""
        if self._returned:
            return self._returned.popleft()
        line = self._stream.readline(LINE_LIMIT + 1)
        if self._progress is not None and (not line or self._number % _STEP == 0):
            self._progress(self._read, self._size)
        if not line:
            return None
        self._number += 1
        self._read += len(line)
        rest = line
        while len(rest) > LINE_LIMIT and not rest.endswith(b"\n"):
            rest = self._stream.readline(LINE_LIMIT + 1)
            self._read += len(rest)
        if self._number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        return self._number, line

    def give_back(self, lines: Sequence[tuple[int, bytes]]) -> None:
        self._returned.extendleft(reversed(lines))


def watched(each: Iterable[_T], count: int, progress: Progress | None) -> Iterator[_T]:
    """The same, while who waits is told how many of ``count`` are done."""
    done = 0
    for done, one in enumerate(each, 1):
        yield one
        if progress is not None and done % _STEP == 0:
            progress(done, count)
    if progress is not None:
        progress(done, count)


def number_of(written: str, label: str | None, plan: NumberPlan) -> PartyNumber:
    """A number as it stands in a file. Raises ``BadLineError`` for one that nobody could call from."""
    number = plan.parse(written)
    if number.kind is not NumberKind.E164 or number.e164 is None:
        raise BadLineError(
            f"its number {quoted(written)} is no public telephone number; write it like +49 152 28817386"
        )
    return PartyNumber(number.raw, number.e164, label)


def each_once(numbers: Iterable[PartyNumber]) -> tuple[PartyNumber, ...]:
    """The numbers, the first of those that are the same. Raises ``BadLineError`` for too many."""
    kept: dict[str, PartyNumber] = {}
    for number in numbers:
        kept.setdefault(number.e164, number)
    if len(kept) > NUMBERS_LIMIT:
        raise BadLineError(f"it has {len(kept)} numbers, and at most {NUMBERS_LIMIT} fit")
    return tuple(kept.values())


def quoted(text: str) -> str:
    return repr(clean_line(text, WORD_LIMIT))


@contextmanager
def opened(file: Path | BinaryIO, mode: str) -> Iterator[BinaryIO]:
    """The file, open; a new one is its owner's only. Raises ``ContactFileError``."""
    if not isinstance(file, Path):
        yield file
        return
    try:
        stream: Any = open(file, mode, opener=lambda path, flags: os.open(path, flags, 0o600))  # noqa: SIM115
    except OSError as error:
        raise ContactFileError(f"{file} cannot be opened: {error.strerror}") from error
    with stream:
        yield stream


def _size_of(stream: BinaryIO) -> int:
    try:
        found = os.fstat(stream.fileno())
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
