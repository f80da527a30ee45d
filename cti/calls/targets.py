"""Whom an operation is meant for: what stands in `to` as an agent, a group, a service or a number.

Told apart in this order, the first that fits: an agent's id, a group's name, a number of one of our services, a
telephone or internal number. `agent:`, `group:`, `service:` or `tel:` before it leaves no doubt.
"""

from collections.abc import Collection, Mapping
from typing import Final

from attrs import frozen

from cti.calls.services import Services
from cti.dialling import DiallingRules, NumberRefused
from routing.decide import Decision, decide
from routing.facts import AgentFacts, Facts
from routing.rules import DialAgent, DialGroup, Mode, Rule, Service

KINDS: Final = ("agent", "group", "service", "tel")


class NobodyThere(Exception):
    """What is meant does not exist, or may not be called; the text says what would be right."""


@frozen
class ToAgents:
    """One agent, or the longest idle of a group; `name` is theirs."""

    name: str
    rule: DialAgent | DialGroup


@frozen
class ToService:
    service: Service


@frozen
class ToNumber:
    """A number that has passed the guard, in the form in which it is dialled."""

    number: str


Target = ToAgents | ToService | ToNumber


def target_of(
    to: str,
    agents: Mapping[str, AgentFacts],
    groups: Collection[str],
    services: Services,
    rules: DiallingRules,
) -> Target:
    """Raises `NobodyThere`."""
    kind, colon, name = to.strip().partition(":")
    if not colon or kind not in KINDS:
        kind, name = "", to.strip()
    if kind in ("", "agent") and name in agents:
        return ToAgents(name, DialAgent(name))
    if kind in ("", "group") and name in groups:
        return ToAgents(name, DialGroup(name))
    if kind in ("", "service"):
        service = services.named(name) if kind else services.of(name)[0]
        if service is not None:
            return ToService(service)
    if kind in ("", "tel"):
        try:
            return ToNumber(rules.check(name))
        except NumberRefused as error:
            hint = (
                ""
                if kind or any(map(str.isdigit, name))
                else f"no agent or group is called {name[:40]!r}, and "
            )
            raise NobodyThere(f"to: {hint}{error}") from error
    raise NobodyThere(f"to: there is no {kind} {name[:40]!r}")


def choose(target: ToAgents, facts: Facts, ring_seconds: int) -> Decision:
    """Who of those meant is rung, as routing would decide it for a rule with just this `dial`.

    Raises `NobodyThere` if none of them can be rung now.
    """
    rule = Rule(f"to {target.name}", (), target.rule, ring_seconds)
    decision = decide(Service(facts.service, (), Mode.ROUTE, None, "", (rule,)), facts)
    if not decision.agents:
        raise NobodyThere(f"{target.name} cannot be rung now: {decision.trace[0].note}")
    return decision
