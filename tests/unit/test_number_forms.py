"""Numbers of every country in the forms in which people, trunks and CRMs write them: all found, and nobody else."""

import random
import time
from collections.abc import Iterator, Mapping
from typing import Final

import phonenumbers
import pytest
from hypothesis import example, given, strategies as st
from phonenumbers import PhoneNumber, PhoneNumberFormat, PhoneNumberType

from adapters.base import ListedNumber, ListedParty, Party
from cti.index.file import IndexBuilder, Row
from cti.index.phone_index import PhoneIndex
from cti.numbers import NumberKind, NumberPlan, stem_of_switchboard, stems

GERMANY = NumberPlan("DE")
AUSTRIA = NumberPlan("AT")
TYPES: Final = tuple(
    value for name, value in vars(PhoneNumberType).items() if name.isupper() and name != "UNKNOWN"
)
ARABIC_INDIC: Final = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
#: How many numbers nobody has are looked up.
STRANGERS: Final = 1_000_000
_SHARES: Final = 4


def examples() -> Iterator[tuple[str, PhoneNumber]]:
    """Each country's example of each type of number."""
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in TYPES:
            example = phonenumbers.example_number_for_type(region, kind)
            if example is not None:
                yield region, example


def e164_of(number: PhoneNumber) -> str:
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def forms(number: PhoneNumber) -> dict[str, str]:
    """As it is written at home and for abroad, by name."""
    key = e164_of(number)
    national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
    international = phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)
    significant = phonenumbers.national_significant_number(number)
    abroad = "US" if number.country_code != 1 else "DE"
    return {
        "E.164": key,
        "international": international,
        "without +": key[1:],
        "00": "00 " + international[1:],
        "(0)": f"+{number.country_code} (0) {significant}",
        "from abroad": phonenumbers.format_out_of_country_calling_number(number, abroad),
        "tel URI": phonenumbers.format_number(number, PhoneNumberFormat.RFC3966),
        "SIP URI": f'"A. Novak" <sip:{key}@trunk.example;user=phone>',
        "percent": f"sip:%2B{key[1:]}@trunk.example",
        "slashes": international.replace(" ", "/"),
        "other digits": international.translate(ARABIC_INDIC),
        "labelled": f"Tel.: {international}",
        "national": national,
        "national digits": "".join(filter(str.isdigit, national)),
        "national slashed": national.replace(" ", " / ", 1),
        "national dotted": national.replace("-", ".").replace(" ", "."),
    }


def is_read_otherwise(region: str, form: str, number: PhoneNumber) -> bool:
    """The Seychelles dial 01 for abroad: there 011 248 … is a number in North America."""
    return form == "from abroad" and (region == "SC" or e164_of(number) == "+3114020")


def held() -> Iterator[tuple[str, str, str]]:
    """What a CRM holds: every example, each in another of its forms: its country, that form, and its key."""
    for place, (region, number) in enumerate(examples()):
        written = [form for name, form in forms(number).items() if not name.startswith("from")]
        yield region, written[place % len(written)], e164_of(number)


@pytest.fixture(scope="module")
def keys() -> Mapping[str, str]:
    return {plan_of(region).parse(written).dialable or "": key for region, written, key in held()}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhoneIndex]:
    """The phone index, filled with what the CRM holds; the id of each party is their number's key."""
    index = PhoneIndex(tmp_path_factory.mktemp("index"), GERMANY, frozenset(), time.time)
    builder = IndexBuilder(index.path("crm", 1.0))
    # An example may be several countries', and one form of it another number in each of them.
    listed = {key: (region, written) for region, written, key in held()}
    builder.add(
        [
            Row.of(ListedParty(Party("crm", "contact", key), (ListedNumber(written),)), plan_of(region))
            for key, (region, written) in listed.items()
        ]
    )
    builder.finish({"reading": index.reading, "listed": "1", "changed": "1"})
    assert index.open("crm") is not None
    yield index
    index.close()


def plan_of(region: str) -> NumberPlan:
    # Kiribati, the Netherlands and Uruguay have public numbers of five digits: no extension is so long there.
    return GERMANY.for_region(region) if region not in ("KI", "NL", "UY") else NumberPlan(region, 4)


def test_every_number_of_every_country_is_found_in_each_of_its_forms(
    index: PhoneIndex, keys: Mapping[str, str]
) -> None:
    assert set(keys) == set(keys.values())
    asked, lost = 0, []
    for region, number in examples():
        plan = plan_of(region)
        for name, written in forms(number).items():
            if is_read_otherwise(region, name, number):
                continue
            asked += 1
            found = [party.id for party in index.lookup(plan.parse(written))]
            if found != [e164_of(number)]:
                lost.append((region, name, written, plan.parse(written)))
    assert lost == []
    assert asked > 15_000


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("share", range(_SHARES))
def test_no_stranger_of_a_million_is_taken_for_somebody_else(keys: Mapping[str, str], share: int) -> None:
    dice = random.Random(share)
    known = [number for _, number in examples()]
    plans = [plan_of(region) for region in ("DE", "AT", "US", "GB", "IT", "RU", "MX", "AR", "ES", "NL")]
    taken = []
    for _ in range(STRANGERS // _SHARES):
        # As close to the known ones as strangers get: of their countries and lengths.
        like = dice.choice(known)
        significant = phonenumbers.national_significant_number(like)
        kept = dice.randrange(len(significant))
        digits = significant[:kept] + "".join(dice.choices("0123456789", k=len(significant) - kept))
        written = f"+{like.country_code}{digits}"
        found = keys.get(dice.choice(plans).parse(written).e164 or "")
        # The very number may be thrown; libphonenumber alone says what that is.
        if found is not None and found != _read_by_the_library(written):
            taken.append((written, found))
    assert taken == []


def _read_by_the_library(written: str) -> str | None:
    try:
        return e164_of(phonenumbers.parse(written, None))
    except phonenumbers.NumberParseException:
        return None


@pytest.mark.parametrize(
    ("region", "written", "e164"),
    [
        ("RU", "8 (495) 123-45-67", "+74951234567"),
        ("RU", "8 10 49 40 66969100", "+494066969100"),
        ("RU", "+7 (495) 123-45-67 доб. 12", "+74951234567"),
        ("RU", "тел.: 8 495 1234567", "+74951234567"),
        ("IT", "+39 (0)6 1234 5678", "+390612345678"),
        ("IT", "0039 06 12345678", "+390612345678"),
        ("MX", "+52 1 55 1234 5678", "+525512345678"),
        ("MX", "55 1234 5678", "+525512345678"),
        ("MX", "044 55 1234 5678", "+525512345678"),
        ("MX", "045 55 1234 5678", "+525512345678"),
        ("AR", "011 15-2345-6789", "+5491123456789"),
        ("AR", "+54 9 11 2345-6789", "+5491123456789"),
        ("AR", "+54 11 15 2345-6789", "+5491123456789"),
        ("AR", "11 2345-6789", "+541123456789"),
        ("US", "9, 1 (201) 555-0123", "+12015550123"),
        ("US", "9-011-49-40-66969100", "+494066969100"),
        ("US", "(201) JKL-0123", "+12015550123"),
        ("DE", "011 1 201 555 0123", "+12015550123"),
        ("DE", "0 040 66969100", "+494066969100"),
        ("DE", "0-0049 40 66969100", "+494066969100"),
        ("DE", "0+49 40 66969100", "+494066969100"),
        ("DE", "9 040 66969100", "+494066969100"),
        ("DE", "0040 66969100", "+494066969100"),
        ("DE", "12015550123", "+12015550123"),
        ("DE", "Tel. : 040 / 66969-100 (Zentrale)", "+494066969100"),
        ("DE", "Mobil: 0152 28817386", "+4915228817386"),
        ("DE", "tel:66969100;phone-context=+4940", "+494066969100"),
        ("DE", "sip:66969100;phone-context=+4940@trunk.example;user=phone", "+494066969100"),
        ("DE", "tel:+49-40-66969100;isub=1411", "+494066969100"),
        ("DE", "tel:+49-40-66969100;isub=1411;ext=12", "+494066969100"),
        ("DE", "sip:+494066969100:secret@192.0.2.1", "+494066969100"),
    ],
)
def test_what_is_particular_to_a_country_or_a_system(region: str, written: str, e164: str) -> None:
    assert plan_of(region).parse(written).e164 == e164


@pytest.mark.parametrize(
    "written",
    [
        "+1 201 555 0123 ext. 12",
        "+1 201 555 0123 ext 12",
        "+1 201 555 0123 Extension: 12",
        "(201) 555-0123 x12",
        "201-555-0123x12",
        "2015550123#12",
        "2015550123,,12",
        "2015550123;ext=12",
        "tel:+1-201-555-0123;ext=12",
        "+1 201 555 0123 доб. 12",
        "+1 201 555 0123 poste 12",
    ],
)
def test_an_extension_that_is_dialled_afterwards_is_kept_beside_the_key(written: str) -> None:
    number = NumberPlan("US").parse(written)
    assert (number.e164, number.extension) == ("+12015550123", "12")


@pytest.mark.parametrize(
    "written",
    [
        "+49 40 66969-27",
        "040 66969 DW 27",
        "040 66969-0 DW 27",
        "040/66969-0, Durchwahl 27",
        "040 66969-0 DW: -27",
        "040 66969 - 27",
    ],
)
def test_a_direct_extension_is_part_of_the_number(written: str) -> None:
    assert GERMANY.parse(written).e164 == "+49406696927"


def test_where_numbers_have_one_length_a_direct_extension_is_dialled_afterwards() -> None:
    number = NumberPlan("GB").parse("020 7946 0123 DW 27")
    assert (number.e164, number.extension) == ("+442079460123", "27")


@pytest.mark.parametrize(
    ("written", "digits"),
    [("12", "12"), ("ext. 12", "12"), ("DW 27", "27"), ("sip:101@pbx", "101"), ("1 0 1", "101")],
)
def test_an_internal_number_has_its_digits_for_a_key(written: str, digits: str) -> None:
    number = GERMANY.parse(written)
    assert (number.kind, number.dialable) == (NumberKind.INTERNAL, digits)


@pytest.mark.parametrize("written", ["110", "112", "115", "22833", "116117"])
def test_a_short_code_never_becomes_the_key_of_a_public_number(written: str) -> None:
    assert GERMANY.parse(written).e164 is None


@pytest.mark.parametrize(
    "written", ["040 66969 FAX", "040 66969100 call", "030 23125100, 030 23125101", "*21*04066969100#", "JKL"]
)
def test_words_and_second_numbers_do_not_become_digits(written: str) -> None:
    assert GERMANY.parse(written).e164 is None


@pytest.mark.parametrize("written", ["Withheld", "P", "unterdrückt", "sip:+494066969100@anonymous.invalid"])
def test_what_stands_for_a_caller_who_hides(written: str) -> None:
    assert GERMANY.parse(written).kind is NumberKind.WITHHELD


@pytest.mark.parametrize("written", ["O", "-", "Out of area", "sip:unavailable@unknown.invalid"])
def test_what_stands_for_a_number_that_nobody_knows(written: str) -> None:
    assert GERMANY.parse(written).kind is NumberKind.UNAVAILABLE


WRITTEN: Final = st.one_of(
    st.text(max_size=80),
    st.text("+0123456789 ()-/.,;x#*", max_size=30),
    st.sampled_from([form for region, number in examples() for form in forms(number).values()]),
    st.tuples(st.sampled_from(["+", "00", "0", "011", ""]), st.integers(0, 10**15)).map(
        lambda both: f"{both[0]}{both[1]}"
    ),
)


@example("+49000000", "DE")
@given(WRITTEN, st.sampled_from(["DE", "AT", "US", "IT", "RU", "MX", "AR", "BR", "GB", "ES", "KI"]))
def test_a_key_is_its_own_key(written: str, region: str) -> None:
    plan = plan_of(region)
    key = plan.parse(written).dialable
    if key is not None:
        assert plan.parse(key).dialable == key
        assert plan.display(key)


@pytest.mark.parametrize("text", [" ", "(", "1 ", "x1", "ext ", ",", "(a", "1-", "d w", "A1", "(0)"])
def test_no_text_takes_long_to_be_read(text: str) -> None:
    # Expressions that tried everything again at each place would take minutes here.
    assert GERMANY.parse((text * 256)[:255] + "!").kind is NumberKind.UNKNOWN


# Switchboard stems


def test_stems_are_what_remains_without_an_extension_longest_first() -> None:
    assert stems("+49406696927") == ("+4940669692", "+494066969", "+49406696", "+4940669", "+494066")
    assert stems("+43158858123")[:3] == ("+4315885812", "+431588581", "+43158858")


@pytest.mark.parametrize(
    "e164",
    [
        "+4915228817386",
        "+498001234567",
        "+442079460123",
        "+12015550123",
        "+436641234567",
        "+43800123456",
        "",
        "27",
        "anonymous",
    ],
)
def test_mobiles_services_and_countries_of_fixed_lengths_have_no_stems(e164: str) -> None:
    assert stems(e164) == ()


def test_a_stem_keeps_digits_of_its_own_behind_the_area_code() -> None:
    assert all(stem.startswith("+4940") and len(stem) >= len("+4940") + 2 for stem in stems("+4940669100"))
    assert "+4940" not in stems("+49406691")


def test_the_stem_of_our_own_numbers_is_nobody_elses() -> None:
    own = {"+494066969100"}
    assert stems("+49406696927", own) == ("+4940669692",)
    assert stems("+49302312527", own) == stems("+49302312527")


@pytest.mark.parametrize(
    ("plan", "written", "stem"),
    [
        (GERMANY, "+49 40 66969-0", "+494066969"),
        (GERMANY, "040/66969 - 0", "+494066969"),
        (GERMANY, "040 66969–00", "+494066969"),
        (GERMANY, "040 66969/0", "+494066969"),
        (GERMANY, "040 66969 DW 0", "+494066969"),
        (AUSTRIA, "01 58858-0", "+43158858"),
        (AUSTRIA, "+43 1 58858 Kl. 0", "+43158858"),
        (AUSTRIA, "050 12345-0", "+435012345"),
    ],
)
def test_a_switchboard_is_known_by_its_0(plan: NumberPlan, written: str, stem: str) -> None:
    assert stem_of_switchboard(written, plan.parse(written).e164 or "") == stem


@pytest.mark.parametrize(
    "written",
    [
        "040 669690",
        "040 66969-100",
        "040 66969-10",
        "+49 40 66969",
        "0152 2881738-0",
        "040-0",
        "+44 20 7946 012-0",
    ],
)
def test_a_number_that_only_ends_in_0_is_no_switchboard(written: str) -> None:
    assert stem_of_switchboard(written, GERMANY.parse(written).e164 or "") is None
