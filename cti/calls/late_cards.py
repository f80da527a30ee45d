"""What becomes known of a caller after their card was shown, on the screens that have it.

What identifies a caller in time, an index or a brief answer, need not be all that the CRM knows: whoever can tell
more is asked afterwards, when nobody waits for it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from adapters.base import Party
from cti.calls.card import with_parties
from cti.calls.finder import Finder, NotAsked
from cti.calls.inbound import brief_party, party_facts
from cti.calls.life import LiveCall
from cti.calls.log import CallLog
from cti.calls.present import CHOSEN, etag_of
from cti.calls.services import Services
from cti.calls.written import agents_of
from cti.identify.identification import Identification
from cti.logs import get_logger

log = get_logger("cti.calls.late_cards")

#: Of several parties with one number, whose whole cards are asked for at once.
FRESHENED: Final = 3
#: Parties that are asked about at one moment; a card that finds no place stays as brief as it is.
AT_ONCE: Final = 32


class LateCards:
    """Brings cards up to date."""

    def __init__(
        self,
        *,
        calls: CallLog,
        finder: Finder,
        services: Callable[[], Services],
        now: Callable[[], float],
    ) -> None:
        self._calls = calls
        self._finder = finder
        self._services = services
        self._now = now
        self._asking = 0

    def show(
        self, call: LiveCall, parties: Sequence[Mapping[str, Any]], changed: Sequence[str] = ()
    ) -> "Deferred[bool]":
        """These are who the call's card is about now: kept, and on the screen of everybody who has it.

        `changed`: what of the call itself has become another, as `call.updated` says it. Tells whether it is durable.
        """
        body = None if call.card is None else with_parties(call, call.card, parties, self._services())
        if body == call.card and not changed:
            return succeed(True)
        unit, at = self._calls.unit(), self._now()
        if body is not None and body != call.card:
            call.card = body
            for agent, card in call.cards.items():
                call.cards[agent] = evolve(card, body=body)
                unit.put_card(call.cards[agent])
            for agent in dict.fromkeys([*call.cards, *agents_of(call.record, call.segments)]):
                unit.emit(
                    "card.updated",
                    at,
                    {
                        "call": call.brief(),
                        "party": call.record.party,
                        "agent": agent,
                        "attempt": call.cards[agent].attempt if agent in call.cards else call.record.attempt,
                        "card": body,
                    },
                    call=call.id,
                    agents=(agent,),
                )
        if changed and call.record.party is not None and call.over:
            unit.take_party(call.id, call.record.party)
        elif changed:
            unit.put_call(call.record)
        if changed:
            unit.emit(
                "call.updated",
                at,
                {"call": call.brief(), "changed": list(changed), "etag": etag_of(call.record)},
                call=call.id,
                agents=agents_of(call.record, call.segments),
            )
        if call.over:
            # No news of the call itself any more, and nothing follows from them.
            return self._calls.commit(unit, at_leisure=True).addCallbacks(
                _is_durable, _not_written, errbackArgs=(call,)
            )
        return self._calls.write(call, unit)

    def identified(self, call: LiveCall, found: Identification) -> None:
        """An adapter has answered after all: this is who all of them say it is, unless a person has said so."""
        record = call.record
        if (record.party or {}).get("match") in (CHOSEN, "key"):
            return
        changed: Sequence[str] = ()
        facts = party_facts(found)
        if record.party is None:
            record.party = brief_party(facts)
            changed = ("party",) if record.party is not None else ()
        if not call.ours:
            call.identification = found
            if call.party is None:
                # The next decision knows them.
                call.party = facts
        self.show(call, [self._finder.party_json(party) for party in found.parties], changed)
        self.freshen(call)

    def chosen(self, call: LiveCall, party: Mapping[str, Any]) -> None:
        """Somebody has said that it is this party, who may not have been on the card before."""
        parties = list((call.card or {}).get("parties", ()))
        if not any(_same(each, party) for each in parties):
            # The others stay, as who has chosen may choose again.
            self.show(call, [party, *parties])
        self.freshen(call)

    def freshen(self, call: LiveCall) -> None:
        """Ask, in the background, for all that is known of those on the call's card."""
        wanted = [
            party
            for party in self._worth_asking(call)
            if self._finder.has_cards(str(party.get("adapter"))) and self._asking < AT_ONCE
        ]
        for party in wanted:
            self._asking += 1
            asking = Deferred.fromCoroutine(self._ask(call, party))
            asking.addBoth(self._asked, call)

    def _asked(self, outcome: Any, call: LiveCall) -> None:
        self._asking -= 1
        if isinstance(outcome, Failure):
            log.error("a card was not brought up to date", call=call.id, exception=outcome.getTraceback())

    @staticmethod
    def _worth_asking(call: LiveCall) -> list[Mapping[str, Any]]:
        """Who the call is with; of several, nobody knows yet, so the first of them."""
        parties: list[Mapping[str, Any]] = list((call.card or {}).get("parties", ()))
        chosen = [party for party in parties if _same(party, call.record.party)]
        return chosen or parties[:FRESHENED]

    async def _ask(self, call: LiveCall, party: Mapping[str, Any]) -> None:
        try:
            fresh = await self._finder.party(party["adapter"], party["type"], party["id"])
        except NotAsked as error:
            log.info("a card stays as it is", call=call.id, adapter=party["adapter"], why=str(error))
            return
        if fresh is None:
            log.info("a party is not in the CRM any more", call=call.id, adapter=party["adapter"])
            return
        fresh = evolve(fresh, match=party.get("match") or fresh.match)
        whole = self._finder.party_json(fresh)
        parties = (call.card or {}).get("parties", ())
        changed = self._take(call, fresh)
        self.show(call, [whole if _same(each, party) else each for each in parties], changed)

    @staticmethod
    def _take(call: LiveCall, fresh: Party) -> Sequence[str]:
        """Rules look at what is true now, too, if the call is asked about once more."""
        known = call.identification
        if known is None or known.party is None:
            return ()
        was_it = known.party.ref == fresh.ref and known.party.adapter == fresh.adapter
        same = [
            fresh if (each.adapter, each.ref) == (fresh.adapter, fresh.ref) else each
            for each in known.parties
        ]
        call.identification = evolve(known, parties=tuple(same))
        if not was_it or call.record.party is None or not _same(call.record.party, call.party):
            return ()
        call.party = party_facts(call.identification)
        brief = brief_party(call.party)
        if brief == call.record.party:
            return ()
        call.record.party = brief
        return ("party",)


def _is_durable(_events: object) -> bool:
    return True


def _not_written(failure: Failure, call: LiveCall) -> bool:
    log.error("what is new on a card could not be written", call=call.id, why=str(failure.value))
    return False


def _same(one: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    return other is not None and all(one.get(key) == other.get(key) for key in ("adapter", "type", "id"))
