"""`cti numbers write-back`: numbers that a CRM holds in a dozen forms are put into one, where there is no doubt.

What would be lost by it stays as it is: a switchboard's `-0`, an extension, and whatever might be another number.
"""

from argparse import Namespace
from collections import Counter
from contextlib import suppress
from enum import StrEnum
from typing import Any, Final

import phonenumbers
from attrs import frozen
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater

from adapters.base import (
    AdapterError,
    Capability,
    IAdapter,
    INumberWriter,
    ListedNumber,
    ListedParty,
    NumberChanged,
    PartyRef,
)
from cti.commands import CommandFailed, WrongUse
from cti.commands.configuration import configuration
from cti.commands.output import printable, say, write_json, write_table
from cti.commands.running import run, started
from cti.index.feed import PAGE_SECONDS
from cti.numbers import NumberPlan, display, stem_of_switchboard
from cti.service import make_adapters
from routing.words import unknown

_SHOWN: Final = 1000
#: The forms that can be asked for, each with an example.
FORMS: Final[dict[str, str]] = {
    "e164": "+494066969100",
    "international": "+49 40 66969100",
    "national": "040 66969100, those of other countries international",
}


class Outcome(StrEnum):
    """What becomes of one number."""

    WOULD = "would_change"
    CHANGED = "changed"
    KEPT = "kept"
    REFUSED = "refused"


@frozen
class Rewrite:
    """One number of a party, as it is and as it is to be; `why` it stays or was refused."""

    party: PartyRef
    name: str
    old: ListedNumber
    new: str | None
    outcome: Outcome
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "type": self.party.type.value,
            "id": self.party.id,
            "name": self.name,
            "field": self.old.field,
            "old": self.old.raw,
            "new": self.new,
            "outcome": self.outcome.value,
            "why": self.why,
        }


def rewrite(
    listed: ListedParty, number: ListedNumber, plan: NumberPlan, form: str, national: bool
) -> Rewrite | None:
    """What is to be done about a number; None if it is in that form already.

    `national`: numbers without a country count as those of the plan's where the CRM does not say which.
    """
    here = plan
    known = False
    if listed.region is not None:
        with suppress(ValueError):
            here, known = plan.for_region(listed.region.upper()), True

    def kept(why: str) -> Rewrite:
        return Rewrite(listed.party.ref, listed.party.name, number, None, Outcome.KEPT, why)

    found = here.parse(number.raw)
    if found.e164 is None:
        return kept("is no public number")
    if found.extension is not None:
        return kept("has an extension that is dialled afterwards, which would be lost")
    if stem_of_switchboard(number.raw, found.e164) is not None:
        return kept("is a switchboard's, and the 0 would not be told from its other digits any more")
    bare = number.raw.strip().removeprefix("tel:").lstrip()
    if not (known or national or bare.startswith(("+", "00"))):
        return kept("does not say its country; --national takes it for one of ours")
    parsed = phonenumbers.parse(found.e164)
    if not phonenumbers.is_valid_number(parsed):
        return kept("may be no number that anybody has")
    new = _written(found.e164, here.region, form)
    if new == number.raw:
        return None
    if here.parse(new).e164 != found.e164:
        return kept("would be read as another number in that form")
    return Rewrite(listed.party.ref, listed.party.name, number, new, Outcome.WOULD)


def _written(e164: str, region: str, form: str) -> str:
    if form == "e164":
        return e164
    # As seen from no country at all, every number is written with its own.
    return display(e164, region if form == "national" else "ZZ")


def write_back(arguments: Namespace) -> int:
    settings = configuration(arguments)
    name: str = arguments.adapter

    async def written(reactor: Any) -> list[Rewrite]:
        adapters = make_adapters(settings, reactor)
        writer = _writer(adapters.get(name))
        if writer is None:
            able = [each for each, adapter in adapters.items() if _writer(adapter) is not None]
            raise WrongUse(unknown("adapter that lets numbers be rewritten", name, able))
        async with started(writer, reactor):
            return await _all(writer, settings.plan, arguments, reactor)

    try:
        found = run(written)
    except (AdapterError, TimeoutError) as error:
        raise CommandFailed(f"{name}: {error or 'the CRM took too long'}; what was written stays") from error
    counts = Counter(each.outcome for each in found)
    if arguments.format == "json":
        counted = {outcome.value: counts[outcome] for outcome in Outcome}
        write_json({"numbers": [each.as_json() for each in found], "counts": counted})
    else:
        write_table(
            ("NAME", "TYPE", "ID", "FIELD", "OLD", "NEW", "OUTCOME", "WHY"),
            [
                (
                    printable(each.name),
                    each.party.type.value,
                    each.party.id,
                    each.old.field,
                    printable(each.old.raw),
                    each.new or "",
                    each.outcome.value,
                    each.why,
                )
                for each in found[:_SHOWN]
            ],
        )
        if len(found) > _SHOWN:
            say(f"and {len(found) - _SHOWN} more; --format json has all of them")
        if counts[Outcome.WOULD]:
            say(f"nothing was written; with --apply {counts[Outcome.WOULD]} numbers would change")
        if counts[Outcome.CHANGED]:
            say(f"{counts[Outcome.CHANGED]} numbers were changed")
    return 1 if counts[Outcome.REFUSED] else 0


async def _all(writer: INumberWriter, plan: NumberPlan, arguments: Namespace, reactor: Any) -> list[Rewrite]:
    found: list[Rewrite] = []
    after, seen = None, set[str]()
    while True:
        page = await Deferred.fromCoroutine(writer.list(after)).addTimeout(PAGE_SECONDS, reactor)
        for listed in page.parties:
            for number in listed.numbers:
                each = rewrite(listed, number, plan, arguments.form, arguments.national)
                if each is None:
                    continue
                if each.new is None or not arguments.apply:
                    found.append(each)
                    continue
                try:
                    found.append(await _applied(writer, each, each.new))
                except AdapterError as error:
                    # What was changed until now is told all the same.
                    return [*found, _with(each, Outcome.REFUSED, f"{error}; nothing was tried after this")]
                await deferLater(reactor, 1 / arguments.per_second)
        if page.after is None or page.after in seen:
            return found
        after = page.after
        seen.add(after)


async def _applied(writer: INumberWriter, each: Rewrite, new: str) -> Rewrite:
    try:
        await writer.write_number(each.party, each.old, new)
    except NumberChanged:
        return _with(each, Outcome.REFUSED, "it is another number by now")
    return _with(each, Outcome.CHANGED, "")


def _with(each: Rewrite, outcome: Outcome, why: str) -> Rewrite:
    return Rewrite(each.party, each.name, each.old, each.new, outcome, why)


def _writer(adapter: IAdapter | None) -> INumberWriter | None:
    able = adapter is not None and {Capability.LIST, Capability.NUMBERS} <= adapter.capabilities
    return adapter if able and isinstance(adapter, INumberWriter) else None
