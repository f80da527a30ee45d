"""The server killed under calls of a real Asterisk and real SIP phones: each call is in the log once, as it was."""

import random
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from lab.company import AnAgent, Company
from lab.laboratory import Answers, Busy, Phone, RingsForever
from tests.faults.evidence import left_in_astdb, settled

KILLS = 10
CALLS_A_SECOND = 4.0
CALLS = 80
AGENTS = [
    *(AnAgent(f"agent{number}", behaviour=Answers(after_ms=100 + 60 * number)) for number in range(6)),
    AnAgent("rings", behaviour=RingsForever()),
    AnAgent("busy", behaviour=Busy()),
]
SERVICE = {"rules": [{"name": "rest", "dial": {"group": "sales"}, "timeout": 1}]}


@pytest.mark.timeout(600)
def test_ten_kills_under_a_real_asterisk_lose_no_call(tmp_path: Path) -> None:
    dice = random.Random(seed := random.randrange(1_000_000))
    with Company(tmp_path, AGENTS, service=SERVICE) as company:
        company.start()
        patient = [f"+493023125{number:03d}" for number in range(CALLS)]
        hasty = [f"+494066969{number:03d}" for number in range(200, 200 + CALLS // 4)]
        placed = [
            company.lab.calls(
                company.pbx,
                "494066969100",
                count=CALLS,
                rate=CALLS_A_SECOND,
                from_number=patient,
                talk_ms=700,
            ),
            company.lab.calls(
                company.pbx,
                "494066969100",
                count=CALLS // 4,
                rate=CALLS_A_SECOND / 4,
                from_number=hasty,
                talk_ms=700,
                cancel_after_ms=400,
            ),
        ]
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.1, 2.0))
            company.daemon.kill()
            company.start()
        for calls in placed:
            calls.wait(120)
        records = settled(company, CALLS + CALLS // 4, 60)

        statuses = {name: _statuses(phone) for name, phone in company.phones.items()}
        told = {record["from_raw"]: record for record in records}
        assert sorted(told) == sorted([*patient, *hasty]), f"seed {seed}"
        wrong = [
            f"{number}: the log says {(record['outcome'], record['agent'])}, and it was {known}"
            for number, record in told.items()
            if (known := _as_the_phones_say(statuses, number)) != (record["outcome"], record["agent"])
            # Who left while nobody answered looks, in AstDB, like who went to a menu.
            and not (known[0] == "abandoned" and record["outcome"] == "fallback")
        ]
        assert wrong == [], f"seed {seed}"
        assert left_in_astdb(company.pbx) == []


def _as_the_phones_say(
    statuses: Mapping[str, Mapping[str, list[int]]], number: str
) -> tuple[str, str | None]:
    """What became of the call of this number, and who talked."""
    said = {name: phone.get(number, []) for name, phone in statuses.items()}
    for name, codes in said.items():
        if 200 in codes:
            return "answered", None if name == "reception" else name
    if any(180 in codes for name, codes in said.items() if name != "reception"):
        return "missed", None
    return ("fallback" if said["reception"] else "abandoned"), None


def _statuses(phone: Phone) -> dict[str, list[int]]:
    """By caller's number, how the phone answered its INVITEs."""
    numbers = {message.call_id: message.from_number for message in phone.invites}
    found: dict[str, list[int]] = defaultdict(list)
    for message in phone.messages:
        if message.sent and message.status is not None and message.cseq.endswith("INVITE"):
            found[numbers.get(message.call_id, "")].append(message.status)
    return found
