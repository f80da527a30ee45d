"""Each preset against a strict fake of its CRM, by the conformance suite and by what is its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from adapters.base import Capability, ListedParty, PartyType
from adapters.conformance import AdapterConformance
from tests.crm.benches import FakeBench, two_names
from tests.crm.fakes import (
    FakeCrm,
    bitrix24,
    dynamics365,
    espocrm,
    hubspot,
    pipedrive,
    salesforce,
    suitecrm,
    vtiger,
    webhook,
    wice,
    zoho,
)
from tests.crm.fakes.bitrix24 import Bitrix24
from tests.crm.fakes.dynamics365 import Dynamics365
from tests.crm.fakes.espocrm import EspoCrm
from tests.crm.fakes.hubspot import HubSpot
from tests.crm.fakes.pipedrive import Pipedrive
from tests.crm.fakes.salesforce import Salesforce
from tests.crm.fakes.suitecrm import SuiteCrm
from tests.crm.fakes.vtiger import Vtiger
from tests.crm.fakes.webhook import HomeMade
from tests.crm.fakes.wice import Wice
from tests.crm.fakes.zammad import CTI_TOKEN, TOKEN, Zammad
from tests.crm.fakes.zoho import Zoho

READS = frozenset({Capability.IDENTIFY, Capability.SEARCH, Capability.LIST})


WRITES = READS | {
    Capability.CARD,
    Capability.CREATE,
    Capability.USERS,
    Capability.JOURNAL,
    Capability.NOTE,
    Capability.TASK,
}


class PresetConformance(AdapterConformance):
    """With a fake that is closed again."""

    @pytest.fixture(autouse=True)
    def _fakes(self, tmp_path: Path) -> Iterator[None]:
        self.base = tmp_path
        self.opened: list[FakeCrm] = []
        yield
        for fake in self.opened:
            fake.close()

    def opens(self, fake: FakeCrm) -> FakeCrm:
        self.opened.append(fake)
        return fake


class TestZammad(PresetConformance):
    capabilities = READS | {
        Capability.CARD,
        Capability.CREATE,
        Capability.USERS,
        Capability.JOURNAL,
        Capability.NOTE,
    }

    def crm(self) -> FakeBench:
        return FakeBench(
            self.opens(Zammad()),
            "zammad",
            self.base,
            fields=lambda party: dict(zip(("firstname", "lastname"), two_names(party), strict=True)),
            secrets={"token": TOKEN, "cti_token": CTI_TOKEN},
            numbers_as_typed=("+49 1522 8817386", "01522 8817386", "4915228817386", "004915228817386"),
            journal_keeps_text=False,
            journals_of_parties=False,
        )


def bitrix_fields(party: ListedParty) -> Mapping[str, str]:
    first, last = two_names(party)
    return {"TITLE": party.party.name, "NAME": first, "LAST_NAME": last}


class TestBitrix24(PresetConformance):
    capabilities = READS | {
        Capability.CARD,
        Capability.CREATE,
        Capability.USERS,
        Capability.JOURNAL,
        Capability.NOTE,
        Capability.TASK,
    }

    def crm(self) -> FakeBench:
        return FakeBench(
            self.opens(Bitrix24()),
            "bitrix24",
            self.base,
            fields=bitrix_fields,
            values={"user": bitrix24.USER},
            secrets={"code": bitrix24.CODE},
            numbers_as_typed=("+49 (1522) 8817386", "01522/8817386", "4915228817386"),
            types=(PartyType.CONTACT, PartyType.ORGANISATION, PartyType.LEAD),
            page=Bitrix24.page_size,
            numbers_held=4,
            user=bitrix24.USER,
        )


class TestWebhook(PresetConformance):
    capabilities = READS | {
        Capability.CARD,
        Capability.CREATE,
        Capability.KEY,
        Capability.USERS,
        Capability.JOURNAL,
        Capability.NOTE,
        Capability.TASK,
    }

    def crm(self) -> FakeBench:
        bench = FakeBench(
            self.opens(HomeMade()),
            "webhook",
            self.base,
            fields=lambda party: (
                {
                    name: value
                    for name, value in party.party.as_json().items()
                    if name in ("name", "company", "tier", "tags", "notes", "language", "balance", "dunning")
                }
                | {"owner": party.party.owner}
            ),
            secrets={"token": webhook.TOKEN},
            numbers_as_typed=("+49 (1522) 8817386", "01522/8817386", "0049 1522 8817386"),
            types=tuple(PartyType),
            page=HomeMade.page_size,
            numbers_held=10,
            user="anna",
            keeps=frozenset({"name", "company", "owner", "tier", "tags", "notes", "language", "balance"}),
        )
        bench.key_of = lambda ref: ("customer", f"K-{ref.id}")  # type: ignore[method-assign]
        return bench


def zoho_fields(party: ListedParty) -> Mapping[str, str]:
    if party.party.type is PartyType.ORGANISATION:
        return {"Account_Name": party.party.name}
    first, last = two_names(party)
    return {"First_Name": first, "Last_Name": last}


class TestZoho(PresetConformance):
    capabilities = WRITES

    def crm(self) -> FakeBench:
        fake = self.opens(Zoho())
        return FakeBench(
            fake,
            "zoho",
            self.base,
            fields=zoho_fields,
            values={"accounts": fake.url, "web": "https://crm.zoho.example", "client_id": zoho.CLIENT},
            secrets={"client_secret": zoho.SECRET, "refresh_token": zoho.REFRESH},
            numbers_as_typed=("+49 1522 8817386", "015228817386", "4915228817386"),
            types=(PartyType.CONTACT, PartyType.LEAD, PartyType.ORGANISATION),
            page=Zoho.page_size,
            user=zoho.USER,
        )


class TestWice(PresetConformance):
    capabilities = READS | {Capability.CREATE}

    def crm(self) -> FakeBench:
        def fields(party: ListedParty) -> Mapping[str, str]:
            first, last = two_names(party)
            return {"firstname": first, "name": last}

        return FakeBench(
            self.opens(Wice()),
            "wice",
            self.base,
            fields=fields,
            values={"client": wice.CLIENT, "username": wice.USER},
            secrets={"password": wice.PASSWORD, "api_key": wice.KEY},
            numbers_as_typed=("+49 1522 8817386", "01522 8817386", "015228817386", "004915228817386"),
        )


def vtiger_fields(party: ListedParty) -> Mapping[str, str]:
    if party.party.type is PartyType.ORGANISATION:
        return {"accountname": party.party.name}
    first, last = two_names(party)
    return {"firstname": first, "lastname": last}


class TestVtiger(PresetConformance):
    capabilities = WRITES

    def crm(self) -> FakeBench:
        return FakeBench(
            self.opens(Vtiger()),
            "vtiger",
            self.base,
            fields=vtiger_fields,
            values={"username": vtiger.USERNAME},
            secrets={"access_key": vtiger.ACCESS_KEY},
            numbers_as_typed=("+49 1522 8817386", "01522 8817386", "015228817386", "004915228817386"),
            types=(PartyType.CONTACT, PartyType.LEAD, PartyType.ORGANISATION),
            user=vtiger.USER,
        )


def suite_fields(party: ListedParty) -> Mapping[str, str]:
    if party.party.type is PartyType.ORGANISATION:
        return {"name": party.party.name}
    first, last = two_names(party)
    return {"first_name": first, "last_name": last}


class TestSuiteCrm(PresetConformance):
    capabilities = WRITES

    def crm(self) -> FakeBench:
        return FakeBench(
            self.opens(SuiteCrm()),
            "suitecrm",
            self.base,
            fields=suite_fields,
            values={"client_id": suitecrm.CLIENT},
            secrets={"client_secret": suitecrm.SECRET},
            numbers_as_typed=("+49 1522 8817386", "015228817386", "+4915228817386"),
            types=(PartyType.CONTACT, PartyType.LEAD, PartyType.ORGANISATION),
            user=suitecrm.USER,
        )

    def test_many_others_do_not_push_out_who_has_the_number(self) -> None:
        # With `or`, SuiteCRM's own `deleted = 0` is one more alternative.
        with self.trial() as trial:
            for n in range(60):
                trial.plant(f"Other {n}", f"+4477009001{n:02}")
            trial.finds("+4915228817386", trial.plant("Ada", "+4915228817386"))


def salesforce_fields(party: ListedParty) -> Mapping[str, str]:
    if party.party.type is PartyType.ORGANISATION:
        return {"Name": party.party.name}
    first, last = two_names(party)
    return {"FirstName": first, "LastName": last}


class TestSalesforce(PresetConformance):
    capabilities = WRITES

    def crm(self) -> FakeBench:
        return FakeBench(
            self.opens(Salesforce()),
            "salesforce",
            self.base,
            fields=salesforce_fields,
            values={"client_id": salesforce.CLIENT},
            secrets={"client_secret": salesforce.SECRET},
            numbers_as_typed=("+49 (1522) 8817386", "01522/8817386", "+4915228817386", "0049 1522 8817386"),
            types=(PartyType.CONTACT, PartyType.LEAD, PartyType.ORGANISATION),
            user=salesforce.USER,
        )


class TestPipedrive(PresetConformance):
    capabilities = WRITES

    def crm(self) -> FakeBench:
        return FakeBench(
            self.opens(Pipedrive()),
            "pipedrive",
            self.base,
            fields=lambda party: {"name": party.party.name},
            secrets={"token": pipedrive.TOKEN},
            numbers_as_typed=("+49 1522 8817386", "015228817386", "+4915228817386"),
            page=Pipedrive.page_size,
            user=pipedrive.USER,
            # A call log cannot be changed.
            journal_keeps_text=False,
        )


def hubspot_fields(party: ListedParty) -> Mapping[str, str]:
    if party.party.type is PartyType.ORGANISATION:
        return {"name": party.party.name}
    first, last = two_names(party)
    return {"firstname": first, "lastname": last}


class TestHubSpot(PresetConformance):
    capabilities = WRITES

    def crm(self) -> FakeBench:
        return FakeBench(
            self.opens(HubSpot()),
            "hubspot",
            self.base,
            fields=hubspot_fields,
            values={"portal": hubspot.PORTAL},
            secrets={"token": hubspot.TOKEN},
            numbers_as_typed=("+49 (1522) 8817386", "01522/8817386", "+4915228817386", "0049 1522 8817386"),
            types=(PartyType.CONTACT, PartyType.ORGANISATION),
            page=HubSpot.page_size,
            user=hubspot.USER,
        )


def espo_fields(party: ListedParty) -> Mapping[str, str]:
    if party.party.type is PartyType.ORGANISATION:
        return {"name": party.party.name}
    first, last = two_names(party)
    return {"firstName": first, "lastName": last}


class TestEspoCrm(PresetConformance):
    capabilities = WRITES

    def crm(self) -> FakeBench:
        return FakeBench(
            self.opens(EspoCrm()),
            "espocrm",
            self.base,
            fields=espo_fields,
            secrets={"api_key": espocrm.KEY},
            numbers_as_typed=("+49 1522 8817386", "015228817386", "+4915228817386", "004915228817386"),
            types=(PartyType.CONTACT, PartyType.LEAD, PartyType.ORGANISATION),
            user=espocrm.USER,
            # More than one are in the record, and not in the list.
            numbers_held=1,
        )


def dynamics_fields(party: ListedParty) -> Mapping[str, str]:
    if party.party.type is PartyType.ORGANISATION:
        return {"name": party.party.name}
    first, last = two_names(party)
    return {"firstname": first, "lastname": last, "fullname": party.party.name}


class TestDynamics365(PresetConformance):
    capabilities = WRITES

    def crm(self) -> FakeBench:
        fake = self.opens(Dynamics365())
        return FakeBench(
            fake,
            "dynamics365",
            self.base,
            fields=dynamics_fields,
            values={"tenant": dynamics365.TENANT, "client_id": dynamics365.CLIENT, "login": fake.url},
            secrets={"client_secret": dynamics365.SECRET},
            numbers_as_typed=("+49 1522 8817386", "015228817386", "+4915228817386", "004915228817386"),
            types=(PartyType.CONTACT, PartyType.LEAD, PartyType.ORGANISATION),
            page=Dynamics365.page_size,
            user=dynamics365.USER,
        )
