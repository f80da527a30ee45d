"""Contacts from CSV and back: what goes in, what is refused and why."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from adapters.base import Party
from adapters.contact_files import REFUSALS_LIMIT, ContactFileError, ImportReport
from adapters.directory_csv import COLUMNS, export_csv, import_csv
from adapters.directory_file import Directory, Entry, PartyNumber
from cti.numbers import NumberPlan

GERMANY = NumberPlan("DE")
HEADER = ",".join(COLUMNS)
MOBILE = "+4915228817386"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    opened = Directory(tmp_path / "directory.db", "directory")
    opened.open()
    yield opened
    opened.close()


def take(directory: Directory, *lines: str, header: str = HEADER) -> ImportReport:
    return import_csv(directory, GERMANY, io.BytesIO("\r\n".join([header, *lines, ""]).encode()))


def refusals(report: ImportReport) -> list[tuple[int, str]]:
    return [(refusal.line, refusal.why) for refusal in report.refused]


def counts(report: ImportReport) -> tuple[int, int, int, int]:
    return report.added, report.updated, report.unchanged, report.refused_count


def test_a_file_as_people_write_it_goes_in(directory: Directory) -> None:
    report = take(
        directory,
        "1,contact,Žana Kovač,Kovač d.o.o.,0152 28817386;+49 (0)40 / 66969-100,u1,gold,sl,vip; šport ,"
        '"Pokliči popoldne, prosim.\nGovori ""tiho""",https://crm.example/1',
        "2,organisation,Müller & Söhne,,004969 90009-100,,,,,,",
        "3,,Анна Соколова,,49 221 4710 123,u2,,ru,,,",
        "4,lead,Zoë Ward,,+44 20 7946 0123,,,en-GB,,,",
    )
    assert counts(report) == (4, 0, 0, 0)
    (party,) = directory.lookup("+494066969100")
    assert party == Party(
        "directory",
        "contact",  # type: ignore[arg-type]
        "1",
        "Žana Kovač",
        "Kovač d.o.o.",
        owner="u1",
        tier="gold",
        language="sl",
        tags=("vip", "šport"),
        notes='Pokliči popoldne, prosim.\nGovori "tiho"',
        url="https://crm.example/1",
    )
    assert directory.lookup(MOBILE) == [party]
    assert [directory.lookup(e164)[0].id for e164 in ("+496990009100", "+492214710123", "+442079460123")] == [
        "2",
        "3",
        "4",
    ]


def test_a_byte_order_mark_and_columns_in_another_order_are_fine(directory: Directory) -> None:
    data = "\ufeffName , ID,numbers\nAnna,1,0152 28817386\n".encode()
    assert import_csv(directory, GERMANY, io.BytesIO(data)).added == 1
    assert directory.lookup(MOBILE)[0].name == "Anna"


def test_the_id_updates_and_the_report_tells_what_changed(directory: Directory) -> None:
    take(directory, "1,contact,Anna,,0152 28817386,u1,,,,,", "2,contact,Boris,,,,,,,,")
    report = take(
        directory,
        "1,contact,Anna,,0152 28817386,u2,,,,,",
        "2,contact,Boris,,,,,,,,",
        "3,contact,Cilka,,,,,,,,",
    )
    assert counts(report) == (1, 1, 1, 0)
    assert directory.lookup(MOBILE)[0].owner == "u2"


def test_a_column_that_is_missing_leaves_what_is_there(directory: Directory) -> None:
    take(directory, "1,supplier,Anna,ACME,0152 28817386,u1,gold,de,vip,note,https://crm.example/1")
    before = directory.get("1")
    assert before is not None
    report = take(directory, "1,silver", header="id,tier")
    after = directory.get("1")
    assert report.updated == 1
    assert after is not None
    assert after.party.tier == "silver"
    assert after.numbers == before.numbers
    assert (after.party.name, after.party.tags, after.party.type) == ("Anna", ("vip",), "supplier")


def test_an_update_keeps_what_a_number_is_called(directory: Directory) -> None:
    party = Party("directory", "contact", "1", "Anna")  # type: ignore[arg-type]
    directory.put(Entry(party, (PartyNumber(MOBILE, MOBILE, "mobile"),)))
    take(directory, "1,0152 28817386;040 66969100", header="id,numbers")
    entry = directory.get("1")
    assert entry is not None
    assert [(number.e164, number.label) for number in entry.numbers] == [
        (MOBILE, "mobile"),
        ("+494066969100", None),
    ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (",contact,Anna,,,,,,,,", "its id is empty"),
        ("1,contact,,,,,,,,,", "its name is empty"),
        (
            "1,customer,Anna,,,,,,,,",
            "its type 'customer' is none of contact, organisation, lead, partner, supplier",
        ),
        (
            "1,contact,Anna,,12,,,,,,",
            "its number '12' is no public telephone number; write it like +49 152 28817386",
        ),
        (
            "1,contact,Anna,,0152 28817386;4.9E+12,,,,,,",
            "its number '4.9E+12' is no public telephone number; write",
        ),
        ("1,contact,Anna,,,,,german,,,", "its language 'german' is no code such as de, en, sl or pt-BR"),
        (
            "1,contact,Anna,,,,,,,,javascript:alert(1)",
            "its url is no address that begins with http:// or https://",
        ),
        ("1,contact,Anna", "it has 3 columns, and the header 11"),
        ("1,contact,Anna,,,,,,,,,,,", "it has 14 columns, and the header 11"),
        (f"1,contact,{'A' * 257},,,,,,,,", "its name has 257 characters, and at most 256 fit"),
        (f"1,contact,Anna,,,,,,,{'n' * 4097},", "its notes has 4097 characters, and at most 4096 fit"),
        (f"1,contact,Anna,,,,,,{'t;' * 33},,", "it has 33 tags, and at most 32 fit"),
        (f"1,contact,{'A' * 70_000},,,,,,,,", "it has more than 65536 bytes"),
        ('1,contact,"Anna"x,,,,,,,,', 'a field in " is not closed, or a " inside it is not written twice'),
        ('1,contact,"Anna,,,,,,,,', 'a field in " is not closed, or a " inside it is not written twice'),
    ],
)
def test_a_broken_line_is_reported_and_the_rest_goes_in(directory: Directory, line: str, why: str) -> None:
    report = take(
        directory, "a,contact,Before,,,,,,,,", line, "b,contact,After,,,,,,,,", "c,contact,Last,,,,,,,,"
    )
    assert counts(report) == (3, 0, 0, 1)
    ((number, reason),) = refusals(report)
    assert number == 3
    assert reason.startswith(why)
    assert directory.get("1") is None


def test_a_line_that_is_not_utf_8_is_reported_and_the_rest_goes_in(directory: Directory) -> None:
    data = (
        f"{HEADER}\n1,contact,".encode() + "Jürgen".encode("latin-1") + b",,,,,,,,\n2,contact,Anna,,,,,,,,\n"
    )
    report = import_csv(directory, GERMANY, io.BytesIO(data))
    assert counts(report) == (1, 0, 0, 1)
    assert refusals(report) == [(2, "it is not UTF-8; save the file as “CSV UTF-8”")]


def test_a_quote_that_is_never_closed_swallows_nothing(directory: Directory) -> None:
    good = [f"{n},contact,Anna {n},,,,,,,," for n in range(500)]
    report = take(directory, *good[:250], 'bad,contact,"Anna,,,,,,,,', *good[250:])
    assert report.added == 500
    assert [line for line, _ in refusals(report)] == [252]


def test_two_stray_quotes_do_not_hide_the_lines_between_them(directory: Directory) -> None:
    report = take(
        directory,
        '1,contact,"Anna,,,,,,,,',
        "2,contact,Boris,,,,,,,,",
        '3,contact,"Cilka,,,,,,,,',
        "4,contact,Dora,,,,,,,,",
    )
    assert [line for line, _ in refusals(report)] == [2, 4]
    assert [entry.party.id for entry in directory.entries()] == ["2", "4"]


def test_the_line_of_a_record_after_a_long_one_is_counted_right(directory: Directory) -> None:
    report = take(directory, '1,contact,Anna,,,,,,,"a\nb\nc",', "", "2,contact,,,,,,,,,")
    assert refusals(report) == [(6, "its name is empty")]


def test_an_id_that_is_there_twice_is_reported_with_its_first_line(directory: Directory) -> None:
    report = take(directory, "1,contact,Anna,,,,,,,,", "1,contact,Boris,,,,,,,,")
    assert refusals(report) == [(3, "id '1' is already on line 2")]
    assert counts(report) == (1, 0, 0, 1)


def test_one_number_written_twice_is_one_number(directory: Directory) -> None:
    assert take(directory, "1,contact,Anna,,0152 28817386;+49 152 28817386;,,,,,,").added == 1
    assert len(directory.lookup(MOBILE)) == 1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the first line is empty; it names the columns: id,type,name"),
        (b"\nid,name\n", "the first line is empty"),
        (b"id;name;numbers\n1;Anna;\n", "separated by ';'; separate them by commas"),
        (b"id\tname\n", r"separated by '\\t'"),
        (b"id,name,phone\n", "there is no column 'phone'; the columns are id,type,name"),
        (b"id,name,numbers,numbers\n", "the column 'numbers' is there more than once"),
        (b"name,numbers\n", "the column 'id' is missing"),
        ("id,näme\n".encode("utf-16"), "it is not UTF-8"),
        (b'id,"name\n', "is not closed"),
    ],
)
def test_a_file_without_a_proper_header_is_refused_whole(directory: Directory, data: bytes, why: str) -> None:
    with pytest.raises(ContactFileError, match=why):
        import_csv(directory, GERMANY, io.BytesIO(data))
    assert len(directory) == 0


def test_a_file_that_is_not_there_is_told(directory: Directory, tmp_path: Path) -> None:
    with pytest.raises(ContactFileError, match="cannot be opened: No such file"):
        import_csv(directory, GERMANY, tmp_path / "contacts.csv")


def test_a_report_of_endless_refusals_stays_small(directory: Directory) -> None:
    report = take(directory, *[",,,,,,,,,,x"] * (REFUSALS_LIMIT + 5))
    assert len(report.refused) == REFUSALS_LIMIT
    assert report.as_json()["refused_count"] == REFUSALS_LIMIT + 5


def test_an_export_can_be_imported_without_changing_anything(directory: Directory, tmp_path: Path) -> None:
    take(
        directory,
        '1,contact,"Kovač, Žana",ООО «Ромашка»,0152 28817386;040/66969-100,u1,gold,sl,a;b,"x\ny ""z""",https://a.example/',
        "2,lead,Boris,,,,,,,,",
    )
    path = tmp_path / "export.csv"
    assert export_csv(directory, path) == 2
    assert path.read_text("utf-8").splitlines()[0] == HEADER
    assert counts(import_csv(directory, GERMANY, path)) == (0, 0, 2, 0)


def test_an_export_keeps_the_stream_open(directory: Directory) -> None:
    stream = io.BytesIO()
    export_csv(directory, stream)
    stream.write(b"# still ours")
    assert stream.getvalue().startswith(HEADER.encode())


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.lists(TEXT, min_size=3, max_size=3), max_size=8))
def test_whatever_text_stands_in_the_cells_an_export_of_it_is_stable(
    directory: Directory, rows: list[list[str]]
) -> None:
    source = io.StringIO()
    writer = csv.writer(source)
    writer.writerow(("id", "name", "notes"))
    writer.writerows(rows)
    report = import_csv(directory, GERMANY, io.BytesIO(source.getvalue().encode()))
    assert report.added + report.updated + report.unchanged + report.refused_count <= len(rows)
    exported = io.BytesIO()
    count = export_csv(directory, exported)
    exported.seek(0)
    assert counts(import_csv(directory, GERMANY, exported)) == (0, 0, count, 0)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([b'"', b",", b"\r\n", b"\n", b"1,Anna\n"]), max_size=20)
)
def test_no_bytes_break_an_import(directory: Directory, pieces: list[bytes]) -> None:
    report = import_csv(directory, GERMANY, io.BytesIO(b"id,name\n" + b"".join(pieces)))
    assert report.refused_count == len(report.refused)
