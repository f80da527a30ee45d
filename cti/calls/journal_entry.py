"""A call as a CRM is told of it: what people read there, in the company's words, and what the CRM counts with.

Which CRM is told, when and how often is the journal's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson
from attrs import frozen

from adapters.base import JournalEntry, JournalState, PartyRef
from cti.journal_text import Language, language, span
from cti.settings import JournalSettings
from cti.store.base import CallDetail
from cti.store.records import CallRecord
from routing.rules import Service

_MISSED: Final = frozenset({"missed", "abandoned"})


class People(Protocol):
    """Of the agents, what a journal says of them."""

    def name_of(self, agent: str) -> str: ...

    def user_of(self, agent: str, adapter: str) -> str | None:
        """Which of the CRM's users the agent is."""


@frozen
class Teller:
    """Makes entries of calls.

    `display`: a number as people here write it. `recording_url`: where a call is heard, None for nowhere. `company`:
    its language.
    """

    people: People
    services: Callable[[str], Service | None]
    display: Callable[[str | None], str | None]
    recording_url: Callable[[str], str | None]
    company: Callable[[], str]

    def entry(
        self, adapter: str, detail: CallDetail, settings: JournalSettings, was: PartyRef | None = None
    ) -> JournalEntry:
        """The call as it stands, for this adapter's CRM; `was`: whose it was said to be there before."""
        call = detail.call
        agent = call.agent or _offered_to(detail)
        other = other_side(call)
        words = self._words(detail, language(settings.language or self.company()))
        return JournalEntry(
            key=call.id,
            state=_state(call),
            direction=call.direction,
            started=_utc(call.started),
            ended=None if call.ended is None else _utc(call.ended),
            party=party_of(call, adapter),
            was=was,
            number=other if other is not None and other.startswith("+") else "",
            user=None if agent is None else self.people.user_of(agent, adapter),
            duration=_between(call.started, call.ended),
            talk=_between(call.answered, call.ended),
            subject=settings.subject.filled(words),
            text=settings.text.filled(words),
            disposition=words["disposition"],
            recording=None if call.recording is None else self.recording_url(call.id),
        )

    def _words(self, detail: CallDetail, words: Language) -> Mapping[str, str]:
        call = detail.call
        return {
            "call": _headline(call, words),
            "about": self._about(call, words),
            "course": "\n".join(line for line in self._course(detail, words) if line),
            "number": self._number(call, words),
            "party": str((call.party or {}).get("name") or ""),
            "agent": self._name(call.agent),
            "agents": ", ".join(map(self._name, _talked(detail))),
            "service": self._title(call),
            "wait": span(_between(call.started, call.answered if call.answered else call.ended)),
            "talk": span(_between(call.answered, call.ended)),
            "notes": call.notes or "",
            "disposition": self._disposition(call),
            "id": call.id,
        }

    def _about(self, call: CallRecord, words: Language) -> str:
        title, number = self._title(call), self._number(call, words)
        if call.direction != "inbound":
            return words("to", number=number)
        return words("from_to", number=number, service=title) if title else words("from", number=number)

    def _course(self, detail: CallDetail, words: Language) -> Iterator[str]:
        """A line for each of what happened to it."""
        call = detail.call
        if call.answered is None:
            if call.ended is not None and call.outcome is not None:
                yield _first_upper(_outcome(call, words))
                yield (
                    words("rang", agents=rung) if (rung := ", ".join(map(self._name, _rung(detail)))) else ""
                )
            return
        talked = [segment for segment in detail.segments if segment.answered is not None and segment.agent]
        first = call.agent if call.direction != "inbound" or not talked else talked[0].agent
        who = self._name(first)
        if call.direction == "inbound":
            wait = span(call.answered - call.started)
            yield words("answered", agent=who or words("somebody"), wait=wait)
        else:
            yield who
        before = first
        for segment in talked:
            if segment.agent != before:
                name = self._name(segment.agent)
                yield (
                    words("then_now", agent=name)
                    if segment.ended is None
                    else words("then", agent=name, talk=span(_between(segment.answered, segment.ended)))
                )
            before = segment.agent
        for by, to in _passed_out(detail):
            yield words("passed_on", agent=self._name(by), number=self.display(to) or to)

    def _name(self, agent: str | None) -> str:
        return "" if agent is None else self.people.name_of(agent)

    def _number(self, call: CallRecord, words: Language) -> str:
        if call.direction == "inbound":
            return self.display(call.from_number) or call.from_raw or words("no_number")
        return self.display(call.to_number) or call.to_raw

    def _title(self, call: CallRecord) -> str:
        service = None if call.service is None else self.services(call.service)
        return (service.title if service is not None else None) or call.service or ""

    def _disposition(self, call: CallRecord) -> str:
        service = None if call.service is None else self.services(call.service)
        labels = {} if service is None else service.dispositions.get(call.disposition or "", {})
        company = self.company()
        fitting = (labels.get(each) for each in (company, ""))
        return next(filter(None, (*fitting, *labels.values())), call.disposition or "")


def party_of(call: CallRecord, adapter: str) -> PartyRef | None:
    """Who it is, if this adapter knows them."""
    party = call.party
    if party is None or party.get("adapter") != adapter:
        return None
    return PartyRef(party["type"], party["id"])


def other_side(call: CallRecord) -> str | None:
    """The number of the side that is not ours."""
    return call.from_number if call.direction == "inbound" else call.to_number


def _headline(call: CallRecord, words: Language) -> str:
    kind = words("consultation" if call.parent is not None else call.direction)
    if call.ended is None:
        return words("ringing" if call.answered is None else "going_on", call=kind)
    if call.outcome == "answered" and call.answered is not None:
        return words("talked", call=kind, talk=span(call.ended - call.answered))
    if _is_missed(call):
        return words("missed")
    return words("otherwise", call=kind, outcome=_outcome(call, words))


def _outcome(call: CallRecord, words: Language) -> str:
    key = f"outcome.{call.outcome}"
    return words(key) if words.has(key) else call.outcome or ""


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _state(call: CallRecord) -> JournalState:
    if call.ended is None:
        return JournalState.RINGING if call.answered is None else JournalState.CONNECTED
    return JournalState.MISSED if _is_missed(call) else JournalState.ENDED


def _is_missed(call: CallRecord) -> bool:
    return call.direction == "inbound" and call.outcome in _MISSED


def _offered_to(detail: CallDetail) -> str | None:
    """The one agent who was rung last, if it was one alone."""
    agents: Any = detail.segments[-1].agents if detail.segments else ()
    return agents[0] if len(agents) == 1 else None


def _talked(detail: CallDetail) -> Sequence[str]:
    first = [detail.call.agent] if detail.call.direction != "inbound" else []
    agents = [segment.agent for segment in detail.segments if segment.answered is not None]
    found = dict.fromkeys([*first, *agents] if agents else [detail.call.agent])
    return [agent for agent in found if agent is not None]


def _rung(detail: CallDetail) -> Sequence[str]:
    """Each agent once, however often and in whatever company they were rung."""
    return list(
        dict.fromkeys(
            agent for segment in detail.segments if segment.ringing is not None for agent in segment.agents
        )
    )


def _passed_out(detail: CallDetail) -> Iterator[tuple[str, str]]:
    """Who passed the call on to a number that is none of the agents."""
    agents = {agent for segment in detail.segments for agent in segment.agents}
    for event in detail.events:
        if event.type == "call.transferred":
            told = orjson.loads(event.data)
            if told.get("to") and told["to"] not in agents:
                yield told["from"], told["to"]


def _utc(at: float) -> datetime:
    # CRMs know seconds, and the same has to be the same when it is told again.
    return datetime.fromtimestamp(int(at), UTC)


def _between(begin: float | None, end: float | None) -> float:
    return 0.0 if begin is None or end is None else round(max(0.0, end - begin), 1)
