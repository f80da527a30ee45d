"""The outbox of a running server, seen from both of its sides: receivers in all their moods, and people who decide.

Events are put into its log as a command beside the server does it; there is no Asterisk.
"""

import base64
import json
import re
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from attrs import define, field
from standardwebhooks import Webhook, WebhookVerificationError

from cti.calls.subscriptions import subscriptions
from cti.commands.configuration import read_settings
from cti.store.records import AgentRecord
from cti.store.sqlite import open_store_for_command
from lab.daemon import Daemon
from lab.laboratory import eventually
from lab.ports import LOOPBACK, PortBlock
from lab.webhooks import Delivery, Receiver

CUSTOMER = "+4915228817386"
COMPANY = "+494066969100"
SECRET = "whsec_" + base64.b64encode(b"a secret of the laboratory's").decode()
NEWER = "whsec_" + base64.b64encode(b"the one that comes after it").decode()


@define
class House:
    """A server with nobody in it, on ports of its own."""

    directory: Path
    ports: PortBlock
    settings: dict[str, Any]
    daemon: Daemon = field(init=False)

    def __attrs_post_init__(self) -> None:
        http, agi, nobody = (self.ports.take() for _ in range(3))
        settings = {
            "region": "DE",
            "store": {"sqlite": "cti.db"},
            "fastagi": {"listen": f"{LOOPBACK}:{agi}"},
            "http": {"listen": f"{LOOPBACK}:{http}"},
            "asterisks": {
                "main": {"ami": f"{LOOPBACK}:{nobody}", "username": "cti", "secret": "not asked for"}
            },
            "services": {"sales": {"numbers": [COMPANY], "mode": "observe", "fallback": "old-context,s,1"}},
            **self.settings,
        }
        self.daemon = Daemon(self.directory, settings, http, agi)

    def start(self) -> None:
        self.daemon.start(with_ami=False)

    def emit(
        self, *calls: str, types: tuple[str, ...] = ("call.offered", "call.ended"), age: float = 0.0
    ) -> None:
        """Events of these calls, each of which has all of them; as if they had come `age` seconds ago."""
        told = subscriptions(read_settings(self.daemon.configuration))
        at = time.time() - age
        with open_store_for_command(self.directory / "cti.db", destinations=told, clock=lambda: at) as store:
            unit = store.unit()
            unit.put_agent(AgentRecord("anna", "Anna", ["PJSIP/201"], [], {}))
            for type in types:
                for call in calls:
                    about = {
                        "id": call,
                        "direction": "inbound",
                        "from": CUSTOMER,
                        "to": COMPANY,
                        "service": "sales",
                    }
                    over = {"outcome": "answered", "agent": "anna"} if type == "call.ended" else {}
                    body = {"call": about | over, "party": None, "agent": "anna", "agents": ["anna"]}
                    unit.emit(type, at, body, call=call)
            store.commit_now(unit)

    def destination(self, name: str) -> Mapping[str, Any]:
        answer = self.daemon.get("/api/v1/outbox/destinations")["destinations"]
        return next(each for each in answer if each["name"] == name)

    def deliveries(self, *words: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(
            self.daemon.run("outbox", "list", "--limit", "1000", "--format", "json", *words)
        )["deliveries"]
        return listed


def a_hook(port: int, **more: Any) -> dict[str, Any]:
    url = f"http://{LOOPBACK}:{port}/hook?token=t0ken"
    return {"url": url, "secret": SECRET, "events": ["call.offered", "call.ended"], **more}


@contextmanager
def a_house(directory: Path, ports: PortBlock, *receivers: Receiver, **settings: Any) -> Iterator[House]:
    house = House(directory, ports, settings)
    try:
        yield house
    finally:
        house.daemon.stop()
        for receiver in receivers:
            receiver.stop()


@pytest.fixture
def ports() -> Iterator[PortBlock]:
    block = PortBlock.claim()
    yield block
    block.release()


def by_call(deliveries: list[Delivery]) -> Mapping[str, list[str]]:
    """The types of what was taken of each call, in the order in which it came, repeats left out by their key."""
    found: dict[str, list[str]] = defaultdict(list)
    for delivery in {each.headers["webhook-id"]: each for each in deliveries}.values():
        event = Webhook(SECRET).verify(delivery.body, dict(delivery.headers))
        found[event["call"]["id"]].append(event["type"])
    return found


def test_a_receiver_that_hangs_delays_no_other_and_has_everything_in_order_after_a_restart(
    tmp_path: Path, ports: PortBlock
) -> None:
    well, hanging = Receiver(ports.take()), Receiver(ports.take(), *[None] * 8)
    hooks = {"well": a_hook(well.port), "hanging": a_hook(hanging.port)}
    with a_house(tmp_path, ports, well, hanging, webhooks=hooks) as house:
        for receiver in (well, hanging):
            receiver.start()
        house.start()
        calls = [f"c{number}" for number in range(20)]
        house.emit(*calls)
        eventually(lambda: len(well.taken) >= 40, 30, what="all that the other receiver is to have")
        assert hanging.taken == []
        assert (house.destination("well")["waiting"], house.destination("hanging")["waiting"]) == (0, 40)
        assert by_call(well.taken) == {call: ["call.offered", "call.ended"] for call in calls}
        assert len(well.taken) == 40

        # What hangs does not keep the server from ending in time, nor is it lost.
        assert house.daemon.stop() == 0
        house.start()
        eventually(lambda: len(by_call(hanging.taken)) == 20, 60, what="all calls")
        eventually(lambda: house.destination("hanging")["waiting"] == 0, 60, what="an empty outbox")
        assert by_call(hanging.taken) == {call: ["call.offered", "call.ended"] for call in calls}
        assert len(well.taken) == 40


def test_what_is_due_when_the_server_stops_is_delivered_before_it_ends(
    tmp_path: Path, ports: PortBlock
) -> None:
    receiver = Receiver(ports.take(), seconds=0.2)
    with a_house(tmp_path, ports, receiver, webhooks={"crm": a_hook(receiver.port)}) as house:
        receiver.start()
        house.start()
        house.emit(*(f"c{number}" for number in range(12)))
        eventually(lambda: receiver.deliveries, 30, what="the first of them")
        assert len(receiver.taken) < 24
        assert house.daemon.stop() == 0
        assert len(receiver.taken) == 24
        assert {each["state"] for each in house.deliveries()} == {"delivered"}


def test_what_was_given_up_is_shown_and_people_decide_of_it(tmp_path: Path, ports: PortBlock) -> None:
    receiver = Receiver(ports.take(), 500, 500)
    hook = a_hook(receiver.port, events=["call.offered"])
    with a_house(tmp_path, ports, receiver, webhooks={"crm": hook}, outbox={"give_up_hours": 1}) as house:
        receiver.start()
        house.start()
        house.emit("c1", "c2", age=7200.0)
        eventually(
            lambda: house.daemon.metric("cti_outbox_dead", destination="crm") == 2, 30, what="dead letters"
        )
        assert house.destination("crm")["dead"] == 2
        assert house.daemon.metric("cti_outbox_attempts_total", destination="crm", outcome="dead") == 2
        dead = house.deliveries("--state", "dead")
        assert [(each["call"], each["error"]) for each in dead] == [
            (call, f"http://{LOOPBACK}:{receiver.port}/… answered 500") for call in ("c2", "c1")
        ]
        # One by the command line, beside the running server; the other by the API.
        house.daemon.run("outbox", "drop", str(dead[0]["id"]))
        answer = house.daemon.request("POST", "/api/v1/outbox/retry", {"destination": "crm"})
        assert answer == {"changed": 1, "more": False}
        eventually(lambda: receiver.taken, 30, what="what was tried again")
        shown = eventually(
            lambda: (
                found if (found := house.daemon.get(f"/api/v1/outbox/{dead[1]['id']}"))["finished"] else None
            ),
            what="its end",
        )
        assert (shown["state"], shown["event"]["call"]["id"], shown["key"]) == (
            "delivered",
            "c1",
            dead[1]["key"],
        )
        assert [(each["status"], each["error"] is None) for each in shown["log"]] == [
            (500, False),
            (204, True),
        ]
        assert [each["call"] for each in house.deliveries("--state", "dropped")] == ["c2"]
        assert {delivery.headers["webhook-id"] for delivery in receiver.taken} == {dead[1]["key"]}
        # The same again, by the command line: the server hears of it by itself.
        house.daemon.run("outbox", "retry", "--destination", "crm", "--state", "delivered")
        eventually(lambda: len(receiver.taken) == 2, 30, what="the same once more")
        house.daemon.run("outbox", "retry", "999", status=1)
        house.daemon.run("outbox", "drop", status=2)


def test_a_key_is_replaced_without_a_restart_and_an_address_tried_by_hand(
    tmp_path: Path, ports: PortBlock
) -> None:
    receiver = Receiver(ports.take())
    hook = a_hook(receiver.port, events=["call.offered"])
    nobody = a_hook(ports.take(), events=["call.offered"])
    with a_house(tmp_path, ports, receiver, webhooks={"crm": hook, "nobody": nobody}) as house:
        receiver.start()
        house.start()
        tried = house.daemon.request("POST", "/api/v1/webhooks/crm/test")
        assert (tried["ok"], tried["status"], tried["error"]) == (True, 204, None)
        (test,) = receiver.taken
        assert Webhook(SECRET).verify(test.body, dict(test.headers))["type"] == "webhook.test"

        def signed_by(secret: str) -> bool:
            house.daemon.request("POST", "/api/v1/webhooks/crm/test")
            last = receiver.taken[-1]
            try:
                Webhook(secret).verify(last.body, dict(last.headers))
            except WebhookVerificationError:
                return False
            return True

        def take_over(secret: Any) -> None:
            house.daemon.settings["webhooks"]["crm"]["secret"] = secret
            house.daemon.write_configuration()
            house.daemon.signal(signal.SIGHUP)

        take_over([NEWER, SECRET])
        eventually(lambda: signed_by(NEWER), 30, what="the new key")
        assert signed_by(SECRET)
        take_over([NEWER])
        eventually(lambda: not signed_by(SECRET), 30, what="the end of the old key")
        assert signed_by(NEWER)
        failed = house.daemon.request("POST", "/api/v1/webhooks/nobody/test")
        assert (failed["ok"], failed["status"]) == (False, None)
        assert "cannot be reached" in failed["error"]
        assert "t0ken" not in failed["error"]


def test_a_name_leads_to_this_machine_only_where_that_is_allowed(tmp_path: Path, ports: PortBlock) -> None:
    receiver = Receiver(ports.take())
    by_name = f"http://localhost:{receiver.port}/hook"
    hooks = {
        "refused": a_hook(receiver.port, url=by_name),
        "allowed": a_hook(receiver.port, url=by_name, allow=["127.0.0.0/8", "::1/128"]),
    }
    with a_house(tmp_path, ports, receiver, webhooks=hooks) as house:
        receiver.start()
        house.start()
        trials = {name: house.daemon.request("POST", f"/api/v1/webhooks/{name}/test") for name in hooks}
        assert [name for name, trial in trials.items() if trial["ok"]] == ["allowed"]
        assert re.search(
            r"leads to (127\.0\.0\.1|::1), which is this machine's own", trials["refused"]["error"]
        )
        assert len(receiver.deliveries) == 1


def test_a_crm_is_told_as_by_its_softphone_connector(tmp_path: Path, ports: PortBlock) -> None:
    receiver = Receiver(ports.take(), 503)
    base = f"http://{LOOPBACK}:{receiver.port}"
    vtiger = {
        "headers": {"X-VTIGER-SECRET": "s3cret"},
        **{
            moment: f"{base}/{moment}?from={{number}}&to={{extension}}&id={{call_id}}"
            for moment in ("ringing", "connected", "ended")
        },
    }
    with a_house(tmp_path, ports, receiver, notify={"vtiger": vtiger}) as house:
        receiver.start()
        house.start()
        house.emit("c1", types=("call.offered", "call.ringing", "call.connected", "call.ended"))
        eventually(lambda: len(receiver.taken) == 3, 30, what="its three moments")
        opened = [urlsplit(delivery.path) for delivery in receiver.taken]
        assert [parts.path for parts in opened] == ["/ringing", "/connected", "/ended"]
        assert {tuple(parse_qsl(parts.query)) for parts in opened} == {
            (("from", CUSTOMER), ("to", "201"), ("id", "c1"))
        }
        assert {delivery.headers["x-vtiger-secret"] for delivery in receiver.deliveries} == {"s3cret"}
        assert {each["destination"] for each in house.deliveries()} == {"notify:vtiger"}
        tried = house.daemon.request("POST", "/api/v1/webhooks/notify:vtiger/test")
        assert (tried["ok"], tried["status"]) == (True, 204)
