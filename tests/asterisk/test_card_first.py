"""The card is on its way to the agent's screen before Asterisk hears whom to ring."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.company import DID, AnAgent, Company
from lab.laboratory import Answers, eventually
from tests.asterisk import recorder
from tests.asterisk.recorder import Connection

CALLS = 50
CUSTOMERS = [f"03023125{number:03d}" for number in range(CALLS)]
AGENTS = [AnAgent(f"agent{number}", behaviour=Answers(after_ms=20)) for number in range(10)]


def customers() -> list[dict[str, str]]:
    """Fifty people whom the directory knows by the numbers they call from."""
    return [
        {"id": str(number), "type": "contact", "name": f"Customer {number}", "numbers": raw}
        for number, raw in enumerate(CUSTOMERS)
    ]


def carrying(connections: Sequence[Connection], token: str) -> Connection:
    """The event stream that was opened with this token."""
    wanted = [each for each in connections if f"Authorization: Bearer {token}".encode() in each.received]
    (stream,) = [each for each in wanted if b"GET /api/v1/events" in each.received]
    return stream


def test_the_cards_bytes_leave_before_the_answer_to_asterisk_fifty_times_of_fifty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "transports.jsonl"
    with Company(tmp_path, agents=AGENTS, command=[*recorder.COMMAND, str(record)]) as company:
        company.knows(*customers())
        company.start()
        streams = {agent.id: company.daemon.events("agent", agent.id) for agent in AGENTS}
        calls = company.lab.calls(company.pbx, DID, count=CALLS, rate=8, from_number=CUSTOMERS, talk_ms=100)
        assert {result.final for result in calls.wait(60)} == {200}
        eventually(lambda: len(company.daemon.calls(limit="200", outcome="answered")) == CALLS, 10)
        tokens = {agent.id: company.daemon.token("agent", agent.id) for agent in AGENTS}
        logged = {call["id"]: call for call in company.daemon.calls(limit="200")}
        invites = {
            invite.from_number: invite for phone in company.phones.values() for invite in phone.invites
        }
    assert len(logged) == len(invites) == CALLS

    # What the sockets were given, in order.
    connections = recorder.read_record(record)
    asked = [each for each in connections if each.port == company.daemon.agi_port]
    assert len(asked) == CALLS
    answers = {}
    for session in asked:
        call = next(id for id in logged if f'SET VARIABLE __CTI_CALL_ID "{id}"'.encode() in session.sent)
        answers[call] = session.first_piece_of(b"SET VARIABLE CTI_ACTION")
    cards = {}
    for agent, token in tokens.items():
        for event, piece in carrying(connections, token).events("card.offered"):
            assert event["agent"] == agent
            assert event["card"]["parties"], "the card of a known customer"
            cards[event["call"]["id"]] = agent, piece
    assert answers.keys() == cards.keys() == logged.keys()
    late = [
        call
        for call, answer in answers.items()
        if answer is None or cards[call][1].order > answer.order or cards[call][0] != logged[call]["agent"]
    ]
    assert late == []

    # What a subscriber and the phones saw of it.
    seen = {
        event.data["call"]["id"]: (agent, event)
        for agent, stream in streams.items()
        for event in stream.of("card.offered")
    }
    assert {call: agent for call, (agent, _) in seen.items()} == {call: cards[call][0] for call in cards}
    after_invite = sorted(
        (event.at - invites[logged[call]["from_raw"]].time) * 1000 for call, (_, event) in seen.items()
    )
    p50, p95 = (after_invite[int(len(after_invite) * share)] for share in (0.5, 0.95))
    with capsys.disabled():
        print(
            f"\n{CALLS} cards at a subscriber, ms after the phone's INVITE (below zero: before it): "
            f"p50 {p50:.1f}, p95 {p95:.1f}, max {after_invite[-1]:.1f}"
        )
