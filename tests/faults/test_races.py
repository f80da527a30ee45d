"""An agent becomes free, the step of who waits is over, they press the key, or hang up: all at the same moment.

On a simulated Asterisk, which makes the moments meet: as it is told to redirect a call that waits, something else
befalls it, and it does as it is told up to 20 ms later. `tests/asterisk/test_waiting.py` has 100 calls on a real one.
"""

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.company import DIALLED
from lab.daemon import Daemon
from lab.laboratory import eventually
from lab.ports import LOOPBACK, PortBlock
from lab.scenarios import Answers
from tests.faults.simulated import Caller, Meanwhile, SimulatedAsterisk, Story
from tests.faults.test_cut_points import all_calls_of

RACES = 1_000
#: Who calls or waits at a time; agents for them, who talk for a sixth of a second.
CALLERS, AGENTS = 30, 6
SECRET = "a secret"
#: Steps of a second, so that a call that waits asks once a second.
LINE = {
    "name": "line",
    "wait": [{"for": 1, "dial": {"group": "sales"}} for _ in range(20)],
    "callback_key": {"key": "1", "sounds": "we-call-you"},
}


def settings(http_port: int, agi_port: int, ami_port: int) -> dict[str, Any]:
    ami = {"ami": f"{LOOPBACK}:{ami_port}", "username": "cti", "secret": {"env": "AMI_SECRET"}}
    return {
        "region": "DE",
        "store": {"sqlite": "cti.db"},
        "fastagi": {"listen": f"{LOOPBACK}:{agi_port}"},
        "http": {"listen": f"{LOOPBACK}:{http_port}", "requests_per_minute": 1_000_000},
        "asterisks": {"main": ami},
        "agents": {
            f"agent{n}": {"phones": [f"PJSIP/agent{n}"], "groups": ["sales"], "state": "ready"}
            for n in range(AGENTS)
        },
        "services": {
            "sales": {"numbers": [DIALLED], "mode": "route", "fallback": "old-context,s,1", "rules": [LINE]}
        },
    }


@contextmanager
def a_house(directory: Path, dice: random.Random) -> Iterator[tuple[SimulatedAsterisk, Daemon]]:
    ports = PortBlock.claim()
    http_port, agi_port, ami_port = (ports.take() for _ in range(3))
    phones = {f"agent{n}": lambda: Answers(after_ms=dice.randrange(5, 40)) for n in range(AGENTS)}
    phones["reception"] = lambda: Answers(after_ms=20)
    asterisk = SimulatedAsterisk(agi_port, ami_port, SECRET, phones, chance=dice, races=True)
    asterisk.start()
    daemon = Daemon(
        directory / "daemon",
        settings(http_port, agi_port, ami_port),
        http_port,
        agi_port,
        environment={"AMI_SECRET": SECRET},
    )
    daemon.write_configuration()
    try:
        daemon.start()
        yield asterisk, daemon
    finally:
        daemon.stop()
        asterisk.stop()
        ports.release()


def callers(dice: random.Random) -> Iterator[Caller]:
    """Each with a number of their own; some leave, some press the key by which they are called back."""
    numbers = [f"+49{area}{n:03d}" for area in ("3023125", "4066969") for n in range(1000)]
    for number in numbers:
        yield Caller(
            number,
            talk=dice.uniform(0.1, 0.25),
            patience=60.0 if dice.random() < 0.9 else dice.uniform(0.01, 3.0),
            presses=None if dice.random() < 0.9 else dice.uniform(0.3, 3.0),
        )


def outcomes_of(story: Story) -> set[str]:
    if story.talked is not None:
        return {"answered"}
    if story.rang:
        return {"missed"}
    # Who hangs up in the promise may have heard it.
    return {"self_service"} if story.promised else {"abandoned", "self_service"}


@pytest.mark.timeout(600)
def test_in_1000_races_each_assignment_is_collected_once_and_nobody_is_rung_for_two(tmp_path: Path) -> None:
    dice = random.Random(7)
    with a_house(tmp_path, dice) as (asterisk, daemon):
        people = callers(dice)
        while sum(asterisk.races.values()) - asterisk.races[Meanwhile.NOTHING] < RACES:
            if asterisk.living < CALLERS:
                asterisk.call(next(people))
            else:
                time.sleep(0.005)
        eventually(lambda: not asterisk.living, 60, what="the end of all calls", pause=0.1)
        eventually(lambda: not asterisk.left_in_astdb(), 60, what="an empty AstDB", pause=0.1)
        eventually(
            lambda: all(one["state"] == "ready" for one in daemon.agents().values()), 30, what="all are free"
        )
        print(f"{len(asterisk.stories)} calls, races: {dict(asterisk.races)}, cut off: {asterisk.cut_off}")
        assert (asterisk.refused, asterisk.rung_twice) == ([], [])
        assert min(asterisk.races[each] for each in Meanwhile) > RACES / 50

        records = {call["uniqueid"]: call for call in all_calls_of(daemon) if call["direction"] == "inbound"}
        assert len(records) == len(asterisk.stories)
        for story in asterisk.stories:
            record = records[story.uniqueid]
            assert record["outcome"] in outcomes_of(story), (story, record)
            assert record["agent"] == (story.talked and story.talked.partition("/")[2]), (story, record)
            segments = daemon.call(record["id"])["segments"] if story.rang else []
            assert sum(each["ringing"] is not None for each in segments) == len(story.rang), (story, segments)
        said = Counter(line["event"] for line in daemon.log())
        assert said["an agent whom routing took for free is not"] == 0
        assert said["a waiting call did not come for its agent"] == 0
        with closing(sqlite3.connect(tmp_path / "daemon" / "cti.db")) as store:
            assert store.execute("SELECT * FROM reservations").fetchall() == []
            entries = Counter(number for (number,) in store.execute("SELECT number FROM callbacks"))
        promised = [story.caller.number for story in asterisk.stories if story.promised]
        assert promised
        assert [entries[number] for number in promised] == [1] * len(promised)
        assert not any(entries[story.caller.number] for story in asterisk.stories if story.talked)
