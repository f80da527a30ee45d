"""The client card: everything that is known of the other side, as one bounded document for the agents' screens.

When it is shown, and to whom, is the call's; what a role does not see of it is taken out where it leaves.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from cti.calls.life import LiveCall
from cti.calls.services import Services
from cti.identify.identification import Identification
from cti.links import LinkTemplate
from routing.rules import Service

#: Bytes of a card as JSON, so that an event with it stays below 64 kB.
CARD_LIMIT: Final = 60_000
#: If a card is longer: entries of each list of a party, and characters of its notes, until it is not.
_SHORTER: Final = ((10, 2048), (5, 1024), (2, 512), (0, 256))
_LISTS: Final = ("cases", "last_contacts", "appointments", "tasks", "links")


def card_body(
    call: LiveCall, identified: Identification, service: Service | None, services: Services
) -> dict[str, Any]:
    """The card of a call, with what the dialled service asks of the agent."""
    numbers = {"from": call.record.from_number, "to": call.record.to_number}
    body: dict[str, Any] = {
        **numbers,
        "display": {side: services.plan.display(number) for side, number in numbers.items()},
        "from_kind": call.record.from_kind,
        "service": service.name if service is not None else None,
        "instruction": service.instruction if service is not None else None,
        "parties": [identified.party_json(party) for party in identified.parties],
        "resolved_by": None if identified.party is None else identified.resolved_by,
        "reason": call.record.reason,
    }
    return with_parties(call, body, body["parties"], services)


def with_parties(
    call: LiveCall, body: Mapping[str, Any], parties: Sequence[Mapping[str, Any]], services: Services
) -> dict[str, Any]:
    """The card with these parties on it, and with the links that the configuration has for them."""
    number = call.record.to_number if call.ours else call.record.from_number
    linked = [with_links(party, services.links, number, call.id) for party in parties]
    return bounded({**body, "parties": linked})


def with_links(
    party: Mapping[str, Any], templates: Iterable[LinkTemplate], number: str | None, call: str | None
) -> dict[str, Any]:
    """The party, with a link of each template that is for such a party and has all that it needs.

    `with` says what of the customer stands in the address, for who may not see that.
    """
    values = {"number": number, "call": call, **{f"party.{key}": party.get(key) for key in _OF_A_PARTY}}
    values["party.owner"] = party.get("owner_user")
    own = [link for link in party.get("links", ()) if "with" not in link]
    made = [
        {"title": template.title, "url": url, "with": list(template.tells)}
        for template in templates
        if template.adapter in (None, party.get("adapter")) and template.type in (None, party.get("type"))
        if (url := template.filled(values)) is not None
    ]
    return {**party, "links": own + made}


def bounded(body: dict[str, Any]) -> dict[str, Any]:
    """The card, or one that is `shortened` until it fits: first lists and notes, then how many parties there are."""
    if _fits(body):
        return body
    for entries, notes in _SHORTER:
        parties = [_shorter(party, entries, notes) for party in body["parties"]]
        shorter = {**body, "parties": parties, "shortened": True}
        if _fits(shorter):
            return shorter
    while not _fits(shorter) and len(parties) > 1:
        parties = parties[: len(parties) // 2]
        shorter = {**shorter, "parties": parties}
    return shorter


def _shorter(party: Mapping[str, Any], entries: int, notes: int) -> dict[str, Any]:
    lists = {name: party.get(name, [])[:entries] for name in _LISTS}
    return {**party, **lists, "notes": (party.get("notes") or "")[:notes]}


def _fits(body: Mapping[str, Any]) -> bool:
    return len(orjson.dumps(body)) <= CARD_LIMIT


_OF_A_PARTY: Final = (
    "adapter",
    "type",
    "id",
    "name",
    "company",
    "organisation",
    "tier",
    "language",
)
