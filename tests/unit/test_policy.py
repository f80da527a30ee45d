"""Which of several parties with one number it is."""

from typing import Any

import pytest

from adapters.base import Case, Party, PartyType
from cti.identify.options import POLICIES
from cti.identify.policy import Key, in_order, key_of, needs_details, resolve


def a_party(id: str, adapter: str = "crm", **more: Any) -> Party:
    return Party(adapter, more.pop("type", PartyType.CONTACT), id, f"Person {id}", **more)


def an_open_case() -> list[Case]:
    return [Case("7", "Broken")]


def settled(
    *parties: Party, policies: tuple[str, ...] = POLICIES, spoken: tuple[Key, ...] = ()
) -> tuple[Any, Any]:
    found = resolve(parties, policies, lambda: spoken)
    return (None, None) if found is None else (found.by, None if found.party is None else found.party.id)


def test_one_party_is_nothing_to_settle() -> None:
    assert resolve([], POLICIES) is None
    assert resolve([a_party("1")], POLICIES) is None


def test_several_of_whom_nothing_is_known_are_for_the_agent_and_never_the_first() -> None:
    assert settled(a_party("1"), a_party("2")) == ("ask", None)


def test_who_has_the_number_itself_goes_before_whose_switchboard_it_is() -> None:
    assert settled(a_party("1", match="stem"), a_party("2")) == ("number", "2")
    assert settled(a_party("1", match="stem"), a_party("2"), a_party("3")) == ("ask", None)


def test_people_of_one_company_are_the_company() -> None:
    people = [
        a_party("1", organisation="o1", company="Hafen AG", owner="u1", tier="gold", tags=("a", "b")),
        a_party("2", organisation="o1", company="Hafen AG", owner="u1", tier="silver", tags=("b",)),
    ]
    found = resolve(people, POLICIES)
    assert found is not None
    assert found.party is not None
    company = found.party
    assert (found.by, company.type, company.id, company.name) == ("company", "organisation", "o1", "Hafen AG")
    assert (company.match, company.owner, company.tier, company.tags) == ("company", "u1", None, ("b",))


def test_the_company_itself_among_its_people_is_who_it_is() -> None:
    itself = a_party("o1", type=PartyType.ORGANISATION, match="number", tier="gold")
    found = resolve([a_party("1", organisation="o1"), itself], POLICIES)
    assert found is not None
    assert found.party is itself


@pytest.mark.parametrize(
    "others",
    [
        {"organisation": "o2"},
        {"organisation": None},
        {"organisation": "o1", "adapter": "other"},
    ],
)
def test_people_of_different_companies_are_not_one(others: dict[str, Any]) -> None:
    adapter = others.pop("adapter", "crm")
    assert settled(a_party("1", organisation="o1"), a_party("2", adapter, **others)) == ("ask", None)


def test_who_has_an_open_case_calls_about_it_unless_several_have() -> None:
    waiting = a_party("2", cases=an_open_case())
    assert settled(a_party("1"), waiting) == ("case_owner", "2")
    assert settled(a_party("1", cases=an_open_case()), waiting) == ("ask", None)


def test_who_was_spoken_with_last_is_who_it_is() -> None:
    spoken = (("crm", "contact", "9"), ("crm", "contact", "2"), ("crm", "contact", "1"))
    assert settled(a_party("1"), a_party("2"), spoken=spoken) == ("last_agent", "2")
    assert settled(a_party("1"), a_party("2", "other"), spoken=(("other", "contact", "1"),)) == ("ask", None)


def test_the_company_says_in_which_order_and_which_count_at_all() -> None:
    parties = a_party("1", organisation="o1", cases=an_open_case()), a_party("2", organisation="o1")
    assert settled(*parties)[0] == "company"
    assert settled(*parties, policies=("case_owner", "company")) == ("case_owner", "1")
    assert settled(*parties, policies=("ask",)) == ("ask", None)
    assert settled(*parties, policies=("last_agent",)) == ("ask", None), "what nothing settles is asked"


def test_what_each_policy_came_to_is_told() -> None:
    found = resolve([a_party("1"), a_party("2", cases=an_open_case())], POLICIES)
    assert found is not None
    assert [(step.policy, step.note) for step in found.steps] == [
        ("company", "they belong to no company"),
        ("case_owner", "one of them has an open case"),
    ]


def test_the_log_is_asked_only_if_it_comes_to_that() -> None:
    def asked() -> list[Key]:
        raise AssertionError("nobody needs to know")

    assert resolve([a_party("1"), a_party("2", cases=an_open_case())], POLICIES, asked) is not None


def test_an_index_is_enough_unless_the_cases_have_to_settle_it() -> None:
    several = [a_party("1"), a_party("2")]
    company = [a_party("1", organisation="o1"), a_party("2", organisation="o1")]
    assert needs_details(several, POLICIES)
    assert not needs_details(company, POLICIES)
    assert not needs_details(several, ("company", "ask"))
    assert not needs_details(several[:1], POLICIES)
    assert needs_details(several, ("last_agent", "case_owner"))


def test_the_card_has_first_who_it_was_settled_for_and_then_whom_agents_chose() -> None:
    parties = [a_party(each) for each in "1234"]
    chosen = [key_of(parties[3]), key_of(parties[1]), ("crm", "contact", "gone")]
    assert [party.id for party in in_order(parties, None, chosen)] == ["4", "2", "1", "3"]
    assert [party.id for party in in_order(parties, parties[2], chosen)] == ["3", "4", "2", "1"]
    company = a_party("o1", type=PartyType.ORGANISATION)
    assert [party.id for party in in_order(parties, company, ())] == ["o1", "1", "2", "3", "4"]
