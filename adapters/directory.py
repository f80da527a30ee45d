"""The embedded directory as an adapter, for companies without a CRM, for the demo, and beside a CRM.

Joins the file (``directory_file``) and files of contacts (``contact_files``) to the adapters' interface.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, ClassVar, Final, TypeVar

from attrs import evolve, field, frozen
from twisted.internet.threads import deferToThread

from adapters.base import (
    AdapterContext,
    AdapterHealth,
    AdapterUnavailable,
    Capability,
    ChangePage,
    CrmUser,
    JournalEntry,
    KeyKind,
    ListedNumber,
    ListedParty,
    ListPage,
    MarkLost,
    NewParty,
    NewTask,
    NumberChanged,
    Party,
    PartyRef,
    Written,
)
from adapters.contact_files import Form, ImportReport, Progress
from adapters.directory_csv import export_csv, import_csv
from adapters.directory_file import (
    Directory,
    DirectoryError,
    Entry,
    EntryRefused,
    PartyKey,
    PartyNumber,
    new_id,
)
from adapters.directory_records import KeptTask, Note
from adapters.directory_vcard import export_vcards, import_vcards
from cti.numbers import Number, NumberKind, stems

_T = TypeVar("_T")

#: What ``by_key`` knows without being told.
ID_KEY: Final = "id"
PAGE: Final = 500
_USERS_LIMIT: Final = 5000


@frozen
class KeyOptions:
    """A key that parties have: ``title`` as people call it; one that is ``sensitive`` is shown nowhere."""

    title: str
    sensitive: bool = False


def _plain_names(_: object, __: object, keys: Mapping[str, KeyOptions]) -> None:
    for name in keys:
        if not name.isidentifier() or name == ID_KEY:
            raise ValueError(f"{name!r} cannot be a key's name; a word such as customer would be right")


@frozen
class DirectoryOptions:
    """``path``: the file, relative to the configuration's; without it, the adapter's name and ``.db``.

    ``keys``: what else parties are found by, such as ``customer``.
    """

    path: str | None = None
    keys: Mapping[str, KeyOptions] = field(factory=dict, validator=_plain_names)


class DirectoryAdapter:
    """The embedded directory as an adapter; its ``directory`` is the file itself, open for the reactor."""

    options_class: ClassVar[type[DirectoryOptions]] = DirectoryOptions
    capabilities: Final = frozenset(Capability)
    journals_early: Final = True
    journals_changes: Final = True
    journals_by_key: Final = True
    journals_unknown: Final = True

    def __init__(self, name: str, options: DirectoryOptions, context: AdapterContext) -> None:
        self._name = name
        self.plan = context.plan
        self._own = context.own
        self._now = context.reactor.seconds
        self.keys: Sequence[KeyKind] = (
            KeyKind(ID_KEY, "ID"),
            *(KeyKind(key, each.title, each.sensitive) for key, each in options.keys.items()),
        )
        self.directory = self._file(context.base / (options.path or f"{name}.db"))

    @property
    def name(self) -> str:
        return self._name

    @property
    def editable_keys(self) -> Sequence[KeyKind]:
        """The keys that somebody gives, unlike the id."""
        return self.keys[1:]

    async def start(self) -> None:
        self.directory.open()

    async def stop(self) -> None:
        self.directory.close()

    async def health(self) -> AdapterHealth:
        try:
            # A number that nobody has: reads the index as a look-up does.
            self.directory.lookup("+0")
        except (sqlite3.Error, DirectoryError) as error:
            return AdapterHealth(up=False, detail=f"the directory cannot be read: {error}")
        return AdapterHealth(up=True)

    # Some tens of microseconds each, and no writer holds them up: they are done where they are asked.

    async def identify(self, number: Number) -> Sequence[Party]:
        if number.kind is not NumberKind.E164 or number.e164 is None or number.e164 in self._own:
            return ()
        e164 = number.e164
        return _read(
            lambda: self.directory.lookup(e164) or self.directory.lookup_stems(stems(e164, self._own))
        )

    async def card(self, party: PartyRef) -> Party | None:
        found = _read(lambda: self.directory.by_id(party.id))
        return found if found is not None and found.type is party.type else None

    async def by_key(self, kind: str, value: str) -> Sequence[Party]:
        if kind == ID_KEY:
            found = _read(lambda: self.directory.by_id(value))
            return () if found is None else (evolve(found, match="key"),)
        return _read(lambda: self.directory.by_key(PartyKey(kind, value))) if value else ()

    # These take their time, or wait for the disk: they are done beside the reactor.

    async def search(self, words: str, limit: int) -> Sequence[Party]:
        return await self.apart(lambda directory: directory.search(words, limit))

    async def list(self, after: str | None) -> ListPage:
        def read(directory: Directory) -> ListPage:
            mark = directory.mark if after is None else None
            entries, following = directory.page(int(after or 0), PAGE)
            return ListPage(
                [_listed(entry) for entry in entries], None if following is None else str(following), mark
            )

        return await self.apart(read)

    async def changes(self, mark: str) -> ChangePage:
        found = await self.apart(lambda directory: directory.changes(mark, PAGE))
        if found is None:
            raise MarkLost("the directory is another one, or was put back to an earlier time")
        entries, gone, following, more = found
        return ChangePage([_listed(entry) for entry in entries], gone, following, more)

    async def users(self) -> Sequence[CrmUser]:
        """Who looks after somebody: of others the directory knows nothing."""
        owners = await self.apart(lambda directory: directory.owners(_USERS_LIMIT))
        return [CrmUser(owner, login=owner) for owner in owners]

    async def create(self, party: NewParty) -> Party:
        return await self.apart(lambda directory: self._add(directory, party))

    def add(self, wanted: NewParty) -> Party:
        """Add the party over a connection of its own, as it may be done in any thread."""
        return self._with_file(lambda directory: self._add(directory, wanted))

    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        await self.apart(lambda directory: directory.put_activity(entry))
        return (Written("activity", entry.key),)

    async def withdraw(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        await self.apart(lambda directory: directory.remove_activity(entry.key))
        return ()

    async def note(self, party: PartyRef, text: str) -> Written:
        note = Note(new_id(), datetime.fromtimestamp(self._now(), UTC), text)
        await self.apart(lambda directory: directory.put_record(party.id, "notes", note))
        return Written("note", note.id)

    async def add_task(self, party: PartyRef, task: NewTask) -> Written:
        kept = KeptTask(new_id(), task.title, task.due, task.owner, task.text)
        await self.apart(lambda directory: directory.put_record(party.id, "tasks", kept))
        return Written("task", kept.id)

    async def write_number(self, party: PartyRef, old: ListedNumber, new: str) -> None:
        replaced = await self.apart(
            lambda directory: directory.write_number(
                party, PartyNumber(old.raw, old.field), self.party_number(new)
            )
        )
        if not replaced:
            raise NumberChanged("the number that was to be replaced is not there any more")

    def import_contacts(
        self, source: Path | BinaryIO, form: Form, progress: Progress | None = None
    ) -> ImportReport:
        """Take contacts from a file; see ``import_csv``, ``import_vcards``. Needs an open directory."""
        take = import_csv if form is Form.CSV else import_vcards
        return take(self.directory, self.plan, source, keys=self._key_names, progress=progress)

    def export_contacts(self, target: Path | BinaryIO, form: Form, progress: Progress | None = None) -> int:
        """Write all contacts to a file; see ``export_csv``, ``export_vcards``. Needs an open directory."""
        if form is Form.CSV:
            return export_csv(self.directory, target, keys=self._key_names, progress=progress)
        return export_vcards(self.directory, target, form=form, progress=progress)

    @property
    def _key_names(self) -> Sequence[str]:
        return tuple(key.name for key in self.editable_keys)

    def party_number(self, written: str, label: str | None = None) -> PartyNumber:
        """A number as the directory keeps it. Raises ``EntryRefused`` for one that nobody could call from."""
        number = self.plan.parse(written)
        if number.kind is not NumberKind.E164 or number.e164 is None:
            raise EntryRefused("this is no public telephone number; one is written like +49 152 28817386")
        return PartyNumber(number.raw, number.e164, label)

    async def apart(self, work: Callable[[Directory], _T]) -> _T:
        """What the work gives, done in a thread over a connection of its own. Raises ``AdapterError``."""
        done: _T = await deferToThread(self._with_file, work)
        return done

    def _with_file(self, work: Callable[[Directory], _T]) -> _T:
        directory = self._file(self.directory.path)
        directory.open()
        try:
            return _read(lambda: work(directory))
        finally:
            directory.close()

    def _file(self, path: Path) -> Directory:
        return Directory(path, self._name, self._now)

    def _add(self, directory: Directory, wanted: NewParty) -> Party:
        party = Party(
            adapter=self._name,
            type=wanted.type,
            id=new_id(),
            name=wanted.name,
            company=wanted.company,
            notes=wanted.notes,
        )
        directory.put(Entry(party, (self.party_number(wanted.number),)))
        return party


def _read(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except sqlite3.Error as error:
        raise AdapterUnavailable(f"the directory cannot be read: {error}") from error


def _listed(entry: Entry) -> ListedParty:
    return ListedParty(entry.party, tuple(ListedNumber(each.raw, each.e164) for each in entry.numbers))
