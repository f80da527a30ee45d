"""The decision: which agent rings for this call, or where else it goes, and how that came about.

The service's mode is not looked at: a service that only observes gets the decision that it would have had,
and whoever asked keeps it from being carried out.
"""

import json
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from attrs import define, evolve, field, frozen

from routing.conditions import OWN, Condition
from routing.facts import Facts, Place
from routing.offers import MAX_CANDIDATES, Candidate, Offer, Offers, anybody_logged_in
from routing.problems import RulesError, as_text
from routing.rules import (
    Announce,
    Chosen,
    DialAgent,
    DialGroup,
    DialLastAgent,
    DialOwner,
    Elsewhere,
    GoTo,
    Reject,
    Rule,
    Service,
    ToFallback,
    ToService,
    ToVoicemail,
    Wait,
    Whom,
)

_MAX_REASON: Final = 200
_MAX_FOUND: Final = 120
TO_FALLBACK: Final = "the rule sends the call to the fallback"
NOT_ASKED: Final = "was not asked"


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
    """What became of a rule: a condition failed, it held but nobody could be offered the call (or what it does is not
    for this caller), it left the call to another service's rules, which follow, it decided.
    """

    FAILED = "failed"
    NOBODY = "nobody"
    PASSED_ON = "passed_on"
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


@define(unsafe_hash=True)
class Step:
    """One rule as it was tried, down to its first condition that failed. Nobody changes it once the decision is made;
    frozen, attrs would take twice as long to make it (measured), which is done for each rule before the caller is
    answered.

    `found`: the values that its conditions saw, in their order. `offer` is None where nobody was looked for. `said`:
    what became of it in words, where neither the offer nor the rule or its test says that.
    """

    rule: Rule
    outcome: Outcome
    found: tuple[Any, ...]
    offer: Offer | None = None
    said: str = ""

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
        if self.outcome is Outcome.FAILED and not self.said:
            test = self.tests[-1]
            return f"{test.fact} is {_shown(test.found)}, wanted: {test.wanted}"
        return self._said()

    def _said(self) -> str:
        return self.said or (_said_of(self.rule) if self.offer is None else self.offer.note)

    def as_json(self) -> dict[str, Any]:
        """For the record of the decision: the same as `note`, `tests`, `candidates` and `more`.

        Written out, as this is done for each rule before the caller is answered.
        """
        outcome, offer = self.outcome, self.offer
        tests = [
            {"fact": condition.fact, "wanted": condition.wanted, "found": _short(found), "held": True}
            for condition, found in zip(self.rule.conditions, self.found, strict=False)
        ]
        note = self._said()
        if outcome is Outcome.FAILED:
            last = tests[-1]
            last["held"] = False
            note = self.said or f"{last['fact']} is {_shown(self.found[-1])}, wanted: {last['wanted']}"
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
    For `wait`, `target` is the class of music, and `timeout` the seconds until the call has to ask again. `places`:
    where the call stands in lines from now on. `line`: the rule by which it waits, or is taken out of the line.
    `service`: whose rules decided, where those are another service's. `callback`: somebody has been promised to call
    back.
    """

    action: Action
    agents: tuple[str, ...]
    target: str
    timeout: int
    rule: str | None
    reason: str
    trace: tuple[Step, ...]
    then: str = ""
    places: Mapping[str, Place] = field(factory=dict)
    line: Wait | None = None
    service: str | None = None
    callback: bool = False


def decide(service: Service, facts: Facts, others: Mapping[str, Service] | None = None) -> Decision:
    """The first rule whose conditions hold and that has somebody to offer the call to decides.

    A rule that holds but whose agents are all busy, away or tried already passes on to the next one; one that waits
    does so once all its steps are over. The same facts always give the same decision. `others`: the services that
    rules may pass a call on to.
    """
    return _Deciding(facts, others or {}).by(service)


class _Deciding:
    """One decision in the making."""

    def __init__(self, facts: Facts, others: Mapping[str, Service]) -> None:
        self._facts = facts
        self._others = others
        self._offers = Offers(facts)
        self._trace: list[Step] = []
        self._places: dict[str, Place] = dict(facts.places)
        self._seen: list[str] = []

    def by(self, service: Service) -> Decision:
        self._seen.append(service.name)
        for rule in service.rules:
            found: list[Any] = []
            for condition in rule.conditions:
                value = condition.known.read(self._facts)
                found.append(value)
                if not condition.holds(value):
                    said = self._why_nothing(condition)
                    self._trace.append(Step(rule, Outcome.FAILED, tuple(found), said=said))
                    break
            else:
                decision = self._carry_out(service, rule, tuple(found))
                if decision is not None:
                    return decision
        nobody = "; ".join(
            f"{step.rule.name}: {step.note}" for step in self._trace if step.outcome is Outcome.NOBODY
        )
        reason = f"fallback: nobody is left: {nobody}" if nobody else "fallback: no rule matched"
        return self._decision(service, Action.FALLBACK, service.fallback, reason, rule=None)

    def _carry_out(self, service: Service, rule: Rule, found: tuple[Any, ...]) -> Decision | None:
        """What a rule whose conditions hold does, None if it passes the call on to the next one."""
        target = rule.target
        if isinstance(target, Elsewhere):
            return self._elsewhere(service, rule, target, found)
        if isinstance(target, ToService):
            return self._pass_on(rule, target, found)
        if isinstance(target, Wait):
            return self._wait(service, rule, target, found)
        if isinstance(target, Chosen):
            return self._chosen(service, rule, target, found)
        offer = self._offers.to(target, self._seed(rule))
        if not offer.target:
            self._trace.append(Step(rule, Outcome.NOBODY, found, offer))
            return None
        self._trace.append(Step(rule, Outcome.DECIDED, found, offer))
        return self._dial(service, rule, offer)

    def _seed(self, rule: Rule) -> str:
        return f"{self._facts.call}/{self._facts.attempt}/{rule.name}"

    def _dial(self, service: Service, rule: Rule, offer: Offer) -> Decision:
        return self._decision(
            service,
            Action.DIAL,
            offer.target,
            f"{rule.name}: {offer.note}",
            rule=rule,
            agents=tuple(agent.id for agent in offer.agents),
            timeout=rule.timeout or service.ring_timeout,
        )

    def _wait(self, service: Service, rule: Rule, wait: Wait, found: tuple[Any, ...]) -> Decision | None:
        at, key = self._facts.at, f"{service.name}/{rule.name}"
        place, skipped = step_of(wait, self._places.get(key), self._facts)
        self._places[key] = place
        if place.step >= len(wait.steps):
            said = skipped[-1] if skipped else f"the call has waited for {at - place.since:.0f} s"
            self._trace.append(Step(rule, Outcome.NOBODY, found, said=said))
            return None
        step = wait.steps[place.step]
        offer = self._offers.to(step.whom, self._seed(rule), in_line=True)
        if offer.agents:
            self._trace.append(Step(rule, Outcome.DECIDED, found, offer))
            return evolve(self._dial(service, rule, offer), line=wait)
        where = f"step {place.step + 1} of {len(wait.steps)}"
        said = "; ".join([*skipped, f"waits for {title(step.whom)}, {where}: {offer.note}"])
        self._trace.append(Step(rule, Outcome.DECIDED, found, offer, said))
        decision = self._decision(
            service,
            Action.WAIT,
            wait.music,
            f"{rule.name}: {said}",
            rule=rule,
            timeout=max(1, math.ceil(place.step_since + step.seconds - at)),
        )
        return evolve(decision, line=wait)

    def _pass_on(self, rule: Rule, target: ToService, found: tuple[Any, ...]) -> Decision | None:
        other = self._others.get(target.service)
        if other is None or other.name in self._seen:
            # A file that says so is refused; whoever decides without one has not looked.
            said = (
                f"there is no service {target.service}"
                if other is None
                else f"{other.name} has decided already"
            )
            self._trace.append(Step(rule, Outcome.NOBODY, found, said=said))
            return None
        self._trace.append(Step(rule, Outcome.PASSED_ON, found))
        return self.by(other)

    def _chosen(
        self, service: Service, rule: Rule, target: Chosen, found: tuple[Any, ...]
    ) -> Decision | None:
        said = self._facts.own.get(f"{service.name}/{rule.name}")
        if said is None or said.value is None:
            why = NOT_ASKED if said is None else said.why_not or "leaves the call to the next rule"
            self._trace.append(Step(rule, Outcome.NOBODY, found, said=f"{target.title} {why}"))
            return None
        try:
            way = target.read(said.value)
        except RulesError as error:
            # Whoever asked it has made sure; but it may have been asked by other rules than these.
            self._trace.append(Step(rule, Outcome.NOBODY, found, said=f"{target.title}: {error}"))
            return None
        decision = self._carry_out(service, evolve(rule, target=way.target, timeout=way.timeout), found)
        step = self._trace[-1]
        step.said = f"{target.title} says {_short(as_text(said.value))}: {step.note}"
        return decision

    def _why_nothing(self, condition: Condition) -> str:
        """In words, why a condition of the company's own had nothing to say; empty where it had, or is not one."""
        if condition.known.find is None:
            return ""
        said = self._facts.own.get(condition.fact.removeprefix(OWN))
        why = NOT_ASKED if said is None else said.why_not
        return f"{condition.fact} {why}" if why else ""

    def _elsewhere(
        self, service: Service, rule: Rule, target: Elsewhere, found: tuple[Any, ...]
    ) -> Decision | None:
        then, callback = "", False
        match target:
            case ToFallback():
                action, where = Action.FALLBACK, service.fallback
            case GoTo(place):
                action, where = Action.GOTO, place
            case ToVoicemail(mailbox):
                action, where = Action.VOICEMAIL, mailbox
            case Announce(sounds, after, callback):
                if callback and self._facts.from_number is None:
                    said = "nobody can call back, as the caller's number is not known"
                    self._trace.append(Step(rule, Outcome.NOBODY, found, said=said))
                    return None
                action, where = Action.ANNOUNCE, "&".join(sounds)
                if after is not None:
                    then = after.place if isinstance(after, GoTo) else service.fallback
            case Reject(how):
                action, where = Action.REJECT, str(how)
        self._trace.append(Step(rule, Outcome.DECIDED, found))
        decision = self._decision(service, action, where, f"{rule.name}: {_said_of(rule)}", rule=rule)
        return evolve(decision, then=then, callback=callback)

    def _decision(
        self,
        service: Service,
        action: Action,
        target: str,
        reason: str,
        *,
        rule: Rule | None,
        agents: tuple[str, ...] = (),
        timeout: int = 0,
    ) -> Decision:
        return Decision(
            action,
            agents,
            target,
            timeout,
            None if rule is None else rule.name,
            _one_line(reason),
            tuple(self._trace),
            places=self._places,
            service=service.name if len(self._seen) > 1 else None,
        )


#: So much earlier than its end a step counts as over: Asterisk and this machine do not count alike.
_EARLY: Final = 0.05


def step_of(wait: Wait, place: Place | None, facts: Facts) -> tuple[Place, tuple[str, ...]]:
    """Where a call stands in a line now, and in words which steps were skipped because nobody is logged in there.

    `place`: where it stood, None where it comes into the line now.
    """
    at = facts.at
    place = place or Place(at, 0, at)
    skipped: list[str] = []
    while place.step < len(wait.steps):
        step = wait.steps[place.step]
        end = place.step_since + step.seconds
        if at >= end - _EARLY:
            place = Place(place.since, place.step + 1, end)
        elif not anybody_logged_in(step.whom, facts):
            skipped.append(f"nobody is logged in for step {place.step + 1} ({title(step.whom)})")
            place = Place(place.since, place.step + 1, max(at, place.step_since))
        else:
            break
    return place, tuple(skipped)


def title(whom: Whom) -> str:
    """Whom a step waits for, in words."""
    match whom:
        case DialGroup():
            return whom.title
        case DialAgent(agent):
            return agent
        case DialOwner():
            return "the owner"
        case DialLastAgent():
            return "who talked with the caller last"


def _said_of(rule: Rule) -> str:
    """What a rule that looks for nobody does with the call, in words."""
    match rule.target:
        case ToService(service):
            return f"the rule passes the call on to {service}"
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
        case Reject(int(cause)):
            return f"the rule rejects the call with cause {cause}"
        case Reject(how):
            return f"the rule rejects the call: {how}"
    return TO_FALLBACK


def _one_line(text: str) -> str:
    """Names of rules are typed by people; CTI_REASON is one line of a protocol."""
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
