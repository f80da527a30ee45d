"""A real Odoo 19 by both of its interfaces: what every adapter is held to, and what Odoo has of its own."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

import adapters.odoo
from adapters.base import (
    AdapterError,
    Capability,
    IAdapter,
    ListedParty,
    NewTask,
    PartyRef,
    PartyType,
)
from adapters.conformance import AdapterConformance, Bench, a_context
from adapters.odoo import OdooAdapter, OdooOptions
from cti.secret import Secret
from lab.crm.odoo import API_USER, DATABASE, Odoo

PAGE = 4


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
    keeps = frozenset({"name", "company", "owner", "language", "tags", "notes"})
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
    capabilities = frozenset(Capability) - {Capability.CONTACT_FILE}
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
