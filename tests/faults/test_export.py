"""The whole call log, exported: in constant memory, beside calls, and no longer than somebody reads it."""

import http.client
import os
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cti.web.export import MOST_AT_ONCE
from lab.daemon import Daemon
from lab.ports import LOOPBACK
from lab.processes import eventually
from tests.faults.alone import a_daemon_alone

#: As objects at once they would be some 150 MB. (A million: `docs/decisions.md`.)
CALLS = 60_000
#: Kilobytes that a process may grow by meanwhile; a page of calls has a few hundred.
GROWTH = 16_000

FILL = """
INSERT INTO calls (id, pbx, started, direction, state, from_number, from_raw, from_kind, to_raw, service, party,
  agent, outcome, answered, ended, attempt)
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1)
SELECT printf('c%09d', i), 'main', 1772362800.0 + i, 'inbound', 'ended', '+4915228817386', '+4915228817386', 'e164',
  '494066969100', 'sales', '{"adapter":"directory","type":"contact","id":"17","name":"Käthe Ørsted"}', 'anna',
  'answered', 1772362805.0 + i, 1772362900.0 + i, 1 FROM n
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("export")
    daemon = a_daemon_alone(directory, "logged_out")
    with closing(sqlite3.connect(directory / "cti.db")) as connection, connection:
        connection.execute(FILL, (CALLS,))
    daemon.start(with_ami=False)
    yield daemon
    daemon.stop()


class Export:
    """An export on its way."""

    def __init__(self, daemon: Daemon, token: str, path: str = "/api/v1/calls.csv") -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, daemon.http_port, timeout=60)
        self._connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        self.response = self._connection.getresponse()

    @property
    def status(self) -> int:
        return self.response.status

    def lines(self) -> int:
        """All of it, counted."""
        found = 0
        while piece := self.response.read(1 << 16):
            found += piece.count(b"\n")
        return found

    def leave(self) -> None:
        self._connection.close()
        self.response.close()


def most_memory(daemon: Daemon) -> int:
    """Kilobytes that the process ever had."""
    status = Path(f"/proc/{daemon.pid}/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def test_an_export_takes_no_more_memory_than_a_page_and_keeps_nobody_from_writing(daemon: Daemon) -> None:
    token = daemon.token("supervisor")
    admin = daemon.token("admin")
    # Whatever is loaded for the first one is there then.
    first = Export(daemon, token)
    first.response.read(1 << 16)
    first.leave()
    before = most_memory(daemon)
    written: list[str] = []
    over = threading.Event()

    def write() -> None:
        for count in range(10_000):
            if over.wait(0.05):
                return
            change = {"state": "paused", "reason": f"r{count}"}
            written.append(daemon.request("PATCH", "/api/v1/agents/anna", change, token=admin)["reason"])

    writing = threading.Thread(target=write)
    writing.start()
    try:
        assert Export(daemon, token).lines() == CALLS + 1
    finally:
        over.set()
        writing.join()
    assert most_memory(daemon) - before < GROWTH
    # Each durable before it was answered.
    assert len(written) > 10
    assert written == [f"r{count}" for count in range(len(written))]


def test_an_export_ends_with_its_reader(daemon: Daemon) -> None:
    token = daemon.token("supervisor")
    reading = [Export(daemon, token, "/api/v1/calls.jsonl") for _ in range(MOST_AT_ONCE)]
    assert {each.status for each in reading} == {200}
    refused = Export(daemon, token)
    assert refused.status == 503
    assert b"too-many-exports" in refused.response.read()
    for each in reading:
        each.response.read(1 << 12)
        each.leave()

    def one_more() -> bool:
        export = Export(daemon, token)
        export.leave()
        return export.status == 200

    eventually(one_more, 30.0, what="a place for one more export")
    assert [line for line in daemon.log() if line.get("event") == "a download failed"] == []


def test_the_command_takes_no_more_memory_for_all_calls_than_for_a_few(daemon: Daemon) -> None:
    few, of_few = exported(daemon, "--limit", "1000")
    everything, of_all = exported(daemon, "--all")
    assert (few, everything) == (1001, CALLS + 1)
    assert of_all - of_few < GROWTH


def exported(daemon: Daemon, *words: str) -> tuple[int, int]:
    """Lines that `cti calls` writes, and the kilobytes that it ever had."""
    command = [
        sys.executable,
        "-m",
        "cti",
        "calls",
        *words,
        "--format",
        "csv",
        "-c",
        str(daemon.configuration),
    ]
    found = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        while piece := running.stdout.read(1 << 16):
            found += piece.count(b"\n")
        _, status, used = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    assert running.returncode == 0
    assert isinstance(used, resource.struct_rusage)
    return found, used.ru_maxrss


def test_the_command_ends_when_its_reader_has_seen_enough(daemon: Daemon) -> None:
    command = f"{sys.executable} -m cti calls --all --format jsonl -c {daemon.configuration} | head -n 3"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == ""
