"""Callers whom nobody knows are taken into the CRM that their service names: once a number, and while nobody waits.

That somebody is to be taken in is written down with the news of their call, so that neither two calls at one moment
nor a restart takes them in twice, and a CRM that is away gets them later.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from attrs import evolve
from twisted.internet.defer import Deferred, TimeoutError
from twisted.python.failure import Failure

from adapters.base import AdapterError, NewParty, Party
from cti.agents.roster import Roster
from cti.calls.inbound import brief_party, party_facts
from cti.calls.late_cards import LateCards
from cti.calls.life import LiveCall, brief_of
from cti.calls.log import CallLog
from cti.calls.parties import NoCreator, Parties
from cti.calls.present import etag_of
from cti.calls.services import Services
from cti.calls.writing_up import WritingUp
from cti.identify.identification import Identification, Outcome
from cti.identify.identifier import Identifier, owners_among
from cti.logs import get_logger
from cti.numbers import Number, NumberKind
from cti.reactors import DelayedCall
from cti.store.base import CallFilter, StoreError, Unit
from cti.store.records import NewcomerRecord
from routing.rules import AT_ANSWER, Newcomers as Wanted

log = get_logger("cti.calls.newcomers")

#: Seconds that a CRM may take to take somebody in. Who got no answer looks first whether they are there by now.
CREATE_SECONDS: Final = 30.0
#: Seconds until it is tried again, at first and at most; and after how many failures nobody tries any more.
_FIRST_PAUSE: Final = 10.0
_LONGEST_PAUSE: Final = 3600.0
_TRIES: Final = 100
_AT_ONCE: Final = 20


class Newcomers:
    """Takes them in, one after the other."""

    def __init__(
        self,
        *,
        calls: CallLog,
        services: Callable[[], Services],
        identifier: Callable[[], Identifier],
        parties: Parties,
        late_cards: LateCards,
        writing_up: WritingUp,
        roster: Roster,
        clock: Any,
    ) -> None:
        self._calls = calls
        self._services = services
        self._identifier = identifier
        self._parties = parties
        self._late_cards = late_cards
        self._writing_up = writing_up
        self._roster = roster
        self._clock = clock
        self._at_work = False
        self._again = False
        self._timer: DelayedCall | None = None
        self._next = 0.0

    def news(self, unit: Unit, call: LiveCall) -> None:
        """Who calls and is unknown is to be taken in, if their service says so: put that into `unit`."""
        record = call.record
        service = self._services().named(record.service or "")
        wanted = None if service is None else service.unknown
        if wanted is None or not _is_unknown(call) or not _is_time(call, wanted):
            return
        unit.add_newcomer(
            NewcomerRecord(
                wanted.adapter,
                record.from_number or "",
                wanted.type,
                record.id,
                record.service or "",
                record.started,
                due=self._clock.seconds(),
            )
        )
        # Once it is durable: the store is asked what there is to do.
        self._look_in(1.0)

    def start(self) -> None:
        """Take up what was not done when the server stopped."""
        self._look_in(0.0)

    def stop(self) -> None:
        """Do nothing more of what is due later."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _look_in(self, seconds: float) -> None:
        at = self._clock.seconds() + seconds
        waits = self._timer is not None and self._timer.active()
        if waits and self._next <= at:
            return
        self.stop()
        self._next = at
        self._timer = self._clock.callLater(seconds, self.look)

    def look(self) -> None:
        """Do what is due."""
        if self._at_work:
            self._again = True
            return
        self._at_work = True
        working = Deferred.fromCoroutine(self._work())
        working.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self._at_work = False
        log.error("unknown callers are not taken in", exception=failure.getTraceback())
        self._look_in(_LONGEST_PAUSE)

    async def _work(self) -> None:
        try:
            waiting = self._calls.store.waiting_newcomers(_AT_ONCE)
        except StoreError as error:
            log.error("who is to be taken in is not known", why=str(error))
            waiting = ()
        for newcomer in waiting:
            if newcomer.due <= self._clock.seconds():
                await self._settle(newcomer)
        self._at_work = False
        if self._again or (waiting and waiting[0].due <= self._clock.seconds()):
            self._again = False
            self._look_in(0.0)
        elif waiting:
            self._look_in(max(1.0, min(each.due for each in waiting) - self._clock.seconds()))

    async def _settle(self, newcomer: NewcomerRecord) -> None:
        number = self._services().plan.parse(newcomer.number)
        try:
            found = await self._find_or_make(newcomer, number)
        except (AdapterError, NoCreator, TimeoutError, _NotSure) as error:
            await self._later(newcomer, str(error))
            return
        except Exception:
            # An adapter may raise anything, and the next newcomer's turn comes all the same.
            log.exception("an adapter took nobody in", adapter=newcomer.adapter)
            await self._later(newcomer, "the adapter failed")
            return
        brief = brief_party(party_facts(found))
        unit = self._calls.unit()
        unit.put_newcomer(evolve(newcomer, state="done", party=brief))
        if brief is not None:
            unit.take_party_of(newcomer.number, newcomer.began, brief)
            await self._tell_of_ended(unit, newcomer)
        await self._commit(unit)
        for call in self._calls_of(newcomer):
            self._late_cards.identified(call, found)

    async def _tell_of_ended(self, unit: Unit, newcomer: NewcomerRecord) -> None:
        """Their calls that are over have a party now, and nobody else says so."""
        where = CallFilter(since=newcomer.began, number=newcomer.number, direction="inbound")
        try:
            calls, _ = await self._calls.store.calls(where, _AT_ONCE)
        except StoreError as error:
            log.error("which calls an unknown caller made is not known", why=str(error))
            return
        living = {call.id for call in self._calls_of(newcomer)}
        for record in calls:
            if record.party is None and record.id not in living:
                unit.emit(
                    "call.updated",
                    self._clock.seconds(),
                    {"call": brief_of(record), "changed": ["party"], "etag": etag_of(record)},
                    call=record.id,
                    agents=() if record.agent is None else (record.agent,),
                )

    async def _find_or_make(self, newcomer: NewcomerRecord, number: Number) -> Identification:
        """Who it is by now, whoever has taken them in meanwhile; else they are made. Raises what adapters do."""
        self._identifier().forget(number=newcomer.number)
        known = await self._identifier().identify(number)
        if known.parties or all(each.outcome is Outcome.SKIPPED for each in known.adapters):
            return known
        if not known.certain:
            raise _NotSure("not every adapter has said whether it knows them")
        wanted = NewParty(
            newcomer.type, newcomer.number, name=self._services().plan.display(newcomer.number) or ""
        )
        making: Deferred[Party] = Deferred.fromCoroutine(
            self._parties.known_or_new(wanted, number, newcomer.adapter)
        )
        party = await making.addTimeout(CREATE_SECONDS, self._clock)
        log.info(
            "an unknown caller was taken in", call=newcomer.call, adapter=newcomer.adapter, type=newcomer.type
        )
        owners = owners_among([party], self._roster.owner_of)
        return Identification(number, (party,), owners=owners, at=self._clock.seconds())

    async def _later(self, newcomer: NewcomerRecord, why: str) -> None:
        tries = newcomer.tries + 1
        log.warning(
            "an unknown caller could not be taken in",
            call=newcomer.call,
            adapter=newcomer.adapter,
            tries=tries,
            why=why,
        )
        pause = min(_FIRST_PAUSE * 2.0 ** min(newcomer.tries, 20), _LONGEST_PAUSE)
        state = "waiting" if tries < _TRIES else "given_up"
        unit = self._calls.unit()
        unit.put_newcomer(evolve(newcomer, tries=tries, due=self._clock.seconds() + pause, state=state))
        await self._commit(unit)

    async def _commit(self, unit: Unit) -> None:
        try:
            await self._calls.commit(unit, at_leisure=True)
        except StoreError as error:
            log.error("what came of an unknown caller could not be written", why=str(error))

    def _calls_of(self, newcomer: NewcomerRecord) -> Iterator[LiveCall]:
        """Their calls that live, and the one by which they came while somebody writes it up."""
        seen = set()
        for call in self._calls.from_number(newcomer.number):
            seen.add(call.id)
            yield call
        if newcomer.call in seen:
            return
        written = self._writing_up.call(newcomer.call)
        if written is not None:
            yield written


class _NotSure(Exception):
    """Somebody may know them, and has not said so."""


def _is_unknown(call: LiveCall) -> bool:
    """Whether nobody knows who calls, though anybody could; who is turned away is nobody's lead."""
    record, known = call.record, call.identification
    if record.direction != "inbound" or record.from_kind != NumberKind.E164 or record.party is not None:
        return False
    return call.action != "reject" and (known is None or not (known.parties or known.ignored))


def _is_time(call: LiveCall, wanted: Wanted) -> bool:
    return call.record.answered is not None if wanted.when == AT_ANSWER else call.over
