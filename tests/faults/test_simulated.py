"""The simulated Asterisk beside a real one: asked the same, told the same, and the same is left behind."""

import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from lab.company import AnAgent, Company
from lab.laboratory import eventually
from lab.ports import LOOPBACK, PortBlock
from lab.scenarios import Answers, Behaviour, Busy, RingsForever
from tests.faults.fake_agi import FakeAgi, Script, Session
from tests.faults.simulated import Caller, SimulatedAsterisk

CALL_ID = "0197d3a0-0000-7000-8000-000000000001"
CALLER = "015228817386"
PHONES: Mapping[str, Behaviour] = {
    "anna": Answers(after_ms=200),
    "ben": RingsForever(),
    "cora": Busy(),
}
RECEPTION = Answers(after_ms=100)


def dial(target: str, timeout: int = 20) -> Script:
    """Rings these, and sends who comes back to the fallback."""

    def script(session: Session) -> None:
        session.set("__CTI_CALL_ID", CALL_ID)
        if session.asked["attempt"] == "1":
            session.answer(CTI_TARGET=target, CTI_TIMEOUT=str(timeout), CTI_REASON="rest", CTI_ACTION="dial")
        else:
            session.answer(CTI_TARGET="old-context,s,1", CTI_ACTION="fallback")

    return script


def dies_in_the_middle(session: Session) -> None:
    session.answer(__CTI_CALL_ID=CALL_ID, CTI_TARGET="PJSIP/anna")
    session.reset()


def rejects(session: Session) -> None:
    session.answer(__CTI_CALL_ID=CALL_ID, CTI_TARGET="busy", CTI_ACTION="reject")


def waits(seconds: int, **more: str) -> Script:
    """Keeps the caller in a line for so long, and sends who comes back to the fallback."""

    def script(session: Session) -> None:
        session.set("__CTI_CALL_ID", CALL_ID)
        if session.asked["attempt"] == "1":
            session.answer(CTI_TARGET="default", CTI_TIMEOUT=str(seconds), **more, CTI_ACTION="wait")
        else:
            session.answer(CTI_TARGET="old-context,s,1", CTI_ACTION="fallback")

    return script


def promises(session: Session) -> None:
    session.answer(__CTI_CALL_ID=CALL_ID, CTI_TARGET="beep", CTI_ACTION="announce")


def says_nothing(session: Session) -> None:
    session.until_the_end()


def says_nothing_once(session: Session) -> None:
    if session.asked["attempt"] == "1":
        says_nothing(session)
    else:
        waits(1)(session)


@frozen
class Scene:
    """A call, what the server does, and after how many seconds its caller leaves unanswered."""

    server: Script
    patience: float | None = None


SCENES: Mapping[str, Scene] = {
    "494066969101": Scene(dial("PJSIP/anna")),
    "494066969102": Scene(dial("PJSIP/ben", 1)),
    "494066969103": Scene(dial("PJSIP/ben"), patience=0.5),
    "494066969104": Scene(dial("PJSIP/cora")),
    "494066969105": Scene(dies_in_the_middle),
    "494066969106": Scene(dial("PJSIP/anna&PJSIP/ben")),
    "494066969107": Scene(dial("PJSIP/nobody")),
    "494066969108": Scene(rejects),
    "494066969109": Scene(says_nothing),
    "494066969110": Scene(says_nothing, patience=0.5),
    "494066969111": Scene(waits(1, CTI_ANSWER="1")),
    "494066969112": Scene(waits(1)),
    "494066969113": Scene(waits(1, CTI_ANSWER="1", CTI_KEY="1")),
    "494066969114": Scene(waits(20), patience=0.5),
    "494066969115": Scene(promises),
}
REFUSED = "494066969199"
#: Where the dialplan has answered before anybody talks.
ANSWERED_BEFORE = frozenset(f"4940669691{n}" for n in (11, 13, 15, 21, 22))
#: Whose callers are sent for, while they wait and while they are asked about.
SENT_FOR = {
    "494066969121": waits(20, CTI_ANSWER="1"),
    "494066969122": waits(20, CTI_ANSWER="1", CTI_KEY="1"),
    "494066969123": says_nothing_once,
}


@define
class Manager:
    """A manager's connection that writes down all that comes, in blocks of headers."""

    port: int
    secret: str
    blocks: list[list[tuple[str, str]]] = field(factory=list)
    _socket: socket.socket = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._socket = socket.create_connection((LOOPBACK, self.port))
        threading.Thread(target=self._read, daemon=True).start()
        challenge = self.ask("Challenge", AuthType="MD5")["Challenge"]
        key = hashlib.md5((challenge + self.secret).encode(), usedforsecurity=False).hexdigest()
        self.ask("Login", Username="cti", AuthType="MD5", Key=key)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def send(self, action: str, **fields: str) -> str:
        id = f"{action}-{len(self.blocks)}"
        lines = [
            f"Action: {action}",
            f"ActionID: {id}",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        return id

    def ask(self, action: str, **fields: str) -> dict[str, str]:
        """The answer itself."""
        id = self.send(action, **fields)
        return dict(eventually(lambda: [b for b in self.blocks if ("ActionID", id) in b], what=action)[0])

    def listed(self, action: str, **fields: str) -> list[list[tuple[str, str]]]:
        """The answer, the entries and the end of a list."""
        id = self.send(action, **fields)

        def whole() -> list[list[tuple[str, str]]]:
            blocks = [block for block in self.blocks if ("ActionID", id) in block]
            return blocks if blocks and ("EventList", "Complete") in blocks[-1] else []

        return eventually(whole, what=action)

    def events(self) -> list[list[tuple[str, str]]]:
        """What nobody asked for."""
        return [b for b in self.blocks if b[0][0] == "Event" and "ActionID" not in dict(b)]

    def _read(self) -> None:
        with suppress(OSError), self._socket.makefile("rb") as lines:
            lines.readline()
            block: list[tuple[str, str]] = []
            for raw in lines:
                line = raw.decode().rstrip("\r\n")
                if line:
                    name, _, value = line.partition(":")
                    block.append((name, value.strip()))
                elif block:
                    self.blocks.append(block)
                    block = []


@define
class Stage:
    """One of both Asterisks: how a call is placed there and waited for, and its ports."""

    agi_port: int
    ami_port: int
    secret: str
    place: Callable[[str, float | None], Any]
    wait: Callable[[Any], None]


@contextmanager
def a_real_one(directory: Path) -> Iterator[Stage]:
    agents = [AnAgent(name, behaviour=behaviour) for name, behaviour in PHONES.items()]
    with Company(directory, agents) as company:

        def place(did: str, patience: float | None) -> Any:
            if patience is None:
                # Callers hang up so long after they were answered, whoever that did.
                talk_ms = 3000 if did in ANSWERED_BEFORE else 300
                return company.call(from_number=CALLER, did=did, talk_ms=talk_ms)
            call = company.call(from_number=CALLER, did=did)
            time.sleep(patience)
            call.hang_up()
            return call

        def wait(call: Any) -> None:
            call.wait()
            eventually(lambda: not company.pbx.channels(), 20, what="the end of the call")

        yield Stage(
            company.daemon.agi_port,
            company.pbx.ami_port,
            company.pbx.ami_secret,
            place,
            wait,
        )


@contextmanager
def a_simulated_one(directory: Path) -> Iterator[Stage]:
    ports = PortBlock.claim()
    agi_port, ami_port = ports.take(), ports.take()
    behaviours: dict[str, Callable[[], Behaviour]] = {
        name: lambda behaviour=behaviour: behaviour
        for name, behaviour in PHONES.items()  # type: ignore[misc]
    }
    behaviours["reception"] = lambda: RECEPTION
    asterisk = SimulatedAsterisk(agi_port, ami_port, "a secret", behaviours)
    asterisk.start()
    try:
        yield Stage(
            agi_port,
            ami_port,
            "a secret",
            lambda did, patience: asterisk.call(
                Caller(CALLER, did, talk=0.3, patience=60.0 if patience is None else patience)
            ),
            lambda story: eventually(lambda: story.ended, 20, what="the end of the call"),
        )
        assert asterisk.refused == []
    finally:
        asterisk.stop()
        ports.release()


def played(stage: Stage) -> dict[str, Any]:
    """All scenes on one stage: what was asked, told and left."""
    manager = Manager(stage.ami_port, stage.secret)
    asked, told, refusals = {}, {}, []
    scripts = {did: scene.server for did, scene in SCENES.items()} | SENT_FOR
    with FakeAgi(stage.agi_port, scripts) as server:
        for did, scene in SCENES.items():
            before = len(manager.events())
            stage.wait(stage.place(did, scene.patience))
            told[did] = _told(_when_quiet(manager)[before:])
            asked[did] = [_brief(question) for question in server.asked if question["did"] == did]
        for did in SENT_FOR:
            before = len(manager.events())
            asked[did], answer = _is_sent_for(stage, manager, server, did)
            told[did] = _told(_when_quiet(manager)[before:])
            refusals.append(answer)
        # A call in progress, as lists show it.
        lists = _lists_of_a_conversation(stage, manager)
        assert server.errors == []
    before = len(manager.events())
    stage.wait(stage.place(REFUSED, None))
    told[REFUSED] = _told(_when_quiet(manager)[before:])
    left = manager.listed("DBGetTree", Family="cti/ended")
    ended = [dict(block) for block in left if block[0] == ("Event", "DBGetTreeResponse")]
    sent_for = {"Context": "cti-sent-for", "Exten": "s", "Priority": "1"}
    refusals += [
        manager.ask("DBDel", Family="cti/ended", Key="nothing"),
        manager.ask("Getvar", Channel="PJSIP/gone-00000001", Variable="CALLERID(num-pres)"),
        manager.ask("Redirect", Channel="1700000000.1", **sent_for),
    ]
    manager.close()
    return {
        "asked": asked,
        "told": told,
        "lists": lists,
        "left": sorted(_masked(record["Val"]) for record in ended),
        "refusals": [(answer["Response"], answer["Message"]) for answer in refusals],
    }


def _is_sent_for(
    stage: Stage, manager: Manager, server: FakeAgi, did: str
) -> tuple[list[dict[str, str]], dict[str, str]]:
    """A call that is redirected once it waits: what is asked about it, and what Asterisk answers to that."""
    before = len(manager.events())
    call = stage.place(did, None)
    questions = eventually(lambda: [each for each in server.asked if each["did"] == did], what="the question")
    if SENT_FOR[did] is not says_nothing_once:
        eventually(
            lambda: any(
                ("Event", "Newstate") in event and ("Context", "cti-action") in event
                for event in manager.events()[before:]
            ),
            what="the music",
        )
        time.sleep(0.3)
    channel = questions[0]["linkedid"]
    answer = manager.ask("Redirect", Channel=channel, Context="cti-sent-for", Exten="s", Priority="1")
    stage.wait(call)
    return [_brief(each) for each in server.asked if each["did"] == did], answer


def _lists_of_a_conversation(stage: Stage, manager: Manager) -> dict[str, Any]:
    before = len(manager.events())
    call = stage.place("494066969101", None)
    eventually(
        lambda: len([b for b in manager.events()[before:] if b[0][1] == "BridgeEnter"]) == 2, what="talking"
    )
    lists = {
        name: [_masked_block(block) for block in manager.listed(name)]
        for name in ("CoreShowChannels", "BridgeList", "DeviceStateList")
    }
    stage.wait(call)
    _when_quiet(manager)
    return {name: sorted(blocks) for name, blocks in lists.items()}


def _when_quiet(manager: Manager) -> list[list[tuple[str, str]]]:
    """All events, once none has come for a while: a thread of Asterisk's writes them."""
    count = -1
    while len(manager.events()) != count:
        count = len(manager.events())
        time.sleep(0.3)
    return manager.events()


#: Who says it first is a matter of Asterisk's threads.
_VARY = {"Timestamp", "BridgeTechnology", "Duration", "ListItems", "ApplicationData", "Message", "TechCause"}


def _told(events: list[list[tuple[str, str]]]) -> dict[str, Any]:
    """Each channel's events in order; those of other threads, such as a device's, apart."""
    streams: dict[str, list[Any]] = {}
    for event in events:
        headers = dict(event)
        name = headers["Event"]
        who = headers.get("DestChannel") or headers.get("Channel") or headers.get("Device") or "bridge"
        stream = who.rpartition("-")[0] or who
        ringing = name == "Newstate" and headers["ChannelStateDesc"] == "Ringing"
        if ringing or name in ("DialState", "DeviceStateChange", "HangupRequest"):
            stream = f"{stream} {name}"
        # Whether the phone's Ringing has been heard already differs, too, and how far a channel's end was.
        varies = name in ("DialBegin", "DialState", "HangupRequest")
        masked = _masked_block([pair for pair in event if not varies or "State" not in pair[0]])
        told = streams.setdefault(stream, [])
        # Music for who may press a key puts a device on hold, which its own thread sees or does not.
        if "State: ONHOLD" not in masked and (name != "DeviceStateChange" or told[-1:] != [masked]):
            told.append(masked)
    return streams


def _masked_block(block: list[tuple[str, str]]) -> str:
    return "\n".join(f"{name}: {_masked(value)}" for name, value in block if name not in _VARY)


def _masked(text: str) -> str:
    """Without what differs from call to call."""
    text = re.sub(r"\d{10}\.\d+", "UNIQUEID", text)
    text = re.sub(r"-[0-9a-f]{8}\b(?!-)", "-NUMBER", text)
    text = re.sub(r"(started|ended|talked)=\d+", r"\1=SECONDS", text)
    if not text.startswith("v=1"):
        text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", text)
    return re.sub(r"-\d+$", "-ID", text)


def _brief(question: dict[str, str]) -> dict[str, str]:
    return {name: _masked(value) for name, value in question.items()}


def test_a_simulated_asterisk_asks_tells_and_leaves_what_a_real_one_does(tmp_path: Path) -> None:
    with a_real_one(tmp_path / "real") as stage:
        real = played(stage)
    with a_simulated_one(tmp_path) as stage:
        simulated = played(stage)
    for part in ("asked", "refusals", "left", "lists"):
        assert simulated[part] == real[part], part
    for did, streams in real["told"].items():
        assert simulated["told"][did] == streams, did
