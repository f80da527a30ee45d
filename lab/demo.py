"""`make demo`: a small company with a real Asterisk, and the story of a real call, told while it happens.

Everything is done by the commands that an administrator would use. What the pieces are is told in
`lab.laboratory` and `lab.daemon`, how it looks on the terminal in `lab.page`."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from attrs import define, field

from adapters.base import AdapterError, Case, LastContact
from adapters.directory_file import Directory
from cti.numbers import NumberPlan, display
from lab import scenarios
from lab.asterisk import AsteriskFailed, AsteriskInstance
from lab.configuration import TRUNK_HEADER
from lab.daemon import ROOT, Daemon, DaemonFailed, EventStream, StreamEvent
from lab.laboratory import Answers, Call, Lab, LabUnavailable, Phone, RegisteringPhone
from lab.page import Page
from lab.ports import LOOPBACK, NoFreePort
from lab.processes import eventually
from lab.sipp import SippFailed
from lab.trace import SipMessage
from lab.webhooks import Notification, WebhookReceiver

SAMPLE = ROOT / "lab" / "sample"
REGION = "DE"
#: The company's number, and how the trunk sends it.
NUMBER, DID = "+494066969100", "494066969100"

#: Who calls first, as the trunk sends the number; and what has to become of it.
FIRST_CALLER, FIRST_NAME, OWNER = "015228817386", "Katja Brandt", "anna"
TALK_MS = 3000

#: How long the people of the company let their phones ring, in milliseconds.
PHONES = {"anna": 3000, "mojca": 2500, "boris": 3500, "reception": 2000}
SOFTPHONE = "james"

#: Who can be dialled in as: digit of a phone of the house, file name, number as the trunk sends it, and who it is.
CALLERS = (
    ("1", "katja", "015228817386", "Katja Brandt, whom Anna looks after"),
    ("2", "natalia", "+491729925904", "Наталья Белова, whom Борис looks after"),
    ("3", "ziga", "00491729968532", "Žiga Hribar, whom Mojca looks after"),
    ("4", "stranger", "01713920042", "somebody whom the CRM does not know"),
    ("5", "withheld", "anonymous", "somebody who shows no number"),
)

#: Seconds: for the first call from the first ring to its end, and for what follows it.
CALL_PATIENCE, AFTERWARDS = 40.0, 8.0


class StepFailed(Exception):
    """A step of the demo did not do what it should; the text is for whoever started it."""


@define
class Narrator:
    """Tells what happens in the order of the event stream, and keeps what was seen of each call."""

    page: Page
    office: Office
    events: list[StreamEvent] = field(factory=list, init=False)
    _numbers: dict[str, int] = field(factory=dict, init=False)
    _zero: dict[str, float] = field(factory=dict, init=False)
    _last: str | None = field(default=None, init=False)
    _told: int = field(default=0, init=False)

    def listen(self) -> None:
        """Tell what is new."""
        for event in self.office.stream.events[len(self.events) :]:
            self.events.append(event)
            self._tell(event)
        for notification in self.office.receiver.notifications[self._told :]:
            self._told += 1
            self._notified(notification)
        if self.office.stream.ended:
            raise StepFailed(f"the event stream has ended: {self.office.daemon_trouble()}")

    def seen(self, type: str, call: str | None = None) -> StreamEvent | None:
        """The first event of that type, of one call or of any."""
        return next((event for event in self.events if event.type == type and call in (None, call_of(event))), None)

    def _tell(self, event: StreamEvent) -> None:
        tellers: Mapping[str, Callable[[StreamEvent], None]] = {
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
        if event.type in tellers:
            tellers[event.type](event)

    def _moment(self, event: StreamEvent, name: str, text: str) -> None:
        """One line; a call that others have interrupted says again which it is."""
        call = call_of(event)
        if call is not None and self._last not in (None, call):
            self.page.heading(f"Call {self._numbers.get(call, '?')}", "goes on")
        if call is not None:
            self._last = call
        zero = self._zero.get(call or self._last or "")
        self.page.moment(None if zero is None else epoch(event.data["at"]) - zero, name, text)

    def _asked(self, event: StreamEvent) -> None:
        call = event.data["call"]
        self._numbers[call["id"]] = len(self._numbers) + 1
        self._zero[call["id"]] = epoch(event.data["at"])
        self._last = call["id"]
        caller = written(call["from"]) if call["from"] else "somebody without a number"
        self.page.heading(
            f"Call {self._numbers[call['id']]}: {caller} dials {written(call['to'])}",
            datetime.fromtimestamp(epoch(event.data["at"])).strftime("at %H:%M:%S, times in seconds from then"),
        )
        self._moment(event, "asked", "Asterisk holds the call and asks over FastAGI where it shall go")

    def _routed(self, event: StreamEvent) -> None:
        data = event.data
        decision = self.office.daemon.call(data["call"]["id"])["decisions"][data["attempt"] - 1]
        asked = ", ".join(
            f"{each['adapter']}: {each['outcome']} in {each['ms']:g} ms"
            for each in (decision["identification"] or {}).get("adapters", ())
        )
        party = data["party"]
        if data["attempt"] == 1:
            who = "nobody of that number" if party is None else name_of(party)
            self._moment(event, "identified", f"{who} ({asked or 'nobody was asked'})")
        else:
            self._moment(event, "asked again", f"attempt {data['attempt']}: {decision['last'] or 'no answer'}")
        names = ", ".join(self.office.names.get(agent, agent) for agent in data["agents"])
        rule = f"rule “{data['rule']}”" if data["rule"] else "no rule"
        where = f"dial {data['target']}" if data["action"] == "dial" else data["action"]
        self._moment(event, "decided", f"{rule} → {names or where}: {data['reason']}")
        for agent in data["agents"]:
            self._moment(event, "reserved", f"{self.office.names.get(agent, agent)}, for this call alone")

    def _card(self, event: StreamEvent) -> None:
        agent = event.data["agent"]
        self._moment(event, "card", f"written to {self.office.names.get(agent, agent)}'s screen:")
        self.page.card(f"for {self.office.names.get(agent, agent)}", card_sections(event.data))

    def _card_withdrawn(self, event: StreamEvent) -> None:
        agent = event.data["agent"]
        self._moment(event, "card", f"taken off {self.office.names.get(agent, agent)}'s screen: {event.data['why']}")

    def _agent(self, event: StreamEvent) -> None:
        data = event.data
        because = f" ({data['reason']})" if data["reason"] else ""
        self._moment(event, "agent", f"{data['name']} is {data['state'].replace('_', ' ')}{because}")

    def _ringing(self, event: StreamEvent) -> None:
        for agent in event.data["agents"]:
            invite = self.office.invite(agent, epoch(event.data["at"]))
            shows = f", which shows “{invite.from_name}” {invite.from_number}" if invite is not None else ""
            self._moment(event, "rings", f"the phone of {self.office.names.get(agent, agent)}{shows}")

    def _connected(self, event: StreamEvent) -> None:
        agent = event.data["agent"]
        self._moment(event, "answered", f"by {self.office.names.get(agent, agent) if agent else 'the reception'}")

    def _missed(self, event: StreamEvent) -> None:
        self._moment(event, "missed", "a phone rang, and nobody talked")

    def _ended(self, event: StreamEvent) -> None:
        call = event.data["call"]["id"]
        record = self.office.daemon.call(call)
        talked = f", {record['talk']:.1f} s of talk" if record["talk"] is not None else ""
        self._moment(event, "ended", f"{record['outcome']}{talked}")
        self.page.heading("In the log", f"GET /api/v1/calls/{call}")
        self.page.document(shortened(record))
        self._last = None

    def _notified(self, notification: Notification) -> None:
        call = notification.body.get("call", {}).get("id")
        zero = self._zero.get(call)
        signed = "signature verified" if notification.genuine else "THE SIGNATURE IS WRONG"
        self.page.moment(
            None if zero is None else notification.at - zero, "webhook", f"{notification.type}, {signed}"
        )


@define
class Office:
    """The company of the demo: everything that runs, started by `open` and ended with the `with` block."""

    page: Page
    directory: Path
    lab: Lab = field(init=False)
    phones: dict[str, Phone] = field(factory=dict, init=False)
    softphone: RegisteringPhone = field(factory=lambda: RegisteringPhone(SOFTPHONE, secrets.token_hex(4)), init=False)
    pbx: AsteriskInstance = field(init=False)
    receiver: WebhookReceiver = field(init=False)
    daemon: Daemon = field(init=False)
    names: dict[str, str] = field(factory=dict, init=False)
    stream: EventStream = field(init=False)
    screen: EventStream = field(init=False)

    @classmethod
    @contextmanager
    def open(cls, page: Page, directory: Path) -> Iterator[Office]:
        """Start everything, telling what; raises StepFailed and what the parts raise."""
        office = cls(page, directory)
        with ExitStack() as started:
            office._start(started)
            yield office

    def _start(self, started: ExitStack) -> None:
        self.lab = started.enter_context(Lab(self.directory))
        self._start_asterisk()
        self.receiver = WebhookReceiver(
            self.lab.free_port(), "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        )
        self.receiver.start()
        started.callback(self.receiver.stop)
        self._start_daemon(started)
        self.stream = self.daemon.events("admin")
        started.callback(self.stream.close)
        self.screen = self.daemon.events("agent", OWNER)
        started.callback(self.screen.close)

    def _start_asterisk(self) -> None:
        for name, milliseconds in PHONES.items():
            self.phones[name] = self.lab.phone(name, Answers(after_ms=milliseconds))
        self.agi_port = self.lab.free_port()
        dialplan = (SAMPLE / "extensions.conf").read_text("utf-8").replace("@AGI_PORT@", str(self.agi_port))
        self.pbx = self.lab.asterisk(
            extensions=dialplan,
            dialplan_files=[ROOT / "dialplan" / "cti.conf"],
            manager=(ROOT / "asterisk-conf" / "manager.conf").read_text("utf-8"),
            phones=[*self.phones.values(), self.softphone],
        )
