"""`cti outbox`, run as from a shell, without a server."""

import time

import pytest

from cti.store.base import OutboxFilter
from cti.store.records import AttemptRecord
from cti.store.sqlite import open_store_for_command
from tests.unit.test_cli import Company, company

__all__ = ("company",)


def fill(company: Company, *, dead: int = 0) -> None:
    """Three calls, each routed and ended, for the webhook `crm`; of the first ones, the first event is dead."""
    told = {"crm": frozenset({"call.routed", "call.ended"})}
    with open_store_for_command(company.database, destinations=told, clock=time.time) as store:
        unit = store.unit()
        for call in ("c1", "c2", "c3"):
            for type in ("call.routed", "call.ended"):
                unit.emit(type, 1000.0, {"call": {"id": call}}, call=call)
        store.commit_now(unit)
        unit = store.unit()
        for delivery in store.read.due("crm", time.time() + 1, 9)[:dead]:
            unit.put_failed(AttemptRecord(delivery.id, 1, 1000.0, 0.1, 500, "answered 500"), None)
        store.commit_now(unit)


def states(company: Company) -> dict[int, str]:
    with company.store() as store:
        page, _ = store.read.outbox(OutboxFilter(), 100)
        return {each.id: each.state for each in page}


def test_the_newest_deliveries_come_first_and_filters_choose(company: Company) -> None:
    assert company.json("outbox", "list", "--format", "json") == {"deliveries": []}
    fill(company, dead=1)
    everything = company.json("outbox", "list", "--format", "json")["deliveries"]
    assert [each["id"] for each in everything] == [6, 5, 4, 3, 2, 1]
    (dead,) = company.json("outbox", "list", "--state", "dead", "--format", "json")["deliveries"]
    assert (dead["id"], dead["call"], dead["type"], dead["error"]) == (1, "c1", "call.routed", "answered 500")
    assert len(company.json("outbox", "list", "--limit", "2", "--format", "json")["deliveries"]) == 2
    table = company.run("outbox", "list", "--call", "c1").splitlines()
    assert [line.split()[0] for line in table] == ["ID", "2", "1"]
    assert "answered 500" in table[2]


def test_what_is_dead_is_tried_again_and_the_rest_left_alone(company: Company) -> None:
    fill(company, dead=2)
    company.run("outbox", "retry", "--destination", "crm")
    assert set(states(company).values()) == {"waiting"}
    with company.store() as store:
        # Of each call the first again, and not the one behind it.
        assert sorted(each.seq for each in store.read.due("crm", time.time() + 1, 9)) == [1, 3, 5]
        ((_, entry), *_), _ = store.read.audit(None, None, 1, None)
    assert (entry.action, entry.kind) == ("outbox.retry", "command")


def test_what_is_dropped_is_over_and_what_was_delivered_cannot_be(company: Company) -> None:
    fill(company, dead=1)
    company.run("outbox", "drop", "1", "3")
    assert [states(company)[id] for id in (1, 2, 3, 4)] == ["dropped", "waiting", "dropped", "waiting"]
    company.run("outbox", "drop", "--destination", "crm")
    assert [states(company)[id] for id in (2, 4)] == ["waiting", "waiting"], "only what is dead"
    company.run("outbox", "drop", "--all", "--state", "waiting")
    assert set(states(company).values()) == {"dropped"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["drop"], 2),
        (["retry", "--state", "dead"], 2),
        (["retry", "1", "--destination", "crm"], 2),
        (["retry", "--all", "--state", "lost"], 2),
        (["drop", "--call", "c1", "--type", "call.end"], 2),
        (["retry", "4711"], 1),
        # Nothing to do is no failure.
        (["retry", "--all"], 0),
    ],
)
def test_who_does_not_say_which_ones_changes_nothing(
    company: Company,
    words: list[str],
    code: int,
) -> None:
    fill(company)
    company.run("outbox", *words, code=code)
    assert set(states(company).values()) == {"waiting"}
