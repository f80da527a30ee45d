"""Agents' time over a `kill -9` of the real server: what was open ends when it was last seen."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from cti.store.records import AgentRecord
from cti.store.sqlite import open_store_for_command
from lab.daemon import Daemon
from lab.ports import LOOPBACK, PortBlock
from lab.processes import eventually


def test_a_killed_server_leaves_no_time_that_nobody_saw(tmp_path: Path) -> None:
    ports = PortBlock.claim()
    web, agi, ami = ports.take(), ports.take(), ports.take()
    settings = {
        "region": "DE",
        "store": {"sqlite": "cti.db"},
        "http": {"listen": f"{LOOPBACK}:{web}"},
        "fastagi": {"listen": f"{LOOPBACK}:{agi}"},
        "asterisks": {"main": {"ami": f"{LOOPBACK}:{ami}", "username": "cti", "secret": "not used"}},
        "services": {
            "sales": {"numbers": ["+494066969100"], "mode": "observe", "fallback": "old-context,s,1"}
        },
    }
    daemon = Daemon(tmp_path, settings, 0, 0)
    daemon.http_port = web
    daemon.write_configuration()
    with open_store_for_command(tmp_path / "cti.db", destinations={}, clock=time.time) as store:
        unit = store.unit()
        unit.put_agent(AgentRecord("anna", "Anna", ["PJSIP/anna"], wish="ready"))
        store.commit_now(unit)
    daemon.start(with_ami=False)
    eventually(lambda: periods(tmp_path), what="a period of anna")
    daemon.request("PATCH", "/api/v1/agents/anna", {"state": "paused", "reason": "lunch"})
    eventually(lambda: len(periods(tmp_path)) == 2, what="the pause as a period")
    time.sleep(1.0)
    killed = time.time()
    daemon.kill()
    time.sleep(1.0)
    daemon.start(with_ami=False)
    eventually(lambda: len(periods(tmp_path)) == 3, what="a period after the crash")
    (ready, paused, again) = periods(tmp_path)
    assert (ready[0], paused[0], again[0]) == ("ready", "paused", "paused")
    assert ready[2] == paused[1]
    assert paused[2] is not None
    assert paused[1] <= paused[2] <= killed
    assert again[1] >= killed + 1.0
    assert again[2] is None
    daemon.stop()
    assert periods(tmp_path)[-1][2] is not None


def periods(directory: Path) -> list[tuple[str, float, float | None]]:
    """State, and from when to when."""
    with closing(sqlite3.connect(directory / "cti.db")) as connection:
        return connection.execute("SELECT state, began, ended FROM periods ORDER BY began").fetchall()
