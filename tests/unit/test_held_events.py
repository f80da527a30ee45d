"""Events that wait until Asterisk has said how things are."""

from cti.asterisk import held_events
from cti.asterisk.ami_parser import Event
from cti.asterisk.held_events import HeldEvents


def an_event(number: int) -> Event:
    return Event({"Event": "Hangup", "Uniqueid": f"1.{number}"})


def test_what_comes_while_asterisk_is_asked_is_told_afterwards_in_its_order() -> None:
    told: list[str] = []
    held = HeldEvents(lambda event: told.append(event["Uniqueid"]))
    assert not held.take(an_event(0))

    held.hold()
    assert held.take(an_event(1))
    assert held.take(an_event(2))
    assert told == []
    held.release()
    assert told == ["1.1", "1.2"]
    assert not held.take(an_event(3))


def test_what_a_lost_connection_had_said_is_not_told_on_the_next() -> None:
    told: list[str] = []
    held = HeldEvents(lambda event: told.append(event["Uniqueid"]))
    held.hold()
    held.take(an_event(1))
    held.forget()
    held.hold()
    held.take(an_event(2))
    held.release()

    assert told == ["1.2"]


def test_a_flood_is_not_kept(monkeypatch) -> None:
    monkeypatch.setattr(held_events, "MAX_HELD", 3)
    told: list[str] = []
    held = HeldEvents(lambda event: told.append(event["Uniqueid"]))
    held.hold()
    assert [held.take(an_event(number)) for number in range(5)] == [True, True, True, True, False]
    assert told == ["1.0", "1.1", "1.2", "1.3"]
