"""What would be decided for a call, without a call: the dry run behind `cti explain` and `POST /api/v1/explain`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from attrs import evolve

from cti.agents.roster import Roster
from cti.calls.inbound import country_of, decision_for, party_facts, wall_clock
from cti.calls.own import Question
from cti.calls.present import history_json, iso
from cti.calls.services import Services
from cti.identify.identifier import Identifier
from cti.numbers import Number
from routing.decide import Decision
from routing.facts import Facts, History, Line, Said
from routing.rules import Service

#: Of a dry run for another time than now.
_OF_NOW: Final = (
    "agents, lines and what CRMs say of the caller are as they are now;"
    " the clock and what the log has of the caller are as of then"
)


async def explain(
    caller_raw: str,
    called_raw: str,
    at: float | None,
    *,
    now: float,
    services: Services,
    identifier: Identifier,
    roster: Roster,
    line: Callable[[str, float], Line],
    refusal: Callable[[Number], Decision | None],
    history: Callable[[str, Service, float], Awaitable[History | None]],
    own: Callable[[Sequence[Question], Facts], Awaitable[Mapping[str, Said]]],
    assumed: Sequence[str] = (),
) -> Mapping[str, Any]:
    """The decision for this caller at this dialled number, with everything that led to it.

    Nobody is reserved, nothing is written. `at` (epoch seconds, None for `now`) is what rules see of the clock and of
    the log; agents and lines are as they are `now`. `line(service, now)`: who waits there. `refusal(caller)`: the
    decision for who is blocked. `history(number, service, at)`: what happened with the caller before; None where
    nobody can say. `own(questions, facts)`: what the company's own code says. `assumed`: in sentences, what whoever
    asks takes agents and lines for, where they do not know.
    """
    assumed = (*assumed, _OF_NOW) if at not in (None, now) else tuple(assumed)
    at = now if at is None else at
    service, called = services.of(called_raw)
    caller = services.plan.parse(caller_raw)
    refused = refusal(caller)
    identified = await identifier.identify(caller)
    number = caller.dialable
    past = None if service is None or number is None else await history(number, service, at)
    facts = Facts(
        at=at,
        service=service.name if service is not None else "",
        from_number=caller.dialable,
        from_kind=str(caller.kind),
        to=called.e164 or called.raw,
        party=party_facts(identified),
        parties=len(identified.parties),
        agents=roster.agents,
        groups=roster.groups,
        clock=wall_clock(service, at),
        line=Line() if service is None else line(service.name, now),
        from_country=country_of(caller.dialable),
        history=past,
    )
    if service is not None and refused is None:
        facts = evolve(facts, own=await own(services.own_questions(service), facts))
    decision = refused or decision_for(service, facts, services.all)
    return {
        "at": iso(at),
        "from": {"raw": caller.raw, "e164": caller.e164, "kind": str(caller.kind)},
        "to": {"raw": called.raw, "e164": called.e164},
        "service": service.name if service is not None else None,
        "mode": str(service.mode) if service is not None else None,
        "identification": identified.as_json(),
        "history": None if past is None else history_json(past.as_json(at)),
        "own": facts.as_json()["own"],
        "agents_at": iso(now),
        "line": facts.line.as_json(),
        "assumed": list(assumed),
        "decision": {
            "action": str(decision.action),
            "agents": list(decision.agents),
            "target": decision.target,
            "then": decision.then,
            "timeout": decision.timeout,
            "rule": decision.rule,
            "reason": decision.reason,
            "trace": [step.as_json() for step in decision.trace],
        },
    }
