"""The decision: which agent rings for this call, or where else it goes, and how that came about.

The service's mode is not looked at: a service that only observes gets the decision that it would have had,
and whoever asked keeps it from being carried out.
"""

import json
from collections.abc import Collection
from enum import StrEnum
from itertools import islice
from operator import attrgetter, itemgetter
from typing import Any, Final

from attrs import frozen

from routing.facts import AgentFacts, Facts, Group
from routing.rules import (
    Announce,
    DialAgent,
    DialGroup,
    DialOwner,
    Elsewhere,
    GoTo,
    Offered,
    Reject,
    Rule,
    Service,
    ToFallback,
    ToVoicemail,
)

# A trace is kept with every call, so it names this many agents of a group and counts the others.
MAX_CANDIDATES: Final = 25
_MAX_REASON: Final = 200
_MAX_FOUND: Final = 120
TO_FALLBACK: Final = "the rule sends the call to the fallback"
NOT_AN_AGENT: Final = "is not an agent here"


class Action(StrEnum):
    """What the dialplan is to do; the contract's words for CTI_ACTION."""

    DIAL = "dial"
    WAIT = "wait"
    GOTO = "goto"
    VOICEMAIL = "voicemail"
    ANNOUNCE = "announce"
    REJECT = "reject"
    FALLBACK = "fallback"


class Outcome(StrEnum):
    """What became of a rule: a condition failed, it held but nobody could be offered the call, it decided."""

    FAILED = "failed"
    NOBODY = "nobody"
    DECIDED = "decided"


@frozen
class Test:
    """One condition with the value that it saw."""

    __test__ = False  # the name is ours, not pytest's

    fact: str
    wanted: str
    found: Any
    held: bool

    def as_json(self) -> dict[str, Any]:
        return {"fact": self.fact, "wanted": self.wanted, "found": _short(self.found), "held": self.held}


@frozen
class Candidate:
    """An agent who was considered; `why_not` is None for the one who was chosen."""

    agent: str
    why_not: str | None

    def as_json(self) -> dict[str, Any]:
        return {"agent": self.agent, "why_not": self.why_not}


@frozen
class Offer:
    """Who of those considered would be offered the call, None for nobody, and in words why.

    `considered`: the first of them, as they were; `size`: how many there were. What a person reads of them is
    made when it is read, since that is after the caller has been answered.
    """

    agent: AgentFacts | None
    note: str
    considered: tuple[AgentFacts, ...] = ()
    size: int = 0
    tried: Collection[str] = ()
    missing: str | None = None
    pbx: str | None = None

    def candidates(self) -> tuple[Candidate, ...]:
        """The chosen one and the first others, in the order of their ids."""
        return tuple(Candidate(agent, why_not) for agent, why_not in self._named())

    def candidates_as_json(self) -> list[dict[str, Any]]:
        """The same as plain values."""
        return [{"agent": agent, "why_not": why_not} for agent, why_not in self._named()]

    def _named(self) -> list[tuple[str, str | None]]:
        if self.missing is not None:
            return [(self.missing, NOT_AN_AGENT)]
        best, tried = self.agent, self.tried
        later = "" if best is None else f"{best.id} comes first"
        named: list[tuple[str, str | None]] = [] if best is None else [(best.id, None)]
        for agent in self.considered:
            if agent is not best and len(named) < MAX_CANDIDATES:
                named.append((agent.id, _why_not(agent, tried, self.pbx) or later))
        named.sort(key=itemgetter(0))
        return named


@frozen
class Step:
    """One rule as it was tried, down to its first condition that failed.

    `found`: the values that its conditions saw, in their order. `offer` is None where nobody was looked for.
    """

    rule: Rule
    outcome: Outcome
    found: tuple[Any, ...]
    offer: Offer | None = None

    @property
    def tests(self) -> tuple[Test, ...]:
        last = len(self.found) - 1 if self.outcome is Outcome.FAILED else None
        return tuple(
            Test(condition.fact, condition.wanted, found, index != last)
            for index, (condition, found) in enumerate(zip(self.rule.conditions, self.found, strict=False))
        )

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Who was considered; of a large group some, `more` says how many others."""
        return () if self.offer is None else self.offer.candidates()

    @property
    def more(self) -> int:
        return 0 if self.offer is None else max(0, self.offer.size - MAX_CANDIDATES)

    @property
    def note(self) -> str:
        """What became of the rule, in words."""
        if self.outcome is Outcome.FAILED:
            test = self.tests[-1]
            return f"{test.fact} is {_shown(test.found)}, wanted: {test.wanted}"
        return _said_of(self.rule) if self.offer is None else self.offer.note

    def as_json(self) -> dict[str, Any]:
        """For the record of the decision: the same as `note`, `tests`, `candidates` and `more`.

        Written out, as this is done for each rule before the caller is answered.
        """
        outcome, offer = self.outcome, self.offer
        tests = [
            {"fact": condition.fact, "wanted": condition.wanted, "found": _short(found), "held": True}
            for condition, found in zip(self.rule.conditions, self.found, strict=False)
        ]
        note = _said_of(self.rule) if offer is None else offer.note
        if outcome is Outcome.FAILED:
            last = tests[-1]
            last["held"] = False
            note = f"{last['fact']} is {_shown(self.found[-1])}, wanted: {last['wanted']}"
        return {
            "rule": self.rule.name,
            "outcome": outcome.value,
            "note": note,
            "tests": tests,
            "candidates": [] if offer is None else offer.candidates_as_json(),
            "more": self.more,
        }


@frozen
class Decision:
    """What to do and why.

    `target`: for `dial` the phones and for `announce` the sounds, joined with "&"; for `goto` and `fallback`
    `context,exten,prio`; for `voicemail` the mailbox; for `reject` how. `timeout`: seconds to ring, 0 where
    nothing rings. `rule` is None when no rule decided. `reason` is one line. `then`: where an announcement
    leads, empty where the caller is hung up on after it.
    """

    action: Action
    agents: tuple[str, ...]
    target: str
    timeout: int
    rule: str | None
    reason: str
    trace: tuple[Step, ...]
    then: str = ""


def decide(service: Service, facts: Facts) -> Decision:
    """The first rule whose conditions hold and that has somebody to offer the call to decides.

    A rule that holds but whose agents are all busy, away or tried already passes on to the next one. The same
    facts always give the same decision.
    """
    trace: list[Step] = []
    # Many rules may name the same group, and a group may have thousands of agents.
    searched: dict[str, Offer] = {}
    for rule in service.rules:
        found: list[Any] = []
        for condition in rule.conditions:
            value = condition.read(facts)
            found.append(value)
            if not condition.holds(value):
                trace.append(Step(rule, Outcome.FAILED, tuple(found)))
                break
        else:
            if isinstance(rule.target, Elsewhere):
                trace.append(Step(rule, Outcome.DECIDED, tuple(found)))
                return _elsewhere(service, rule, rule.target, trace)
            offer = _offer(rule.target, facts, searched)
            agent = offer.agent
            trace.append(
                Step(rule, Outcome.NOBODY if agent is None else Outcome.DECIDED, tuple(found), offer)
            )
            if agent is not None:
                return Decision(
                    action=Action.DIAL,
                    agents=(agent.id,),
                    target="&".join(agent.phones),
                    timeout=rule.timeout or service.ring_timeout,
                    rule=rule.name,
                    reason=_one_line(f"{rule.name}: {offer.note}"),
                    trace=tuple(trace),
                )
    nobody = "; ".join(f"{step.rule.name}: {step.offer.note}" for step in trace if step.offer is not None)
    reason = f"fallback: nobody is left: {nobody}" if nobody else "fallback: no rule matched"
    return _fallback(service, None, reason, trace)


def _elsewhere(service: Service, rule: Rule, target: Elsewhere, trace: list[Step]) -> Decision:
    then = ""
    match target:
        case ToFallback():
            action, where = Action.FALLBACK, service.fallback
        case GoTo(place):
            action, where = Action.GOTO, place
        case ToVoicemail(mailbox):
            action, where = Action.VOICEMAIL, mailbox
        case Announce(sounds, after):
            action, where = Action.ANNOUNCE, "&".join(sounds)
            if after is not None:
                then = after.place if isinstance(after, GoTo) else service.fallback
        case Reject(how):
            action, where = Action.REJECT, str(how)
    reason = _one_line(f"{rule.name}: {_said_of(rule)}")
    return Decision(action, (), where, 0, rule.name, reason, tuple(trace), then)


def _said_of(rule: Rule) -> str:
    """What a rule that looks for nobody does with the call, in words."""
    match rule.target:
        case GoTo(place):
            return f"the rule sends the call to {place}"
        case ToVoicemail(mailbox):
            return f"the rule sends the call to the mailbox {mailbox}"
        case Announce(sounds, None):
            return f"the rule plays {', '.join(sounds)} and hangs up"
        case Announce(sounds, GoTo(place)):
            return f"the rule plays {', '.join(sounds)} and sends the call to {place}"
        case Announce(sounds, _):
            return f"the rule plays {', '.join(sounds)} and sends the call to the fallback"
        case Reject(how):
            return f"the rule rejects the call: {how}"
    return TO_FALLBACK


def _fallback(service: Service, rule: str | None, reason: str, trace: list[Step]) -> Decision:
    return Decision(Action.FALLBACK, (), service.fallback, 0, rule, _one_line(reason), tuple(trace))


def _offer(target: Offered, facts: Facts, searched: dict[str, Offer]) -> Offer:
    match target:
        case DialGroup(group):
            offer = searched.get(group)
            if offer is None:
                offer = searched[group] = _from_group(group, facts)
            return offer
        case DialAgent(agent):
            return _from_one(agent, "is named by the rule", facts)
        case DialOwner():
            owner = None if facts.party is None else facts.party.get("owner")
            if not isinstance(owner, str) or not owner:
                return Offer(None, "the caller has no owner")
            return _from_one(owner, "is the owner of the caller", facts)


def _why_not(agent: AgentFacts, tried: Collection[str], pbx: str | None) -> str | None:
    if agent.why_not is not None:
        return agent.why_not
    if agent.id in tried:
        return "was offered this call already"
    if pbx is not None and agent.pbxes is not None and pbx not in agent.pbxes:
        return f"has no phone at {pbx}"
    return None if agent.phones else "has no phone"


def _from_one(name: str, role: str, facts: Facts) -> Offer:
    agent = facts.agents.get(name)
    if agent is None:
        return Offer(None, f"{name} {NOT_AN_AGENT}", missing=name)
    why_not = _why_not(agent, facts.tried, facts.pbx)
    if why_not is not None:
        return Offer(None, f"{name} {role}, but: {why_not}", (agent,), 1, facts.tried, pbx=facts.pbx)
    return Offer(agent, f"{name} {role}", (agent,), 1, facts.tried)


def _from_group(group: str, facts: Facts) -> Offer:
    members: Collection[AgentFacts]
    if facts.groups is None:
        members = [agent for agent in facts.agents.values() if group in agent.groups]
    else:
        members = facts.groups.get(group, ())
    tried, pbx = facts.tried, facts.pbx
    best = _longest_idle(members, tried, pbx)
    if not members:
        return Offer(None, f"nobody is in {group}")
    note = (
        f"none of {len(members)} in {group} is free"
        if best is None
        else f"{best.id} is longest idle in {group}"
    )
    # A copy: the members may be the roster's own list, which goes on changing.
    return Offer(best, note, tuple(islice(members, MAX_CANDIDATES)), len(members), tried, pbx=pbx)


def _longest_idle(
    members: Collection[AgentFacts], tried: Collection[str], pbx: str | None
) -> AgentFacts | None:
    """Who of those that may be offered the call is idle for longest; the lesser id, where two are."""
    if isinstance(members, Group):
        return next((agent for agent in members.free() if _why_not(agent, tried, pbx) is None), None)
    free = [agent for agent in members if _why_not(agent, tried, pbx) is None]
    return min(free, key=attrgetter("idle_since", "id"), default=None)


def _one_line(text: str) -> str:
    """A reason for pausing is typed by people; CTI_REASON is one line of a protocol."""
    line = " ".join(text.split())
    if not line.isprintable():
        line = "".join(each for each in line if each.isprintable())
    return line if len(line) <= _MAX_REASON else line[: _MAX_REASON - 1] + "…"


def _short(value: Any) -> Any:
    """What a CRM said, small enough to be kept with every call."""
    match value:
        case None | bool() | int() | float():
            return value
        case list() | tuple():
            return [_short(each) for each in value[:20]]
    text = "a party" if isinstance(value, dict) else str(value)
    return text if len(text) <= _MAX_FOUND else text[: _MAX_FOUND - 1] + "…"


def _shown(value: Any) -> str:
    return "absent" if value is None else json.dumps(_short(value), ensure_ascii=False)
