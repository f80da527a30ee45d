"""Who a number was before, as the log has it; on a real store."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cti.calls.remembered import Remembered
from cti.store.base import StoreError
from cti.store.queries import Reader
from cti.store.records import CallRecord, ChoiceRecord, ListedNumber
from cti.store.sqlite import connect, open_store_for_command
from cti.store.threaded import CommandStore

NUMBER = "+4915228817386"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CommandStore]:
    with open_store_for_command(tmp_path / "cti.db", destinations={}, clock=lambda: 0.0) as opened:
        yield opened


@pytest.fixture
def remembered(store: CommandStore, tmp_path: Path) -> Remembered:
    return Remembered(Reader(connect(str(tmp_path / "cti.db"))))


def a_call(id: str, started: float, party: str | None, **changes: Any) -> CallRecord:
    who = None if party is None else {"adapter": "crm", "type": "contact", "id": party}
    values = {"from_number": NUMBER, "answered": started + 5, "party": who, **changes}
    return CallRecord(id, "main", started, **values)


def log(store: CommandStore, *calls: CallRecord) -> None:
    unit = store.unit()
    for call in calls:
        unit.put_call(call)
    store.commit_now(unit)


def test_who_was_spoken_with_last_comes_first_whoever_called(
    store: CommandStore, remembered: Remembered
) -> None:
    log(
        store,
        a_call("1", 100.0, "a"),
        a_call("2", 300.0, "b", from_number="100", to_number=NUMBER, direction="outbound"),
        a_call("3", 200.0, "c"),
        a_call("4", 400.0, "missed", answered=None),
        a_call("5", 500.0, None),
        a_call("6", 600.0, "stranger", from_number="+442079460018"),
    )
    assert [id for _, _, id in remembered.spoken(NUMBER)] == ["b", "c", "a"]


def test_whom_agents_chose_last_comes_first_and_each_once(
    store: CommandStore, remembered: Remembered
) -> None:
    unit = store.unit()
    for at, id in ((1.0, "a"), (2.0, "b"), (3.0, "a")):
        unit.put_choice(ChoiceRecord(NUMBER, "crm", "contact", id, at, "call"))
    unit.put_choice(ChoiceRecord("+442079460018", "crm", "contact", "c", 9.0, "call"))
    store.commit_now(unit)
    assert remembered.chosen(NUMBER) == [("crm", "contact", "a"), ("crm", "contact", "b")]


def test_the_lists_of_numbers_survive_a_restart(store: CommandStore, tmp_path: Path) -> None:
    listed = ListedNumber("blocked", "+49900*", 1.0, "uma", "premium")
    unit = store.unit()
    unit.put_listed(listed)
    unit.put_listed(ListedNumber("ignored", NUMBER, 1.0, "uma"))
    unit.remove_listed("ignored", NUMBER)
    store.commit_now(unit)
    assert Reader(connect(str(tmp_path / "cti.db"))).listed_numbers() == [listed]


def test_without_a_store_or_with_one_that_fails_nobody_is_remembered() -> None:
    class Broken:
        def spoken_with(self, number: str) -> Any:
            raise StoreError("the disk is gone")

        chosen_for = spoken_with

    for store in (None, Broken()):
        assert not Remembered(store).spoken(NUMBER)
        assert not Remembered(store).chosen(NUMBER)
