"""Telephone numbers: written in whatever way, they become one key, or say why not."""

import phonenumbers
import pytest
from hypothesis import given, strategies as st

from cti.numbers import (
    INPUT_LIMIT,
    RAW_LIMIT,
    Number,
    NumberKind,
    NumberPlan,
    as_dialled,
    country,
    display,
    is_mobile,
    mask,
    spellings,
)

GERMANY = NumberPlan("DE")
MOBILE = "+4915228817386"


@pytest.mark.parametrize(
    "written",
    [
        "+4915228817386",
        "004915228817386",
        "4915228817386",
        "015228817386",
        "15228817386",
        "0152 28817386",
        "0152/288 173-86",
        "0152.28817386",
        "+49 (0)152 28817386",
        "+49(0)15228817386",
        "49 (0)152 28817386",
        "0049 (0) 152 / 288 17 386",
        "+49\u00a0152\u202f28817386",
        "+49 152–28817386",
        "\u200e+4915228817386",
        "\uff0b\uff14\uff19 152 28817386",
        "٠١٥٢٢٨٨١٧٣٨٦",
        "+015228817386",
        "+004915228817386",
        "++4915228817386",
        "tel:+49-152-28817386",
        "tel:015228817386;phone-context=+49",
        "sip:+4915228817386@trunk.example;user=phone",
        "sips:%2B4915228817386@trunk.example:5061",
        "<sip:015228817386@192.0.2.1>",
        '"Ana Novak" <sip:015228817386@192.0.2.1;transport=udp>',
        "015228817386@192.0.2.1",
        " 015228817386\r\n",
    ],
)
def test_one_number_is_found_however_it_is_written(written: str) -> None:
    number = GERMANY.parse(written)
    assert (number.kind, number.e164) == (NumberKind.E164, MOBILE)


@pytest.mark.parametrize(
    ("written", "e164"),
    [
        ("494066969100", "+494066969100"),
        ("492214710123", "+492214710123"),
        ("4921112345678", "+4921112345678"),
        ("04921 123456", "+494921123456"),
        ("4433", None),
    ],
)
def test_a_country_code_without_plus_wins_over_an_area_that_looks_like_it(
    written: str, e164: str | None
) -> None:
    assert GERMANY.parse(written).e164 == e164


@pytest.mark.parametrize(
    ("region", "written", "e164"),
    [
        ("GB", "020 7946 0123", "+442079460123"),
        ("GB", "442079460123", "+442079460123"),
        ("GB", "+44 7700 900123", "+447700900123"),
        ("US", "(201) 555-0123", "+12015550123"),
        ("US", "12015550123", "+12015550123"),
        ("US", "011 49 152 28817386", MOBILE),
        ("US", "0049 152 28817386", MOBILE),
        ("IT", "06 1234 5678", "+390612345678"),
        ("IT", "+39 06 1234 5678", "+390612345678"),
        ("SI", "00 49 152 28817386", MOBILE),
    ],
)
def test_national_forms_follow_the_configured_region(region: str, written: str, e164: str) -> None:
    assert NumberPlan(region).parse(written).e164 == e164


@pytest.mark.parametrize("written", ["10", "101", "30123", "sip:101@pbx", "0049"])
def test_a_short_number_that_nobody_outside_could_dial_is_internal(written: str) -> None:
    assert GERMANY.parse(written).kind is NumberKind.INTERNAL


def test_how_long_an_extension_may_be_is_configured() -> None:
    assert NumberPlan("DE", internal_digits=3).parse("1010").kind is NumberKind.UNKNOWN
    assert NumberPlan("DE", internal_digits=7).parse("1234567").kind is NumberKind.INTERNAL
    assert NumberPlan("DE", internal_digits=0).parse("101").kind is NumberKind.UNKNOWN


@pytest.mark.parametrize(
    "written", ["anonymous", "Anonymous", "RESTRICTED", "sip:anonymous@anonymous.invalid", "withheld"]
)
def test_a_caller_who_hides_is_withheld(written: str) -> None:
    number = GERMANY.parse(written)
    assert (number.kind, number.e164) == (NumberKind.WITHHELD, None)


@pytest.mark.parametrize("written", [None, "", "  ", "unknown", "<unknown>", "Unavailable", "asterisk"])
def test_a_caller_whose_number_nobody_knows_is_unavailable(written: str | None) -> None:
    assert GERMANY.parse(written).kind is NumberKind.UNAVAILABLE


@pytest.mark.parametrize("presentation", [32, 33, 34, 35])
def test_a_number_that_came_although_its_caller_forbade_it_is_kept_nowhere(presentation: int) -> None:
    assert GERMANY.parse(MOBILE, presentation=presentation) == Number("", NumberKind.WITHHELD)


def test_presentation_67_means_that_the_network_has_no_number() -> None:
    assert GERMANY.parse("", presentation=67).kind is NumberKind.UNAVAILABLE


@pytest.mark.parametrize("presentation", [None, 0, 1, 2, 3])
def test_a_number_that_may_be_shown_is_parsed(presentation: int | None) -> None:
    assert GERMANY.parse(MOBILE, presentation=presentation).e164 == MOBILE


@pytest.mark.parametrize(
    "written", ["hello", "Žužemberk", "*97", "1", "030 123, 030 456", "+", "0" * 23, "1" * 23]
)
def test_what_is_no_number_is_unknown(written: str) -> None:
    assert GERMANY.parse(written).kind is NumberKind.UNKNOWN


def test_raw_is_kept_as_it_came_without_control_characters() -> None:
    assert GERMANY.parse("0152\r\n28817386\x00").raw == "0152 28817386"
    assert GERMANY.parse("0152 / 288 173 86").raw == "0152 / 288 173 86"


def test_a_long_uri_is_understood_and_its_raw_form_cut() -> None:
    number = GERMANY.parse(f"sip:{MOBILE}@{'a' * 100}.example")
    assert (number.e164, len(number.raw)) == (MOBILE, RAW_LIMIT)


def test_an_endless_text_is_not_searched_for_a_number() -> None:
    assert GERMANY.parse(MOBILE + " " * INPUT_LIMIT).kind is NumberKind.UNKNOWN


def test_an_unknown_region_says_what_would_be_right() -> None:
    with pytest.raises(ValueError, match="two letters of ISO 3166"):
        NumberPlan("Germany")


@given(st.text(max_size=300), st.none() | st.integers(-(2**31), 2**31))
def test_nothing_that_is_sent_raises(text: str, presentation: int | None) -> None:
    number = GERMANY.parse(text, presentation=presentation)
    assert len(number.raw) <= RAW_LIMIT
    assert (number.e164 is not None) == (number.kind is NumberKind.E164)
    number.raw.encode("utf-8")
    mask(text)


VALID_IN_GERMANY = st.sampled_from(["3023125", "4066969", "6990009", "2214710", "8999998"]).flatmap(
    lambda office: st.integers(0, 999).map(lambda line: f"+49{office}{line:03}")
)


@given(VALID_IN_GERMANY)
def test_every_spelling_is_the_same_number(e164: str) -> None:
    forms = spellings(e164, "DE")
    assert forms[0] == e164
    assert {GERMANY.parse(form).e164 for form in forms} == {e164}


@pytest.mark.parametrize("region", ["DE", "GB", "US", "SI", "RU", "AT", "FR", "IT", "ES", "JP", "BR", "AU"])
def test_spellings_are_understood_in_the_region_they_are_for(region: str) -> None:
    example = phonenumbers.example_number(region)
    assert example is not None
    e164 = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
    assert {NumberPlan(region).parse(form).e164 for form in spellings(e164, region)} == {e164}


def test_the_forms_a_german_trunk_may_send() -> None:
    assert spellings("+494066969100", "DE") == (
        "+494066969100",
        "494066969100",
        "00494066969100",
        "04066969100",
    )


def test_a_foreign_number_has_no_national_form() -> None:
    assert spellings("+12015550123", "DE") == ("+12015550123", "12015550123", "0012015550123")


def test_display_is_national_at_home_and_international_abroad() -> None:
    assert display("+442079460123", "GB") == "020 7946 0123"
    assert display("+442079460123", "DE") == "+44 20 7946 0123"


def test_what_is_no_e164_number_is_displayed_as_it_is() -> None:
    plan = NumberPlan("DE")
    assert plan.display("+4915228817386") == "01522 8817386"
    for other in (None, "200", "+", "anonymous"):
        assert plan.display(other) == other


@pytest.mark.parametrize("wrong", ["", "0152", "+", "anonymous"])
def test_only_e164_has_spellings_and_a_display_form(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"E\.164"):
        spellings(wrong, "DE")
    with pytest.raises(ValueError, match=r"E\.164"):
        display(wrong, "DE")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (MOBILE, "+4915…86"),
        ("0152 28817386", "0152…86"),
        (f"sip:{MOBILE}@trunk.example", "+4915…86"),
        ("1234567", "…67"),
        ("101", "…"),
        ("Ana Novak", "…"),
        ("anonymous", "anonymous"),
        ("", ""),
    ],
)
def test_a_log_sees_no_whole_number(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_warming_up_leaves_every_answer_as_it_was() -> None:
    plan = NumberPlan("DE")
    plan.warm_up()
    assert plan.parse("015228817386").e164 == MOBILE


@pytest.mark.parametrize(
    ("e164", "region", "digits"),
    [
        ("+494066969027", "DE", "04066969027"),
        ("+442079460123", "DE", "00442079460123"),
        ("+442079460123", "US", "011442079460123"),
        ("+12025550142", "US", "12025550142"),
        ("+12025550142", "DE", "0012025550142"),
        ("+390612345678", "IT", "0612345678"),
    ],
)
def test_a_number_is_given_as_a_telephone_there_dials_it(e164: str, region: str, digits: str) -> None:
    assert as_dialled(e164, region) == digits
    assert NumberPlan(region).parse(digits).e164 == e164


def test_only_what_is_certainly_a_mobile_is_one() -> None:
    assert is_mobile("+4915228817386")
    assert not is_mobile("+494066969027")
    # In North America nobody can tell.
    assert not is_mobile("+12025550142")
    with pytest.raises(ValueError, match=r"E\.164"):
        is_mobile("0152 28817386")


@pytest.mark.parametrize(
    ("e164", "whose"),
    [
        ("+4915228817386", "DE"),
        ("+442079460123", "GB"),
        ("+12025550142", "US"),
        ("+14165550142", "CA"),
        # Not in service, and of an unknown range that others share.
        ("+447700900123", None),
        # Freephone of no country.
        ("+80012345678", None),
    ],
)
def test_a_number_tells_its_country_or_none(e164: str, whose: str | None) -> None:
    assert country(e164) == whose


def test_what_is_no_e164_number_is_asked_for_no_country() -> None:
    with pytest.raises(ValueError, match=r"E\.164"):
        country("0152 28817386")
