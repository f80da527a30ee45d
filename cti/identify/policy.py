"""Which of several parties with one number it is: policies in the company's order, and never "the first".

Pure: what the log knows is passed in, and who has the number is found out by others.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from adapters.base import Party, PartyType
from cti.identify.identification import Resolution, Step
from cti.identify.options import ASK, CASE_OWNER, COMPANY, LAST_AGENT

#: (adapter, type, id) of a party.
Key = tuple[str, str, str]
#: Who was spoken with from or to this number, the last one first.
LastSpoken = Callable[[], Sequence[Key]]

#: Settles without a policy: of several parties one alone has the very number, the others only its switchboard.
NUMBER: Final = "number"

#: What stands as the `match` of a company whose several people have the number.
COMPANY_MATCH: Final = "company"


def key_of(party: Party) -> Key:
    """What names a party among those of all adapters."""
    return party.adapter, party.type.value, party.id


def resolve(
    parties: Sequence[Party], policies: Sequence[str], last_spoken: LastSpoken = tuple
) -> Resolution | None:
    """Whom of these it is taken for, and why; None where there are not several.

    `last_spoken` is asked only if it comes to that.
    """
    if len(parties) < 2:
        return None
    direct = [party for party in parties if party.match == "number"]
    if len(direct) == 1:
        return Resolution(direct[0], NUMBER, (Step(NUMBER, "the others have only the switchboard of it"),))
    candidates = direct or list(parties)
    steps: list[Step] = []
    for policy in policies:
        if policy == ASK:
            break
        found, note = _ASKED[policy](candidates, last_spoken)
        steps.append(Step(policy, note))
        if found is not None:
            return Resolution(found, policy, tuple(steps))
    steps.append(Step(ASK, f"the agent chooses among {len(parties)}"))
    return Resolution(None, ASK, tuple(steps))


def needs_details(parties: Sequence[Party], policies: Sequence[str]) -> bool:
    """Whether who it is can only be settled with what an index does not keep of parties, their cases."""
    found = resolve(parties, policies[: policies.index(CASE_OWNER)] if CASE_OWNER in policies else policies)
    return CASE_OWNER in policies and found is not None and found.party is None


def in_order(parties: Sequence[Party], first: Party | None, chosen: Sequence[Key]) -> tuple[Party, ...]:
    """As the card shows them: whom it was settled for, then whom agents chose for this number, then the others."""
    rank: Mapping[Key, int] = {key: place for place, key in reversed(list(enumerate(chosen)))}
    ordered = sorted(parties, key=lambda party: rank.get(key_of(party), len(rank)))
    if first is None:
        return tuple(ordered)
    return (first, *(party for party in ordered if key_of(party) != key_of(first)))


def _company(parties: Sequence[Party], _last_spoken: LastSpoken) -> tuple[Party | None, str]:
    """People of one organisation are that organisation, and so is it with them."""
    one = {
        (party.adapter, party.id if party.type is PartyType.ORGANISATION else party.organisation)
        for party in parties
    }
    if len(one) > 1:
        return None, "they belong to several companies, or to none"
    ((adapter, id),) = one
    if id is None:
        return None, "they belong to no company"
    itself = [party for party in parties if party.type is PartyType.ORGANISATION]
    if itself:
        return itself[0], "they are one company, and its people"
    company = Party(
        adapter,
        PartyType.ORGANISATION,
        id,
        name=parties[0].company,
        company=parties[0].company,
        owner=_common(parties, "owner"),
        tier=_common(parties, "tier"),
        language=_common(parties, "language"),
        tags=tuple(tag for tag in parties[0].tags if all(tag in party.tags for party in parties)),
        match=COMPANY_MATCH,
    )
    return company, f"all {len(parties)} are people of one company"


def _common(parties: Sequence[Party], name: str) -> str | None:
    """What all of them have."""
    values: set[str | None] = {getattr(party, name) for party in parties}
    return values.pop() if len(values) == 1 else None


def _case_owner(parties: Sequence[Party], _last_spoken: LastSpoken) -> tuple[Party | None, str]:
    waiting = [party for party in parties if party.cases]
    if len(waiting) == 1:
        return waiting[0], "one of them has an open case"
    return None, f"{len(waiting) or 'none'} of them have open cases"


def _last_agent(parties: Sequence[Party], last_spoken: LastSpoken) -> tuple[Party | None, str]:
    known = {key_of(party): party for party in parties}
    for key in last_spoken():
        if key in known:
            return known[key], "one of them was spoken with last"
    return None, "none of them was spoken with yet"


_ASKED: Final[Mapping[str, Callable[[Sequence[Party], LastSpoken], tuple[Party | None, str]]]] = {
    COMPANY: _company,
    CASE_OWNER: _case_owner,
    LAST_AGENT: _last_agent,
}
