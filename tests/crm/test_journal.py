"""Calls on a real Asterisk in real CRMs: one record each, through a transfer, notes, lost answers and `kill -9`."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pytest
from attrs import define

from adapters.base import PartyType
from lab.company import AnAgent, Company
from lab.crm.odoo import Odoo
from lab.crm.tryton import DATABASE, Tryton
from lab.laboratory import Answers, eventually
from lab.ports import PortBlock
from lab.scenarios import RingsForever
from tests.crm.losing import Asked, Losing

# The first run on a machine fetches the CRMs.
pytestmark = pytest.mark.timeout(1800)

SECONDS = 60.0
#: What a request that was given up may still do, as these tests have it.
LOST_SECONDS = 3
#: The CRMs are the same for all tests, and nobody shares a number.
_NUMBERS = count(10)
PASSWORD = "reads parties, writes notes"


class Crm(Protocol):
    """A real CRM as these tests see it."""

    name: str
    party_type: PartyType
    #: What a record of a call is there.
    type: str

    @property
    def url(self) -> str: ...
    def adapter(self, url: str) -> Mapping[str, Any]:
        """The adapter's configuration for the CRM at this address."""

    def secrets(self) -> Mapping[str, str]: ...
    def plant(self, name: str, number: str) -> str: ...
    def records(self, party: str) -> list[str]:
        """Each record of a call that the party has, as people read it."""

    def ids(self, party: str) -> set[str]: ...
    def makes(self, asked: Asked) -> bool:
        """Whether a request is the one that makes a record of a call."""

    def messages(self, party: str) -> int:
        """How many texts of calls that are over the party has."""


@define
class OdooCrm:
    odoo: Odoo
    name: str = "odoo"
    party_type: PartyType = PartyType.ORGANISATION
    type: str = "mail.activity"

    @property
    def url(self) -> str:
        return self.odoo.url

    def adapter(self, url: str) -> Mapping[str, Any]:
        return {"kind": "odoo", "url": url, "key": {"env": "CRM_SECRET"}}

    def secrets(self) -> Mapping[str, str]:
        return {"CRM_SECRET": self.odoo.key}

    def plant(self, name: str, number: str) -> str:
        return str(self.odoo.add("res.partner", name=name, is_company=True, phone=number))

    def _found(self, party: str) -> list[dict[str, Any]]:
        about = [
            ["res_model", "=", "res.partner"],
            ["res_id", "=", int(party)],
            ["active", "in", [True, False]],
        ]
        found: list[dict[str, Any]] = self.odoo.ask(
            "mail.activity", "search_read", domain=about, fields=["summary", "note"], order="id"
        )
        return found

    def records(self, party: str) -> list[str]:
        return [f"{each['summary']}\n{each['note']}" for each in self._found(party)]

    def ids(self, party: str) -> set[str]:
        return {str(each["id"]) for each in self._found(party)}

    def makes(self, asked: Asked) -> bool:
        return asked.path.endswith("/mail.activity/load")

    def messages(self, party: str) -> int:
        about = [
            ["model", "=", "res.partner"],
            ["res_id", "=", int(party)],
            ["mail_activity_type_id", "!=", False],
        ]
        return len(self.odoo.ask("mail.message", "search", domain=about))


@define
class TrytonCrm:
    tryton: Tryton
    name: str = "tryton"
    party_type: PartyType = PartyType.CONTACT
    type: str = "ir.note"

    @property
    def url(self) -> str:
        return self.tryton.url

    def adapter(self, url: str) -> Mapping[str, Any]:
        return {
            "kind": "tryton",
            "url": url,
            "database": DATABASE,
            "user": "cordboard",
            "password": {"env": "CRM_SECRET"},
        }

    def secrets(self) -> Mapping[str, str]:
        return {"CRM_SECRET": PASSWORD}

    def plant(self, name: str, number: str) -> str:
        mechanisms = [["create", [{"type": "phone", "value": number}]]]
        (id,) = self.tryton.call(
            "model.party.party.create", [{"name": name, "contact_mechanisms": mechanisms}]
        )
        return str(id)

    def _found(self, party: str) -> list[dict[str, Any]]:
        about = [["resource", "=", f"party.party,{party}"]]
        found: list[dict[str, Any]] = self.tryton.call(
            "model.ir.note.search_read", about, 0, None, [["id", "ASC"]], ["message"]
        )
        return found

    def records(self, party: str) -> list[str]:
        return [each["message"] for each in self._found(party)]

    def ids(self, party: str) -> set[str]:
        return {str(each["id"]) for each in self._found(party)}

    def makes(self, asked: Asked) -> bool:
        return b'"model.ir.note.create"' in asked.body

    def messages(self, party: str) -> int:
        return len(self._found(party))


@define
class Bench:
    """The CRM behind a way that loses answers, and a company that journals into it."""

    crm: Crm
    way: Losing
    company: Company

    def customer(self) -> tuple[str, str]:
        """Somebody new in the CRM, and their number."""
        number = f"+4917139200{next(_NUMBERS):02}"
        return self.crm.plant(f"Customer {number[-2:]}", number), number

    def one_record(self, party: str, *texts: str) -> None:
        """The party has one record of a call, and it says all of this by now."""

        def holds() -> bool:
            records = self.crm.records(party)
            assert len(records) <= 1, records
            return len(records) == 1 and all(text in records[0] for text in texts)

        eventually(holds, SECONDS, what=f"one record with {texts}")

    def all_is_told(self) -> None:
        """Nothing waits for the CRM any more."""
        daemon = self.company.daemon

        def delivered() -> bool:
            return all(
                delivery["state"] == "delivered"
                for call in daemon.calls()
                for delivery in daemon.call(call["id"])["deliveries"]
            )

        eventually(delivered, SECONDS, what="the end of all deliveries")

    def loses_the_next_record(self, late: float = 0.0) -> None:
        lost = iter((True,))
        self.way.late = late
        self.way.loses = lambda asked: self.crm.makes(asked) and next(lost, False)


@pytest.fixture(scope="module", params=["odoo", "tryton"])
def crm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crm]:
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "odoo":
        with Odoo(directory) as odoo:
            yield OdooCrm(odoo)
        return
    ports = PortBlock.claim()
    with Tryton(directory, ports.take()) as tryton:
        tryton.call(
            "model.res.user.create", [{"name": "Cordboard", "login": "cordboard", "password": PASSWORD}]
        )
        yield TrytonCrm(tryton)
    ports.release()


@pytest.fixture
def bench(crm: Crm, tmp_path: Path) -> Iterator[Bench]:
    way = Losing(crm.url)
    answers = Answers(after_ms=600)
    agents = [
        AnAgent("anna", behaviour=answers),
        AnAgent("ben", behaviour=answers),
        AnAgent("carl", behaviour=RingsForever(), state="logged_out"),
        AnAgent("dora", behaviour=RingsForever(), state="logged_out"),
    ]
    settings = {
        "language": "de",
        "adapters": {
            "directory": {"kind": "directory"},
            crm.name: {**crm.adapter(way.url), "journal": {"lost_seconds": LOST_SECONDS}},
        },
    }
    service = {
        "title": "Verkauf",
        "rules": [
            {"name": "anna", "dial": {"agent": "anna"}, "timeout": 5},
            {"name": "team", "dial": {"group": "sales"}, "timeout": 1},
        ],
        "dispositions": {"sold": {"de": "Verkauft"}},
    }
    with Company(
        tmp_path, agents=agents, service=service, settings=settings, environment=crm.secrets()
    ) as company:
        company.start()
        eventually(lambda: company.daemon.metric("cti_adapter_up", adapter=crm.name) == 1, SECONDS)
        yield Bench(crm, way, company)
    way.close()


def test_a_call_is_one_record_from_its_ringing_to_what_is_written_of_it(bench: Bench) -> None:
    crm, daemon = bench.crm, bench.company.daemon
    party, number = bench.customer()
    call = bench.company.call(from_number=number)
    bench.one_record(party, "Eingehender Anruf, klingelt", "an Verkauf")
    id = daemon.calls()[0]["id"]
    bench.one_record(party, "Eingehender Anruf, läuft", "Anna sprach nach")
    (first,) = crm.ids(party)
    daemon.request("POST", f"/api/v1/calls/{id}/transfer", {"to": "ben"}, daemon.token("agent", "anna"))
    bench.one_record(party, "Anna sprach nach", "Ben spricht weiter")
    call.hang_up()
    bench.one_record(party, "Eingehender Anruf, 0:", "Ben sprach weiter, 0:")
    daemon.request("PATCH", f"/api/v1/calls/{id}", {"notes": "Will <zwei>", "disposition": "sold"}, etag="*")
    bench.one_record(party, "Verkauft", "zwei")
    bench.all_is_told()
    assert crm.ids(party) == {first}
    assert crm.messages(party) == 1
    kept = {each["id"]: each for each in daemon.call(id)["crm"] if each["type"] == crm.type}
    assert kept.keys() == {first}
    assert party in kept[first]["url"]


@pytest.mark.parametrize("late", [0.0, 1.0], ids=["answer", "request"])
def test_a_lost_answer_makes_no_second_record(bench: Bench, late: float) -> None:
    party, number = bench.customer()
    bench.loses_the_next_record(late)
    bench.company.call(from_number=number, talk_ms=200).wait()
    eventually(lambda: bench.way.done, SECONDS, what="the request whose answer was lost")
    bench.one_record(party, "Anna sprach nach")
    bench.all_is_told()
    assert len(bench.way.lost) == 1
    assert bench.crm.messages(party) == 1


def test_a_lost_answer_and_a_killed_server_make_no_second_record(bench: Bench) -> None:
    party, number = bench.customer()
    bench.loses_the_next_record(late=1.0)
    call = bench.company.call(from_number=number)
    eventually(lambda: bench.way.lost, SECONDS, what="the request whose answer is lost")
    bench.company.daemon.kill()
    bench.company.daemon.start()
    call.hang_up()
    bench.one_record(party, "Eingehender Anruf, 0:")
    bench.all_is_told()
    assert len(bench.way.done) == 1
    assert bench.crm.messages(party) == 1


def test_a_call_goes_with_the_party_that_is_chosen_and_away_with_a_stranger(bench: Bench) -> None:
    daemon, crm = bench.company.daemon, bench.crm
    party, number = bench.customer()
    other, _ = bench.customer()
    bench.company.call(from_number=number, talk_ms=200).wait()
    id = daemon.the_call()["id"]
    bench.one_record(party, "Anna sprach nach")
    chosen = {"adapter": crm.name, "type": crm.party_type, "id": other}
    daemon.request("PATCH", f"/api/v1/calls/{id}", {"party": chosen}, etag="*")
    bench.one_record(other, "Anna sprach nach")
    bench.all_is_told()
    assert (crm.records(party), crm.messages(party), crm.messages(other)) == ([], 0, 1)
    daemon.request("PATCH", f"/api/v1/calls/{id}", {"party": None}, etag="*")
    eventually(lambda: crm.records(other) == [], SECONDS, what="the record taken back")
    bench.all_is_told()
    assert daemon.call(id)["crm"] == []
    assert crm.messages(other) == 0


def test_a_call_that_rang_at_one_after_the_other_is_one_miss(bench: Bench) -> None:
    party, number = bench.customer()
    daemon = bench.company.daemon
    for agent, state in (("anna", "paused"), ("ben", "paused"), ("carl", "ready"), ("dora", "ready")):
        daemon.request("PATCH", f"/api/v1/agents/{agent}", {"state": state})
    call = bench.company.call(from_number=number)

    def rung() -> int:
        calls = daemon.calls()
        return (
            len([each for each in daemon.call(calls[0]["id"])["segments"] if each["ringing"]]) if calls else 0
        )

    eventually(lambda: rung() == 2, SECONDS, what="the second agent's phone")
    call.hang_up()
    record = daemon.the_call()
    assert record["outcome"] == "missed"
    rang = ", ".join(each["agents"][0].title() for each in record["segments"])
    bench.one_record(party, "Verpasster Anruf", f"Geklingelt bei: {rang}")
    bench.all_is_told()
    assert bench.crm.messages(party) == 1


def test_a_crm_that_a_reload_brings_is_told_of_calls_from_then_on(bench: Bench) -> None:
    crm, daemon = bench.crm, bench.company.daemon
    party, number = bench.customer()
    adapter = daemon.settings["adapters"][crm.name]

    def reload(journal: object) -> None:
        before = len([each for each in daemon.log() if each["event"] == "configuration taken over"])
        adapter["journal"] = journal
        daemon.write_configuration()
        daemon.signal(signal.SIGHUP)
        eventually(
            lambda: (
                len([each for each in daemon.log() if each["event"] == "configuration taken over"]) > before
            ),
            SECONDS,
            what="the new configuration",
        )

    told = adapter["journal"]
    reload(False)
    bench.company.call(from_number=number, talk_ms=100).wait()
    record = daemon.the_call()
    assert (record["party"]["id"], record["deliveries"]) == (party, [])
    reload(told)
    bench.company.call(from_number=number, talk_ms=100).wait()
    bench.one_record(party, "Eingehender Anruf, 0:")
    bench.all_is_told()
    assert crm.messages(party) == 1
