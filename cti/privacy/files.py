"""The files that know people: the phone index, embedded directories, recordings, and the store's own.

Also the files that are not ours, or that nobody but a person may change: in those, somebody is only looked for.
All of it blocks.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from attrs import frozen

from adapters.directory_file import Directory
from cti.calls.recordings import RecordingAway, remove
from cti.index.file import IndexFailed, IndexFile
from cti.logs import get_logger
from cti.privacy.searching import showing
from cti.privacy.traces import Subject, Traces
from cti.secret import Secret
from cti.settings import Recordings, Settings
from cti.store.personal import PERSONAL

log = get_logger("cti.privacy")

_BUSY_SECONDS: Final = 5.0
#: Rewriting a database of this size takes about as long as a commit may be waited for.
_REWRITTEN_AT_ONCE: Final = 128 * 1024 * 1024


@frozen
class Files:
    """Those that a configuration names.

    `store`: the database's own; None where it is a PostgreSQL, whose address is `postgresql`. `directories`: the
    embedded ones, by the adapter's name. `read_only`: files that others write. `rewrite`: write a database anew
    whatever its size. `spool`: where calls wait for a slow store.
    """

    store: Path | None
    index: Path
    directories: Mapping[str, Path]
    recordings: Mapping[str, Recordings]
    read_only: Sequence[Path] = ()
    rewrite: bool = False
    postgresql: Secret | None = None
    spool: Path | None = None

    def names(self, subject: Subject) -> frozenset[str]:
        """What the directories call them."""
        names: set[str] = set()
        for name, path in self.directories.items():
            if path.exists():
                with _opened(path, name) as directory:
                    names |= directory.names_of(_e164(subject), _ids(subject, name))
        return frozenset(names)

    def erase(
        self, traces: Traces, recordings: Sequence[tuple[str, str]], directory: bool
    ) -> Mapping[str, int]:
        """As `IFiles`; out of the directories only if that is asked for."""
        subject = traces.subject
        counts = {"directory": 0, "index": 0, "recordings": 0}
        if directory:
            for name, path in self.directories.items():
                if path.exists():
                    with _opened(path, name) as opened:
                        counts["directory"] += opened.erase(
                            _e164(subject), _ids(subject, name), traces.without
                        )
        for path in sorted(self.index.glob("*.db")):
            adapter = path.name.rsplit(".", 2)[0]
            try:
                with closing(IndexFile(path, adapter)) as part:
                    counts["index"] += part.erase(_e164(subject), _ids(subject, adapter))
            except IndexFailed as error:
                log.warning("a part of the phone index could not be cleaned", adapter=adapter, why=str(error))
        for pbx, recording in recordings:
            counts["recordings"] += remove_recording(self.recordings, pbx, recording)
        return {what: count for what, count in counts.items() if count}

    def scrub(self, traces: Traces) -> None:
        """Have nothing left in the databases' free space: where they still show, a database is written anew.

        SQLite overwrites what it deletes, and still leaves copies of what it has moved from page to page.
        """
        if self.postgresql is not None:
            from cti.store.postgresql import vacuum

            vacuum(self.postgresql.reveal(), [table.name for table in PERSONAL], whole=self.rewrite)
        databases = [
            *filter(None, [self.store]),
            *self.directories.values(),
            *sorted(self.index.glob("*.db")),
        ]
        for path in databases:
            _sqlite(path, "PRAGMA wal_checkpoint(TRUNCATE)")
        for path in showing(databases, traces):
            if self.rewrite or path.stat().st_size <= _REWRITTEN_AT_ONCE:
                _sqlite(path, "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")

    def left(self, traces: Traces) -> Sequence[str]:
        """Each file in which they still show, and what would help."""
        advice = dict(self._searched())
        found = showing(advice, traces)
        return [
            f"{path}: {advice[path]}" if why is None else f"{path}: could not be searched ({why})"
            for path, why in found.items()
        ]

    def _searched(self) -> Iterator[tuple[Path, str]]:
        if self.store is not None:
            for path in _with_logs(self.store):
                yield path, "cti erase --rewrite writes the database anew, for which writing has to wait"
        if self.spool is not None:
            for path in sorted(self.spool.glob("*.spool")):
                yield path, "calls wait there until the store takes them; erase again once it has"
        for path in sorted(self.index.glob("*")):
            yield path, "their CRM lists them; erase them there first"
        for directory in self.directories.values():
            for path in _with_logs(directory):
                yield path, "they are in this directory; --from-directory takes them out of it"
        for path in self.read_only:
            if path.is_file():
                yield path, "this file is not the server's to change"


def files_of(settings: Settings) -> Files:
    """The files of this configuration."""
    return Files(
        settings.store.sqlite,
        settings.index.directory,
        {
            name: settings.base / (getattr(adapter.options, "path", None) or f"{name}.db")
            for name, adapter in settings.adapters.items()
            if adapter.kind == "directory"
        },
        {
            name: asterisk.recordings
            for name, asterisk in settings.asterisks.items()
            if asterisk.recordings is not None
        },
        (
            settings.path,
            *(asterisk.cdr.path for asterisk in settings.asterisks.values() if asterisk.cdr is not None),
        ),
        postgresql=settings.store.postgresql,
        spool=None if settings.store.spool is None else settings.store.spool.directory,
    )


def remove_recording(places: Mapping[str, Recordings], pbx: str, recording: str) -> int:
    """Delete the files of a call's recordings, as far as they can be reached; how many."""
    place = places.get(pbx)
    if place is None:
        return 0
    try:
        return remove(place, recording)
    except (RecordingAway, OSError) as error:
        log.warning("a recording could not be deleted", pbx=pbx, file=recording, why=str(error))
        return 0


def _sqlite(path: Path, *statements: str) -> None:
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            for statement in statements:
                connection.execute(statement).fetchall()
    except sqlite3.Error as error:
        # What is left is told by the search that follows.
        log.warning("a database could not be cleaned", file=path.name, why=str(error))


def _opened(path: Path, name: str) -> "closing[Directory]":
    directory = Directory(path, name)
    directory.open()
    return closing(directory)


def _e164(subject: Subject) -> list[str]:
    return [number for number in sorted(subject.numbers) if number.startswith("+")]


def _ids(subject: Subject, adapter: str) -> list[str]:
    return [id for name, id in sorted(subject.parties) if name == adapter]


def _with_logs(path: Path) -> Iterator[Path]:
    for each in (path, *(path.with_name(path.name + more) for more in ("-wal", "-journal"))):
        if each.is_file():
            yield each
