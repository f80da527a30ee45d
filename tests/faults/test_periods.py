"""Agents' time over a `kill -9` of the real server: what was open ends when it was last seen."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from lab.processes import eventually
from tests.faults.alone import a_daemon_alone


def test_a_killed_server_leaves_no_time_that_nobody_saw(tmp_path: Path) -> None:
    daemon = a_daemon_alone(tmp_path, "ready")
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
