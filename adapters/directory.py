"""The embedded directory as an adapter, for companies without a CRM, for the demo, and beside a CRM.

Joins the file (``directory_file``) and its CSV form (``directory_csv``) to the adapters' interface.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar

from attrs import frozen
from twisted.internet.threads import deferToThread

from adapters.base import AdapterContext, AdapterHealth, AdapterUnavailable, Capability, NewParty, Party
from adapters.directory_csv import ImportReport, export_csv, import_csv
from adapters.directory_file import Directory, DirectoryError, Entry, PartyNumber
from cti.numbers import Number, NumberKind, stems


@frozen
class DirectoryOptions:
    """``path``: the file, relative to the configuration's; without it, the adapter's name and ``.db``."""

    path: str | None = None


class DirectoryAdapter:
    """The embedded directory as an adapter; its ``directory`` is the file itself."""

    options_class: ClassVar[type[DirectoryOptions]] = DirectoryOptions

    def __init__(self, name: str, options: DirectoryOptions, context: AdapterContext) -> None:
        self._name = name
        self._plan = context.plan
        self._own = context.own
        self.directory = Directory(context.base / (options.path or f"{name}.db"), name)

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.IDENTIFY, Capability.CONTACT_FILE, Capability.CREATE, Capability.LOCAL})

    async def start(self) -> None:
        self.directory.open()

    async def stop(self) -> None:
        self.directory.close()

    async def identify(self, number: Number) -> Sequence[Party]:
        if number.kind is not NumberKind.E164 or number.e164 is None or number.e164 in self._own:
            return ()
        try:
            return self.directory.lookup(number.e164) or self.directory.lookup_stems(
                stems(number.e164, self._own)
            )
        except sqlite3.Error as error:
            raise AdapterUnavailable(f"the directory cannot be read: {error}") from error

    async def create(self, party: NewParty) -> Party:
        # Writing waits for the disk, and for an import in another process.
        added: Party = await deferToThread(self.add, party)
        return added

    def add(self, wanted: NewParty) -> Party:
        """Add the party over a connection of its own, as it may be done in any thread."""
        party = Party(
            adapter=self._name,
            type=wanted.type,
            id=f"cti-{secrets.token_hex(8)}",
            name=wanted.name,
            company=wanted.company,
            notes=wanted.notes,
        )
        directory = Directory(self.directory.path, self._name)
        directory.open()
        try:
            directory.put(Entry(party, (PartyNumber(wanted.number, wanted.number),)))
        except ValueError as error:
            raise DirectoryError("the directory takes no such number") from error
        finally:
            directory.close()
        return party

    async def health(self) -> AdapterHealth:
        try:
            # A number that nobody has: reads the index as a look-up does.
            self.directory.lookup("+0")
        except (sqlite3.Error, DirectoryError) as error:
            return AdapterHealth(up=False, detail=f"the directory cannot be read: {error}")
        return AdapterHealth(up=True)

    def import_csv(self, source: Path | BinaryIO) -> ImportReport:
        """Take contacts from a CSV file; see ``directory_csv.import_csv``. Needs an open directory."""
        return import_csv(self.directory, self._plan, source)

    def export_csv(self, target: Path | BinaryIO) -> int:
        """Write all contacts as CSV; see ``directory_csv.export_csv``. Needs an open directory."""
        return export_csv(self.directory, target)
