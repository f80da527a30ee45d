"""Webhooks whose receiver is away, hangs or refuses: in the end each notification is there, in order and once."""

import base64
import json
from typing import Any

from standardwebhooks import Webhook

from lab.company import AnAgent, Company
from lab.laboratory import RingsForever, eventually
from lab.ports import LOOPBACK, PortBlock
from lab.webhooks import Delivery, Receiver
from tests.faults.evidence import settled

SECRET = "whsec_" + base64.b64encode(b"a secret of the laboratory's").decode()


def hooks(port: int) -> dict[str, Any]:
    hook = {
        "url": f"http://{LOOPBACK}:{port}/calls",
        "secret": {"env": "HOOK"},
        "events": ["call.routed", "call.ended"],
    }
    return {"webhooks": {"crm": hook}}


def read(delivery: Delivery) -> dict[str, Any]:
    """What a delivery says, its signature verified by the library of those who wrote the specification."""
    body: dict[str, Any] = Webhook(SECRET).verify(delivery.body, dict(delivery.headers))
    assert body == json.loads(delivery.body)
    return body


def test_a_receiver_that_was_down_then_hung_then_refused_has_everything_in_the_end(tmp_path):
    ports = PortBlock.claim()
    # Its first request is never answered, the second meets an error.
    receiver = Receiver(ports.take(), None, 500)
    agents = [AnAgent("anna", behaviour=RingsForever()), AnAgent("ben")]
    service = {"rules": [{"name": "rest", "dial": {"group": "sales"}, "timeout": 1}]}
    try:
        with Company(
            tmp_path, agents, service=service, settings=hooks(receiver.port), environment={"HOOK": SECRET}
        ) as company:
            company.start()
            # Anna first, who does not answer; then Ben: two decisions.
            company.call(from_number="+491713920000", talk_ms=200).wait()
            settled(company, 1)
            # They survive the daemon, too.
            company.daemon.kill()
            receiver.start()
            company.start()
            eventually(lambda: receiver.deliveries, 10, what="the first attempt")
            # While it hangs, callers are served as ever.
            company.call(from_number="+491713920001", talk_ms=200).wait()
            records = settled(company, 2)
            assert all(record["setup_ms"] < 500 for record in records)
            decided = {record["id"]: record["attempt"] for record in records}
            expected = sum(decided.values()) + 2
            eventually(lambda: len(receiver.taken) >= expected, 40, what="all notifications")
            eventually(
                lambda: (
                    {
                        delivery["state"]
                        for id in decided
                        for delivery in company.daemon.call(id)["deliveries"]
                    }
                    == {"delivered"}
                ),
                what="an empty outbox",
            )

            told = [read(delivery) for delivery in receiver.taken]
            assert [delivery.status for delivery in receiver.deliveries[:2]] == [None, 500]
            for id, decisions in decided.items():
                of_the_call = [
                    (body["type"], body.get("attempt")) for body in told if body["call"]["id"] == id
                ]
                routed = [("call.routed", attempt) for attempt in range(1, decisions + 1)]
                assert of_the_call == [*routed, ("call.ended", None)]
            assert decided[records[0]["id"]] == 2
            # One key each; a retry comes with the key that it had.
            keys = [delivery.headers["webhook-id"] for delivery in receiver.taken]
            assert len(set(keys)) == len(keys) == expected
            refused = [delivery for delivery in receiver.deliveries if delivery.status != 204]
            assert {delivery.headers["webhook-id"] for delivery in refused} <= set(keys)
            for delivery in refused:
                again = next(
                    d for d in receiver.taken if d.headers["webhook-id"] == delivery.headers["webhook-id"]
                )
                assert (again.body, read(again)) == (delivery.body, read(delivery))
    finally:
        receiver.stop()
        ports.release()
