"""The example dialplan and the small sample configuration, as a newcomer would put them together."""

from pathlib import Path
from typing import Any

import yaml

from lab.daemon import ROOT, Daemon
from lab.laboratory import Answers, Lab, eventually

ADDRESS = "CTI_SERVER = 127.0.0.1:4573"


def the_example(agi_port: int) -> str:
    """The example as it stands, but for the port, which is another in each test."""
    text = (ROOT / "dialplan" / "example.conf").read_text(encoding="utf-8")
    assert text.count(ADDRESS) == 1
    return text.replace(ADDRESS, f"CTI_SERVER = 127.0.0.1:{agi_port}")


def the_sample(agi_port: int, http_port: int, ami_port: int) -> dict[str, Any]:
    """The sample configuration, but for ports and the secret, and without the receiver of webhooks."""
    settings: dict[str, Any] = yaml.safe_load((ROOT / "config" / "small.yaml").read_text(encoding="utf-8"))
    settings["fastagi"]["listen"] = f"127.0.0.1:{agi_port}"
    settings["http"]["listen"] = f"127.0.0.1:{http_port}"
    settings["asterisks"]["main"].update(ami=f"127.0.0.1:{ami_port}", secret={"env": "AMI_SECRET"})
    del settings["webhooks"]
    return settings


def test_the_example_dialplan_carries_its_calls_with_the_small_sample_configuration(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        names = ("anna", "boris", "mojca", "reception")
        phones = {name: lab.phone(name, Answers(after_ms=200)) for name in names}
        agi_port, http_port = lab.free_port(), lab.free_port()
        pbx = lab.asterisk(
            extensions=the_example(agi_port),
            manager=(ROOT / "asterisk-conf" / "manager.conf").read_text(encoding="utf-8"),
            phones=list(phones.values()),
            trunk=(trunk := lab.phone("trunk")),
            extra={"cti.conf": (ROOT / "dialplan" / "cti.conf").read_text(encoding="utf-8")},
        )
        daemon = Daemon(
            directory=tmp_path / "daemon",
            settings=the_sample(agi_port, http_port, pbx.ami_port),
            http_port=http_port,
            agi_port=agi_port,
            environment={"AMI_SECRET": pbx.ami_secret},
        )
        daemon.write_configuration()
        contacts = tmp_path / "contacts.csv"
        contacts.write_text("id,name,numbers,owner\n17,Katrin Öhlmann,0152 28817386,u1\n", encoding="utf-8")
        daemon.run("contacts", "import", str(contacts))
        daemon.start()
        try:
            handed_over = lab.call(pbx, "494066969100", from_number="015228817386", talk_ms=200).wait()
            record = daemon.the_call()
            left_alone = lab.call(pbx, "494066969109", from_number="015228817386", talk_ms=200).wait()
            gone_out = [
                lab.dial(phones["anna"], pbx, number, talk_ms=200).wait()
                for number in ("22", "015228817386", "112")
            ]
            eventually(lambda: len(daemon.calls()) == 5, what="all calls in the log")
            told = {call["to"]: call["direction"] for call in daemon.calls(agent="anna")}
        finally:
            daemon.stop()

        assert (handed_over.final, left_alone.final) == (200, 200)
        assert (record["agent"], record["rule"], record["outcome"]) == ("anna", "owner", "answered")
        rung = {name: len(phone.invites) for name, phone in phones.items() if phone.invites}
        assert rung == {"anna": 1, "boris": 1, "reception": 1}
        assert (told["22"], told["+4915228817386"]) == ("internal", "outbound")
        assert [result.final for result in gone_out] == [200] * 3
        assert [invite.to_number for invite in trunk.invites] == ["015228817386", "112"]
        assert phones["anna"].invites[0].from_name == "Katrin Öhlmann"
        assert [line for line in pbx.log() if line.level in ("WARNING", "ERROR")] == []
