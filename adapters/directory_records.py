"""What belongs to a party of the directory: cases, appointments, tasks and notes, and how each stands in its table.

Whose they are, and when they are read and written, is left to ``directory_file``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from attrs import field, frozen

from adapters.base import Appointment, Case, Task
from adapters.party import (
    ID_LIMIT,
    NAME_LIMIT,
    NOTES_LIMIT,
    bounded_line,
    bounded_lines,
    certain_moment_of,
    identifier_of,
    iso,
    moment_of,
    optional_line,
    optional_url,
)


@frozen
class Note:
    """Something that somebody wrote about a party. ``at`` with its zone; ``user`` the CRM's user who wrote it."""

    id: str = field(converter=identifier_of)
    at: datetime = field(converter=certain_moment_of)
    text: str = bounded_lines(NOTES_LIMIT)
    user: str | None = optional_line(ID_LIMIT)

    def as_json(self) -> dict[str, Any]:
        return {"id": self.id, "at": iso(self.at), "text": self.text, "user": self.user}


@frozen
class KeptTask:
    """A task with what a card does not show of it: ``text``, and since when it is ``done``."""

    id: str = field(converter=identifier_of)
    title: str = bounded_line(NAME_LIMIT)
    due: datetime | None = field(default=None, converter=moment_of)
    user: str | None = optional_line(ID_LIMIT)
    text: str = bounded_lines(NOTES_LIMIT)
    url: str | None = optional_url()
    done: datetime | None = field(default=None, converter=moment_of)

    def as_json(self) -> dict[str, Any]:
        return {**self.shown().as_json(), "text": self.text, "done": iso(self.done)}

    def shown(self) -> Task:
        """As a card has it."""
        return Task(self.id, self.title, self.due, self.user, self.url)


Record = Case | Appointment | KeptTask | Note


@frozen
class RecordKind:
    """One of the four. ``columns`` are those of its table, and the attributes of ``made`` at the same time."""

    made: type[Any]
    table: str
    columns: Sequence[str]
    order: str

    @property
    def names(self) -> str:
        return ", ".join(self.columns)

    def values(self, record: Record) -> tuple[Any, ...]:
        written = record.as_json()
        return tuple(written[column] for column in self.columns)

    def read(self, row: Sequence[Any]) -> Record:
        record: Record = self.made(**dict(zip(self.columns, row, strict=True)))
        return record


#: By the name that a card and the API have for them.
RECORDS: Final[Mapping[str, RecordKind]] = {
    "cases": RecordKind(Case, "party_case", ("id", "title", "status", "opened", "url"), "opened DESC, id"),
    "appointments": RecordKind(Appointment, "appointment", ("id", "at", "title", "user", "url"), "at, id"),
    "tasks": RecordKind(
        KeptTask, "task", ("id", "title", "due", "user", "text", "url", "done"), "due IS NULL, due, id"
    ),
    "notes": RecordKind(Note, "note", ("id", "at", "text", "user"), "at DESC, id"),
}
