"""A daemon without an Asterisk, whose store a test may fill before it starts."""

import time
from pathlib import Path

from cti.store.records import AgentRecord
from cti.store.sqlite import open_store_for_command
from lab.daemon import Daemon
from lab.ports import LOOPBACK, PortBlock


def a_daemon_alone(directory: Path, wish: str) -> Daemon:
    """Not started yet. Its one agent is Anna, who wishes for this state; its store is `cti.db`."""
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
    daemon = Daemon(directory, settings, 0, 0)
    daemon.http_port = web
    daemon.write_configuration()
    with open_store_for_command(directory / "cti.db", destinations={}, clock=time.time) as store:
        unit = store.unit()
        unit.put_agent(AgentRecord("anna", "Anna", ["PJSIP/anna"], wish=wish))
        store.commit_now(unit)
    return daemon
