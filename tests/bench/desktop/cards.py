"""What both servers push: cards as long as the server's own, so many of them between two turns of the reactor."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

AT_ONCE: Final = 50


def body(number: int) -> Mapping[str, Any]:
    """What the event of a card says beside its number, type and time."""
    call = f"01a20447-5bd9-7fd3-8ec1-{number:012x}"
    party = {
        "adapter": "directory",
        "type": "contact",
        "id": str(number),
        "name": f"Customer {number}",
        "company": f"Company {number // 3}",
        "url": None,
        "owner": None,
        "match": "number",
    }
    return {
        "call": {"id": call, "from": "+491000000000", "to": "+494066969100", "service": "sales"},
        "party": party,
        "agent": "agent0000",
        "card": {
            "from": "+491000000000",
            "from_kind": "e164",
            "to": "+494066969100",
            "service": "sales",
            "instruction": "Greet with the company's name.",
            "parties": [{**party, "tier": "gold", "language": "de", "tags": [], "notes": None}],
            "reason": "rest: agent0000 is longest idle in sales",
        },
    }


def a_card(number: int) -> bytes:
    """An event's data."""
    return orjson.dumps(
        {"seq": number, "type": "card.offered", "at": "2026-11-22T10:00:00.000Z", **body(number)}
    )
