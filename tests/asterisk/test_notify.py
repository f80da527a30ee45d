"""What a CRM is told as by its softphone connector, of calls on a real Asterisk."""

from collections import defaultdict
from urllib.parse import parse_qsl, urlsplit

from lab.company import AnAgent, Company
from lab.laboratory import Answers, RingsForever, eventually
from lab.ports import LOOPBACK, PortBlock
from lab.webhooks import Receiver
from tests.asterisk.test_inbound import CUSTOMER, CUSTOMER_E164
from tests.asterisk.test_outbound import EXTENSIONS, dial

MOMENTS = ("ringing", "connected", "ended", "missed")


def test_each_call_rings_is_connected_ends_or_is_missed_at_the_phones_that_it_reached(tmp_path):
    ports = PortBlock.claim()
    receiver = Receiver(ports.take())
    receiver.start()
    base = f"http://{LOOPBACK}:{receiver.port}"
    crm = {moment: f"{base}/{moment}?at={{extension}}&from={{number}}&id={{call_id}}" for moment in MOMENTS}

    def told() -> dict[str, list[tuple[str, str]]]:
        """Of each call, what was told and at whose phone; the number is always the customer's."""
        found: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for delivery in receiver.taken:
            parts = urlsplit(delivery.path)
            words = dict(parse_qsl(parts.query))
            assert words["from"] == CUSTOMER_E164, delivery.path
            found[words["id"]].append((parts.path.removeprefix("/"), words["at"]))
        return found

    agents = [AnAgent("anna", behaviour=RingsForever()), AnAgent("ben")]
    service = {"rules": [{"name": "rest", "dial": {"group": "sales"}, "timeout": 1}]}
    try:
        with Company(
            tmp_path,
            agents,
            service=service,
            settings={"notify": {"crm": crm}},
            more_extensions=EXTENSIONS,
            trunk=Answers(after_ms=200),
        ) as company:
            company.start()

            def over(outcome: str) -> str:
                calls = eventually(
                    lambda: [c for c in company.daemon.calls(outcome=outcome) if c["ended"]], 20
                )
                return str(calls[0]["id"])

            # Anna's phone rings first, and Ben takes it.
            company.call(from_number=CUSTOMER, talk_ms=300).wait()
            answered = over("answered")
            eventually(lambda: ("ended", "ben") in told()[answered], 20, what="the end")
            assert told()[answered] == [
                ("ringing", "anna"),
                ("ringing", "ben"),
                ("connected", "ben"),
                ("ended", "ben"),
            ]

            # The caller does not wait that long.
            company.daemon.run("agents", "set", "anna", "--state", "ready")
            company.phones["ben"].behave(RingsForever())
            company.call(from_number=CUSTOMER, cancel_after_ms=1500).wait()
            missed = over("missed")
            eventually(lambda: told()[missed][-1:] and told()[missed][-1][0] == "missed", 20, what="the miss")
            assert [moment for moment, _ in told()[missed]].count("missed") == 1
            assert {moment for moment, _ in told()[missed]} == {"ringing", "missed"}

            # One of ours calls the customer.
            dial(company, CUSTOMER, talk_ms=300).wait()
            made = eventually(
                lambda: [c for c in company.daemon.calls(direction="outbound") if c["ended"]], 20
            )
            eventually(lambda: len(told()[made[0]["id"]]) == 3, 20, what="the three moments of an own call")
            assert told()[made[0]["id"]] == [(moment, "anna") for moment in ("ringing", "connected", "ended")]
            assert len(told()[answered]) == 4
    finally:
        receiver.stop()
        ports.release()
