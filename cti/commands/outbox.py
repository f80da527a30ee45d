"""`cti outbox`: what is on its way to CRMs and webhooks, tried again, or given up for good."""

import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import evolve

from cti.calls.deliveries import AT_ONCE, STATES, decided, delivery_json
from cti.commands import CommandFailed, WrongUse
from cti.commands.configuration import configuration, reading, writing
from cti.commands.output import local, local_moment, printable, say, write_json, write_table
from cti.commands.people import noted
from cti.event_types import EVENT_TYPES
from cti.store.base import OutboxFilter
from cti.store.queries import Reader
from cti.store.records import OutboxRecord
from routing.words import unknown

_DONE: Final = {"retry": "tried again", "drop": "dropped"}


def list_outbox(arguments: Namespace) -> int:
    settings = configuration(arguments)
    where = _filter(arguments)
    found: list[OutboxRecord] = []
    with reading(settings) as reader:
        for page in () if reader is None else _pages(reader, where):
            found += page
            if len(found) >= arguments.limit:
                break
    del found[arguments.limit :]
    if arguments.format == "json":
        write_json({"deliveries": [delivery_json(each) for each in found]})
    else:
        write_table(
            ("ID", "DESTINATION", "STATE", "EVENT", "CALL", "CREATED", "TRIES", "DUE", "ERROR"),
            [
                (
                    each.id,
                    each.destination,
                    each.state,
                    each.type,
                    each.call or "",
                    local(each.created),
                    each.attempts,
                    local(each.due),
                    printable(each.error or ""),
                )
                for each in found
            ],
        )
    return 0


def retry(arguments: Namespace) -> int:
    return _decide(arguments, "retry")


def drop(arguments: Namespace) -> int:
    return _decide(arguments, "drop")


def _decide(arguments: Namespace, decision: str) -> int:
    settings = configuration(arguments)
    ids = list(dict.fromkeys(arguments.id))
    where = _filter(arguments)
    if ids and where != OutboxFilter():
        raise WrongUse("say which ones by their ids, or by --destination and --call, not by both")
    if not ids and where.destination is None and where.call is None and not arguments.all:
        raise WrongUse("which ones? Name their ids, or say --destination NAME, --call ID or --all")
    if ids:
        wheres = [OutboxFilter(ids=ids[at : at + AT_ONCE]) for at in range(0, len(ids), AT_ONCE)]
    else:
        wheres = [where if where.state is not None else evolve(where, state="dead")]
    count = 0
    with writing(settings) as store:
        known: set[int] = set()
        for one in wheres:
            for page in _pages(store.read, one):
                known.update(each.id for each in page)
                unit = store.unit()
                count += decided(unit, decision, page, time.time())
                unit.add_audit(noted(f"outbox.{decision}", f"{page[-1].id} to {page[0].id}"))
                store.commit_now(unit)
    missing = [str(id) for id in ids if id not in known]
    say(f"{count} of the deliveries {'is' if count == 1 else 'are'} {_DONE[decision]}")
    if missing:
        raise CommandFailed(f"there is no delivery {', '.join(missing)}; `cti outbox list` shows them")
    return 0


def _pages(reader: Reader, where: OutboxFilter) -> Iterator[Sequence[OutboxRecord]]:
    after = None
    while True:
        page, after = reader.outbox(where, AT_ONCE, after)
        if page:
            yield page
        if after is None:
            return


def _filter(arguments: Namespace) -> OutboxFilter:
    if arguments.state is not None and arguments.state not in STATES:
        raise WrongUse(unknown("state", arguments.state, STATES))
    if arguments.type is not None and arguments.type not in EVENT_TYPES:
        raise WrongUse(unknown("event", arguments.type, EVENT_TYPES))
    return OutboxFilter(
        destination=arguments.destination,
        state=arguments.state,
        call=arguments.call,
        type=arguments.type,
        since=local_moment(arguments.since),
        until=local_moment(arguments.until),
    )
