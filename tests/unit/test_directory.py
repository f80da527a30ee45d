"""The embedded directory, the parties it answers with, and how kinds of adapters are found."""

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from adapters.base import (
    AdapterContext,
    AdapterKindError,
    AdapterUnavailable,
    Appointment,
    Capability,
    Case,
    IAdapter,
    JournalEntry,
    JournalState,
    LastContact,
    NewParty,
    Party,
    PartyRef,
    PartyType,
    load_adapter_kinds,
)
from adapters.directory import DirectoryAdapter, DirectoryOptions, KeyOptions
from adapters.directory_file import (
    SCHEMA_VERSION,
    Change,
    Directory,
    DirectoryError,
    Entry,
    EntryRefused,
    PartyKey,
    PartyNumber,
    PartyUnknown,
)
from adapters.directory_records import KeptTask
from adapters.party import NAME_LIMIT, NOTES_LIMIT
from adapters.testing import HangingAdapter
from cti.numbers import NumberPlan

GERMANY = NumberPlan("DE")
ADAPTERS = Path(__file__).parents[2] / "adapters"
MOBILE = "+4915228817386"
OFFICE = "+494066969100"


def an_entry(party_id: str = "17", *numbers: str, **attributes: Any) -> Entry:
    party = Party("directory", **{"type": "contact", "id": party_id, "name": "Žana Kovač", **attributes})
    return Entry(party, tuple(PartyNumber(number, number) for number in numbers or (MOBILE,)))


def result_of(coroutine: Any) -> Any:
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    (result,) = results
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    opened = Directory(tmp_path / "directory.db", "directory")
    opened.open()
    yield opened
    opened.close()


def test_a_party_is_found_by_each_of_its_numbers_with_all_it_has(directory: Directory) -> None:
    entry = an_entry(
        "17",
        MOBILE,
        OFFICE,
        type=PartyType.PARTNER,
        name="Анна Соколова",
        company="ООО «Ромашка»",
        url="https://crm.example/17",
        owner="u1",
        tier="gold",
        language="ru",
        tags=("vip", "slow payer"),
        notes="Gern vormittags.\nSpricht leise.",
    )
    assert directory.put(entry) is Change.ADDED
    assert directory.lookup(MOBILE) == directory.lookup(OFFICE) == [entry.party]
    assert directory.lookup("+493023125100") == []


def test_several_parties_of_one_number_come_in_the_order_of_their_ids(directory: Directory) -> None:
    for party_id in ("30", "10", "20"):
        directory.put(an_entry(party_id, OFFICE))
    assert [party.id for party in directory.lookup(OFFICE)] == ["10", "20", "30"]


def test_open_cases_and_last_contacts_come_with_the_party_newest_first(directory: Directory) -> None:
    directory.put(an_entry("17"))
    old = Case("C-1", "Rechnung doppelt", "open", datetime(2026, 1, 5, tzinfo=UTC), "https://crm.example/c/1")
    new = Case("C-2", "Lieferung fehlt", "waiting", datetime(2026, 2, 5, tzinfo=UTC))
    done = Case("C-3", "Erledigt", "Closed", datetime(2026, 3, 5, tzinfo=UTC))
    called = LastContact(datetime(2026, 2, 1, 9, 30, tzinfo=UTC), "call", "u1", "Asked for a new offer")
    visited = LastContact(datetime(2026, 2, 9, tzinfo=UTC), "visit")
    for case in (old, new, done):
        directory.put_case("17", case)
    for contact in (called, visited):
        directory.put_contact("17", contact)
    (party,) = directory.lookup(MOBILE)
    assert party.cases == (new, old)
    assert party.last_contacts == (visited, called)


def test_a_case_put_again_is_replaced(directory: Directory) -> None:
    directory.put(an_entry("17"))
    directory.put_case("17", Case("C-1", "Rechnung", "open"))
    directory.put_case("17", Case("C-1", "Rechnung", "waiting"))
    (party,) = directory.lookup(MOBILE)
    assert [case.status for case in party.cases] == ["waiting"]


def test_a_case_of_nobody_is_refused(directory: Directory) -> None:
    with pytest.raises(DirectoryError, match="no party with this id"):
        directory.put_case("17", Case("C-1"))


def test_putting_an_entry_again_says_what_it_did(directory: Directory) -> None:
    directory.put(an_entry("17", MOBILE, owner="u1"))
    assert directory.put(an_entry("17", MOBILE, owner="u1")) is Change.UNCHANGED
    assert directory.put(an_entry("17", MOBILE, owner="u2")) is Change.UPDATED
    assert directory.put(an_entry("17", OFFICE, owner="u2")) is Change.UPDATED
    assert directory.lookup(MOBILE) == []
    assert directory.lookup(OFFICE)[0].owner == "u2"


def test_an_update_keeps_cases_and_last_contacts(directory: Directory) -> None:
    directory.put(an_entry("17"))
    directory.put_case("17", Case("C-1", "Rechnung", "open"))
    directory.put(an_entry("17", name="Zoë Ward"))
    (party,) = directory.lookup(MOBILE)
    assert (party.name, len(party.cases)) == ("Zoë Ward", 1)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (an_entry("17", name=""), "has a name"),
        (an_entry("17", MOBILE, MOBILE), "each number once"),
        (an_entry("17", *(f"+49302312{n:04}" for n in range(51))), "at most 50"),
        (an_entry("17", tags=("a;b",)), "no ';'"),
    ],
)
def test_an_entry_that_could_not_be_kept_whole_is_refused(
    directory: Directory, entry: Entry, why: str
) -> None:
    with pytest.raises(DirectoryError, match=why):
        directory.put(entry)
    assert len(directory) == 0


@pytest.mark.parametrize("key", ["0152 28817386", "015228817386", "", "+0", "+49 152 28817386"])
def test_a_number_under_a_key_that_is_not_e164_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="e164"):
        PartyNumber("0152 28817386", key)


def test_a_first_fill_is_all_or_nothing(directory: Directory) -> None:
    assert directory.bulk_load(an_entry(str(n), f"+49302312{n:04}") for n in range(100)) == 100
    with pytest.raises(DirectoryError):
        directory.bulk_load([an_entry("new", OFFICE), an_entry("5", OFFICE)])
    assert len(directory) == 100
    assert directory.lookup(OFFICE) == []
    assert directory.lookup("+493023120042")[0].id == "42"


def test_what_is_put_together_is_seen_together_or_not_at_all(directory: Directory) -> None:
    def broken() -> None:
        with directory.writing():
            directory.put(an_entry("17"))
            raise KeyError("in the middle")

    with pytest.raises(KeyError):
        broken()
    assert directory.lookup(MOBILE) == []
    directory.put(an_entry("17"))
    assert directory.lookup(MOBILE)


def test_what_another_process_writes_is_seen_at_once(directory: Directory) -> None:
    assert directory.lookup(MOBILE) == []
    code = (
        "import sys; from pathlib import Path; from adapters.directory_file import *;"
        "from adapters import base; d = Directory(Path(sys.argv[1]), 'directory'); d.open();"
        f"d.put(Entry(base.Party('directory', 'contact', '17', 'Anna'), (PartyNumber('{MOBILE}', '{MOBILE}'),)))"
    )
    subprocess.run([sys.executable, "-c", code, str(directory.path)], check=True, timeout=30)
    assert [party.name for party in directory.lookup(MOBILE)] == ["Anna"]


def test_reading_goes_on_while_another_process_writes(directory: Directory) -> None:
    directory.put(an_entry("17"))
    writer = Directory(directory.path, "directory")
    writer.open()
    with writer.writing():
        writer.put(an_entry("17", name="Zoë Ward"))
        assert directory.lookup(MOBILE)[0].name == "Žana Kovač"
    assert directory.lookup(MOBILE)[0].name == "Zoë Ward"
    writer.close()


def test_a_new_file_is_readable_by_its_owner_only(directory: Directory) -> None:
    for suffix in ("", "-wal", "-shm"):
        assert stat.S_IMODE(Path(f"{directory.path}{suffix}").stat().st_mode) == 0o600


def test_a_directory_of_a_newer_version_is_refused_in_a_sentence(
    tmp_path: Path, directory: Directory
) -> None:
    directory.close()
    with sqlite3.connect(directory.path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(
        DirectoryError, match=r"newer Cordboard \(directory version 3, this one knows 2\); upgrade"
    ):
        directory.open()


def test_another_sqlite_file_is_neither_used_nor_changed(tmp_path: Path) -> None:
    path = tmp_path / "cti.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE call (id TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(DirectoryError, match="another kind of SQLite file"):
        Directory(path, "directory").open()
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_and_a_path_that_is_not_there_are_told(tmp_path: Path) -> None:
    text = tmp_path / "contacts.csv"
    text.write_text("id,name\n" * 1000)
    with pytest.raises(DirectoryError, match="not a database"):
        Directory(text, "directory").open()
    with pytest.raises(DirectoryError, match="No such file or directory"):
        Directory(tmp_path / "nowhere" / "d.db", "directory").open()


def a_file_of_version_1(path: Path) -> None:
    """As it was made before there were tasks, keys and changes."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((ADAPTERS / "directory.sql").read_text("utf-8"))
        connection.execute("PRAGMA application_id = 0x43544964")
        connection.execute("PRAGMA user_version = 1")
        connection.execute(
            "INSERT INTO party VALUES"
            " (7, '17', 'contact', 'Žana Kovač', 'Acme', 'u1', 'gold', 'sl', 'vip', 'früh', NULL)"
        )
        connection.execute("INSERT INTO number VALUES (?, 7, 0, '0152 28817386', 'mobile')", (MOBILE,))
        connection.execute("INSERT INTO party_case VALUES (7, 'C-1', 'Račun', 'open', NULL, NULL)")
        connection.execute(
            "INSERT INTO last_contact VALUES (7, '2026-01-05T10:00:00Z', 'visit', 'u1', 'friendly')"
        )
        connection.commit()


def test_an_older_file_is_brought_up_to_date_and_loses_nothing(tmp_path: Path) -> None:
    a_file_of_version_1(tmp_path / "directory.db")
    directory = Directory(tmp_path / "directory.db", "directory")
    directory.open()
    (party,) = directory.lookup(MOBILE)
    assert (party.id, party.name, party.company, party.owner, party.tier, party.language) == (
        "17",
        "Žana Kovač",
        "Acme",
        "u1",
        "gold",
        "sl",
    )
    assert (party.tags, party.notes, party.cases) == (("vip",), "früh", (Case("C-1", "Račun", "open"),))
    assert [each.summary for each in party.last_contacts] == ["friendly"]
    entry = directory.get("17")
    assert entry is not None
    assert entry.numbers == (PartyNumber("0152 28817386", MOBILE, "mobile"),)
    assert [found.id for found in directory.search("zana", 5)] == ["17"]
    mark = directory.mark
    directory.put(evolve(entry, party=evolve(entry.party, name="Zoë Ward")))
    assert [found.id for found in directory.search("ward", 5)] == ["17"]
    assert directory.search("zana", 5) == []
    changed = directory.changes(mark, 10)
    assert changed is not None
    assert [each.party.id for each in changed[0]] == ["17"]
    directory.close()


def test_a_file_brought_up_to_date_is_as_a_new_one(tmp_path: Path) -> None:
    schemas = []
    a_file_of_version_1(tmp_path / "old.db")
    for name in ("old.db", "new.db"):
        directory = Directory(tmp_path / name, "directory")
        directory.open()
        directory.close()
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            schemas.append(
                connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2").fetchall()
            )
    assert schemas[0] == schemas[1]


def test_an_upgrade_that_breaks_off_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_file_of_version_1(tmp_path / "directory.db")
    before = sqlite3.connect(tmp_path / "directory.db").execute("SELECT sql FROM sqlite_master").fetchall()
    with closing(sqlite3.connect(tmp_path / "directory.db")) as connection:
        # In the way of the last statements.
        connection.execute("CREATE TABLE activity (id TEXT)")
    with pytest.raises(DirectoryError, match="activity"):
        Directory(tmp_path / "directory.db", "directory").open()
    with closing(sqlite3.connect(tmp_path / "directory.db")) as connection:
        connection.execute("DROP TABLE activity")
        assert connection.execute("SELECT sql FROM sqlite_master").fetchall() == before
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_every_column_of_the_schema_says_what_it_holds() -> None:
    schema = "".join((ADAPTERS / name).read_text("utf-8") for name in ("directory.sql", "directory-2.sql"))
    columns = [line for line in schema.splitlines() if line.startswith("    ") and line.split()[0].islower()]
    assert len(columns) > 20
    assert [line for line in columns if "--" not in line] == []


def an_adapter(base: Path, path: str | None = None) -> DirectoryAdapter:
    return DirectoryAdapter("customers", DirectoryOptions(path), AdapterContext(base, GERMANY, Clock()))


def test_the_adapter_keeps_its_file_beside_the_configuration(tmp_path: Path) -> None:
    assert an_adapter(tmp_path).directory.path == tmp_path / "customers.db"
    assert an_adapter(tmp_path, "var/d.db").directory.path == tmp_path / "var" / "d.db"
    assert an_adapter(tmp_path, "/srv/d.db").directory.path == Path("/srv/d.db")


def who_calls(adapter: DirectoryAdapter, written: str) -> list[tuple[str, str]]:
    return [(party.id, party.match) for party in result_of(adapter.identify(GERMANY.parse(written)))]


@pytest.fixture
def switchboards(tmp_path: Path) -> Iterator[DirectoryAdapter]:
    """Companies of one city whose records say -0, of which one has part of the other's numbers, and others."""
    context = AdapterContext(tmp_path, GERMANY, Clock(), frozenset({"+492214710100"}))
    adapter = DirectoryAdapter("customers", DirectoryOptions(), context)
    result_of(adapter.start())
    records = [
        ("acme", "organisation", "+49 40 66969-0"),
        ("acme-service", "supplier", "040/669692-0"),
        ("anna", "contact", "040 66969-0"),
        ("single", "organisation", "030 23125120"),
        ("ourselves", "organisation", "0221 4710-0"),
        ("mobile", "organisation", "0152 2881738-0"),
        ("abroad", "organisation", "+44 20 7946 012-0"),
        ("desk", "contact", "040 66969-31"),
    ]
    for id, kind, raw in records:
        e164 = GERMANY.parse(raw).e164
        assert e164 is not None
        party = Party("customers", kind, id, name=id.title())
        adapter.directory.put(Entry(party, (PartyNumber(raw, e164),)))
    yield adapter
    result_of(adapter.stop())


@pytest.mark.parametrize(
    ("caller", "found"),
    [
        ("+49 40 66969-17", [("acme", "stem")]),
        ("+49 40 66969-1234", [("acme", "stem")]),
        ("+49 40 66969-27", [("acme-service", "stem")]),
        ("+49 40 66969-31", [("desk", "number")]),
        ("+49 40 66969-0", [("acme", "number"), ("anna", "number")]),
    ],
)
def test_a_call_from_an_extension_finds_the_company_of_the_longest_stem(
    switchboards: DirectoryAdapter, caller: str, found: list[tuple[str, str]]
) -> None:
    assert who_calls(switchboards, caller) == found


@pytest.mark.parametrize(
    "caller",
    [
        "030 23125127",
        "0221 4710-12",
        "0221 4710-100",
        "+49 152 28817386",
        "+44 20 7946 0127",
        "040 66968-27",
        "040 66969",
    ],
)
def test_neighbours_ourselves_mobiles_and_other_countries_match_no_stem(
    switchboards: DirectoryAdapter, caller: str
) -> None:
    assert who_calls(switchboards, caller) == []


def test_our_own_number_is_nobodys_even_if_a_contact_has_it(switchboards: DirectoryAdapter) -> None:
    own = PartyNumber("0221 4710-100", "+492214710100")
    switchboards.directory.put(Entry(Party("customers", "contact", "copy", name="Copy"), (own,)))
    assert who_calls(switchboards, "0221 4710-100") == []


def test_the_adapter_fulfils_the_interface_and_answers_in_its_own_name(tmp_path: Path) -> None:
    adapter = an_adapter(tmp_path)
    assert isinstance(adapter, IAdapter)
    assert Capability.IDENTIFY in adapter.capabilities
    result_of(adapter.start())
    adapter.directory.put(an_entry("17"))
    (party,) = result_of(adapter.identify(GERMANY.parse("0152 28817386")))
    assert (party.adapter, party.id) == ("customers", "17")
    assert result_of(adapter.identify(GERMANY.parse("101"))) == ()
    assert result_of(adapter.health()).up
    result_of(adapter.stop())


def test_a_directory_that_breaks_while_in_use_is_an_error_and_not_a_miss(tmp_path: Path) -> None:
    adapter = an_adapter(tmp_path)
    result_of(adapter.start())
    connection = sqlite3.connect(adapter.directory.path)
    connection.execute("DROP TABLE number")
    connection.close()
    with pytest.raises(AdapterUnavailable, match="no such table"):
        result_of(adapter.identify(GERMANY.parse(MOBILE)))
    assert not result_of(adapter.health()).up
    result_of(adapter.stop())


def test_a_directory_that_is_not_open_is_not_healthy(tmp_path: Path) -> None:
    assert not result_of(an_adapter(tmp_path).health()).up


def test_text_from_a_crm_is_bounded_and_loses_what_could_deceive() -> None:
    party = Party(
        "crm",
        "contact",
        17,  # type: ignore[arg-type]
        name="Anna\r\nX-Header: 1\x00\u202egnp" + "a" * 1000,
        company="Müller\ud800 & Söhne",
        notes="line\nline\x07" + "n" * 10_000,
        url="javascript:alert(1)",
        owner="",
        tags=("a", "a", " ", "b\n"),
    )
    assert party.id == "17"
    assert party.name.startswith("Anna X-Header: 1gnp")
    assert len(party.name) == NAME_LIMIT
    assert party.company == "Müller & Söhne"
    assert party.notes.startswith("line\nlinenn")
    assert len(party.notes) == NOTES_LIMIT
    assert (party.url, party.owner, party.tags) == (None, None, ("a", "b"))


@pytest.mark.parametrize("party_id", ["", " ", "x" * 129])
def test_an_id_is_never_cut_to_fit(party_id: str) -> None:
    with pytest.raises(ValueError, match="1 to 128 characters"):
        Party("crm", "contact", party_id)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    ["https://crm.example/a b", "https://crm.example/\n", "//crm.example", "data:text/html,x", "https://"],
)
def test_only_a_plain_web_address_is_a_link(url: str) -> None:
    assert Party("crm", PartyType.LEAD, "1", url=url).url is None


def test_a_party_survives_json() -> None:
    party = an_entry("17", owner="u1", tags=("vip",), language="sl").party
    party = Party.from_json(
        party.as_json()
        | {
            "cases": [Case("C-1", "Račun", "open", datetime(2026, 1, 5, tzinfo=UTC)).as_json()],
            "last_contacts": [LastContact("2026-01-05T10:00:00+01:00", "call", "u1", "kurz").as_json()],
        }
    )
    written = party.as_json("anna")
    assert (written["owner"], written["owner_user"]) == ("anna", "u1")
    assert written["last_contacts"][0]["at"] == "2026-01-05T09:00:00Z"
    assert Party.from_json(written) == party


def test_a_time_without_its_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without its zone"):
        Case("C-1", opened="2026-01-05T10:00:00")


def a_distribution(directory: Path, *points: str) -> None:
    info = directory / "acme_adapters-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-adapters\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cordboard.adapters]\n" + "\n".join(points) + "\n")


def test_kinds_of_adapters_are_found_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_distribution(tmp_path, "hanging = adapters.testing:HangingAdapter")
    monkeypatch.syspath_prepend(str(tmp_path))
    kinds = load_adapter_kinds()
    assert "hanging" in kinds
    kind = kinds["hanging"]
    context = AdapterContext(tmp_path, GERMANY, Clock())
    assert isinstance(kind("crm", kind.options_class(), context), HangingAdapter)


def test_a_broken_kind_harms_only_who_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_distribution(
        tmp_path,
        "gone = acme.nowhere:Adapter",
        "plain = adapters.base:Party",
        "hanging = adapters.testing:HangingAdapter",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    kinds = load_adapter_kinds()
    assert {"gone", "plain", "hanging"} <= set(kinds)
    assert kinds["hanging"]
    with pytest.raises(AdapterKindError, match=r"'gone' cannot be loaded \(acme.nowhere:Adapter\)"):
        kinds["gone"]
    with pytest.raises(AdapterKindError, match="no attrs class as options_class"):
        kinds["plain"]
    with pytest.raises(KeyError):
        kinds["nobody-brings-it"]


def test_who_is_taken_in_is_found_by_their_number(tmp_path: Path) -> None:
    adapter = DirectoryAdapter("directory", DirectoryOptions(), AdapterContext(tmp_path, GERMANY, Clock()))
    result_of(adapter.start())
    assert Capability.CREATE in adapter.capabilities
    made = adapter.add(NewParty("lead", MOBILE, "Žana\u202e Kovač", "Acme", "met at the fair"))
    (found,) = result_of(adapter.identify(GERMANY.parse(MOBILE)))
    assert found == made
    assert (found.type, found.name, found.company, found.notes) == (
        PartyType.LEAD,
        "Žana Kovač",
        "Acme",
        "met at the fair",
    )
    assert adapter.add(NewParty("contact", OFFICE, "Žana Kovač")).id != made.id
    result_of(adapter.stop())


@pytest.mark.parametrize(("type", "name"), [("friend", "Žana"), ("contact", " "), ("contact", "\x00")])
def test_nobody_is_taken_in_without_a_name_or_as_what_there_is_not(type: str, name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        NewParty(type, MOBILE, name)


# Changes, and what else the phone index and the card are told.


def changes_of(directory: Directory, mark: str, limit: int = 10) -> tuple[list[str], list[PartyRef]]:
    """Who was changed and who is gone, page by page."""
    changed: list[str] = []
    gone: list[PartyRef] = []
    more = True
    while more:
        page = directory.changes(mark, limit)
        assert page is not None
        entries, left, mark, more = page
        changed += [entry.party.id for entry in entries]
        gone += left
    return changed, gone


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_changes_are_told_page_by_page_however_they_came(directory: Directory, limit: int) -> None:
    mark = directory.mark
    directory.bulk_load(an_entry(str(n), f"+49302312{n:04}") for n in range(5))
    for id in ("0", "3"):
        directory.remove(id)
    directory.put(an_entry("9", OFFICE))
    directory.put(an_entry("1", OFFICE, name="Zoë Ward"))
    changed, gone = changes_of(directory, mark, limit)
    assert set(changed) == {"1", "2", "4", "9"}
    assert gone == [PartyRef("contact", "0"), PartyRef("contact", "3")]
    assert changes_of(directory, directory.mark) == ([], [])


def test_who_becomes_something_else_is_gone_as_what_they_were(directory: Directory) -> None:
    directory.put(an_entry("17", type="lead"))
    mark = directory.mark
    directory.put(an_entry("17", type="contact"))
    assert changes_of(directory, mark) == (["17"], [PartyRef("lead", "17")])


def test_a_mark_of_another_file_or_of_a_later_time_is_lost(directory: Directory, tmp_path: Path) -> None:
    other = Directory(tmp_path / "other.db", "directory")
    other.open()
    for each in (directory, other):
        each.put(an_entry("17"))
    assert other.changes(directory.mark, 10) is None
    file, _, seq = directory.mark.partition(":")
    assert directory.changes(f"{file}:{int(seq) + 1}", 10) is None
    for wrong in ("", file, f"{file}:", f"{file}:-1", f"{file}:٣", "nonsense"):
        assert directory.changes(wrong, 10) is None
    other.close()


def test_the_words_are_those_of_the_parties_whatever_was_done_to_them(directory: Directory) -> None:
    directory.bulk_load(an_entry(str(n), f"+49302312{n:04}", tags=("vip",)) for n in range(5))
    directory.put(an_entry("1", name="Zoë Ward", company="Acme"))
    directory.put(an_entry("9", OFFICE))
    directory.remove("2")
    with closing(sqlite3.connect(directory.path)) as connection:
        # Raises if the index is not that of the table.
        connection.execute("INSERT INTO party_words (party_words, rank) VALUES ('integrity-check', 1)")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("zana", ["17"]),
        ("KOVA Žan", ["17"]),
        ("acme", ["17", "18"]),
        ("vip acme", ["18"]),
        ("kovač 100%", []),
        ("100%", ["19"]),
        ("o'neill", ["19"]),
        ("%", []),
        ("", []),
        ("ana", []),
    ],
)
def test_search_takes_beginnings_of_words_without_their_marks(
    directory: Directory, words: str, found: list[str]
) -> None:
    directory.put(an_entry("17", company="Acme"))
    directory.put(an_entry("18", name="Zoë Ward", company="ACME Inc.", tags=("vip",)))
    directory.put(an_entry("19", name='Kit "100%" O\'Neill'))
    assert sorted(party.id for party in directory.search(words, 10)) == found


def test_a_card_has_what_is_still_to_come_and_not_done(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "d.db", "directory", now=lambda: 1_772_000_000.0)
    directory.open()
    directory.put(an_entry("17"))
    for kind, record in (
        ("appointments", Appointment("over", "2026-02-25T06:13:19Z", "Over")),
        ("appointments", Appointment("later", "2026-02-27T09:00:00Z", "Later")),
        ("appointments", Appointment("now", "2026-02-25T06:13:20Z", "Now")),
        ("tasks", KeptTask("whenever", "Whenever")),
        ("tasks", KeptTask("soon", "Soon", "2026-02-26T09:00:00Z")),
        ("tasks", KeptTask("done", "Done", "2026-02-24T09:00:00Z", done="2026-02-24T09:00:00Z")),
    ):
        directory.put_record("17", kind, record)
    (party,) = directory.lookup(MOBILE)
    assert [each.id for each in party.appointments] == ["now", "later"]
    assert [each.id for each in party.tasks] == ["soon", "whenever"]
    assert len(directory.records("17", "appointments")) == 3
    directory.close()


def test_a_call_is_a_contact_and_stays_when_the_party_is_gone(directory: Directory) -> None:
    directory.put(an_entry("17"))
    started = datetime(2026, 2, 1, 9, 30, tzinfo=UTC)
    entry = JournalEntry(
        "c1",
        JournalState.ENDED,
        "inbound",
        started,
        party=PartyRef("contact", "17"),
        number=MOBILE,
        subject="Call",
    )
    directory.put_activity(entry)
    directory.put_activity(evolve(entry, text="wants an offer", user="u1"))
    (party,) = directory.lookup(MOBILE)
    assert party.last_contacts == (LastContact(started, "call", "u1", "wants an offer"),)
    directory.remove("17")
    with closing(sqlite3.connect(directory.path)) as connection:
        assert connection.execute("SELECT key, party, text FROM activity").fetchall() == [
            ("c1", None, "wants an offer")
        ]


def test_a_party_of_another_type_is_another_party(tmp_path: Path) -> None:
    adapter = an_adapter(tmp_path)
    result_of(adapter.start())
    adapter.directory.put(an_entry("17"))
    assert result_of(adapter.card(PartyRef("contact", "17"))).id == "17"
    assert result_of(adapter.card(PartyRef("lead", "17"))) is None
    number = PartyNumber(MOBILE, MOBILE)
    with pytest.raises(PartyUnknown):
        adapter.directory.write_number(PartyRef("lead", "17"), number, number)
    result_of(adapter.stop())


def test_what_is_put_and_refused_leaves_nothing(directory: Directory) -> None:
    directory.put(evolve(an_entry("17"), keys=(PartyKey("customer", "K-1"),)))
    with directory.writing(), pytest.raises(EntryRefused, match="customer number"):
        directory.put(evolve(an_entry("18", OFFICE), keys=(PartyKey("customer", "K-1"),)))
    assert directory.get("18") is None
    assert directory.lookup(OFFICE) == []
    with directory.writing():
        directory.put(evolve(an_entry("17", name="Zoë"), keys=(PartyKey("customer", "K-1"),)))


@pytest.mark.parametrize("name", ["id", "two words", "", "1st"])
def test_a_key_has_a_name_that_requests_can_use(name: str) -> None:
    with pytest.raises(ValueError, match="a word such as customer"):
        DirectoryOptions(keys={name: KeyOptions("A number")})
