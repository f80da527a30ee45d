"""Two servers on one PostgreSQL, each with an Asterisk of its own, and agents whom both may ring: one of them does.

The Asterisks are simulated, so that both servers want the same agent at the same moment all the time.
"""

import random
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from cti.store.claims import SECONDS, Claims
from lab.crm.postgresql import Postgres
from lab.daemon import Daemon
from lab.laboratory import eventually
from lab.ports import PortBlock, a_port
from lab.scenarios import Answers
from tests.faults.simulated import Caller, SimulatedAsterisk
from tests.faults.test_races import AGENTS, SECRET, settings

CALLS = 150


class Reactor(Clock):  # type: ignore[misc]
    """Threads call at once; time stands still until a test moves it."""

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        call(*arguments)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Postgres]:
    with a_port() as port, Postgres(tmp_path / "postgresql", port=port) as running:
        yield running


@contextmanager
def a_server(url: str) -> Iterator[Claims]:
    claims = Claims(url, Reactor())
    claims.start()
    try:
        yield claims
    finally:
        claims.stop()


def said(deferred: "Deferred[frozenset[str]]") -> Collection[str]:
    """What comes of it, in time."""
    found: list[frozenset[str]] = []
    deferred.addCallback(found.append)
    return eventually(lambda: [sorted(each) for each in found], what="an answer")[0]


def test_an_agent_is_held_by_one_server_and_of_several_agents_all_are_or_none(cluster: Postgres) -> None:
    url = cluster.database("cti")
    with a_server(url) as one, a_server(url) as other:
        assert said(one.take(["anna", "ben"])) == []
        assert said(one.take(["anna"])) == [], "it has her already"
        assert said(other.take(["cora", "ben", "dora"])) == ["ben"]
        assert said(one.take(["cora", "dora"])) == [], "the other one has kept neither"
        one.mirror("ben", False)
        assert said(one.take([])) == []
        assert said(other.take(["ben"])) == []
        with a_server(url) as third:
            third.mirror("emil", True)
            assert said(third.take([])) == []
            assert said(other.take(["emil"])) == ["emil"]
        # Whoever is gone has left nothing behind.
        eventually(lambda: said(other.take(["emil"])) == [], what="the end of the connection")


def test_while_the_database_is_away_nobody_waits_and_afterwards_the_agents_are_held_again(
    cluster: Postgres,
) -> None:
    url = cluster.database("cti")
    with a_server(url) as one, a_server(url) as other:
        assert said(one.take(["anna"])) == []
        cluster.stop()
        assert said(one.take(["ben"])) == []
        cluster.start()

        def known_again() -> bool:
            other.mirror("anna", False)
            one.mirror("cora", True)
            assert said(one.take([])) == []
            return said(other.take(["anna"])) == ["anna"]

        eventually(known_again, 20, what="the locks after the outage", pause=0.3)
        one.mirror("anna", False)
        assert said(one.take([])) == []
        eventually(lambda: said(other.take(["anna"])) == [], what="anna, given back")


def test_an_answer_that_comes_late_keeps_nobody_waiting() -> None:
    reactor = Reactor()
    claims = Claims("postgresql://127.0.0.1:1/nothing", reactor)
    waiting = claims.take(["anna"])
    reactor.advance(SECONDS)
    assert said(waiting) == []


@contextmanager
def two_houses(directory: Path, url: str) -> Iterator[list[tuple[SimulatedAsterisk, Daemon]]]:
    dice = random.Random(11)
    with ExitStack() as stack:
        houses: list[tuple[SimulatedAsterisk, Daemon]] = []
        for name in ("north", "south"):
            ports = PortBlock.claim()
            stack.callback(ports.release)
            http_port, agi_port, ami_port = (ports.take() for _ in range(3))
            phones = {f"agent{n}": lambda: Answers(after_ms=dice.randrange(5, 60)) for n in range(AGENTS)}
            phones["reception"] = lambda: Answers(after_ms=20)
            asterisk = SimulatedAsterisk(agi_port, ami_port, SECRET, phones, pbx=name, chance=dice)
            asterisk.start()
            stack.callback(asterisk.stop)
            configured = settings(http_port, agi_port, ami_port)
            configured["asterisks"] = {name: configured["asterisks"]["main"]}
            configured["store"] = {"postgresql": url}
            daemon = Daemon(
                directory / name, configured, http_port, agi_port, environment={"AMI_SECRET": SECRET}
            )
            daemon.write_configuration()
            daemon.start()
            stack.callback(daemon.stop)
            houses.append((asterisk, daemon))
        houses[0][0].beside, houses[1][0].beside = houses[1][0], houses[0][0]
        yield houses


@pytest.mark.timeout(300)
def test_two_servers_that_want_the_same_agents_never_ring_one_for_two_callers(
    tmp_path: Path, cluster: Postgres
) -> None:
    with two_houses(tmp_path, cluster.database("cti")) as houses:

        def call(asterisk: SimulatedAsterisk, area: str) -> None:
            for number in range(CALLS):
                while asterisk.living >= AGENTS:
                    time.sleep(0.005)
                asterisk.call(Caller(f"+49{area}{number:03d}", talk=0.1))

        calling = [
            threading.Thread(target=call, args=(asterisk, area))
            for (asterisk, _), area in zip(houses, ("3023125", "4066969"), strict=True)
        ]
        for each in calling:
            each.start()
        for each in calling:
            each.join()
        for asterisk, _ in houses:
            eventually(lambda asterisk=asterisk: not asterisk.living, 60, what="the end of all calls")
        lines = [line for _, daemon in houses for line in daemon.log()]
        refused = sum(line["event"] == "an agent is held by another server" for line in lines)
        rings = [len(story.rang) for asterisk, _ in houses for story in asterisk.stories]
        print(f"{len(rings)} calls, {sum(rings)} rings, {refused} times the other server had the agent")
        for asterisk, _ in houses:
            assert (asterisk.refused, asterisk.rung_twice) == ([], [])
            assert all(story.talked for story in asterisk.stories)
        # How often depends on the machine, as each leaves whom the other has alone for a while.
        assert refused > 0, "they did want the same agents"
