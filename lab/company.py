"""A whole company for a test or the demo: an Asterisk with our dialplan, agents at phones, the daemon, a CRM.

with Company(directory, agents=[anna, ben]) as company:
    company.daemon.start()
    company.call(from_number="015228817386", talk_ms=300).wait()
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

from attrs import define, field, frozen
from attrs.validators import in_

from lab.asterisk import AsteriskInstance
from lab.configuration import RegisteringPhone, StaticPhone
from lab.crm.postgresql import Postgres
from lab.daemon import ROOT, Daemon
from lab.laboratory import Answers, Call, Lab, Phone
from lab.scenarios import Behaviour

DIALLED = "+494066969100"
#: As the lab's trunk sends it.
DID = "494066969100"
#: Where browsers would find the desktop; goes to agents' phones as a link to the card.
DESKTOP = "https://cti.example"

#: What stands around our dialplan: a trunk that asks us, and the company's own way of before, which rings the
#: phone `reception` and is what must still work when everything else does not.
EXTENSIONS = """
[globals]
CTI_SERVER = 127.0.0.1:{agi_port}
CTI_PBX = {pbx}
CTI_FALLBACK = {fallback}

[from-trunk]
exten => _X!,1,Goto(cti-inbound,${{FILTER(0-9A-Za-z+*#,${{EXTEN}})}},1)
exten => _+X!,1,Goto(cti-inbound,${{FILTER(0-9A-Za-z+*#,${{EXTEN}})}},1)

[from-peers]
exten => _X!,1,Goto(cti-inbound,${{FILTER(0-9A-Za-z+*#,${{EXTEN}})}},1)
exten => _+X!,1,Goto(cti-inbound,${{FILTER(0-9A-Za-z+*#,${{EXTEN}})}},1)
; The phones of this Asterisk, for another one of the company.
exten => _[a-z][a-z]!,1,Dial(PJSIP/${{EXTEN}},30)

[old-context]
exten => s,1,NoOp(the company's own way)
 same => n,Dial(PJSIP/{reception},30)
 same => n,Hangup()

[last-resort]
exten => s,1,NoOp(the global fallback)
 same => n,Dial(PJSIP/{reception},30)
 same => n,Hangup()
"""


def way_out(seconds: int = 30) -> str:
    """The company's own way out, for tests that call somebody outside, whom it rings for so long: for
    `more_extensions`.
    """
    return f"""
[globals]
CTI_OUTBOUND = way-out

[way-out]
exten => _[0-9+].,1,Dial(PJSIP/${{EXTEN}}@trunk,{seconds})
 same => n,Hangup()
"""


_SOON = Answers(after_ms=200)


@frozen
class AnAgent:
    """A person of the company and how their phone behaves.

    @ivar phones: what rings them, instead of the phone that bears their name.
    @ivar shares: the agent whose phone's place in the network theirs has, too, and so its behaviour: one program
        plays the phones of many.
    """

    id: str
    name: str = ""
    behaviour: Behaviour = _SOON
    groups: Sequence[str] = ("sales",)
    user: str | None = None
    state: str = "ready"
    phones: Sequence[str] = ()
    shares: str | None = None


def contacts_csv(rows: Sequence[Mapping[str, str]]) -> str:
    """Contacts as `cti contacts import` reads them; what a row leaves out is empty."""
    columns = [
        "id",
        "type",
        "name",
        "company",
        "numbers",
        "owner",
        "tier",
        "language",
        "tags",
        "notes",
        "url",
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@define
class Company:
    """Everything in one place, started when the `with` block is entered but for the daemon.

    @ivar service: what replaces the entries of the service `sales`; `settings` those of the whole file.
    @ivar more_extensions: dialplan after the usual one; a context in it adds to the one of the same name.
    @ivar branches: further Asterisks by name, and the agents whose phones they have; where a call ends that nobody
        there takes, `reception-NAME` rings. Each is joined with the first (`PJSIP/…@peer-main`, `@peer-NAME`), and
        all have one daemon.
    @ivar store: what the daemon's store is on; `postgresql` is a server of its own, `database`.
    """

    directory: Path
    agents: Sequence[AnAgent] = ()
    service: Mapping[str, Any] = field(factory=dict)
    settings: Mapping[str, Any] = field(factory=dict)
    softphone: RegisteringPhone | None = None
    trunk: Behaviour | None = None
    command: Sequence[str] | None = None
    environment: Mapping[str, str] = field(factory=dict)
    global_fallback: str = "last-resort,s,1"
    more_extensions: str = ""
    branches: Mapping[str, Sequence[AnAgent]] = field(factory=dict)
    store: str = field(default="sqlite", validator=in_(("sqlite", "postgresql")))
    lab: Lab = field(init=False)
    pbxes: dict[str, AsteriskInstance] = field(factory=dict, init=False)
    daemon: Daemon = field(init=False)
    phones: dict[str, Phone] = field(factory=dict, init=False)
    database: Postgres | None = field(default=None, init=False)

    def __enter__(self) -> Company:
        self.lab = Lab(self.directory).__enter__()
        try:
            self._furnish()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if hasattr(self, "daemon"):
                self.daemon.stop()
        finally:
            if self.database is not None:
                self.database.stop()
            self.lab.__exit__(kind, error, trace)

    def _furnish(self) -> None:
        http_port, agi_port = self.lab.free_port(), self.lab.free_port()
        self._furnish_asterisk("main", self.agents, "reception", agi_port)
        for name, agents in self.branches.items():
            self._furnish_asterisk(name, agents, f"reception-{name}", agi_port)
        secrets = {_secret_variable(name): pbx.ami_secret for name, pbx in self.pbxes.items()}
        more: dict[str, Any] = {} if self.command is None else {"command": self.command}
        if self.store == "postgresql":
            self.database = Postgres(self.directory / "postgresql", port=self.lab.free_port())
            self.database.start()
            self.database.database("cti")
        self.daemon = Daemon(
            directory=self.directory / "daemon",
            settings=self._settings(http_port, agi_port),
            http_port=http_port,
            agi_port=agi_port,
            environment={**secrets, **self.environment},
            **more,
        )

    def _furnish_asterisk(self, name: str, agents: Sequence[AnAgent], reception: str, agi_port: int) -> None:
        phones = {a.id: self.lab.phone(a.id, a.behaviour) for a in agents if a.shares is None}
        sharing = [StaticPhone(a.id, phones[a.shares].port) for a in agents if a.shares is not None]
        phones[reception] = self.lab.phone(reception, Answers(after_ms=100))
        self.phones |= phones
        outside = self.lab.phone("outside", self.trunk) if self.trunk and name == "main" else None
        if outside is not None:
            self.phones["outside"] = outside
        softphones = [self.softphone] if self.softphone and name == "main" else []
        extensions = EXTENSIONS.format(
            agi_port=agi_port, fallback=self.global_fallback, pbx=name, reception=reception
        )
        self.pbxes[name] = self.lab.asterisk(
            name,
            extensions=extensions + self.more_extensions,
            dialplan_files=[ROOT / "dialplan" / "cti.conf"],
            manager=(ROOT / "asterisk-conf" / "manager.conf").read_text(encoding="utf-8"),
            phones=[*phones.values(), *sharing, *softphones],
            trunk=outside,
            peers=[self.pbx] if self.pbxes else [],
        )

    @property
    def pbx(self) -> AsteriskInstance:
        """The first Asterisk, `main`."""
        return self.pbxes["main"]

    def _settings(self, http_port: int, agi_port: int) -> dict[str, Any]:
        service = {
            "numbers": [DIALLED],
            "mode": "route",
            "instruction": "Greet with the company's name.",
            "fallback": "old-context,s,1",
            "rules": [
                {"name": "owner", "when": {"party.owner": "present"}, "dial": "owner", "timeout": 3},
                {"name": "rest", "dial": {"group": "sales"}, "timeout": 3},
            ],
        }
        return {
            "region": "DE",
            "store": {"sqlite": "cti.db"}
            if self.database is None
            else {"postgresql": self.database.url("cti")},
            "fastagi": {"listen": f"127.0.0.1:{agi_port}"},
            "http": {"listen": f"127.0.0.1:{http_port}", "url": DESKTOP, "requests_per_minute": 1_000_000},
            "asterisks": {
                name: {
                    "ami": f"127.0.0.1:{pbx.ami_port}",
                    "username": "cti",
                    "secret": {"env": _secret_variable(name)},
                }
                for name, pbx in self.pbxes.items()
            },
            "adapters": {"directory": {"kind": "directory"}},
            "agents": {
                agent.id: {
                    "name": agent.name or agent.id.title(),
                    "phones": list(agent.phones) or [f"PJSIP/{agent.id}"],
                    "groups": list(agent.groups),
                    "crm": {"directory": agent.user or f"user-{agent.id}"},
                    "state": agent.state,
                }
                for agent in (*self.agents, *chain.from_iterable(self.branches.values()))
            },
            # The same phone is to ring for one call after the other; whose test it is says otherwise.
            "set_aside_after": 0,
            "services": {"sales": {**service, **self.service}},
            **self.settings,
        }

    def start(self, *, with_ami: bool = True) -> Company:
        """Start the daemon, and wait until it is ready; without AMI if that is away on purpose."""
        self.daemon.start(with_ami=with_ami)
        return self

    def knows(self, *rows: Mapping[str, str]) -> None:
        """Put contacts into the embedded directory, by the command that an administrator uses."""
        self.daemon.write_configuration()
        file = self.directory / "contacts.csv"
        file.write_text(contacts_csv(rows), encoding="utf-8")
        self.daemon.run("contacts", "import", str(file))

    def call(self, *, did: str = DID, pbx: str = "main", **how: Any) -> Call:
        """A caller rings the company, at one of its Asterisks; the other parameters are those of `Lab.call`."""
        return self.lab.call(self.pbxes[pbx], did, **how)


def _secret_variable(pbx: str) -> str:
    return "AMI_SECRET" if pbx == "main" else f"AMI_SECRET_{pbx.upper()}"
