"""Readers of the event stream who are many, slow, restless or no longer allowed: each has each number once."""

import contextlib
import random
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import define

from cti.store.records import TokenRecord
from cti.store.sqlite import open_store_for_command
from cti.store.threaded import CommandStore
from cti.web.tokens import ADMIN, AGENT, mint_token
from lab.company import AnAgent, Company
from lab.daemon import Daemon, EventStream
from lab.laboratory import RingsForever, eventually
from lab.ports import LOOPBACK, PortBlock
from tests.bench.inbound import settings_of
from tests.bench.processes import Loader, cores

DESKTOPS = 2000
#: So that a pause is noticed soon: what lies in the sockets' buffers is sent as far as the server can tell.
SMALL_BUFFER = 4096


@define
class Office:
    """The daemon with many agents and no Asterisk, and a process that is their desktops."""

    daemon: Daemon
    agents: Sequence[str]
    desks: Loader

    @property
    def log(self) -> CommandStore:
        return open_store_for_command(self.daemon.directory / "cti.db", destinations={}, clock=time.time)

    def tokens(self, role: str = AGENT) -> list[str]:
        """A new token for each agent, as `cti token add` makes them, but all at once."""
        minted = [mint_token() for _ in self.agents]
        with self.log as log:
            unit = log.unit()
            for agent, (_, digest) in zip(self.agents, minted, strict=True):
                whose = agent if role == AGENT else None
                unit.put_token(TokenRecord(secrets.token_hex(4), agent, role, digest, time.time(), whose))
            log.commit_now(unit)
        return [token for token, _ in minted]

    def happens(self, agents: Sequence[str], size: int = 0) -> None:
        """An event for each of these agents, as a command beside the daemon would write it."""
        with self.log as log:
            unit = log.unit()
            for agent in agents:
                unit.emit("agent.state", time.time(), {"agent": agent, "more": "x" * size}, agents=[agent])
            log.commit_now(unit)

    def newest(self) -> int:
        with self.log as log:
            return log.read.event_range()[1]

    def numbers(self, agent: str | None, after: int) -> list[int]:
        """What a reader has to have had since event number `after`."""
        with self.log as log:
            return [event.seq for event in log.read.events_after(after, 1_000_000, agent)]

    def seen(self) -> list[list[int]]:
        """The numbers that each desktop has had."""
        seen: list[list[int]] = self.desks.order("seen")["seen"]
        return seen

    def back(self, since: float, events: int) -> dict[str, Any]:
        """Wait until all desktops are open, and have had so many events in all since the mark."""
        return self.desks.order("await", since=since, events=events)


@contextlib.contextmanager
def an_office(directory: Path, agents: int, *, command: Sequence[str] = ()) -> Iterator[Office]:
    """Started; `command` goes before the daemon's own."""
    ports = PortBlock.claim()
    http_port, agi_port, nobody = (ports.take() for _ in range(3))
    settings = settings_of(directory / "people.db", http_port, agi_port, nobody, agents=agents)
    daemon = Daemon(
        directory / "daemon", settings, http_port, agi_port, environment={"AMI_SECRET": "not looked at"}
    )
    daemon.command = (*command, *daemon.command)
    desks = Loader(cores()[1], "tests.bench.desktop.desks")
    try:
        daemon.start(60, with_ami=False)
        yield Office(daemon, list(settings["agents"]), desks)
    finally:
        desks.stop()
        daemon.stop()
        ports.release()


def test_two_thousand_desktops_at_one_moment_have_their_stream_and_each_number_once(tmp_path: Path) -> None:
    # As many files as a service of systemd has, before it asks for more.
    with an_office(tmp_path, DESKTOPS, command=("prlimit", "--nofile=1024:20000")) as office:
        begin = office.newest()
        office.desks.order("open", port=office.daemon.http_port, tokens=office.tokens())

        # All gone, and back in the same moment; what happened meanwhile is there, too.
        office.desks.order("mark")
        office.daemon.kill()
        office.happens(office.agents)
        office.daemon.start(60, with_ami=False)
        office.back(time.perf_counter(), len(office.agents))

        # Twisted's own queue of 50 would have them wait for two minutes.
        assert office.desks.order("cut", desks=DESKTOPS, retry=0.0, events=0)["seconds"] < 90
        office.desks.order("mark")
        office.happens(office.agents)
        office.back(time.perf_counter(), len(office.agents))
        with office.log as log:
            due = {
                agent: [event.seq for event in log.read.events_after(begin, 100, agent)]
                for agent in office.agents
            }
        assert all(len(numbers) == 2 for numbers in due.values())
        assert office.seen() == list(due.values())
        assert office.daemon.metric("cti_event_streams") == DESKTOPS


def test_readers_that_leave_at_random_under_a_daemon_that_dies_have_each_number_once(tmp_path: Path) -> None:
    chance = random.Random(4)
    with an_office(tmp_path, 40) as office:
        begin = office.newest()
        wide = office.tokens(ADMIN)[:5]
        office.desks.order("open", port=office.daemon.http_port, tokens=[*office.tokens(), *wide])
        office.desks.order("mark")
        due = 0
        for turn in range(12):
            lucky = chance.choices(office.agents, k=chance.randrange(1, 300))
            if turn in (4, 9):
                office.daemon.kill()
            office.happens(lucky)
            if turn in (4, 9):
                office.daemon.start(60, with_ami=False)
            due += len(lucky) * (1 + len(wide))
            office.desks.order("cut", desks=chance.randrange(45), retry=chance.choice([0.0, 0.3]), events=0)
        office.back(time.perf_counter(), due)
        whose = [*office.agents, *[None] * len(wide)]
        assert office.seen() == [office.numbers(agent, begin) for agent in whose]


def test_a_reader_that_stops_reading_holds_up_nobody_and_then_has_each_number_once(tmp_path: Path) -> None:
    with an_office(tmp_path, 2) as office:
        (token, other) = office.tokens()
        begin = office.newest()
        quick = EventStream(office.daemon.http_port, other)
        slow = a_reader(office.daemon.http_port, token, begin)
        for _ in range(8):
            # 8 MB for each of them: more than lies in any buffer between.
            office.happens([*office.agents] * 20, size=50_000)
        eventually(lambda: len(quick.events) == 160, 60, what="everything at the other reader")

        numbers: list[int] = []
        deadline = time.monotonic() + 60
        data = b""
        while len(numbers) < 160 and time.monotonic() < deadline:
            data += slow.recv(1 << 20)
            *blocks, data = data.split(b"\n\n")
            numbers += [int(b.split(b"id: ")[1].split(b"\n")[0]) for b in blocks if b"id: " in b]
        assert numbers == office.numbers(office.agents[0], begin)
        slow.close()
        quick.close()


def a_reader(port: int, token: str, after: int) -> socket.socket:
    """One that has asked for its stream and then reads nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    connection.settimeout(30)
    connection.connect((LOOPBACK, port))
    connection.sendall(
        f"GET /api/v1/events HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {token}\r\n"
        f"Last-Event-ID: {after}\r\n\r\n".encode()
    )
    return connection


def test_a_daemon_killed_while_a_call_rings_tells_its_desktop_each_number_once(tmp_path: Path) -> None:
    anna = AnAgent("anna", behaviour=RingsForever())
    service = {"rules": [{"name": "rest", "dial": {"group": "sales"}, "timeout": 30}]}
    with Company(tmp_path, [anna], service=service) as company:
        company.start()
        before = company.daemon.events("agent", "anna")
        call = company.call(from_number="+491713920001")
        before.wait_for("card.offered")
        before.wait_for("call.ringing")

        company.daemon.kill()
        eventually(lambda: before.ended, what="the end of the stream")
        company.start()
        after = company.daemon.events("agent", "anna", last_id=before.events[-1].id)
        call.hang_up()
        after.wait_for("call.missed")
        after.wait_for("card.withdrawn")
        after.wait_for("agent.state", lambda event: event.data["state"] == "ready")

        numbers = [event.id for event in (*before.events, *after.events)]
        log = open_store_for_command(company.daemon.directory / "cti.db", destinations={}, clock=time.time)
        with log:
            due = [event.seq for event in log.read.events_after(int(numbers[0] or 0) - 1, 10_000, "anna")]
        assert numbers == due[: len(numbers)]
        assert len(before.of("card.offered")) == 1
        assert after.of("card.offered", "reset") == []
        before.close()
        after.close()


def test_a_revoked_token_ends_its_streams_and_no_others(tmp_path: Path) -> None:
    with an_office(tmp_path, 3) as office:
        anna, ben = office.agents[:2]
        theirs = [office.daemon.events("agent", anna) for _ in range(3)]
        others = office.daemon.events("agent", ben)
        office.daemon.run("token", "revoke", f"lab-agent-{anna}")
        eventually(lambda: all(stream.ended for stream in theirs), 10, what="the end of the streams")
        office.happens([anna, ben])
        others.wait_for("agent.state")
        assert [stream.events for stream in theirs] == [[], [], []]
        for stream in (*theirs, others):
            stream.close()
