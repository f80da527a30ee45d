"""How commands show why a call goes where it goes: of a call that is only asked about, and of one in the log.

What is shown is JSON already, as the API answers it; nothing is decided or read here.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from cti.calls.present import moment
from cti.commands.output import local, printable, write_pairs
from cti.numbers import display
from cti.settings import Settings

Json = Mapping[str, Any]
Pairs = Iterator[tuple[str, str]]

_TRIED: Final = "\nrules, in the order in which they were tried:"


def show_dry_run(answer: Json, settings: Settings) -> None:
    """What `cti.calls.explain.explain` answers."""
    write_pairs(_dry_run(answer, settings))
    _show_trace(answer["decision"]["trace"])


def show_record(call: Json, decisions: Sequence[Json], settings: Settings) -> None:
    """A call of the log, and each decision about it."""
    write_pairs(_call(call, settings))
    for decision in decisions:
        print()
        write_pairs(_attempt(decision))
        _show_trace(decision["trace"])
    if not decisions:
        print("\nnothing was decided about this call: Asterisk has not asked where it should go")


def number_of(raw: str, e164: str | None, kind: str, settings: Settings) -> str:
    if e164 is None:
        return f"{raw} ({kind})" if kind else raw
    return f"{e164} ({display(e164, settings.region)})"


def owner_of(party: Json) -> str:
    if party["owner"]:
        return str(party["owner"])
    return f"{party['owner_user']} (no agent)" if party["owner_user"] else ""


def settled(answer: Json) -> Pairs:
    """Which of several it is, and why; that the number is ignored; nothing where there is nothing to say."""
    if answer.get("ignored"):
        yield "settled", "the number is ignored: nobody looks for it"
    for step in answer.get("steps", ()):
        yield f"by {step['policy']}", step["note"]
    party = answer.get("party")
    if answer.get("resolved_by") is not None and party is not None:
        yield "settled", f"{party['type']} {party['id']} in {party['adapter']}"


def adapters_of(answer: Json) -> str:
    asked = [
        f"{each['adapter']}: {each['outcome']} in {each['ms']:g} ms"
        + (f" from the {each['source']}" if each.get("source") in ("cache", "index") else "")
        + (f", {_span(each['age'])} old" if each.get("age") is not None else "")
        + (f" ({each['error']})" if each.get("error") else "")
        for each in answer["adapters"]
    ]
    return "; ".join(asked) or "no adapter is configured"


def _show_trace(trace: Sequence[Json]) -> None:
    if trace:
        print(_TRIED)
        write_pairs(_steps(trace))


def _steps(trace: Sequence[Json]) -> Pairs:
    for step in trace:
        yield f"  {printable(step['rule'])}", f"{step['outcome']}: {step['note']}"
        for test in step["tests"]:
            # What failed is the note already.
            if test["held"]:
                yield "", f"holds: {test['fact']} is {_value(test['found'])}, wanted: {test['wanted']}"
        for candidate in step["candidates"]:
            yield "", f"{candidate['agent']}: {candidate['why_not'] or 'chosen'}"
        if step["more"]:
            yield "", f"and {step['more']} more"


def _value(found: object) -> str:
    return "absent" if found is None else json.dumps(found, ensure_ascii=False)


def _dry_run(answer: Json, settings: Settings) -> Pairs:
    caller, called, decision = answer["from"], answer["to"], answer["decision"]
    yield "from", number_of(caller["raw"], caller["e164"], caller["kind"], settings)
    parties = answer["identification"]["parties"]
    for party in parties:
        yield "party", _named(party)
    if not parties:
        yield "party", "nobody found"
    yield from settled(answer["identification"])
    yield "asked", adapters_of(answer["identification"])
    yield "to", number_of(called["raw"], called["e164"], "", settings)
    yield from _past(answer["history"])
    yield from _own(answer["own"])
    yield from _waiting(answer["line"])
    yield from (("assumed", sentence) for sentence in answer["assumed"])
    yield from _decided(answer["service"], answer["mode"], decision)


def _call(call: Json, settings: Settings) -> Pairs:
    yield "call", call["id"]
    yield "started", local(moment(call["started"]))
    yield "from", _end(call["from"], call["from_raw"], call["from_kind"], settings)
    yield "to", _end(call["to"], call["to_raw"], "", settings)
    if call["agent"]:
        yield "agent", call["agent"]
    yield "outcome", call["outcome"] or f"none yet, it is {call['state']}"


def _end(number: str | None, raw: str | None, kind: str, settings: Settings) -> str:
    """One end of a call; inside of the company it is no number in E.164 form."""
    e164 = number if number is not None and number.startswith("+") else None
    return number_of(number or raw or "", e164, kind, settings)


def _attempt(decision: Json) -> Pairs:
    facts, identification = decision["facts"], decision["identification"]
    yield "attempt", f"{decision['attempt']}, at {local(moment(decision['at']))}"
    if decision["last"]:
        tried = " ".join(facts.get("tried", ()))
        yield "before", f"{decision['last']}; tried: {tried}" if tried else decision["last"]
    party = facts.get("party")
    if party is None:
        yield "party", "nobody found"
    else:
        yield "party", f"any of {facts['parties']}" if party.get("id") is None else _named(party)
    if identification is not None:
        yield from settled(identification)
        age = identification.get("age")
        yield "asked", adapters_of(identification) + _before("; ", age)
    yield from _past(facts.get("history"))
    yield from _own(facts.get("own", {}))
    clock = facts.get("clock")
    if clock is not None:
        holiday = f", {clock['holiday']}" if clock["holiday"] else ""
        yield "clock", f"{clock['weekday']} {clock['date']} {clock['time']}, {clock['hours']}{holiday}"
    yield from _waiting(facts.get("line"))
    yield from _decided(decision["service"], decision["mode"], decision)


def _named(party: Json) -> str:
    owner = owner_of(party)
    return f"{party['name']} ({party['type']} {party['id']} in {party['adapter']}" + (
        f", owner {owner})" if owner else ")"
    )


def _waiting(line: Json | None) -> Pairs:
    if line is not None and line["calls"]:
        yield "line", f"{line['calls']} waiting, the first for {_span(line['longest'])}"


def _past(history: Json | None) -> Pairs:
    if history is None:
        return
    last, spoken = history["last_agent"], history["last_spoken"]
    yield "talked with", "nobody yet" if spoken is None else f"{last}, until {spoken}"
    age = history.get("age")
    yield "tries today", f"{history['tries']}" + _before(", as of ", age)


def _own(said: Json) -> Pairs:
    """What the company's own code said, or why it said nothing."""
    for name, each in said.items():
        age = _before(", ", each["age"])
        yield "own code", f"{printable(name)}: {each['why_not'] or _value(each['value'])}{age}"


def _decided(service: str | None, mode: str | None, decision: Json) -> Pairs:
    yield "service", "none has this number" if service is None else f"{service}, mode {mode}"
    yield "decision", " ".join([decision["action"], *decision["agents"]])
    if decision["target"]:
        # The log does not keep what only the dialplan needs.
        timeout = f" for {decision['timeout']} s" if decision.get("timeout") else ""
        yield "target", decision["target"] + timeout
    if decision.get("then"):
        yield "then", decision["then"]
    if decision["rule"]:
        yield "rule", decision["rule"]
    yield "reason", decision["reason"]


def _before(words: str, age: float | None) -> str:
    """How long before the decision something was said; nothing of what was said for it."""
    return "" if age is None or age < 1 else f"{words}{_span(age)} before"


def _span(seconds: float) -> str:
    """How long, as exactly as it matters: 0.25 s, 42 s, 12 min, 5 h."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
