"""The company that the demo shows, running: an Asterisk with phones, a CRM's receiver, and Cordboard on sample data.

Set up by the commands that an administrator would use. What is shown of it is up to `lab.demo`; how the pieces
work is told in `lab.laboratory` and `lab.daemon`."""

from __future__ import annotations

import base64
import os
import secrets
from contextlib import ExitStack
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from attrs import define, field, frozen

from adapters.base import Case, LastContact
from adapters.directory_file import Directory
from lab import scenarios
from lab.asterisk import AsteriskInstance
from lab.configuration import TRUNK_HEADER
from lab.daemon import ROOT, Daemon, EventStream
from lab.laboratory import Answers, Lab, Phone, RegisteringPhone, eventually
from lab.ports import LOOPBACK
from lab.trace import SipMessage
from lab.webhooks import WebhookReceiver

SAMPLE = ROOT / "lab" / "sample"
#: The company's number, and how its trunk sends it.
NUMBER, DID = "+494066969100", "494066969100"
#: After how many milliseconds somebody picks up.
PHONES = {"anna": 3000, "mojca": 2500, "boris": 3500, "reception": 2000}
#: The agent whose phone is for whoever looks at the demo.
SOFTPHONE = "james"


@frozen
class Caller:
    """Somebody to call as: by `digit` from a phone of the house; `number` as the trunk sends it."""

    digit: str
    file: str
    number: str
    who: str


CALLERS = (
    Caller("1", "katja", "015228817386", "Katja Brandt, a customer of Anna Lindner"),
    Caller("2", "natalya", "+491729925904", "Наталья Белова, a customer of Борис Орлов"),
    Caller("3", "dmitri", "00491729973185", "Дмитрий Соколов, who speaks Russian and has no owner"),
    Caller("4", "stranger", "01713920042", "somebody whom the CRM does not know"),
    Caller("5", "withheld", "anonymous", "somebody who shows no number"),
)


@define
class Office:
    """Started step by step by its `start_…` methods, in their order; all of it ends with the `with` block.

    @ivar names: what each agent is called, by id.
    @ivar password: what the owner of the first call logs in with at the desktop.
    @ivar stream: all events; `screen` those of the agent who gets the first call, as their browser would.
    """

    directory: Path
    lab: Lab = field(init=False)
    phones: dict[str, Phone] = field(factory=dict, init=False)
    softphone: RegisteringPhone = field(init=False)
    pbx: AsteriskInstance = field(init=False)
    receiver: WebhookReceiver = field(init=False)
    daemon: Daemon = field(init=False)
    names: dict[str, str] = field(factory=dict, init=False)
    password: str = field(init=False, repr=False)
    stream: EventStream = field(init=False)
    screen: EventStream = field(init=False)
    _agi_port: int = field(init=False)
    _started: ExitStack = field(factory=ExitStack, init=False, repr=False)

    @softphone.default
    def _a_new_password(self) -> RegisteringPhone:
        return RegisteringPhone(SOFTPHONE, secrets.token_hex(5))

    def __enter__(self) -> Office:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._started.close()

    def start_asterisk(self) -> None:
        """The phones, and the Asterisk that rings them. Fetches both first where the machine has none."""
        self.lab = self._started.enter_context(Lab(self.directory))
        for name, milliseconds in PHONES.items():
            self.phones[name] = self.lab.phone(name, Answers(after_ms=milliseconds))
        self._agi_port = self.lab.free_port()
        around = (SAMPLE / "extensions.conf").read_text("utf-8")
        self.pbx = self.lab.asterisk(
            extensions=around.replace("@AGI_PORT@", str(self._agi_port)),
            dialplan_files=[ROOT / "dialplan" / "cti.conf"],
            manager=(ROOT / "asterisk-conf" / "manager.conf").read_text("utf-8"),
            phones=[*self.phones.values(), self.softphone],
        )

    def start_receiver(self) -> None:
        """Where a CRM would take the webhooks."""
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        self.receiver = WebhookReceiver(self.lab.free_port(), secret)
        self.receiver.start()
        self._started.callback(self.receiver.stop)

    def configure(self) -> str:
        """Write the configuration and check it by `cti check`; what that says."""
        home = self.directory / "cordboard"
        home.mkdir(parents=True, exist_ok=True)
        self._write_secret(home / "ami.secret", self.pbx.ami_secret)
        self._write_secret(home / "webhook.secret", self.receiver.secret)
        settings = self._settings(self.lab.free_port())
        self.names = {id: agent["name"] for id, agent in settings["agents"].items()}
        http_port = int(settings["http"]["listen"].rpartition(":")[2])
        self.daemon = Daemon(home, settings, http_port, self._agi_port)
        self.daemon.write_configuration()
        return self.daemon.run("check").strip()

    def fill_directory(self) -> str:
        """The sample's contacts by `cti contacts import`, and their history; what the command says."""
        said = self.daemon.run("contacts", "import", str(SAMPLE / "contacts.csv"))
        history = yaml.safe_load((SAMPLE / "history.yaml").read_text("utf-8"))
        directory = Directory(self.daemon.directory / "directory.db", "directory")
        directory.open()
        try:
            with directory.writing():
                for party, entries in history.items():
                    self._write_history(directory, party, entries)
        finally:
            directory.close()
        return said.strip()

    def start_daemon(self, owner: str) -> None:
        """`cti token add` for an administrator and for the agent `owner`, then `cti serve`, its streams, a log-in."""
        for role, agent in (("admin", None), ("agent", owner)):
            self.daemon.token(role, agent)
        self.daemon.start()
        self._started.callback(self.daemon.stop)
        # Left open: they end with the daemon, and closing one waits for what it is just reading.
        self.stream = self.daemon.events("admin")
        self.screen = self.daemon.events("agent", owner)
        eventually(lambda: self.ready(owner), 10, what=f"agent {owner} being ready")

        self.password = secrets.token_urlsafe(9)
        person = {"name": owner, "role": "agent", "agent": owner, "password": self.password}
        self.daemon.request("POST", "/api/v1/users", person)

    def ready(self, agent: str) -> bool:
        """Whether the agent could be offered a call now."""
        seen = self.daemon.agents()[agent]
        return seen["state"] == "ready" and seen["why_not"] is None

    def write_callers(self, talk_ms: int) -> dict[str, Path]:
        """A scenario for SIPp for each of CALLERS, by its digit, to be run by hand."""
        files = {}
        (self.directory / "callers").mkdir(exist_ok=True)
        for caller in CALLERS:
            withheld = caller.number == "anonymous"
            text = scenarios.caller(
                DID,
                display="Anonymous" if withheld else "",
                user=caller.number,
                host="anonymous.invalid" if withheld else LOOPBACK,
                headers={TRUNK_HEADER[0]: TRUNK_HEADER[1], **({"Privacy": "id"} if withheld else {})},
                talk_ms=talk_ms,
                cancel_after_ms=None,
            )
            files[caller.digit] = self.directory / "callers" / f"{caller.file}.xml"
            files[caller.digit].write_text(text, "utf-8")
        return files

    def last_invite(self, agent: str) -> SipMessage | None:
        """How the agent's phone was rung last; None for a phone of somebody else's, or before its first call."""
        if agent not in self.phones:
            return None
        invites = self.phones[agent].invites
        return invites[-1] if invites else None

    def console(self) -> str:
        """The command that opens Asterisk's own command line."""
        user = "" if os.geteuid() == 0 else "--user --preserve-credentials "
        program = self.lab.tree.inside(self.lab.tree.program)
        return (
            f"nsenter {user}--target {self.pbx.pid} --mount --root {program} -C /mnt/etc/asterisk.conf -rvvv"
        )

    @staticmethod
    def _write_secret(path: Path, secret: str) -> None:
        path.touch(mode=0o600)
        path.write_text(f"{secret}\n", "utf-8")

    def _settings(self, http_port: int) -> dict[str, Any]:
        sample: dict[str, Any] = yaml.safe_load((SAMPLE / "company.yaml").read_text("utf-8"))
        return {
            **sample,
            "fastagi": {"listen": f"{LOOPBACK}:{self._agi_port}"},
            "http": {"listen": f"{LOOPBACK}:{http_port}"},
            "asterisks": {
                "main": {
                    "ami": f"{LOOPBACK}:{self.pbx.ami_port}",
                    "username": self.pbx.ami_username,
                    "secret": {"file": "ami.secret"},
                }
            },
            "webhooks": {
                "crm": {
                    "url": self.receiver.url,
                    "secret": {"file": "webhook.secret"},
                    "events": ["call.routed", "call.ended"],
                }
            },
        }

    @staticmethod
    def _write_history(directory: Directory, party: str, entries: dict[str, list[dict[str, Any]]]) -> None:
        today = datetime.now(UTC).date()
        for case in entries.get("cases", ()):
            opened = datetime.combine(today - timedelta(days=case.pop("days_ago")), time(9), UTC)
            directory.put_case(party, Case(**case, opened=opened))
        for contact in entries.get("contacts", ()):
            day = today - timedelta(days=contact.pop("days_ago"))
            at = datetime.combine(day, time.fromisoformat(contact.pop("at")), UTC)
            directory.put_contact(party, LastContact(at=at, **contact))
