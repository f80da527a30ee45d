"""A real Odoo 19 by both of its interfaces: what every adapter is held to, and what Odoo has of its own."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred

import adapters.odoo
from adapters.base import (
    AdapterDenied,
    AdapterError,
    Capability,
    IAdapter,
    JournalEntry,
    JournalState,
    ListedParty,
    MarkLost,
    NewTask,
    PartyRef,
    PartyType,
)
from adapters.conformance import AdapterConformance, Bench, a_context
from adapters.odoo import OdooAdapter, OdooOptions
from adapters.odoo_api import Json2
from adapters.trial import in_reactor
from cti.secret import Secret
from cti.settings import load_settings
from lab.crm.odoo import API_USER, DATABASE, Odoo

# The first run on a machine fetches Odoo.
pytestmark = pytest.mark.timeout(1800)

PAGE = 4
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def odoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Odoo]:
    with Odoo(tmp_path_factory.mktemp("odoo")) as running:
        yield running


@pytest.fixture(scope="module")
def salesperson(odoo: Odoo) -> int:
    return odoo.add_salesperson("Vera Holm", "vera")


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters.odoo, "_PAGE", PAGE)


def an_adapter(odoo: Odoo, base: Path, **options: Any) -> OdooAdapter:
    given = {"url": odoo.url, "key": Secret(odoo.key), **options}
    return OdooAdapter("odoo", OdooOptions(**given), a_context(base))


def shown(markup: str) -> str:
    """What a browser shows of the simple HTML that is in a chatter."""
    return html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"<br\s*/?>", "\n", markup)))


class OdooBench(Bench):
    numbers_as_typed = ("+49 152 28817386", "0152 / 288 17 386", "+49 (40) 66969-0", "0044 20 7946 0123")
    numbers_held = 1
    types = (PartyType.CONTACT, PartyType.ORGANISATION, PartyType.LEAD)
    # Tags come back by name.
    keeps = frozenset({"name", "company", "owner", "language", "notes"})
    finds_stems = True
    page = PAGE
    # What is deleted leaves no trace; the mark is lost then.
    tells_gone = False
    breakable = True

    def __init__(self, odoo: Odoo, base: Path, user: int, options: Mapping[str, Any]) -> None:
        self.odoo = odoo
        self.base = base
        self.user = str(user)
        self.options = options

    def make(self) -> IAdapter:
        return an_adapter(self.odoo, self.base, **self.options)

    def plant(self, party: ListedParty) -> PartyRef:
        model, values = self.record(party)
        return PartyRef(party.party.type, str(self.odoo.add(model, **values)))

    def record(self, party: ListedParty) -> tuple[str, dict[str, Any]]:
        who = party.party
        values: dict[str, Any] = {
            "name": who.name,
            "phone": party.numbers[0].raw if party.numbers else False,
            "user_id": int(who.owner) if who.owner else False,
        }
        if who.type is PartyType.LEAD:
            return "crm.lead", {**values, "contact_name": who.name, "partner_name": who.company}
        return "res.partner", {
            **values,
            "is_company": who.type is PartyType.ORGANISATION,
            "company_name": who.company,
            "comment": f"<p>{html.escape(who.notes)}</p>",
            "ref": f"ref-{who.id}",
            "category_id": [[0, 0, {"name": tag}] for tag in who.tags],
        }

    def remove(self, ref: PartyRef) -> None:
        model = self.model(ref)
        if self.odoo.ask(model, "search_count", domain=[["id", "=", int(ref.id)]]):
            self.odoo.ask(model, "unlink", ids=[int(ref.id)])

    def change(self, ref: PartyRef, party: ListedParty) -> None:
        _, values = self.record(party)
        changed = {name: values[name] for name in ("name", "phone")}
        self.odoo.ask(self.model(ref), "write", ids=[int(ref.id)], vals=changed)

    def key_of(self, ref: PartyRef) -> tuple[str, str]:
        (found,) = self.odoo.ask("res.partner", "read", ids=[int(ref.id)], fields=["ref"])
        return "customer", found["ref"]

    def journaled(self, number: str) -> Sequence[str]:
        found = self.odoo.ask("res.partner", "search", domain=[["phone_sanitized", "=", number]])
        calls = [["mail_activity_type_id", "!=", False], ["message_type", "=", "notification"]]
        about = [["model", "=", "res.partner"], ["res_id", "in", found]]
        messages = self.odoo.ask("mail.message", "search_read", domain=[*about, *calls], fields=["body"])
        return [shown(each["body"]) for each in messages]

    def notes(self, ref: PartyRef) -> Sequence[str]:
        about = [["model", "=", self.model(ref)], ["res_id", "=", int(ref.id)]]
        messages = self.odoo.ask("mail.message", "search_read", domain=about, fields=["body"])
        return [shown(each["body"]) for each in messages]

    def tasks(self, ref: PartyRef) -> Sequence[NewTask]:
        about = [["res_model", "=", self.model(ref)], ["res_id", "=", int(ref.id)]]
        fields = ["summary", "date_deadline", "user_id", "note"]
        return [
            NewTask(
                each["summary"],
                f"{each['date_deadline']}T00:00:00Z",
                str(each["user_id"][0]) if each["user_id"] else None,
                shown(each["note"] or ""),
            )
            for each in self.odoo.ask("mail.activity", "search_read", domain=about, fields=fields)
        ]

    def break_it(self) -> None:
        self.odoo.stop()

    def mend(self) -> None:
        self.odoo.start()

    @staticmethod
    def model(ref: PartyRef) -> str:
        return "crm.lead" if ref.type is PartyType.LEAD else "res.partner"


class _Conformance(AdapterConformance):
    capabilities = frozenset(Capability) - {Capability.CONTACT_FILE, Capability.LOCAL}
    options: ClassVar[Mapping[str, Any]]

    @pytest.fixture(autouse=True)
    def _its_odoo(self, odoo: Odoo, salesperson: int, tmp_path: Path) -> None:
        self.bench = OdooBench(odoo, tmp_path, salesperson, self.options)

    def crm(self) -> Bench:
        return self.bench


class TestOdooByJson2(_Conformance):
    options: ClassVar[Mapping[str, Any]] = {}


class TestOdooByJsonRpc(_Conformance):
    options: ClassVar[Mapping[str, Any]] = {"api": "jsonrpc", "database": DATABASE, "login": API_USER}


@pytest.fixture(params=["json2", "jsonrpc"])
def adapter(request: pytest.FixtureRequest, odoo: Odoo, tmp_path: Path) -> Iterator[OdooAdapter]:
    started = an_adapter(odoo, tmp_path, api=request.param, database=DATABASE, login=API_USER)
    in_reactor(started.start)
    yield started
    in_reactor(started.stop)


@pytest.fixture
def number() -> str:
    """A number that nobody in this Odoo has."""
    return f"+4474009{next(_numbers):05}"


_numbers = count(10_000)


def a_call(partner: int, **changes: Any) -> JournalEntry:
    began = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    call = JournalEntry(
        key=f"c-{next(_numbers)}",
        state=JournalState.ENDED,
        direction="inbound",
        started=began,
        ended=began + timedelta(seconds=95),
        party=PartyRef(PartyType.ORGANISATION, partner),
        talk=80.0,
        subject="Incoming call",
        text="Answered by Vera, 1:20",
    )
    return evolve(call, **changes)


def activities(odoo: Odoo, partner: int, model: str = "res.partner") -> list[dict[str, Any]]:
    about = [["res_model", "=", model], ["res_id", "=", partner], ["active", "in", [True, False]]]
    fields = ["active", "summary", "user_id", "date_deadline", "automated", "note"]
    found: list[dict[str, Any]] = odoo.ask("mail.activity", "search_read", domain=about, fields=fields)
    return found


def messages(odoo: Odoo, partner: int, model: str = "res.partner") -> list[dict[str, Any]]:
    about = [["model", "=", model], ["res_id", "=", partner], ["mail_activity_type_id", "!=", False]]
    fields = ["body", "author_id", "date"]
    found: list[dict[str, Any]] = odoo.ask("mail.message", "search_read", domain=about, fields=fields)
    return found


def test_the_interface_is_found_out(odoo: Odoo, tmp_path: Path) -> None:
    adapter = an_adapter(odoo, tmp_path)
    in_reactor(adapter.start)
    try:
        assert isinstance(in_reactor(adapter._odoo).api, Json2)
    finally:
        in_reactor(adapter.stop)


def test_the_sample_configuration_is_one_for_this_odoo(odoo: Odoo, tmp_path: Path) -> None:
    text = (ROOT / "config" / "odoo.yaml").read_text(encoding="utf-8")
    file = tmp_path / "cti.yaml"
    file.write_text(text.replace("https://odoo.example", odoo.url), encoding="utf-8")
    sample = load_settings(
        file,
        adapter_kinds={"odoo": OdooOptions},
        environ={"AMI_SECRET": "sesame", "ODOO_KEY": odoo.key},
    ).adapters["odoo"]
    assert sample.journal is not None
    adapter = OdooAdapter("odoo", sample.options, a_context(tmp_path))
    in_reactor(adapter.start)
    try:
        assert in_reactor(adapter.health).up
    finally:
        in_reactor(adapter.stop)


@pytest.mark.parametrize("api", ["json2", "jsonrpc"])
def test_a_key_that_odoo_does_not_know_is_said_to_be_one(odoo: Odoo, tmp_path: Path, api: str) -> None:
    key = Secret("not-a-key")
    adapter = an_adapter(odoo, tmp_path, api=api, key=key, database=DATABASE, login=API_USER)
    try:
        with pytest.raises(AdapterDenied, match="login") as denied:
            in_reactor(adapter.start)
        assert "not-a-key" not in str(denied.value)
        assert not in_reactor(adapter.health).up
    finally:
        in_reactor(adapter.stop)


def test_an_extension_finds_the_company_whose_record_says_0(odoo: Odoo, adapter: OdooAdapter) -> None:
    company = odoo.add("res.partner", name="Lindenhof GmbH", is_company=True, phone="+49 (221) 4710-0")
    neighbour = odoo.add("res.partner", name="Neighbour", is_company=True, phone="+49 221 47107")
    try:
        (found,) = in_reactor(adapter.identify, adapter._context.plan.parse("+49221471027"))
        assert (found.id, found.type, found.match) == (str(company), PartyType.ORGANISATION, "stem")
        (found,) = in_reactor(adapter.identify, adapter._context.plan.parse("+4922147100"))
        assert (found.id, found.match) == (str(company), "number")
    finally:
        odoo.ask("res.partner", "unlink", ids=[company, neighbour])


def test_the_salesperson_of_the_open_lead_owns_who_has_none(
    odoo: Odoo, adapter: OdooAdapter, salesperson: int, number: str
) -> None:
    partner = odoo.add("res.partner", name="Ada", phone=number)
    odoo.add("crm.lead", name="Won", partner_id=partner, stage_id=_won(odoo))
    lead = odoo.add("crm.lead", name="New roof", partner_id=partner, user_id=salesperson)
    (found,) = in_reactor(adapter.identify, adapter._context.plan.parse(number))
    assert found.owner == str(salesperson)
    assert [(case.id, case.title, case.status) for case in found.cases] == [(str(lead), "New roof", "New")]
    (by_lead,) = in_reactor(adapter.by_key, "lead", str(lead))
    assert (by_lead.ref, by_lead.match) == (found.ref, "key")


def _won(odoo: Odoo) -> int:
    (stage,) = odoo.ask("crm.stage", "search", domain=[["is_won", "=", True]], limit=1)
    return int(stage)


def test_somebody_who_is_a_lead_only_is_found_and_is_no_more_when_it_is_won(
    odoo: Odoo, adapter: OdooAdapter, number: str
) -> None:
    lead = odoo.add("crm.lead", name="Solar", contact_name="Ida", partner_name="Bakery", phone=number)
    (found,) = in_reactor(adapter.identify, adapter._context.plan.parse(number))
    assert (found.type, found.id, found.name, found.company) == (PartyType.LEAD, str(lead), "Ida", "Bakery")
    assert [case.title for case in found.cases] == ["Solar"]
    odoo.ask("crm.lead", "write", ids=[lead], vals={"stage_id": _won(odoo)})
    assert list(in_reactor(adapter.identify, adapter._context.plan.parse(number))) == []


def test_colleagues_are_no_customers(odoo: Odoo, adapter: OdooAdapter, salesperson: int, number: str) -> None:
    (user,) = odoo.ask("res.users", "read", ids=[salesperson], fields=["partner_id"])
    odoo.ask("res.partner", "write", ids=[user["partner_id"][0]], vals={"phone": number})
    assert list(in_reactor(adapter.identify, adapter._context.plan.parse(number))) == []
    listed = in_reactor(adapter.list, None)
    assert str(user["partner_id"][0]) not in {each.party.id for each in listed.parties}


def test_a_card_has_what_odoo_knows_of_somebody(odoo: Odoo, adapter: OdooAdapter, salesperson: int) -> None:
    company = odoo.add("res.partner", name="Lindenhof GmbH", is_company=True)
    person = odoo.add(
        "res.partner",
        name="Ada",
        parent_id=company,
        user_id=salesperson,
        comment="<p>Likes <b>mornings</b></p><p>&amp; tea</p>",
        category_id=[[0, 0, {"name": "vip"}]],
    )
    lead = odoo.add("crm.lead", name="New roof", partner_id=company, user_id=salesperson)
    odoo.ask("res.partner", "message_post", ids=[person], body="About the <roof>", message_type="comment")
    model = odoo.ask("ir.model", "search", domain=[["model", "=", "res.partner"]])[0]
    odoo.add(
        "mail.activity",
        res_model_id=model,
        res_id=person,
        summary="Send the offer",
        date_deadline="2030-05-01",
        user_id=salesperson,
    )
    odoo.add(
        "calendar.event",
        name="On the roof",
        start="2035-06-01 08:00:00",
        stop="2035-06-01 09:00:00",
        partner_ids=[[4, person]],
        user_id=salesperson,
    )
    card = in_reactor(adapter.card, PartyRef(PartyType.CONTACT, person))
    assert (card.name, card.company, card.organisation) == ("Ada", "Lindenhof GmbH", str(company))
    assert (card.owner, card.tags, card.notes) == (str(salesperson), ("vip",), "Likes mornings\n& tea")
    assert [case.id for case in card.cases] == [str(lead)]
    assert card.cases[0].url == f"{odoo.url}/web#id={lead}&model=crm.lead&view_type=form"
    (task,) = card.tasks
    assert (task.title, task.user, task.due and task.due.date().isoformat()) == (
        "Send the offer",
        str(salesperson),
        "2030-05-01",
    )
    assert [(each.kind, each.summary) for each in card.last_contacts] == [("note", "About the <roof>")]
    (appointment,) = card.appointments
    assert (appointment.title, appointment.at.isoformat()) == ("On the roof", "2035-06-01T08:00:00+00:00")


def test_an_answered_call_is_a_done_activity_and_a_note_by_who_talked(
    odoo: Odoo, adapter: OdooAdapter, salesperson: int
) -> None:
    partner = odoo.add("res.partner", name="Acme", is_company=True)
    ringing = a_call(partner, state=JournalState.RINGING, ended=None, user=str(salesperson))
    first = in_reactor(adapter.journal, ringing, ())
    (activity,) = activities(odoo, partner)
    assert (activity["active"], activity["user_id"][0]) == (True, salesperson)
    assert messages(odoo, partner) == []
    assert in_reactor(adapter.card, PartyRef(PartyType.ORGANISATION, partner)).tasks == ()
    ended = evolve(
        ringing,
        state=JournalState.ENDED,
        text="Wants <b>two</b>\nroofs",
        recording="https://cti.example/r/1",
    )
    written = in_reactor(adapter.journal, ended, first)
    assert {each.type for each in written} == {"mail.activity", "mail.message"}
    assert all(each.url and f"id={partner}&" in each.url for each in written)
    (done,) = activities(odoo, partner)
    assert (done["id"], done["active"]) == (activity["id"], False)
    (message,) = messages(odoo, partner)
    assert shown(message["body"]) == ("Incoming call\nWants <b>two</b>\nroofs\nhttps://cti.example/r/1")
    assert message["author_id"][1] == "Vera Holm"
    assert message["date"] == "2026-03-02 09:30:00"


def test_a_missed_call_stays_to_be_done_by_the_salesperson(
    odoo: Odoo, adapter: OdooAdapter, salesperson: int
) -> None:
    partner = odoo.add("res.partner", name="Acme", is_company=True, user_id=salesperson)
    missed = a_call(
        partner, state=JournalState.MISSED, subject="Missed call", talk=0.0, user=str(salesperson)
    )
    in_reactor(adapter.journal, missed, ())
    (activity,) = activities(odoo, partner)
    assert (activity["active"], activity["user_id"][0], activity["automated"]) == (True, salesperson, False)
    assert activity["date_deadline"] == "2026-03-02"
    (message,) = messages(odoo, partner)
    assert message["author_id"][1] == "Cordboard"
    card = in_reactor(adapter.card, PartyRef(PartyType.ORGANISATION, partner))
    assert [task.title for task in card.tasks] == ["Missed call"]
    assert [contact.kind for contact in card.last_contacts] == ["call"]


def test_a_call_that_was_somebody_elses_goes_to_them(odoo: Odoo, adapter: OdooAdapter) -> None:
    first, second = (odoo.add("res.partner", name=name, is_company=True) for name in ("Acme", "Zenith"))
    call = a_call(first)
    written = in_reactor(adapter.journal, call, ())
    in_reactor(adapter.journal, evolve(call, party=PartyRef(PartyType.ORGANISATION, second)), written)
    assert (activities(odoo, first), messages(odoo, first)) == ([], [])
    assert (len(activities(odoo, second)), len(messages(odoo, second))) == (1, 1)


@pytest.mark.parametrize("state", [JournalState.MISSED, JournalState.ENDED])
def test_a_call_that_was_nobodys_after_all_is_taken_back(
    odoo: Odoo, adapter: OdooAdapter, state: JournalState
) -> None:
    partner = odoo.add("res.partner", name="Acme", is_company=True)
    call = a_call(partner, state=state)
    written = in_reactor(adapter.journal, call, ())
    assert tuple(in_reactor(adapter.withdraw, evolve(call, party=None, was=call.party), written)) == ()
    assert (activities(odoo, partner), messages(odoo, partner)) == ([], [])


def test_an_odoo_that_keeps_no_done_activities_has_the_note_only(odoo: Odoo, adapter: OdooAdapter) -> None:
    found = in_reactor(adapter._odoo)
    adapter._found = evolve(found, archives=False)
    partner = odoo.add("res.partner", name="Acme", is_company=True)
    call = a_call(partner, state=JournalState.CONNECTED)
    first = in_reactor(adapter.journal, call, ())
    assert len(activities(odoo, partner)) == 1
    ended = evolve(call, state=JournalState.ENDED)
    written = in_reactor(adapter.journal, ended, first)
    assert [each.type for each in written] == ["mail.message"]
    # Its answer was lost, and it is told once more.
    assert in_reactor(adapter.journal, ended, first) == written
    assert (activities(odoo, partner), len(messages(odoo, partner))) == ([], 1)


def test_a_call_of_somebody_who_is_deleted_is_written_nowhere(odoo: Odoo, adapter: OdooAdapter) -> None:
    partner = odoo.add("res.partner", name="Acme", is_company=True)
    odoo.ask("res.partner", "unlink", ids=[partner])
    assert tuple(in_reactor(adapter.journal, a_call(partner), ())) == ()


def test_who_is_archived_is_gone_and_deleting_loses_the_mark(
    odoo: Odoo, adapter: OdooAdapter, number: str
) -> None:
    kept, deleted = (odoo.add("res.partner", name=name, phone=number) for name in ("Ada", "Ben"))
    mark = in_reactor(adapter.list, None).mark
    odoo.ask("res.partner", "write", ids=[kept], vals={"active": False})
    gone, pages = set(), 0
    following = mark
    while True:
        page = in_reactor(adapter.changes, following)
        gone |= set(page.gone)
        following, pages = page.mark, pages + 1
        if not page.more:
            break
    assert PartyRef(PartyType.CONTACT, kept) in gone
    assert PartyRef(PartyType.CONTACT, deleted) not in gone
    odoo.ask("res.partner", "unlink", ids=[deleted])
    with pytest.raises(MarkLost):
        in_reactor(adapter.changes, following)


def test_a_lead_that_becomes_a_contact_is_gone_as_a_lead(
    odoo: Odoo, adapter: OdooAdapter, number: str
) -> None:
    lead = odoo.add("crm.lead", name="Solar", contact_name="Ida", phone=number)
    mark = in_reactor(adapter.list, None).mark
    partner = odoo.add("res.partner", name="Ida", phone=number)
    odoo.ask("crm.lead", "write", ids=[lead], vals={"partner_id": partner})
    gone, new = set(), set()
    while True:
        page = in_reactor(adapter.changes, mark)
        gone |= set(page.gone)
        new |= {each.party.ref for each in page.parties}
        mark = page.mark
        if not page.more:
            break
    assert PartyRef(PartyType.LEAD, lead) in gone - new
    assert PartyRef(PartyType.CONTACT, partner) in new


def test_two_tries_at_once_make_nothing_twice(odoo: Odoo, adapter: OdooAdapter) -> None:
    partner = odoo.add("res.partner", name="Acme", is_company=True)
    calls = [a_call(partner) for _ in range(5)]

    async def at_once() -> None:
        # The first try is still on its way when it is made again.
        tries = [Deferred.fromCoroutine(adapter.journal(call, ())) for call in calls for _ in range(3)]
        for each in tries:
            with suppress(AdapterError):
                await each

    in_reactor(at_once)
    for call in calls:
        in_reactor(adapter.journal, call, ())
    assert len(activities(odoo, partner)) == len(messages(odoo, partner)) == len(calls)
