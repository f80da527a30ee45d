"""What becomes known of the other side once the card is on the screen: it is put there, and into the log.

Two come by here: who an adapter knew too late for the decision, and what a CRM says of them now. Who chose a party
themselves is not contradicted.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cti.calls.inbound import brief_party, card_parties, party_facts
from cti.calls.life import LiveCall
from cti.calls.log import CallLog
from cti.calls.present import CHOSEN, etag_of
from cti.calls.written import agents_of
from cti.identify.identification import Identification
from cti.logs import get_logger

log = get_logger("cti.calls.cards")

Json = Mapping[str, Any]


class FreshCards:
    """Brings the cards of a call up to date, and tells its agents by `card.updated`."""

    def __init__(self, *, calls: CallLog, now: Callable[[], float]) -> None:
        self._calls = calls
        self._now = now

    def identified(self, call: LiveCall, found: Identification) -> None:
        """An adapter has answered after all: this is who all of them say it is."""
        if not call.ours:
            call.identification = found
            if call.party is None:
                # The next decision knows them.
                call.party = party_facts(found)
        self.show(call, card_parties(found), brief_party(party_facts(found)))

    def renewed(self, call: LiveCall, parties: Sequence[Json]) -> None:
        """These of the card's parties are as given now (`Identification.party_json`); others are left alone."""
        fresh = {_key(party): party for party in parties}
        shown = (call.card or {}).get("parties", ())
        self.show(call, {"parties": [fresh.get(_key(party), party) for party in shown]})

    def show(self, call: LiveCall, card: Json, party: Json | None = None) -> None:
        """These parts of the card are other ones; `party` is who it is, if nobody has said it yet."""
        body = None if call.card is None else {**call.card, **card}
        taken = party is not None and call.record.party is None
        if not taken and (body is None or body == call.card):
            return
        unit, record = self._calls.unit(), call.record
        if taken and party is not None:
            record.party = party
            if call.over:
                unit.take_party(call.id, party)
            else:
                unit.put_call(record)
        if body is not None:
            chosen = (record.party or {}).get("match") == CHOSEN
            call.card = body = {**body, "resolved_by": CHOSEN} if chosen else body
            for agent, shown in call.cards.items():
                call.cards[agent] = evolve(shown, body=body)
                unit.put_card(call.cards[agent])
        agents = agents_of(record, call.segments) if call.over else list(call.cards)
        if agents:
            unit.emit(
                "card.updated",
                self._now(),
                {"call": call.brief(), "party": record.party, "card": body, "etag": etag_of(record)},
                call=call.id,
                agents=agents,
            )
        self._written(self._calls.commit(unit, at_leisure=True), call)

    @staticmethod
    def _written(written: "Deferred[Any]", call: LiveCall) -> None:
        def failed(failure: Failure) -> None:
            log.error("what is new on a card could not be written", call=call.id, why=str(failure.value))

        written.addErrback(failed)


def _key(party: Json) -> tuple[Any, ...]:
    return tuple(party.get(key) for key in ("adapter", "type", "id"))
