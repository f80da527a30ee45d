"""vCards: read as phones and address books write them, and changed without loss."""

import pytest

from adapters.base import ListedNumber, PartyType
from adapters.vcard import VCard, VCardError, listed, new_vcard, read_vcard, read_vcards


def a_card(*lines: str, version: str = "3.0") -> str:
    return "\r\n".join(("BEGIN:VCARD", f"VERSION:{version}", *lines, "END:VCARD", ""))


def party_of(*lines: str, version: str = "3.0", **extra: str) -> object:
    return listed(read_vcard(a_card(*lines, version=version)), adapter="book", id="1", extra=extra)


def test_a_card_of_version_3_becomes_a_party_with_its_numbers() -> None:
    found = listed(
        read_vcard(
            a_card(
                "FN:Greta Wolff",
                "N:Wolff;Greta;;;",
                r"ORG:Wolff\, Sohn & Co;Einkauf",
                "TEL;TYPE=WORK,VOICE:+49 (40) 66969-0",
                "item1.TEL;TYPE=CELL;TYPE=pref:0171 39200-11",
                "CATEGORIES:Stammkunde,Messe",
                r"NOTE:Ruft gern\nfrueh an\; Kaffee",
                "URL:https://wolff.example/",
                "X-OWNER:u7",
            )
        ),
        adapter="book",
        id="a.vcf",
        extra={"owner": "x-owner"},
    )
    party = found.party
    assert (party.type, party.id, party.name) == (PartyType.CONTACT, "a.vcf", "Greta Wolff")
    assert (party.company, party.organisation) == ("Wolff, Sohn & Co",) * 2
    assert (party.owner, party.url, party.tags) == ("u7", "https://wolff.example/", ("Stammkunde", "Messe"))
    assert party.notes == "Ruft gern\nfrueh an; Kaffee"
    assert found.numbers == (
        ListedNumber("+49 (40) 66969-0", "TEL[0]"),
        ListedNumber("0171 39200-11", "TEL[1]"),
    )


def test_version_4_has_uris_kinds_and_quoted_types() -> None:
    card = read_vcard(
        a_card(
            "KIND:org",
            "FN:Hafenlogistik",
            'TEL;VALUE=uri;TYPE="work,voice":tel:+49-40-66969-12;ext=3',
            version="4.0",
        )
    )
    (number,) = card.numbers
    assert number.raw == "tel:+49-40-66969-12;ext=3"
    assert card.all("TEL")[0].types == {"work", "voice"}
    assert listed(card, adapter="b", id="1").party.type is PartyType.ORGANISATION


def test_version_2_1_has_bare_types_and_quoted_printable_over_several_lines() -> None:
    card = read_vcard(
        a_card(
            "N;CHARSET=ISO-8859-1;ENCODING=QUOTED-PRINTABLE:K=F6hler;J=F6rg=",
            ";;;",
            "TEL;HOME;CELL:0171 39200 22",
            version="2.1",
        )
    )
    assert card.name == "Jörg Köhler"
    assert card.all("TEL")[0].types == {"home", "cell"}


def test_a_folded_line_is_whole_and_written_folded_within_no_character() -> None:
    name = "Größenwahn " * 20
    text = new_vcard(uid="1", name=name.strip(), numbers=("+494066969027",)).as_text()
    assert max(len(line.encode()) for line in text.split("\r\n")) <= 75
    assert read_vcard(text).name == name.strip()


def test_the_preferred_name_counts_and_without_one_the_parts_do() -> None:
    assert read_vcard(a_card("FN:Zweite", "FN;PREF=1:Erste", version="4.0")).name == "Erste"
    assert read_vcard(a_card("N:Wolff;Greta;;Dr.;")).name == "Dr. Greta Wolff"
    assert read_vcard(a_card("NICKNAME:Gretchen")).name == "Gretchen"


def test_a_card_with_a_company_only_is_the_company() -> None:
    card = read_vcard(a_card("FN:Wolff KG", "ORG:Wolff KG;"))
    assert card.is_company
    assert not read_vcard(a_card("FN:Greta", "ORG:Wolff KG")).is_company


def test_a_number_is_replaced_where_it_stands_and_all_else_stays() -> None:
    text = a_card(
        "FN:Greta",
        "TEL;TYPE=HOME:040 66969 0",
        "item1.TEL;TYPE=CELL:040 66969 0",
        "item1.X-ABLABEL:Laube",
        'X-UNKNOWN;A="b;c":d\\,e',
    )
    card = read_vcard(text)
    changed = card.with_number(ListedNumber("040 66969 0", "TEL[1]"), "+49 40 669690")
    assert changed is not None
    old, new = "item1.TEL;TYPE=CELL:040 66969 0", "item1.TEL;TYPE=CELL:+49 40 669690"
    assert changed.as_text() == text.replace(old, new)
    assert card.with_number(ListedNumber("040 1", "TEL[0]"), "+49") is None
    assert card.with_number(ListedNumber("040 66969 0", "TEL[2]"), "+49") is None


def test_broken_cards_are_told_with_their_line_and_the_rest_is_read() -> None:
    text = (
        a_card("FN:Eins")
        + "BEGIN:VCARD\r\nFN:nie zu Ende\r\n"
        + a_card("FN:Zwei")
        + a_card("kein Doppelpunkt")
        + a_card("FN:Drei")
    )
    found = list(read_vcards(text))
    assert [each.name for each in found if isinstance(each, VCard)] == ["Eins", "Zwei", "Drei"]
    assert [(each[0], str(each[1])) for each in found if isinstance(each, tuple)] == [
        (5, "END:VCARD is missing"),
        (11, "a line is not NAME:VALUE"),
    ]


def test_what_is_too_much_is_refused() -> None:
    with pytest.raises(VCardError, match="lines"):
        read_vcard(a_card(*["X-A:1"] * 1001))
    with pytest.raises(VCardError, match="characters"):
        read_vcard(a_card("NOTE:" + "x" * 1_000_001))
    with pytest.raises(VCardError, match="nobody"):
        listed(read_vcard(a_card("TEL:040 66969 0")), adapter="b", id="1")


def test_text_of_ours_cannot_add_a_line_to_a_card() -> None:
    text = new_vcard(uid="1", name="Greta\r\nTEL:0900 1", company="a;b,c\\", notes="x\nEND:VCARD").as_text()
    card = read_vcard(text)
    assert card.numbers == ()
    assert (card.name, card.company) == ("Greta\nTEL:0900 1", "a;b,c\\")


def test_a_number_with_what_a_card_divides_by_stays_one_number() -> None:
    card = read_vcard(a_card("FN:Greta", "TEL:040 66969 0"))
    changed = card.with_number(ListedNumber("040 66969 0", "TEL[0]"), "+49 40 669690;ext=7, Pforte")
    assert changed is not None
    assert "TEL:+49 40 669690\\;ext=7\\, Pforte\r\n" in changed.as_text()
    assert [each.raw for each in read_vcard(changed.as_text()).numbers] == ["+49 40 669690;ext=7, Pforte"]
