"""`cti purge`, `cti erase`, `cti export`: what is too old, and what is of one person: removed, or shown.

All work beside a running server: in small transactions, and with word in the store of who is to be forgotten.
"""

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import deferLater

from adapters.base import AdapterError
from cti.calls.life import mint_call_id
from cti.commands import CommandFailed, WrongUse
from cti.commands.configuration import configuration, writing
from cti.commands.output import json_text, printable, say, write_json, write_pairs
from cti.commands.people import noted
from cti.commands.running import run
from cti.numbers import NumberKind, NumberPlan
from cti.privacy.erasing import CallRow, Erasing, calls_of, gathered
from cti.privacy.files import files_of
from cti.privacy.retention import Purge
from cti.privacy.traces import Subject, Traces
from cti.store.base import Unit
from cti.store.queries import Reader
from cti.store.records import ErasureRecord, StoredEvent
from cti.store.threaded import POLL_SECONDS, CommandStore

T = TypeVar("T")

#: Seconds until a running server has noticed whom it is to forget, and has written what it was about to.
_NOTICED: Final = 4 * POLL_SECONDS
#: A call that ended more recently may still be written of.
_WRITTEN_SECONDS: Final = 5.0


def purge(arguments: Namespace) -> int:
    settings = configuration(arguments)
    if not settings.retention.keeps_less:
        raise CommandFailed(
            "nothing is too old: the configuration keeps everything for ever; `retention: {calls: 365}` keeps a year"
        )
    with writing(settings) as store:
        round = Purge(
            _Kept(store),
            settings.retention,
            {
                name: each.recordings
                for name, each in settings.asterisks.items()
                if each.recordings is not None
            },
            _here,
            time.time(),
            dry=arguments.dry_run,
        )
        counts = run(lambda _: round.run())
        if not arguments.dry_run:
            _note(store, "data.purged", dict(counts))
    if arguments.format == "json":
        write_json({"removed": dict(counts), "dry_run": arguments.dry_run})
    elif counts:
        write_pairs([(kind, str(count)) for kind, count in counts.items()])
    else:
        say("nothing is too old")
    return 0


def erase(arguments: Namespace) -> int:
    settings = configuration(arguments)
    subject = _subject(arguments, settings.plan)
    with writing(settings) as store:
        now = time.time()
        erasure = ErasureRecord(
            mint_call_id(now), now, subject=subject.as_json(), directory=arguments.from_directory
        )
        unit = store.unit()
        unit.put_erasure(erasure)
        # Never who it was: the audit is kept when they are gone.
        unit.add_audit(noted("person.erased", erasure.id))
        store.commit_now(unit)

        async def erased(reactor: Any) -> ErasureRecord:
            await deferLater(reactor, _NOTICED)
            kept = _Kept(store)
            writes = {each.call for each in store.read.wrap_ups()}

            def is_open(call: CallRow) -> bool:
                return call["state"] != "ended" or call["id"] in writes

            calls = (await calls_of(kept, Traces(subject))).calls.values()
            if any(time.time() - (call["ended"] or 0.0) < _WRITTEN_SECONDS for call in calls):
                await deferLater(reactor, _WRITTEN_SECONDS)
            return await Erasing(
                kept, evolve(files_of(settings), rewrite=arguments.rewrite), _here, time.time, is_open
            ).erase(erasure)

        try:
            done = run(erased)
        except AdapterError as error:
            raise CommandFailed(str(error)) from error
    report: Any = done.report
    if arguments.format == "json":
        write_json({"id": done.id, "state": done.state, **report})
    else:
        _tell(done, report)
    return 1 if report.get("left") else 0


def export(arguments: Namespace) -> int:
    settings = configuration(arguments)
    subject = _subject(arguments, settings.plan)

    async def exported(_: Any) -> int:
        count, before = 0, "["
        async for table, kept in gathered(_Kept(store), subject):
            sys.stdout.write(f"{before}\n{json_text({'kind': table, **kept})}")
            count, before = count + 1, ","
        sys.stdout.write(f"{before if before == '[' else ''}\n]\n")
        return count

    with writing(settings) as store:
        _note(store, "person.exported", {})
        count = run(exported)
    say(f"{count} records; of recordings only the names, as they are where the PBX keeps them")
    return 0


def _subject(arguments: Namespace, plan: NumberPlan) -> Subject:
    if not (arguments.number or arguments.party):
        raise WrongUse("whom? Say --number NUMBER or --party ADAPTER:ID, as often as needed")
    return Subject(
        frozenset(_number(each, plan) for each in arguments.number or ()),
        frozenset(_party(each) for each in arguments.party or ()),
        frozenset(arguments.name or ()),
    )


def _number(written: str, plan: NumberPlan) -> str:
    number = plan.parse(written)
    if number.kind is not NumberKind.E164 or number.e164 is None:
        raise WrongUse(
            f'--number "{printable(number.raw)}" is no public telephone number;'
            " one is written like +4915228817386 or 0152 28817386"
        )
    return number.e164


def _party(written: str) -> tuple[str, str]:
    adapter, colon, id = written.partition(":")
    if not (adapter and colon and id):
        raise WrongUse(f'--party "{printable(written)}" is not like directory:17, an adapter and an id there')
    return adapter, id


def _tell(done: ErasureRecord, report: Any) -> None:
    write_pairs([(what, str(count)) for what, count in sorted(report["erased"].items())])
    for destination, count in report["delivered"].items():
        say(f"{destination} was told of them {count} times; what it keeps is to be erased there")
    for record in report["records"]:
        say(f"{record['adapter']} has {record['type']} {record['id']} about a call of theirs")
    if done.state == "waiting":
        say(f"{len(report['waits'])} calls of theirs go on; the server erases them when they are over")
        return
    for left in report["left"]:
        say(f"they are still in {left}")
    if not report["left"]:
        say("nothing of them is left in any table or file")


def _note(store: CommandStore, action: str, detail: Any) -> None:
    unit = store.unit()
    unit.add_audit(noted(action, None, detail))
    store.commit_now(unit)


@frozen
class _Kept:
    """A command's store, as what waits for its answers asks it."""

    _store: CommandStore

    def unit(self) -> Unit:
        return self._store.unit()

    def commit(self, unit: Unit, *, at_leisure: bool = False) -> "Deferred[Sequence[StoredEvent]]":
        return maybeDeferred(self._store.commit_now, unit)

    def read(self, question: Callable[[Reader], T]) -> "Deferred[T]":
        return maybeDeferred(question, self._store.read)


def _here(work: Callable[..., T]) -> "Deferred[T]":
    """A command keeps nobody waiting."""
    return succeed(work())
