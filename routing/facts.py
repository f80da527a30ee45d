"""What a decision is made from: the caller, the service, the attempt and who is there.

Facts are gathered by others and only read here. Making a `Facts` costs nothing per agent: `agents` and
`groups` may be the roster's own live mappings, because a decision is made in one go and keeps none of them.
"""

import re
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from attrs import Attribute, field, frozen

from routing.clock import WallClock

FROM_KINDS: Final = ("e164", "internal", "withheld", "unavailable", "unknown")

# The kinds of parties that adapters know.
PARTY_TYPES: Final = ("contact", "organisation", "lead", "partner", "supplier")

# How good an agent may be at something; the highest is the best.
SKILL_LEVELS: Final = range(1, 10)

# What Dial leaves in DIALSTATUS (Asterisk 22, "Dial" application).
DIAL_STATUSES: Final = (
    "ANSWER",
    "BUSY",
    "CANCEL",
    "CHANUNAVAIL",
    "CONGESTION",
    "DONTCALL",
    "INVALIDARGS",
    "NOANSWER",
    "TORTURE",
)

# Narrower than Asterisk's own: "&" would ring one device more, "," and "/" would start an option of Dial.
_PHONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}/[A-Za-z0-9_.@+-]{1,95}")


def is_phone(text: str) -> bool:
    """Whether `text` is a device that may be put into a dial string as it stands, such as `PJSIP/anna`."""
    return _PHONE.fullmatch(text) is not None


def _check_phones(_agent: object, _phones: "Attribute[tuple[str, ...]]", value: tuple[str, ...]) -> None:
    for phone in value:
        if not is_phone(phone):
            raise ValueError(
                f"{phone!r} is not a phone: TECH/resource of letters, digits and _-.@+ is, such as PJSIP/anna"
            )


@frozen
class AgentFacts:
    """One agent at this moment.

    `state` is one of the contract's words. `why_not` is None when the agent may be offered a call now, else a
    short reason ("paused: lunch", "phone PJSIP/anna is unavailable", "busy"). `idle_since`: epoch seconds.
    `pbxes`: the Asterisks that can ring a phone of theirs, None where that is not known. `skills`: what they are
    good at → how good, one of `SKILL_LEVELS`. `last_offered`: when they were last offered a call (epoch seconds), 0
    for never. `calls`: how many they have, of those who may have several.
    A phone that could not stand in a dial string as it is raises `ValueError`.
    """

    id: str
    name: str
    phones: tuple[str, ...] = field(validator=_check_phones)
    groups: frozenset[str]
    state: str
    why_not: str | None
    idle_since: float
    pbxes: frozenset[str] | None = None
    skills: Mapping[str, int] = field(factory=dict)
    last_offered: float = 0.0
    calls: int = 0

    @property
    def ease(self) -> tuple[int, float, str]:
        """The smaller, the sooner it is their turn: who has fewest calls, then who has been idle for longest."""
        return self.calls, self.idle_since, self.id

    @property
    def logged_in(self) -> bool:
        return self.state != LOGGED_OUT

    def has(self, skills: "Skills") -> bool:
        """Whether they have all of these, each at least at its level."""
        return all(self.skills.get(name, 0) >= level for name, level in skills)


#: Skills with the least level of each, in the order of their names.
Skills = tuple[tuple[str, int], ...]

#: The contract's word for an agent who is not there.
LOGGED_OUT: Final = "logged_out"
#: Where `Facts.groups` has all agents; no group can be called so.
EVERYBODY: Final = "*"


class Group(Collection[AgentFacts]):
    """The agents of a group, who change one at a time; of those who are free, whose turn it is comes first.

    Looking at each of hundreds for every call took longer than all rules.

    @ivar logged_in: how many are.
    """

    def __init__(self, agents: Iterable[AgentFacts] = ()) -> None:
        self.logged_in = 0
        self._agents: dict[str, AgentFacts] = {}
        self._free: list[tuple[int, float, str]] = []
        self._skilled: dict[Skills, Group] = {}
        for agent in agents:
            self.put(agent)

    def put(self, agent: AgentFacts) -> None:
        """This is what the agent is now."""
        self._forget(agent.id)
        self._agents[agent.id] = agent
        self.logged_in += agent.logged_in
        if agent.why_not is None:
            insort(self._free, agent.ease)
        for skills, some in self._skilled.items():
            if agent.has(skills):
                some.put(agent)
            else:
                some.drop(agent.id)

    def drop(self, id: str) -> None:
        self._forget(id)
        for some in self._skilled.values():
            some.drop(id)

    def _forget(self, id: str) -> None:
        before = self._agents.pop(id, None)
        if before is None:
            return
        self.logged_in -= before.logged_in
        if before.why_not is None:
            del self._free[bisect_left(self._free, before.ease)]

    def free(self) -> Iterator[AgentFacts]:
        """Those without a `why_not`, by their `ease`."""
        return (self._agents[id] for *_, id in self._free)

    @property
    def free_count(self) -> int:
        return len(self._free)

    def with_skills(self, skills: Skills) -> "Group":
        """Those who have them: a group of its own, which is kept in line from the first time that it is asked for."""
        if not skills:
            return self
        some = self._skilled.get(skills)
        if some is None:
            some = self._skilled[skills] = Group(agent for agent in self if agent.has(skills))
        return some

    @property
    def ids(self) -> Collection[str]:
        return self._agents.keys()

    def __iter__(self) -> Iterator[AgentFacts]:
        return iter(self._agents.values())

    def __len__(self) -> int:
        return len(self._agents)

    def __contains__(self, agent: object) -> bool:
        return agent in self._agents.values()


@frozen
class Place:
    """Where a call stands in the line of a waiting rule.

    `since`: when it came into the line; `step`: the index of the step that it is in, one past the last where all are
    over; `step_since`: when it came into that. Times in epoch seconds.
    """

    since: float
    step: int
    step_since: float

    def as_json(self) -> dict[str, Any]:
        return {"since": self.since, "step": self.step, "step_since": self.step_since}


@frozen
class History:
    """What the log knows of the caller's number from before this call.

    `last_agent`: who of us talked with it last, in either direction; `last_spoken`: when that talk ended (epoch
    seconds), the moment of the question where it goes on. `tries`: how often it has called this service's numbers
    today without reaching anybody, this call included, so 1 at the first. `as_of`: when the log was asked (epoch
    seconds), None where nobody says.
    """

    last_agent: str | None = None
    last_spoken: float | None = None
    tries: int = 1
    as_of: float | None = None

    def as_json(self, at: float) -> dict[str, Any]:
        """`age`: how many seconds before `at` the log was asked."""
        return {
            "last_agent": self.last_agent,
            "last_spoken": self.last_spoken,
            "tries": self.tries,
            "age": None if self.as_of is None else round(max(0.0, at - self.as_of), 3),
        }


@frozen
class Line:
    """The line of one service: how many `calls` wait in it, and for how many seconds the first of them."""

    calls: int = 0
    longest: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {"calls": self.calls, "longest": round(self.longest, 1)}


@frozen
class Said:
    """What a company's own code said to a call: `value`, made of plain JSON values, None for nothing.

    `why_not`: in words, why it said nothing that could be used; empty where it had nothing to say. `as_of`: when
    (epoch seconds).
    """

    value: Any = field(default=None, repr=False)
    why_not: str = ""
    as_of: float | None = field(default=None, eq=False)

    def as_json(self, at: float) -> dict[str, Any]:
        """`age`: how many seconds before `at` that was."""
        age = None if self.as_of is None else round(max(0.0, at - self.as_of), 3)
        return {"value": self.value, "why_not": self.why_not or None, "age": age}


@frozen
class Facts:
    """All that one decision may look at.

    `at`: epoch seconds. `from_number`: E.164 or an internal number, None when nobody knows; `from_kind`: one
    of `FROM_KINDS`. `party`: what the CRM says of the caller as plain JSON values (adapter, type, id, name,
    company, owner (the id of one of our agents or None), owner_user, tier, language, tags, match); `parties`:
    how many were found. `attempt` counts from 1. `last`: Asterisk's DIALSTATUS of the attempt before, None
    (or empty) at the first. `tried`: ids of the agents who were offered this call and did not answer.
    `groups`: the agents of each group, and all of them as `EVERYBODY`; where it is None the groups are looked up in
    `agents`.
    `pbx`: the Asterisk that the call is at, None where nobody knows which phones it has. `clock`: what the clock on
    the wall says there, where the service has opening hours.

    `call`: its id, by which choices that are left to chance come out the same again. `lately`: who was offered this
    call so short a time ago that a line does not offer it to them again. `places`: where the call stands in lines, by
    `SERVICE/RULE`. `line`: of the service. `from_country`: whose number it is, two letters of ISO
    3166, None where the number does not tell. `history`: None where nobody has asked the log, or it did not say in
    time; that is not a first call. `own`: what the company's own conditions said, by their names, and its own
    actions, by `SERVICE/RULE`.
    """

    at: float
    service: str
    from_number: str | None = field(repr=False)
    from_kind: str
    to: str
    party: Mapping[str, Any] | None = field(default=None, repr=False)
    parties: int = 0
    attempt: int = 1
    last: str | None = None
    tried: frozenset[str] = frozenset()
    agents: Mapping[str, AgentFacts] = field(factory=dict, repr=False)
    groups: Mapping[str, Group] | None = field(default=None, repr=False)
    pbx: str | None = None
    clock: WallClock | None = None
    call: str = ""
    lately: frozenset[str] = frozenset()
    places: Mapping[str, Place] = field(factory=dict)
    line: Line = Line()
    from_country: str | None = None
    history: History | None = None
    own: Mapping[str, Said] = field(factory=dict)

    def group(self, name: str) -> Group:
        """The agents of a group, `EVERYBODY` for all; an empty one where there is none of that name."""
        if self.groups is not None:
            return self.groups.get(name) or Group()
        return Group(agent for agent in self.agents.values() if name == EVERYBODY or name in agent.groups)

    def as_json(self) -> dict[str, Any]:
        """For the record of the decision. Agents are left out: the trace names those that mattered."""
        return {
            "at": self.at,
            "service": self.service,
            "from": {"number": self.from_number, "kind": self.from_kind, "country": self.from_country},
            "to": self.to,
            "party": None if self.party is None else dict(self.party),
            "parties": self.parties,
            "attempt": self.attempt,
            "last": self.last or None,
            "tried": sorted(self.tried),
            "clock": None if self.clock is None else self.clock.as_json(),
            "places": {rule: place.as_json() for rule, place in self.places.items()},
            "line": self.line.as_json(),
            "history": None if self.history is None else self.history.as_json(self.at),
            "own": {name: said.as_json(self.at) for name, said in self.own.items()},
        }
