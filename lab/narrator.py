"""Tells the calls of a running office as they happen, from its event stream, its phones and its webhooks.

What the lines look like is up to `lab.page`."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import define, field

from cti.numbers import display
from lab.daemon import StreamEvent
from lab.office import Office
from lab.page import Page
from lab.webhooks import Notification

_REGION = "DE"
# After this many seconds agents are free again and the CRM knows, unless something is slow.
_SETTLED = 0.5
#: Of a call's record, what is long or technical: it is there for whoever asks for the call.
_LEFT_OUT = frozenset(
    {"channels", "events", "card", "cards", "decisions", "crm", "attempt", "from_kind", "state", "linkedid"}
)
_OF_A_SEGMENT = (
    "agents",
    "agent",
    "rule",
    "offered",
    "ringing",
    "answered",
    "ended",
    "rang",
    "talk",
    "result",
)


@define
class Narrator:
    """`listen` tells what is new; `events` has all that was told."""

    page: Page
    office: Office
    events: list[StreamEvent] = field(factory=list, init=False)
    _numbers: dict[str, int] = field(factory=dict, init=False)
    _began: dict[str, float] = field(factory=dict, init=False)
    _last: str | None = field(default=None, init=False)
    _notified: int = field(default=0, init=False)
    _records: dict[str, float] = field(factory=dict, init=False)

    def listen(self) -> None:
        """Tell what happened since the last time."""
        events = self.office.stream.events[len(self.events) :]
        notifications = self.office.receiver.notifications[self._notified :]
        self.events += events
        self._notified += len(notifications)
        both: list[Sequence[StreamEvent | Notification]] = [events, notifications]
        for news in heapq.merge(*both, key=_happened):
            if isinstance(news, Notification):
                self._tell_notification(news)
            elif (tell := self._tellers.get(news.type)) is not None:
                tell(news)
        now = time.monotonic()
        for call, due in list(self._records.items()):
            if now >= due:
                del self._records[call]
                self._tell_record(call)

    @property
    def is_done(self) -> bool:
        """Whether everything that was heard of has been told."""
        return not self._records

    def first(self, type: str) -> StreamEvent | None:
        """The first event of that type."""
        return next((event for event in self.events if event.type == type), None)

    @property
    def _tellers(self) -> Mapping[str, Callable[[StreamEvent], None]]:
        return {
            "call.offered": self._asked,
            "call.routed": self._routed,
            "card.offered": self._card,
            "card.withdrawn": self._card_withdrawn,
            "agent.state": self._agent,
            "call.ringing": self._ringing,
            "call.connected": self._connected,
            "call.missed": self._missed,
            "call.ended": self._ended,
        }

    def _asked(self, event: StreamEvent) -> None:
        call = event.data["call"]
        number = self._numbers[call["id"]] = len(self._numbers) + 1
        began = self._began[call["id"]] = epoch(event.data["at"])
        self._last = call["id"]
        caller = written(call["from"]) if call["from"] else "somebody without a number"
        self.page.heading(
            f"Call {number}: {caller} calls {written(call['to'])}",
            f"{datetime.fromtimestamp(began):%H:%M:%S}, and seconds from then on",
        )
        self._moment(event, "asked", "Asterisk holds the call and asks where it shall go")

    def _routed(self, event: StreamEvent) -> None:
        data = event.data
        call = self.office.daemon.call(data["call"]["id"])
        decision = call["decisions"][data["attempt"] - 1]
        if data["attempt"] == 1:
            self._moment(event, "identified", _identified(data["party"], decision["identification"] or {}))
        else:
            last = (decision["last"] or "no answer").lower()
            self._moment(event, "asked again", f"the offer before came to nothing ({last})")
        rule = f"rule “{data['rule']}”" if data["rule"] else "no rule"
        self._moment(event, "decided", f"{rule}: {data['action']} {data['target']}".rstrip())
        self.page.moment(None, "because", data["reason"])
        for agent in data["agents"]:
            self._moment(event, "reserved", f"{self._name(agent)}, for this call alone")

    def _card(self, event: StreamEvent) -> None:
        name = self._name(event.data["agent"])
        self._moment(event, "card", f"written to the screen of {name}, before Asterisk gets its answer")
        self.page.card(f"client card for {name}", _card_sections(event.data["card"], self.office.names))

    def _card_withdrawn(self, event: StreamEvent) -> None:
        why = event.data["why"].replace("_", " ")
        self._moment(event, "card", f"taken off the screen of {self._name(event.data['agent'])}: {why}")

    def _agent(self, event: StreamEvent) -> None:
        reason = f", {event.data['reason'].replace('_', ' ')}" if event.data["reason"] else ""
        state = event.data["state"].replace("_", " ")
        if state == "offered":
            # Told with the decision that reserved them.
            return
        # Which call it is about, the event does not say: most likely the one told last.
        self._line(self._last, epoch(event.data["at"]), "agent", f"{event.data['name']}: {state}{reason}")

    def _ringing(self, event: StreamEvent) -> None:
        for agent in event.data["agents"]:
            invite = self.office.last_invite(agent)
            name = f"“{invite.from_name}”, " if invite is not None and invite.from_name else ""
            shows = "" if invite is None else f"; it shows {name}{invite.from_number}"
            self._moment(event, "rings", f"the phone of {self._name(agent)}{shows}")

    def _connected(self, event: StreamEvent) -> None:
        agent = event.data["agent"]
        self._moment(event, "answered", f"by {self._name(agent) if agent else 'the reception'}")

    def _missed(self, event: StreamEvent) -> None:
        self._moment(event, "missed", "a phone rang, and nobody talked")

    def _ended(self, event: StreamEvent) -> None:
        record = self.office.daemon.call(event.data["call"]["id"])
        talk = "" if record["talk"] is None else f", {record['talk']:.1f} s of talk"
        self._moment(event, "ended", f"{record['outcome']}{talk}")
        self._records[record["id"]] = time.monotonic() + _SETTLED

    def _tell_record(self, call: str) -> None:
        number = self._numbers.get(call, "?")
        self.page.heading(f"Call {number} in the log", f"GET /api/v1/calls/{call}")
        self.page.document(_shortened(self.office.daemon.call(call)))
        self._last = None

    def _tell_notification(self, notification: Notification) -> None:
        verified = "its signature holds" if notification.genuine else "its signature is wrong"
        self._line(
            notification.body.get("call", {}).get("id"),
            notification.at,
            "CRM is told",
            f"{notification.type}; {verified}",
        )

    def _moment(self, event: StreamEvent, name: str, text: str) -> None:
        self._line(event.data["call"]["id"], epoch(event.data["at"]), name, text)

    def _line(self, call: str | None, at: float, name: str, text: str) -> None:
        """One line. When calls overlap, whichever goes on says again which it is."""
        began = self._began.get(call or "")
        if began is not None and self._last != call:
            self.page.heading(f"Call {self._numbers[call or '']}, going on")
            self._last = call
        self.page.moment(None if began is None else at - began, name, text)

    def _name(self, agent: str) -> str:
        return self.office.names.get(agent, agent)


def epoch(text: str) -> float:
    """Seconds since the epoch of a time of the API."""
    return datetime.fromisoformat(text).timestamp()


def _happened(news: StreamEvent | Notification) -> float:
    return news.at if isinstance(news, Notification) else epoch(news.data["at"])


def written(number: str | None) -> str:
    """A number of the API as people write it."""
    return display(number, _REGION) if number and number.startswith("+") else number or "an unknown number"


def _identified(party: Mapping[str, Any] | None, identification: Mapping[str, Any]) -> str:
    outcomes = identification.get("adapters", ())
    if outcomes and all(each["outcome"] == "skipped" for each in outcomes):
        return "nobody: there is no number to look up"
    asked = ", ".join(
        f"adapter {each['adapter']}: {each['outcome']} in {each['ms']:.1f} ms" for each in outcomes
    )
    who = "nobody whom the CRM knows"
    if party is not None:
        who = ", ".join(dict.fromkeys(filter(None, (party["name"], party["company"]))))
    return f"{who} ({asked or 'no adapter was asked'})"


def _card_sections(card: Mapping[str, Any], names: Mapping[str, str]) -> list[Sequence[str]]:
    """The card's lines, a section each for what belongs together."""
    caller = written(card["from"]) if card["from"] else f"number {card['from_kind']}"
    sections: list[Sequence[str]] = []
    for party in card["parties"]:
        sections.append(_person(party, names))
        sections.append([f"Case {case['id']}: {case['title']} ({case['status']})" for case in party["cases"]])
        sections.append(
            [
                f"{datetime.fromisoformat(contact['at']):%d %b}, {contact['kind']}: {contact['summary']}"
                for contact in party["last_contacts"]
            ]
        )
        sections.append(party["notes"].splitlines())
    if not card["parties"]:
        sections.append(["Nobody in the CRM has this number."])
    sections.append([f"{caller} → {card['service']}", *filter(None, [card["instruction"]])])
    return [section for section in sections if section]


def _person(party: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    owner = party["owner"]
    about = [
        party["type"],
        party["tier"],
        f"speaks {party['language']}" if party["language"] else None,
        f"looked after by {names.get(owner, owner)}" if owner else None,
    ]
    lines = [
        " · ".join(dict.fromkeys(filter(None, (party["name"], party["company"])))),
        " · ".join(filter(None, about)),
        ", ".join(party["tags"]),
        party["url"],
    ]
    return [line for line in lines if line]


def _shortened(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record without what is empty and what is long."""
    short = {
        name: value for name, value in record.items() if name not in _LEFT_OUT and value not in (None, "")
    }
    short["segments"] = [
        {name: segment[name] for name in _OF_A_SEGMENT if segment[name] is not None}
        for segment in record["segments"]
    ]
    return short
