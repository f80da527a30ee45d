"""`cti identify` and `cti explain`: who is calling, and what would become of a call, or why one went where it did.

Neither writes anything.
"""

import getpass
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, TimeoutError

from adapters.base import AdapterError, IAdapter
from cti.calls.explain import explain
from cti.calls.finder import MAX_KEY, Finder, UnknownKey, key_json
from cti.calls.history import day_of, history_of
from cti.calls.life import State
from cti.calls.own import OwnCode
from cti.calls.present import call_json, decisions_json
from cti.calls.remembered import Remembered
from cti.calls.services import Services
from cti.calls.turned_away import Lists
from cti.commands import CommandFailed, WrongUse
from cti.commands.configuration import configuration, reading
from cti.commands.index import open_index
from cti.commands.output import local_moment, printable, say, write_json, write_pairs, write_table
from cti.commands.people import roster_of
from cti.commands.reasons import adapters_of, number_of, owner_of, settled, show_dry_run, show_record
from cti.commands.running import run
from cti.identify.identification import Identification, Outcome
from cti.identify.identifier import Identifier
from cti.numbers import NumberKind
from cti.service import make_adapters, make_identifier
from cti.settings import Settings
from cti.store.queries import Reader
from routing.facts import History, Line
from routing.rules import Service

T = TypeVar("T")

_START_SECONDS: Final = 10.0
_NOT_A_NUMBER: Final[Mapping[NumberKind, str]] = {
    NumberKind.UNKNOWN: "is not a telephone number; one is written like +4915228817386 or 0152 28817386",
    NumberKind.WITHHELD: "stands for a caller who shows no number: there is nobody to be found",
    NumberKind.UNAVAILABLE: "stands for a caller whose number nobody knows: there is nobody to be found",
}


def identify_number(arguments: Namespace) -> int:
    settings = configuration(arguments)
    if not arguments.number:
        raise WrongUse("NUMBER is missing; a telephone number, or --key KIND with a key, would be right")
    number = settings.plan.parse(" ".join(arguments.number))
    if number.kind in _NOT_A_NUMBER:
        raise CommandFailed(f'"{printable(number.raw)}" {_NOT_A_NUMBER[number.kind]}')
    with reading(settings) as reader:
        lists = _lists(reader, settings)
        found = _with_identifier(settings, reader, lists, lambda identifier: identifier.identify(number))
    if arguments.format == "json":
        write_json(found.as_json())
    else:
        _show_identification(found, settings)
    return _code_of(found)


def identify_key(arguments: Namespace) -> int:
    """Who has a key. What is sensitive must not stand on a command line, which everybody on the machine can read."""
    settings = configuration(arguments)
    given = " ".join(arguments.number)
    value = given or _typed(arguments.key)
    with reading(settings) as reader:
        owners = roster_of(reader, settings).owner_of
        lists = _lists(reader, settings)

        async def asked(
            identifier: Identifier, adapters: Mapping[str, IAdapter], reactor: Any
        ) -> Identification:
            finder = Finder(
                adapters=lambda: adapters,
                identify=identifier.identify,
                owners=owners,
                settle=identifier.settle,
                sensitive=lambda: settings.sensitive_keys,
                is_open=identifier.is_open,
                clock=reactor,
                observe=lambda _adapter, _outcome, _seconds: None,
            )
            kind = finder.kinds.get(arguments.key)
            if kind is not None and kind.sensitive and given:
                raise CommandFailed(
                    f"a {kind.name} must not stand on a command line; leave it out, and it is asked for"
                )
            try:
                return await finder.by_key(arguments.key, value, settings.plan.parse(None))
            except (UnknownKey, ValueError) as error:
                raise CommandFailed(str(error)) from error

        found = _with_adapters(settings, reader, lists, asked)
    if arguments.format == "json":
        write_json(key_json(arguments.key, found))
    else:
        answer = found.as_json()
        write_pairs([("key", arguments.key), ("asked", adapters_of(answer))])
        _show_parties(answer["parties"])
    return _code_of(found)


def _typed(kind: str) -> str:
    """A key that nobody sees."""
    if sys.stdin.isatty():
        return getpass.getpass(f"{printable(kind)}: ")
    return sys.stdin.readline(MAX_KEY + 2).removesuffix("\n").removesuffix("\r")


def _code_of(found: Identification) -> int:
    failed = any(each.outcome not in (Outcome.HIT, Outcome.MISS, Outcome.SKIPPED) for each in found.adapters)
    return 1 if failed and not found.parties else 0


def explain_call(arguments: Namespace) -> int:
    """What would become of a call that is described; with --call, why one went where it did."""
    described = (arguments.from_number, arguments.to_number)
    if arguments.call is not None:
        if any(each is not None for each in (*described, arguments.at)):
            raise WrongUse(
                "--call says it all: which call, from whom and when; without --from, --to and --at"
            )
        return _explain_logged(arguments)
    if None in described:
        raise WrongUse(
            "which call? --from NUMBER and --to NUMBER describe one, --call ID names one of the log"
        )
    settings = configuration(arguments)
    at = local_moment(arguments.at)
    with reading(settings) as reader:
        lists = _lists(reader, settings)

        async def past(number: str, service: Service, at: float) -> History | None:
            if reader is None:
                return None
            since = day_of(service, settings.reports.time_zone, at)
            return history_of(reader.past_calls(number, service.numbers, since, at), at)

        answer = _with_adapters(
            settings,
            reader,
            lists,
            lambda identifier, _adapters, reactor: explain(
                arguments.from_number,
                arguments.to_number,
                at,
                now=time.time(),
                services=Services(settings.services.values(), settings.plan),
                identifier=identifier,
                roster=roster_of(reader, settings),
                line=lambda service, now: _line(reader, service, now),
                refusal=lists.refusal,
                history=past,
                own=OwnCode(reactor, lambda _name, _outcome, _seconds: None).of,
                assumed=[*_assumed(reader)],
            ),
        )
    if arguments.format == "json":
        write_json(answer)
    else:
        show_dry_run(answer, settings)
    return 0


def _assumed(reader: Reader | None) -> Iterator[str]:
    """What only the running server knows, and what is taken for it here."""
    yield "every phone counts as free: of phones only the running server knows"
    if reader is None:
        yield "nobody waits, and nothing is known of the caller's past: there is no call log yet"
    if reader is None or not reader.agents():
        yield "agents are as the configuration has them: the store has none yet"


def _line(reader: Reader | None, service: str, now: float) -> Line:
    """Who waits for a service, as the log has it; who has hung up while the server was down may be among them."""
    if reader is None:
        return Line()
    calls = (detail.call for detail in reader.open_calls())
    since = [
        call.queued or call.started
        for call in calls
        if call.state == State.WAITING and call.service == service
    ]
    return Line(len(since), max(0.0, now - min(since))) if since else Line()


def _explain_logged(arguments: Namespace) -> int:
    settings = configuration(arguments)
    with reading(settings) as reader:
        if reader is None:
            raise CommandFailed("there is no call log yet: the store is made when `cti serve` first runs")
        detail = reader.call(arguments.call)
    if detail is None:
        raise CommandFailed(
            f'the log has no call "{printable(arguments.call)}"; `cti calls` shows their ids, in the last column'
        )
    call, decisions = call_json(detail.call), decisions_json(detail)
    if arguments.format == "json":
        write_json({"call": call, "decisions": decisions})
    else:
        show_record(call, decisions, settings)
    return 0


def _lists(reader: Reader | None, settings: Settings) -> Lists:
    return Lists(settings.identify, () if reader is None else reader.listed_numbers())


def _with_identifier(
    settings: Settings,
    reader: Reader | None,
    lists: Lists,
    question: Callable[[Identifier], Coroutine[Any, Any, T]],
) -> T:
    """Ask a question of all adapters."""

    async def asked(identifier: Identifier, _adapters: Mapping[str, IAdapter], _reactor: Any) -> T:
        return await question(identifier)

    return _with_adapters(settings, reader, lists, asked)


def _with_adapters(
    settings: Settings,
    reader: Reader | None,
    lists: Lists,
    question: Callable[[Identifier, Mapping[str, IAdapter], Any], Coroutine[Any, Any, T]],
) -> T:
    """Ask a question of all adapters, started for it and stopped afterwards."""
    owners = roster_of(reader, settings).owner_of

    async def asked(reactor: Any) -> T:
        adapters = make_adapters(settings, reactor)
        index = open_index(settings)
        try:
            for name, adapter in adapters.items():
                try:
                    await Deferred.fromCoroutine(adapter.start()).addTimeout(_START_SECONDS, reactor)
                except (AdapterError, TimeoutError) as error:
                    say(f"the adapter {name} does not start: {error}")
            identifier = make_identifier(
                settings,
                adapters,
                reactor,
                owners=owners,
                remembered=Remembered(reader),
                ignored=lists.ignored.__contains__,
                index=index,
            )
            return await question(identifier, adapters, reactor)
        finally:
            index.close()
            for adapter in adapters.values():
                await adapter.stop()

    return run(asked)


def _show_identification(found: Identification, settings: Settings) -> None:
    answer = found.as_json()
    write_pairs(
        [
            ("number", number_of(answer["number"], answer["e164"], answer["kind"], settings)),
            ("asked", adapters_of(answer)),
            *settled(answer),
        ]
    )
    _show_parties(answer["parties"])


def _show_parties(parties: Sequence[Mapping[str, Any]]) -> None:
    if not parties:
        print("nobody found")
        return
    print()
    write_table(
        ("NAME", "COMPANY", "TYPE", "ID", "ADAPTER", "OWNER", "TIER", "LANGUAGE", "TAGS"),
        [
            (
                party["name"],
                party["company"],
                party["type"],
                party["id"],
                party["adapter"],
                owner_of(party),
                party["tier"],
                party["language"],
                " ".join(party["tags"]),
            )
            for party in parties
        ],
    )
