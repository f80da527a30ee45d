"""Contacts from vCards and back, what is refused of them, and how who waits is told how far it is."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings, strategies as st
from twisted.internet.task import Clock

from adapters.base import AdapterContext, Party
from adapters.contact_files import ContactFileError, Form, ImportReport
from adapters.directory import DirectoryAdapter, DirectoryOptions, KeyOptions
from adapters.directory_csv import import_csv
from adapters.directory_file import Directory, Entry, PartyKey, PartyNumber
from adapters.directory_vcard import export_vcards, import_vcards
from cti.commands.progress import progress_bar
from cti.numbers import NumberPlan

GERMANY = NumberPlan("DE")
MOBILE, OFFICE = "+4915228817386", "+494066969100"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    opened = Directory(tmp_path / "directory.db", "directory")
    opened.open()
    yield opened
    opened.close()


def a_card(*lines: str, version: str = "3.0", uid: str | None = "17") -> str:
    found = [f"VERSION:{version}", *([f"UID:{uid}"] if uid else []), *lines]
    return "\r\n".join(["BEGIN:VCARD", *found, "END:VCARD", ""])


def take(directory: Directory, *cards: str, keys: tuple[str, ...] = ()) -> ImportReport:
    return import_vcards(directory, GERMANY, io.BytesIO("".join(cards).encode()), keys=keys)


def refusals(report: ImportReport) -> list[tuple[int, str]]:
    return [(each.line, each.why) for each in report.refused]


def counts(report: ImportReport) -> tuple[int, int, int, int]:
    return report.added, report.updated, report.unchanged, report.refused_count


def the_entry(directory: Directory, party_id: str = "17") -> Entry:
    entry = directory.get(party_id)
    assert entry is not None
    return entry


def test_a_card_as_a_telephone_writes_it_goes_in(directory: Directory) -> None:
    report = take(
        directory,
        a_card(
            "N:Öhlmann;Katrin;;Dr.;",
            "FN:Dr. Katrin Öhlmann",
            "ORG:Acme\\, Inc.;Sales",
            "item1.TEL;type=CELL;type=VOICE;type=pref:0152 28817386",
            "TEL;TYPE=WORK:+49 (40) 66969-100",
            "CATEGORIES:vip,slow payer",
            "NOTE:ruft gern\\nvormittags an",
            "URL:https://crm.example/17",
            "EMAIL:katrin@acme.example",
            "PHOTO;ENCODING=b;TYPE=JPEG:/9j/4AAQSkZJRgABAQ",
            " EAlgCWAAD/2wBDAAEBAQEBAQEBAQEBAQEBAQEBAQ",
        ),
    )
    assert counts(report) == (1, 0, 0, 0)
    assert the_entry(directory) == Entry(
        Party(
            "directory",
            "contact",
            "17",
            "Dr. Katrin Öhlmann",
            "Acme, Inc.",
            url="https://crm.example/17",
            tags=("vip", "slow payer"),
            notes="ruft gern\nvormittags an",
            organisation="Acme, Inc.",
        ),
        (
            PartyNumber("0152 28817386", MOBILE, "mobile"),
            PartyNumber("+49 (40) 66969-100", OFFICE, "office"),
        ),
    )


def test_cards_of_all_versions_go_in(directory: Directory) -> None:
    report = take(
        directory,
        a_card(
            "N;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:=C3=96hl;Kai", "TEL;CELL:015228817386", version="2.1"
        ),
        a_card(
            "FN:Zoë Ward",
            "KIND:individual",
            "TEL;VALUE=uri;TYPE=work:tel:+44-20-7946-0123",
            version="4.0",
            uid="18",
        ),
        a_card("FN:Acme", "KIND:org", "TEL:040 66969-0", version="4.0", uid="19"),
    )
    assert counts(report) == (3, 0, 0, 0)
    assert [entry.party.name for entry in directory.entries()] == ["Kai Öhl", "Zoë Ward", "Acme"]
    assert directory.lookup("+442079460123")[0].id == "18"
    assert (the_entry(directory, "19").party.type, the_entry(directory, "19").party.company) == (
        "organisation",
        "",
    )


def test_a_card_updates_what_it_says_and_leaves_the_rest(directory: Directory) -> None:
    take(directory, a_card("FN:Katrin", f"TEL;TYPE=CELL:{MOBILE}", "NOTE:vormittags"))
    entry = the_entry(directory)
    directory.put(evolve(entry, party=evolve(entry.party, owner="u1", tier="gold", type="partner")))
    report = take(directory, a_card("FN:Katrin Öhlmann", f"TEL:{MOBILE}"))
    assert counts(report) == (0, 1, 0, 0)
    party = the_entry(directory).party
    assert (party.name, party.notes, party.owner, party.tier, party.type) == (
        "Katrin Öhlmann",
        "vormittags",
        "u1",
        "gold",
        "partner",
    )
    assert the_entry(directory).numbers == (PartyNumber(MOBILE, MOBILE, "mobile"),)


def test_a_card_without_numbers_says_nothing_of_them(directory: Directory) -> None:
    take(directory, a_card("FN:Katrin", f"TEL:{MOBILE}"))
    assert counts(take(directory, a_card("FN:Katrin", "NOTE:new"))) == (0, 1, 0, 0)
    assert directory.lookup(MOBILE)[0].notes == "new"


def test_a_card_without_an_id_is_known_again(directory: Directory) -> None:
    card = a_card("FN:Katrin", f"TEL:{MOBILE}", uid=None)
    assert counts(take(directory, card)) == (1, 0, 0, 0)
    assert counts(take(directory, card)) == (0, 0, 1, 0)
    assert counts(take(directory, a_card("FN:Katrin", f"TEL:{OFFICE}", uid=None))) == (1, 0, 0, 0)


def test_what_is_refused_is_told_with_its_line_and_the_rest_goes_in(directory: Directory) -> None:
    report = take(
        directory,
        a_card("FN:Anna", "TEL:*100#", f"TEL:{MOBILE}", uid="1"),
        a_card("TEL:0152 28817386", uid="2"),
        a_card("FN:Team", "KIND:group", version="4.0", uid="3"),
        a_card("FN:Again", uid="1"),
        a_card("FN:" + "n" * 300, uid="4"),
        a_card("FN:Odd", "no colon", uid="5"),
        "BEGIN:VCARD\r\nFN:Endless\r\n",
        a_card("FN:Boris", uid="6"),
        a_card("FN:Friend", "X-CORDBOARD-TYPE:friend", uid="7"),
    )
    assert counts(report) == (2, 0, 0, 8)
    lines = dict(refusals(report))
    assert [entry.party.id for entry in directory.entries()] == ["1", "6"]
    assert [(number.raw, number.e164) for number in the_entry(directory, "1").numbers] == [(MOBILE, MOBILE)]
    assert "'*100#' is no public telephone number" in lines[1]
    assert lines[1].endswith("the rest of its card went in")
    assert "says a name" in lines[8]
    assert "list of people" in lines[13]
    assert "already on line 1" in lines[19]
    assert "has 300 characters, and at most 256 fit" in lines[24]
    assert "NAME:VALUE" in lines[29]
    assert "END:VCARD is missing" in lines[35]
    assert "none of contact, organisation" in lines[42]


def test_a_card_that_is_not_utf_8_or_far_too_large_is_refused_alone(directory: Directory) -> None:
    photo = "PHOTO:" + "A" * 60_000 + "\r\n"
    huge = a_card("FN:Huge", *[photo.strip()] * 20, uid="1")
    report = import_vcards(
        directory,
        GERMANY,
        io.BytesIO(
            huge.encode()
            + a_card("FN:Jürgen", uid="2").encode("latin-1")
            + a_card("FN:Anna", uid="3").encode()
        ),
    )
    assert [why for _, why in refusals(report)] == ["it has more than 1000000 bytes", "it is not UTF-8"]
    assert [entry.party.id for entry in directory.entries()] == ["3"]


def test_a_photograph_in_one_long_line_is_no_harm(directory: Directory) -> None:
    report = take(directory, a_card("FN:Anna", "PHOTO:data:" + "A" * 200_000, f"TEL:{MOBILE}"))
    assert counts(report) == (1, 0, 0, 0)
    assert directory.lookup(MOBILE)


@pytest.mark.parametrize("text", ["", "id,name\n1,Anna\n", "\x00" * 100])
def test_a_file_without_cards_is_refused_as_a_whole(directory: Directory, text: str) -> None:
    with pytest.raises(ContactFileError, match="no BEGIN:VCARD"):
        take(directory, text)


EVERYTHING = Entry(
    Party(
        "directory",
        "partner",
        "a/b;c,d",
        "Анна \\ Соколова; Jr.",
        "ООО «Ромашка», Москва",
        url="https://crm.example/17?a=1;b=2,3",
        owner="u1",
        tier="gold",
        language="pt-BR",
        tags=("vip", "slow, payer"),
        notes="Zeile 1\nZeile 2; mit, allem\\n" + "ö" * 200,
        organisation="org-1",
        balance="1.200,00 €",
        dunning="2nd reminder",
    ),
    (PartyNumber("0152 28817386", MOBILE, "mobile"), PartyNumber("040 66969-100", OFFICE)),
    (PartyKey("customer", "K-4711"),),
)


@pytest.mark.parametrize("form", [Form.VCARD3, Form.VCARD4])
def test_an_export_as_vcards_can_be_imported_without_changing_anything(
    directory: Directory, form: Form, tmp_path: Path
) -> None:
    directory.put(EVERYTHING)
    directory.put(
        Entry(Party("directory", "organisation", "2", "Acme"), (PartyNumber("040 66969-0", "+4940669690"),))
    )
    directory.put(Entry(Party("directory", "contact", "3", "Boris", company="Acme")))
    target = tmp_path / "out.vcf"
    assert export_vcards(directory, target, form=form) == 3
    assert target.stat().st_mode & 0o077 == 0
    assert max(len(line) for line in target.read_bytes().split(b"\r\n")) <= 75
    assert import_vcards(directory, GERMANY, target, keys=("customer",)) == ImportReport(0, 0, 3, (), 0)
    fresh = Directory(tmp_path / "fresh.db", "directory")
    fresh.open()
    import_vcards(fresh, GERMANY, target, keys=("customer",))
    assert list(fresh.entries())[2] == EVERYTHING
    fresh.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(noise=st.binary(max_size=200))
def test_no_bytes_break_an_import_of_cards(directory: Directory, noise: bytes) -> None:
    data = b"BEGIN:VCARD\r\nFN:Anna\r\n" + noise + b"\r\nEND:VCARD\r\n"
    report = import_vcards(directory, GERMANY, io.BytesIO(data))
    assert report.added + report.updated + report.unchanged + report.refused_count > 0


def an_adapter(base: Path) -> DirectoryAdapter:
    options = DirectoryOptions(keys={"customer": KeyOptions("Customer number")})
    return DirectoryAdapter("directory", options, AdapterContext(base, GERMANY, Clock()))


def test_keys_and_further_columns_go_through_csv(tmp_path: Path) -> None:
    adapter = an_adapter(tmp_path)
    adapter.directory.open()
    file = "id,name,customer,balance,organisation\n1,Anna,K-1,12 €,acme\n2,Boris,K-1,,\n"
    report = adapter.import_contacts(io.BytesIO(file.encode()), Form.CSV)
    assert refusals(report) == [(3, "another party has its customer number already")]
    assert the_entry(adapter.directory, "1").keys == (PartyKey("customer", "K-1"),)
    written = io.BytesIO()
    adapter.export_contacts(written, Form.CSV)
    header, line = written.getvalue().decode().splitlines()
    assert header.endswith("notes,url,organisation,balance,customer")
    assert line.endswith(",acme,12 €,K-1")
    assert adapter.import_contacts(io.BytesIO(written.getvalue()), Form.CSV).unchanged == 1
    without = adapter.import_contacts(io.BytesIO(b"id,name\n1,Zoe\n"), Form.CSV)
    assert (without.updated, the_entry(adapter.directory, "1").keys) == (1, (PartyKey("customer", "K-1"),))
    adapter.import_contacts(io.BytesIO(b"id,customer\n1,\n"), Form.CSV)
    assert the_entry(adapter.directory, "1").keys == ()
    adapter.directory.close()


@pytest.mark.parametrize(
    ("file", "form"),
    [
        ("a.csv", Form.CSV),
        ("A.CSV", Form.CSV),
        ("a.vcf", Form.VCARD3),
        ("b/c.VCARD", Form.VCARD3),
        ("a.xlsx", None),
    ],
)
def test_a_files_name_says_what_is_in_it(file: str, form: Form | None) -> None:
    assert Form.of(file) is form


# Progress.


class Terminal(io.StringIO):
    def __init__(self, there: bool) -> None:
        super().__init__()
        self.there = there

    def isatty(self) -> bool:
        return self.there


def test_who_waits_at_a_terminal_sees_how_far_it_is() -> None:
    terminal, clock = Terminal(True), Clock()
    with progress_bar("reading", terminal, clock.seconds) as progress:
        assert progress is not None
        progress(500, 1000)
        progress(600, 1000)
        clock.advance(1)
        progress(12_000, 0)
    drawn = terminal.getvalue().split("\r\033[K")
    assert drawn == ["", "reading [###############...............]  50% of 1,000", "reading 12,000", ""]


def test_in_a_log_there_is_no_bar() -> None:
    terminal = Terminal(False)
    with progress_bar("reading", terminal) as progress:
        assert progress is None
    assert terminal.getvalue() == ""


def test_an_import_and_an_export_tell_how_far_they_are(directory: Directory, tmp_path: Path) -> None:
    file = tmp_path / "contacts.csv"
    file.write_text("id,name\n" + "".join(f"{n},Anna\n" for n in range(1200)))
    told: list[tuple[int, int]] = []
    import_csv(directory, GERMANY, file, progress=lambda done, whole: told.append((done, whole)))
    size = file.stat().st_size
    assert [whole for _, whole in told] == [size] * len(told)
    assert told == sorted(told)
    assert (len(told), told[-1]) == (4, (size, size))
    told.clear()
    export_vcards(directory, tmp_path / "out.vcf", form=Form.VCARD3, progress=lambda *done: told.append(done))
    assert told == [(500, 1200), (1000, 1200), (1200, 1200)]
