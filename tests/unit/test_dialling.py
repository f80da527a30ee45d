"""Which numbers may be dialled on somebody's behalf: every way to run up a bill that we could think of."""

from typing import Any

import pytest

from cti.dialling import CLASSES, Allowance, DiallingRules, NumberRefused
from cti.numbers import NumberPlan


def rules(region: str = "DE", **more: Any) -> DiallingRules:
    return DiallingRules(NumberPlan(region), **more)


@pytest.mark.parametrize(
    ("raw", "dialled"),
    [
        ("+4915228817386", "+4915228817386"),
        ("0152 28817386", "+4915228817386"),
        ("0152/288 173-86", "+4915228817386"),
        ("(0152) 28817386", "+4915228817386"),
        ("0049 152 28817386", "+4915228817386"),
        ("+49 (0) 152 28817386", "+4915228817386"),
        ("(+49) 152 28817386", "+4915228817386"),
        ("tel:+49-152-28817386", "+4915228817386"),
        ("+49\u00a0152\u00a028817386", "+4915228817386"),
        ("\u202a+49 152\u201128817386\u202c", "+4915228817386"),
        ("\uff0b\uff14\uff19 152 28817386", "+4915228817386"),
        ("030 23125100", "+493023125100"),
        ("+494066969100", "+494066969100"),
        ("0800 1234567", "+498001234567"),
        ("200", "200"),
        (" 2 00 ", "200"),
        ("\u0662\u0660\u0660", "200"),
        ("12345", "12345"),
    ],
)
def test_a_number_is_dialled_in_one_form_however_it_was_written(raw: str, dialled: str) -> None:
    assert rules().check(raw) == dialled


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        # What costs.
        ("+49 900 1234567", "premium-rate"),
        ("0900 1234567", "premium-rate"),
        ("0049 900 1234567", "premium-rate"),
        ("+49 (0) 900 1234567", "premium-rate"),
        ("0180 5123456", "shared-cost"),
        ("0137 1234567", "shared-cost"),
        ("+49 164 12345678", "pager"),
        ("+49 190 1234567", "no known range"),
        ("+49 1234", "no known range"),
        # What belongs to no country.
        ("+870 773 123456", "satellite"),
        ("00870 773 123456", "satellite"),
        ("+881 6 12345678", "satellite"),
        ("+882 16 1234567", "satellite"),
        ("+883 5100 01234567", "international network"),
        ("+878 10 1234567890", "international personal"),
        ("+979 1 2345 6789", "premium-rate"),
        ("+808 1234 5678", "shared-cost"),
        ("+800 1234 5678", "international freephone"),
        # What is not to be dialled by a machine.
        ("110", "emergency"),
        ("112", "emergency"),
        ("999", "emergency"),
        ("911", "emergency"),
        ("0112", "emergency"),
        ("00112", "emergency"),
        ("9110", "emergency"),
        ("9112", "emergency"),
        ("0 110", "emergency"),
        ("1 1 2", "emergency"),
        ("+49112", "no telephone number"),
        ("+49 30 112", "emergency"),
        ("030 110", "emergency"),
        ("115", "short code"),
        ("11833", "short code"),
        ("0123", "outside line"),
        # Other countries.
        ("+43 1 2345678", "AT"),
        ("+1 876 555 0123", "JM"),
        ("+44 20 7946 0123", "GB"),
        ("00 44 20 7946 0123", "GB"),
        ("+1 212 555 0123", "US"),
        # Classes that are not configured.
        ("+49 700 12345678", "personal"),
        # What is more than a number.
        ("*31*015228817386", "only digits"),
        ("#31#015228817386", "only digits"),
        ("*67", "only digits"),
        ("200&PJSIP/09001234567@trunk", "only digits"),
        ("200,1,Dial", "only digits"),
        ("015228817386,,,1234", "only digits"),
        ("015228817386p1234", "only digits"),
        ("015228817386w9", "only digits"),
        ("015228817386;ext=1", "only digits"),
        ("tel:+4915228817386;phone-context=x", "only digits"),
        ("sip:015228817386@example.com", "only digits"),
        ("Anna <015228817386>", "only digits"),
        ("015228817386@trunk", "only digits"),
        ("0152${EXTEN}", "only digits"),
        ("0800-FLOWERS", "only digits"),
        ("+49+15228817386", "only digits"),
        ("49+15228817386", "only digits"),
        ("015228817386\n112", "only digits"),
        ("0152\x0028817386", "only digits"),
        ("٪112", "only digits"),
        ("", "no telephone number"),
        ("+", "no telephone number"),
        ("---", "no telephone number"),
        ("7", "no telephone number"),
        ("1" * 40, "no telephone number"),
        ("0" * 5000, "no telephone number"),
        ("+0", "no telephone number"),
    ],
)
def test_what_may_cost_or_do_harm_is_refused_and_said_why(raw: str, why: str) -> None:
    with pytest.raises(NumberRefused, match=why) as refused:
        rules().check(raw)
    digits = "".join(filter(str.isdigit, raw))
    assert len(digits) < 7 or digits not in str(refused.value)


@pytest.mark.parametrize("raw", ["09001234567", "+870773123456", "112", "+49 30 110", "01805123456", "115"])
def test_what_is_refused_by_rule_cannot_be_configured(raw: str) -> None:
    everything = rules(classes=list(CLASSES), countries=["DE", "001", ""])
    with pytest.raises(NumberRefused):
        everything.check(raw)


@pytest.mark.parametrize(
    ("region", "raw"),
    [
        ("GB", "999"),
        ("GB", "9999"),
        ("GB", "101"),
        ("US", "911"),
        ("US", "9911"),
        ("US", "411"),
        ("SI", "113"),
    ],
)
def test_emergency_numbers_and_short_codes_are_those_of_the_country(region: str, raw: str) -> None:
    with pytest.raises(NumberRefused, match=r"emergency|short code"):
        rules(region).check(raw)


def test_an_extension_that_is_a_message_code_where_people_vote_by_them_is_an_extension() -> None:
    assert rules("US").check("20202") == "20202"


def test_a_class_that_is_not_configured_is_refused_by_its_name() -> None:
    with pytest.raises(NumberRefused, match="mobile"):
        rules(classes=["fixed_line", "internal"]).check("+4915228817386")
    with pytest.raises(NumberRefused, match="internal"):
        rules(classes=["fixed_line"]).check("200")
    assert rules(classes=["personal"]).check("+4970012345678") == "+4970012345678"


def test_where_numbers_do_not_tell_mobiles_both_classes_are_needed() -> None:
    america = {"region": "US", "countries": ["US"]}
    assert rules(**america).check("(212) 555-0123") == "+12125550123"
    with pytest.raises(NumberRefused, match="lacks fixed_line"):
        rules(**america, classes=["mobile"]).check("+1 212 555 0123")


def test_other_countries_have_to_be_configured() -> None:
    assert rules(countries=["DE", "GB"]).check("+44 20 7946 0123") == "+442079460123"


def test_each_who_asks_may_start_so_many_calls_a_minute() -> None:
    now = [1000.0]
    allowance = Allowance(lambda: now[0], 3)
    assert [allowance.take("token") for _ in range(3)] == [0, 0, 0]
    assert allowance.take("token") == pytest.approx(20)
    assert allowance.take("another") == 0
    now[0] += 20
    assert allowance.take("token") == 0
    assert allowance.take("token") > 0
    now[0] += 600
    assert [allowance.take("token") for _ in range(4)][2:] == [0, pytest.approx(20)]


def test_who_has_had_too_many_spends_nobody_elses() -> None:
    allowance = Allowance(lambda: 1000.0, 1)
    assert allowance.take("token one", "anna") == 0
    assert allowance.take("token two", "anna") > 0
    assert allowance.take("token two") == 0


def test_a_clock_that_is_set_back_gives_no_calls_away() -> None:
    now = [1000.0]
    allowance = Allowance(lambda: now[0], 1)
    allowance.take("token")
    now[0] -= 500
    assert allowance.take("token") == pytest.approx(60)


def test_the_memory_of_who_asked_is_bounded() -> None:
    allowance = Allowance(lambda: 1000.0, 5, size=10)
    for token in range(100):
        allowance.take(str(token))
    assert len(allowance._spent) == 10
