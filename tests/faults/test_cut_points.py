"""The AGI connection cut after each byte of a session: the caller ends at an agent or the fallback, once, and all is
let go of afterwards.

`CUT_POINTS=all` makes every cut in both ways; without it, each byte of our answer in both ways, and every fourth of
what Asterisk says.
"""

import os
import re
from collections import Counter
from typing import Any

import pytest

from lab.company import AnAgent, Company
from lab.daemon import Daemon
from lab.laboratory import eventually
from tests.faults.evidence import left_in_astdb, rung
from tests.faults.knife import Cut, Knife

#: More than a session has, of each side; cuts beyond its end are never made.
ANSWER, QUESTION = 380, 1_300
STEP = 1 if os.environ.get("CUT_POINTS") == "all" else 4
#: So many callers at a time that agents are free for them, however slow the machine is.
WAVE = 25


def cuts() -> list[Cut]:
    answer = [Cut("us", after, how) for after in range(ANSWER) for how in ("fin", "rst")]
    if STEP == 1:
        question = [Cut("asterisk", after, how) for after in range(1, QUESTION) for how in ("fin", "rst")]
    else:
        question = [
            Cut("asterisk", after, "rst" if (after // STEP) % 2 else "fin")
            for after in range(1, QUESTION, STEP)
        ]
    return [*answer, *question]


def all_calls_of(daemon: Daemon) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    page: dict[str, Any] = {"next": ""}
    while (following := page.get("next")) is not None:
        page = daemon.get("/api/v1/calls", limit="500", **({"cursor": following} if following else {}))
        calls += page["calls"]
    return calls


# Every cut in both ways takes two minutes on an idle machine.
@pytest.mark.timeout(600)
def test_wherever_a_session_is_cut_the_caller_reaches_a_person_and_nothing_stays(tmp_path):
    points = cuts()
    knife = Knife(points)
    globals_ = f"\n[globals]\nCTI_SERVER = 127.0.0.1:{knife.port}\n"
    agents = [AnAgent(name) for name in ("anna", "ben", "cora", "dora", "emil", "fritz", "greta", "hans")]
    with Company(tmp_path, agents, more_extensions=globals_) as company:
        knife.target = company.daemon.agi_port
        company.knows({"id": "17", "type": "contact", "name": "Katrin Öhlmann", "numbers": "+4917139200007"})
        company.start()

        results = []
        for first in range(0, len(points), WAVE):
            count = min(WAVE, len(points) - first)
            calls = company.lab.calls(
                company.pbx,
                "494066969100",
                count=count,
                rate=2 * WAVE,
                from_number="+4917139200007",
                talk_ms=50,
            )
            results += calls.wait(60)

        made = [entry.cut for entry in knife.done if entry.made]
        at = rung(company)
        print(f"{len(made)} cuts made: {dict(Counter((cut.of, cut.how) for cut in made))}; rung: {at}")
        assert len(set(made)) >= 500
        assert {cut.of for cut in made} == {"us", "asterisk"}
        assert Counter(result.final for result in results) == {200: len(points)}
        assert {result.ended_by for result in results} == {"caller"}
        # One phone a caller, but for agents who were rung while the reception was asked already.
        assert sum(at.values()) >= len(points)
        assert at["reception"] >= len(made) - 20

        daemon = company.daemon
        eventually(
            lambda: (
                len(left := all_calls_of(daemon)) >= len(points)
                and all(call["ended"] for call in left)
                and all(not one["call"] and one["state"] == "ready" for one in daemon.agents().values())
                and not left_in_astdb(company.pbx)
            ),
            40,
            pause=0.5,
            what="the end of everything",
        )
        records = all_calls_of(daemon)
        assert len(records) == len(points)
        assert Counter(record["outcome"] for record in records) == {"answered": len(points)}
        by_agents = sum(record["agent"] is not None for record in records)
        assert by_agents == len(points) - at["reception"]
        assert re.search(r"^0 active channels", company.pbx.cli("core show channels"), re.MULTILINE)
        assert daemon.metric("cti_agents", state="ready") == len(agents)
    knife.close()
