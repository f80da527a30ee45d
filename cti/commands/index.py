"""`cti index`: what the phone index knows of each CRM, and reading a CRM's whole list anew."""

import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError, succeed

from adapters.base import AdapterError, Capability, ILister
from cti.commands import CommandFailed, WrongUse
from cti.commands.configuration import configuration
from cti.commands.output import say, write_json, write_table
from cti.commands.running import run, started
from cti.index.feed import Feed, lists
from cti.index.file import IndexFailed
from cti.index.phone_index import PhoneIndex
from cti.service import make_adapters
from cti.settings import Settings
from routing.words import unknown


def open_index(settings: Settings) -> PhoneIndex:
    """The index as it is now; of adapters that have no part yet, nothing."""
    index = PhoneIndex(settings.index.directory, settings.plan, settings.own_numbers, time.time)
    for name, adapter in settings.adapters.items():
        if adapter.asking.index:
            index.open(name)
    return index


def show_index(arguments: Namespace) -> int:
    index = open_index(configuration(arguments))
    parts = index.status()
    index.close()
    if arguments.format == "json":
        keys = ("adapter", "parties", "numbers", "bytes", "age")
        write_json({"index": [{key: getattr(part, key) for key in keys} for part in parts]})
        return 0
    write_table(
        ("ADAPTER", "PARTIES", "NUMBERS", "SIZE", "IN STEP"),
        [
            (part.adapter, part.parties, part.numbers, f"{part.bytes / 1e6:.1f} MB", f"{part.age:.0f} s ago")
            for part in parts
        ],
    )
    return 0


def rebuild_index(arguments: Namespace) -> int:
    """Lists one CRM anew, beside a running server, which takes the result over when it next looks for changes."""
    settings = configuration(arguments)
    name: str = arguments.adapter

    async def rebuilt(reactor: Any) -> tuple[int, int]:
        adapters = make_adapters(settings, reactor)
        lister = lists(adapters[name]) if name in adapters else None
        if lister is None:
            able = [each for each, adapter in adapters.items() if Capability.LIST in adapter.capabilities]
            raise WrongUse(unknown("adapter that can list its parties", name, able))
        async with started(lister, reactor):
            return await _rebuilt(lister, settings, reactor)

    try:
        parties, numbers = run(rebuilt)
    except (AdapterError, IndexFailed, TimeoutError) as error:
        raise CommandFailed(
            f"the index of {name} stays as it is: {error or 'the CRM took too long'}"
        ) from error
    say(f"{parties} parties of {name} with {numbers} numbers are in the index")
    return 0


async def _rebuilt(lister: ILister, settings: Settings, reactor: Any) -> tuple[int, int]:
    index = PhoneIndex(settings.index.directory, settings.plan, settings.own_numbers, reactor.seconds)
    try:
        feed = Feed(lister, index, reactor, _here)
        part = await feed.read_list(although_shrunk=True)
        return int(part.about["parties"]), int(part.about["numbers"])
    finally:
        index.close()


def _here(work: Callable[..., Any], *arguments: Any) -> "Deferred[Any]":
    """A command keeps nobody waiting."""
    return succeed(work(*arguments))
