"""What docs/crm says of described CRMs is so: the example runs, the samples load, the tables are complete."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from jmespath.functions import Functions

from adapters import http_preset
from adapters.base import JournalEntry, JournalState, PartyRef, PartyType
from adapters.http import HttpAdapter, HttpOptions
from adapters.http_preset import preset_names
from adapters.http_words import Vocabulary
from adapters.trial import a_context, in_reactor
from cti.secret import Secret
from tests.crm.fakes import Answer, FakeCrm, Refused, Request

PAGES = Path(__file__).parents[2] / "docs" / "crm"


def text_of(page: str) -> str:
    return (PAGES / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[str]:
    return re.findall(r"^```ya?ml\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)


class Rolodex(FakeCrm):
    """The CRM of the example."""

    PERSON: ClassVar[Any] = {
        "id": "p1",
        "first": "Ada",
        "last": "Adler",
        "company": {"name": "Adler & Co"},
        "keeper": "anna",
        "phones": [{"number": "01522 8817386"}],
    }

    def handle(self, request: Request) -> Answer:
        if request.path == "/login":
            assert request.json() == {"user": "cti", "password": "open sesame"}
            return Answer(body={"token": "t-4711", "valid_for": 3600})
        if request.headers.get("authorization") != "Token t-4711":
            raise Refused(401, {"error": "who?"})
        match request.method, request.path:
            case "GET", "/people":
                asked = request.only("phone", "name")
                found = asked.get("phone") == "01522 8817386" or asked.get("name") == "Adler"
                return Answer(body={"people": [self.PERSON] if found else []})
            case "GET", "/people/p1":
                ticket = {"no": 5, "about": "Printer", "state": "open", "since": "02.03.2026"}
                return Answer(body={**self.PERSON, "tickets": [ticket]})
            case "GET", "/calls":
                key = request.only(needed=["reference"])["reference"]
                return Answer(body=[{"id": key}] if key in self.calls else [])
            case "POST", "/calls":
                call = request.json()
                self.calls[call["reference"]] = call
                return Answer(201, {"id": call["reference"]})
            case "PUT", path if path.removeprefix("/calls/") in self.calls:
                self.calls[path.removeprefix("/calls/")] = request.json()
                return Answer(body={})
        raise Refused(404, {})


@pytest.fixture
def rolodex(tmp_path: Path) -> Iterator[HttpAdapter]:
    (example,) = [block for block in blocks("http.md") if "title: Rolodex" in block]
    file = tmp_path / "rolodex.yaml"
    file.write_text(example, encoding="utf-8")
    crm = Rolodex()
    secrets = {"password": Secret("open sesame")}
    options = HttpOptions(crm.url, file=file, values={"user": "cti"}, secrets=secrets)
    adapter = HttpAdapter("crm", options, a_context(tmp_path))
    adapter.crm = crm  # type: ignore[attr-defined]
    in_reactor(adapter.start)
    yield adapter
    in_reactor(adapter.stop)
    crm.close()


def test_the_example_finds_a_caller_and_their_card(rolodex: HttpAdapter) -> None:
    number = a_context(Path()).plan.parse("+4915228817386")
    (party,) = in_reactor(rolodex.identify, number)
    assert (party.name, party.company, party.owner) == ("Ada Adler", "Adler & Co", "anna")
    card = in_reactor(rolodex.card, party.ref)
    assert card is not None
    (case,) = card.cases
    assert (case.id, case.title, case.opened) == ("5", "Printer", datetime(2026, 3, 2, tzinfo=UTC))
    assert [each.id for each in in_reactor(rolodex.search, "Adler", 5)] == ["p1"]
    assert in_reactor(rolodex.card, PartyRef(PartyType.CONTACT, "gone")) is None


def test_the_example_writes_a_call_once(rolodex: HttpAdapter) -> None:
    entry = JournalEntry(
        key="k1",
        state=JournalState.ENDED,
        direction="inbound",
        started=datetime(2026, 3, 2, 9, 30, tzinfo=UTC),
        party=PartyRef(PartyType.CONTACT, "p1"),
        number="+4915228817386",
        talk=171.5,
        text="was answered",
    )
    first = in_reactor(rolodex.journal, entry, ())
    assert in_reactor(rolodex.journal, entry, ()) == in_reactor(rolodex.journal, entry, first) == first
    assert rolodex.crm.calls == {  # type: ignore[attr-defined]
        "k1": {
            "reference": "k1",
            "person": "p1",
            "way": "i",
            "at": "2026-03-02 09:30",
            "minutes": 3,
            "text": "was answered",
        }
    }


def test_each_sample_has_what_its_preset_asks_for() -> None:
    seen = set()
    for block in blocks("presets.md"):
        sample = yaml.safe_load(block)["adapters"]["crm"]
        assert sample.pop("kind") == "http"
        sample["secrets"] = {name: Secret("x" * 8) for name in sample["secrets"]}
        HttpOptions(**sample)
        seen.add(sample["preset"])
    assert seen == set(preset_names())


def test_each_preset_has_its_section_and_its_line() -> None:
    page = text_of("presets.md")
    for name in preset_names():
        assert f"\n## {name}\n" in page
        assert f"\n| `{name}` |" in page


def test_every_word_of_descriptions_is_explained() -> None:
    page = text_of("http.md")
    ours = Vocabulary.FUNCTION_TABLE.keys() - Functions.FUNCTION_TABLE.keys()
    for function in ours:
        assert f"`{function}(" in page, function
    words = {
        *http_preset._TOP,
        *http_preset._STEP,
        *http_preset._FIELDS,
        *http_preset._SECTIONS,
        *http_preset._ERRORS,
        *http_preset.VARIANTS,
        *("early", "needs", "find", "found", "update", "token", "seconds", "basic", "sensitive", "value"),
    }
    in_code = {word for each in re.findall(r"`([^`\n]+)`", page) for word in re.findall(r"\w+", each)}
    in_code |= set(re.findall(r"\w+", "\n".join(blocks("http.md"))))
    assert words - in_code == set()
