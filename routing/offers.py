"""Who of those whom a rule means would be offered the call, and why not the others."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import accumulate, groupby, islice
from operator import attrgetter, itemgetter
from typing import Any, Final

from attrs import frozen

from routing.facts import AgentFacts, Facts, Group, History
from routing.rules import DialAgent, DialGroup, DialLastAgent, DialNumber, DialOwner, Offered, Order, Whom

# A trace is kept with every call, so it names this many agents of a group and counts the others.
MAX_CANDIDATES: Final = 25
#: As many phones as one INVITE each is sent at once for, and as fit into a line of AGI.
MAX_RUNG: Final = 20
_MAX_TARGET: Final = 1500
NOT_AN_AGENT: Final = "is not an agent here"
TRIED: Final = "was offered this call already"


@frozen
class Candidate:
    """An agent who was considered; `why_not` is None for one who was chosen."""

    agent: str
    why_not: str | None

    def as_json(self) -> dict[str, Any]:
        return {"agent": self.agent, "why_not": self.why_not}


@frozen
class Offer:
    """Who of those considered would be offered the call, none for nobody, and in words why.

    `phone`: rung where there is no agent, of a number outside. `considered`: the first of them, as they were; `size`:
    how many there were. What a person reads of them is made when it is read, since that is after the caller has been
    answered.
    """

    agents: tuple[AgentFacts, ...]
    note: str
    considered: tuple[AgentFacts, ...] = ()
    size: int = 0
    why_not: "Callable[[AgentFacts], str | None]" = attrgetter("why_not")
    missing: str | None = None
    phone: str = ""

    @property
    def target(self) -> str:
        """What is dialled, empty for nobody."""
        return "&".join(phone for agent in self.agents for phone in agent.phones) or self.phone

    def candidates(self) -> tuple[Candidate, ...]:
        """The chosen ones and the first others, in the order of their ids."""
        return tuple(Candidate(agent, why_not) for agent, why_not in self._named())

    def candidates_as_json(self) -> list[dict[str, Any]]:
        """The same as plain values."""
        return [{"agent": agent, "why_not": why_not} for agent, why_not in self._named()]

    def _named(self) -> list[tuple[str, str | None]]:
        if self.missing is not None:
            return [(self.missing, NOT_AN_AGENT)]
        chosen = {agent.id for agent in self.agents}
        later = f"{', '.join(sorted(chosen))} comes first" if chosen else ""
        named: list[tuple[str, str | None]] = [(id, None) for id in chosen]
        for agent in self.considered:
            if agent.id not in chosen and len(named) < MAX_CANDIDATES:
                named.append((agent.id, self.why_not(agent) or later))
        named.sort(key=itemgetter(0))
        return named


class Offers:
    """Looks for agents on behalf of one decision; what has been looked for once is not looked for again.

    Many rules may name the same group, and a group may have thousands of agents.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._found: dict[tuple[Offered, str, bool], Offer] = {}

    def to(self, whom: Offered, seed: str, *, in_line: bool = False) -> Offer:
        """`seed`: by which a choice is made that is left to chance. `in_line`: the call waits for them, and may be
        offered again to who has let it ring.
        """
        by_chance = isinstance(whom, DialGroup) and whom.order is Order.WEIGHTED
        key = whom, seed if by_chance else "", in_line
        offer = self._found.get(key)
        if offer is None:
            offer = self._found[key] = self._look(whom, seed, in_line)
        return offer

    def _look(self, whom: Offered, seed: str, in_line: bool) -> Offer:
        facts = self._facts
        tried = facts.lately if in_line else facts.tried
        match whom:
            case DialNumber(number, phone):
                if phone in tried:
                    return Offer((), f"{number} {TRIED}")
                return Offer((), f"{number} is named by the rule", phone=phone)
            case DialGroup():
                return _from_group(whom, facts, tried, seed)
        named, role = _named(whom, facts)
        return Offer((), role) if named is None else _from_one(named, role, facts, tried)


def anybody_logged_in(whom: Whom, facts: Facts) -> bool:
    """Whether there is anybody worth waiting for."""
    if isinstance(whom, DialGroup):
        return facts.group(whom.group).with_skills(whom.skills).logged_in > 0
    named, _ = _named(whom, facts)
    agent = facts.agents.get(named or "")
    return agent is not None and agent.logged_in


def anybody_free(
    whom: Whom,
    agents: Mapping[str, AgentFacts],
    groups: Mapping[str, Group],
    party: Mapping[str, Any] | None,
    history: History | None,
) -> bool:
    """Whether one of them may be offered a call of this party now; this call, as it may turn out, perhaps not."""
    if isinstance(whom, DialGroup):
        return _members(whom, groups).free_count > 0
    agent = agents.get(_meant(whom, party, history)[0] or "")
    return agent is not None and agent.why_not is None


def means(
    whom: Whom,
    agent: str,
    groups: Mapping[str, Group],
    party: Mapping[str, Any] | None,
    history: History | None,
) -> bool:
    """Whether this agent is one of them, free or not, for a call of this party."""
    if isinstance(whom, DialGroup):
        return agent in _members(whom, groups).ids
    return _meant(whom, party, history)[0] == agent


def _members(whom: DialGroup, groups: Mapping[str, Group]) -> Group:
    return (groups.get(whom.group) or Group()).with_skills(whom.skills)


def _named(whom: DialOwner | DialLastAgent | DialAgent, facts: Facts) -> tuple[str | None, str]:
    return _meant(whom, facts.party, facts.history)


def _meant(
    whom: DialOwner | DialLastAgent | DialAgent, party: Mapping[str, Any] | None, history: History | None
) -> tuple[str | None, str]:
    """The one agent who is meant, None for nobody, and in words why."""
    match whom:
        case DialAgent(agent):
            return agent, "is named by the rule"
        case DialOwner():
            owner = None if party is None else party.get("owner")
            if not isinstance(owner, str) or not owner:
                return None, "the caller has no owner"
            return owner, "is the owner of the caller"
        case DialLastAgent():
            last = None if history is None else history.last_agent
            if last is None:
                return None, "nobody is known to have talked with the caller"
            return last, "talked with the caller last"


def _refusal(tried: Collection[str], pbx: str | None) -> Callable[[AgentFacts], str | None]:
    """Who may not be offered the call, and why."""

    def why_not(agent: AgentFacts) -> str | None:
        if agent.why_not is not None:
            return agent.why_not
        if agent.id in tried:
            return TRIED
        if pbx is not None and agent.pbxes is not None and pbx not in agent.pbxes:
            return f"has no phone at {pbx}"
        return None if agent.phones else "has no phone"

    return why_not


def _from_one(name: str, role: str, facts: Facts, tried: Collection[str]) -> Offer:
    agent = facts.agents.get(name)
    if agent is None:
        return Offer((), f"{name} {NOT_AN_AGENT}", missing=name)
    refusal = _refusal(tried, facts.pbx)
    why_not = refusal(agent)
    if why_not is not None:
        # What somebody typed as a reason stands with the candidate alone: sentences go to everybody.
        return Offer((), f"{name} {role}, but: {why_not.partition(': ')[0]}", (agent,), 1, refusal)
    return Offer((agent,), f"{name} {role}", (agent,), 1, refusal)


def _from_group(whom: DialGroup, facts: Facts, tried: Collection[str], seed: str) -> Offer:
    group = facts.group(whom.group)
    members = group.with_skills(whom.skills)
    refusal = _refusal(tried, facts.pbx)
    if not members:
        if not group:
            return Offer((), f"nobody is in {whom.group}")
        # Who has not what it takes is worth a line of the trace.
        return Offer(
            (), f"nobody is {whom.title}", tuple(islice(group, MAX_CANDIDATES)), len(group), _lacks(whom)
        )
    free = (agent for agent in members.free() if refusal(agent) is None)
    chosen, why = _choice(whom, free, seed)
    note = why if chosen else f"none of {len(members)} in {whom.title} is free"
    # A copy: the members may be the roster's own list, which goes on changing.
    return Offer(chosen, note, tuple(islice(members, MAX_CANDIDATES)), len(members), refusal)


def _lacks(whom: DialGroup) -> Callable[[AgentFacts], str | None]:
    def why_not(agent: AgentFacts) -> str | None:
        for name, level in whom.skills:
            has = agent.skills.get(name, 0)
            if has < level:
                return f"has {name} {has}, wanted: {level}" if has else f"lacks {name}"
        return None

    return why_not


def _choice(whom: DialGroup, free: Iterable[AgentFacts], seed: str) -> tuple[tuple[AgentFacts, ...], str]:
    """Of those who are free, whose turn it is first."""
    if whom.all:
        rung = _fitting(islice(free, MAX_RUNG))
        return rung, f"all {len(rung)} who are free in {whom.title}"
    free = _least_busy(free)
    if whom.order is Order.ROUND_ROBIN:
        best = min(free, key=attrgetter("last_offered", "id"), default=None)
        why = "was offered a call longest ago"
    elif whom.order is Order.WEIGHTED:
        best, why = _drawn(dict(whom.weights), free, seed)
    else:
        best, why = next(iter(free), None), "is longest idle"
    return ((), "") if best is None else ((best,), f"{best.id} {why} in {whom.title}")


def _least_busy(free: Iterable[AgentFacts]) -> Iterator[AgentFacts]:
    """Who has a call already is not offered a second one while somebody has none."""
    return next((alike for _, alike in groupby(free, attrgetter("calls"))), iter(()))


def _fitting(agents: Iterable[AgentFacts]) -> tuple[AgentFacts, ...]:
    """As many as fit into a dial string."""
    rung: list[AgentFacts] = []
    size = 0
    for agent in agents:
        size += sum(len(phone) + 1 for phone in agent.phones)
        if size > _MAX_TARGET and rung:
            break
        rung.append(agent)
    return tuple(rung)


def _drawn(weights: dict[str, int], free: Iterable[AgentFacts], seed: str) -> tuple[AgentFacts | None, str]:
    """By chance, but for the same seed and the same agents the same one."""
    weighed = sorted(((agent, weights.get(agent.id, 1)) for agent in free), key=lambda pair: pair[0].id)
    sums = list(accumulate(weight for _, weight in weighed))
    if not sums or sums[-1] == 0:
        return None, ""
    drawn = int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=6).digest()) / 2**48 * sums[-1]
    best, weight = next(pair for pair, reached in zip(weighed, sums, strict=True) if drawn < reached)
    return best, f"was drawn by lot ({drawn:.2f} of {sums[-1]}, weight {weight})"
