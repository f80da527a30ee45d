"""What a decision is made from: the caller, the service, the attempt and who is there.

Facts are gathered by others and only read here. Making a `Facts` costs nothing per agent: `agents` and
`groups` may be the roster's own live mappings, because a decision is made in one go and keeps none of them.
"""

import re
from bisect import bisect_left, insort
from collections.abc import Collection, Iterator, Mapping
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
    good at → how good, one of `SKILL_LEVELS`.
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


class Group(Collection[AgentFacts]):
    """The agents of a group, who change one at a time; of those who are free, who is idle for longest comes first.

    Looking at each of hundreds for every call took longer than all rules.
    """

    def __init__(self) -> None:
        self._agents: dict[str, AgentFacts] = {}
        self._free: list[tuple[float, str]] = []

    def put(self, agent: AgentFacts) -> None:
        """This is what the agent is now."""
        self._forget(agent.id)
        self._agents[agent.id] = agent
        if agent.why_not is None:
            insort(self._free, (agent.idle_since, agent.id))

    def drop(self, id: str) -> None:
        self._forget(id)
        self._agents.pop(id, None)

    def _forget(self, id: str) -> None:
        before = self._agents.get(id)
        if before is not None and before.why_not is None:
            del self._free[bisect_left(self._free, (before.idle_since, id))]

    def free(self) -> Iterator[AgentFacts]:
        """Those without a `why_not`, by `idle_since` and then by id."""
        return (self._agents[id] for _, id in self._free)

    def __iter__(self) -> Iterator[AgentFacts]:
        return iter(self._agents.values())

    def __len__(self) -> int:
        return len(self._agents)

    def __contains__(self, agent: object) -> bool:
        return agent in self._agents.values()


@frozen
class Facts:
    """All that one decision may look at.

    `at`: epoch seconds. `from_number`: E.164 or an internal number, None when nobody knows; `from_kind`: one
    of `FROM_KINDS`. `party`: what the CRM says of the caller as plain JSON values (adapter, type, id, name,
    company, owner (the id of one of our agents or None), owner_user, tier, language, tags, match); `parties`:
    how many were found. `attempt` counts from 1. `last`: Asterisk's DIALSTATUS of the attempt before, None
    (or empty) at the first. `tried`: ids of the agents who were offered this call and did not answer.
    `groups`: the agents of each group, in any order; where it is None the groups are looked up in `agents`.
    `pbx`: the Asterisk that the call is at, None where nobody knows which phones it has. `clock`: what the clock on
    the wall says there, where the service has opening hours.
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
    groups: Mapping[str, Collection[AgentFacts]] | None = field(default=None, repr=False)
    pbx: str | None = None
    clock: WallClock | None = None

    def as_json(self) -> dict[str, Any]:
        """For the record of the decision. Agents are left out: the trace names those that mattered."""
        return {
            "at": self.at,
            "service": self.service,
            "from": {"number": self.from_number, "kind": self.from_kind},
            "to": self.to,
            "party": None if self.party is None else dict(self.party),
            "parties": self.parties,
            "attempt": self.attempt,
            "last": self.last or None,
            "tried": sorted(self.tried),
            "clock": None if self.clock is None else self.clock.as_json(),
        }
