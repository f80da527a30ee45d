"""`cti contacts`: fill an adapter that keeps its own contacts from a file, and write them back to one."""

import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from adapters.base import AdapterError, Capability
from adapters.contact_files import Form, ImportReport, Progress
from cti.commands import CommandFailed, WrongUse
from cti.commands.configuration import configuration
from cti.commands.output import printable, say, write_json
from cti.commands.progress import progress_bar
from cti.service import make_adapters
from cti.settings import Settings
from routing.words import unknown


class _KeepsContacts(Protocol):
    """An adapter with `Capability.CONTACT_FILE`; it starts without waiting for anybody."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def import_contacts(
        self, source: Path | BinaryIO, form: Form, progress: Progress | None
    ) -> ImportReport: ...
    def export_contacts(self, target: Path | BinaryIO, form: Form, progress: Progress | None) -> int: ...


def import_contacts(arguments: Namespace) -> int:
    settings = configuration(arguments)
    file, form = arguments.file, _form(arguments)
    with _opened(settings, arguments.adapter) as adapter, progress_bar("reading") as progress:
        source = sys.stdin.buffer if file == "-" else Path(file)
        report = adapter.import_contacts(source, form, progress)
    for refusal in report.refused:
        print(f"{file}:{refusal.line}: {printable(refusal.why)}", file=sys.stderr)
    if report.refused_count > len(report.refused):
        say(f"and {report.refused_count - len(report.refused)} more lines like these")
    if arguments.format == "json":
        write_json(report.as_json())
    else:
        print(
            f"{report.added} added, {report.updated} updated, {report.unchanged} unchanged,"
            f" {report.refused_count} refused"
        )
    return 1 if report.refused_count else 0


def export_contacts(arguments: Namespace) -> int:
    settings = configuration(arguments)
    file, form = arguments.file, _form(arguments)
    with _opened(settings, arguments.adapter) as adapter, progress_bar("writing") as progress:
        target = sys.stdout.buffer if file == "-" else Path(file)
        count = adapter.export_contacts(target, form, progress)
    if file != "-":
        say(f"{count} contacts written to {file}")
    return 0


def _form(arguments: Namespace) -> Form:
    """What was said, else what the file's name says; a stream is CSV."""
    if arguments.form is not None:
        return Form(arguments.form)
    form = Form.CSV if arguments.file == "-" else Form.of(arguments.file)
    if form is None:
        raise WrongUse(
            f"{arguments.file} ends in neither .csv nor .vcf; say what is in it with --as {', '.join(Form)}"
        )
    return form


@contextmanager
def _opened(settings: Settings, name: str | None) -> Iterator[_KeepsContacts]:
    adapter = _chosen(settings, name)
    try:
        _at_once(adapter.start())
        try:
            yield adapter
        finally:
            _at_once(adapter.stop())
    except AdapterError as error:
        raise CommandFailed(str(error)) from error


def _chosen(settings: Settings, name: str | None) -> _KeepsContacts:
    from twisted.internet import reactor

    able = {
        each: adapter
        for each, adapter in make_adapters(settings, reactor).items()
        if Capability.CONTACT_FILE in adapter.capabilities
    }
    if not able:
        raise WrongUse(
            "no adapter of the configuration keeps its own contacts; `directory: {kind: directory}` does"
        )
    if name is None and len(able) > 1:
        raise WrongUse(f"which contacts? Say --adapter NAME, one of {', '.join(able)}")
    if name is not None and name not in able:
        raise WrongUse(unknown("adapter with contacts of its own", name, able))
    return cast(_KeepsContacts, able[name] if name is not None else next(iter(able.values())))


def _at_once(work: Any) -> None:
    results: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(results.append)
    if isinstance(results[0], Failure):
        results[0].raiseException()
