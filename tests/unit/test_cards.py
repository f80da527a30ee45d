"""Cards: links into other systems, how large one may be, what becomes of it afterwards, and who may say who it is."""

from typing import Any

import orjson
import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from adapters.base import AdapterUnavailable, Case, LastContact, Party
from cti.calls.card import CARD_LIMIT, bounded, card_body, with_links
from cti.calls.services import Services
from cti.calls.written import NotWritten
from cti.identify.identification import Identification
from cti.links import GAPS, LinkTemplate
from cti.numbers import NumberPlan
from cti.web.masking import Masking
from tests.unit.crms import KAI, KATJA, KATJA_WHOLE, Crm
from tests.unit.desktops import settled
from tests.unit.test_desk import ANNA, BEN, CUSTOMER, SALES, Floor

PLAN = NumberPlan("DE")
ERP = LinkTemplate("ERP", "https://erp.example/customer/{party.id}?n={number}")


# Links.


def link(template: LinkTemplate, party: Party = KATJA, number: str | None = CUSTOMER) -> Any:
    links = with_links(party.as_json(), [template], number, "c1")["links"]
    return links[0]["url"] if links else None


def test_a_link_takes_what_the_card_knows_along() -> None:
    assert link(ERP) == "https://erp.example/customer/1001?n=%2B4915228817386"
    everything = "https://erp.example/?" + "&".join(f"{gap}={{{gap}}}" for gap in GAPS)
    whole = evolve(KATJA_WHOLE, organisation="o5")
    assert "{" not in (link(LinkTemplate("All", everything), whole) or "{")


def test_what_is_missing_makes_no_link_and_what_is_for_others_neither() -> None:
    assert link(ERP, number=None) is None
    assert link(evolve(ERP, adapter="other")) is None
    assert link(evolve(ERP, type="lead")) is None
    assert link(evolve(ERP, adapter="crm", type="contact")) is not None


@pytest.mark.parametrize(
    "id", ["../admin", "..", ".", "%2e%2e", "a/../../b", "?x=1", "#top", "@evil.example", "//e"]
)
def test_a_value_stays_in_its_place(id: str) -> None:
    template = LinkTemplate("ERP", "https://erp.example/customer/{party.company}/card")
    url = link(template, evolve(KATJA, company=id))
    assert url is None or url.startswith("https://erp.example/customer/")
    if url is not None:
        (segment,) = url.removeprefix("https://erp.example/customer/").removesuffix("/card").split("/")
        assert not set(segment) & set("/?#@\\ :&=")
        assert segment.replace("%2E", ".") not in (".", "..")


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_of_a_crm_leads_out_of_a_link(name: str, company: str) -> None:
    template = LinkTemplate("ERP", "https://erp.example/a/{party.name}{party.company}?q={party.name}#x")
    url = link(template, evolve(KATJA, name=name, company=company))
    if url is not None:
        assert url.isascii()
        assert url.startswith("https://erp.example/a/")
        assert url.count("?") == url.count("#") == 1
        assert url.partition("?")[0].count("/") == 4


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://{party.name}/x", "fixed host"),
        ("https://erp.example{party.id}", "fixed host"),
        ("https://user@erp.example/{party.id}", "fixed host"),
        ("https://erp.example:{number}/", "fixed host"),
        ("{party.url}", "fixed host"),
        ("javascript:alert(1)//{party.id}", "fixed host"),
        ("data:text/html,{party.id}", "fixed host"),
        ("ftp://erp.example/{party.id}", "fixed host"),
        ("//erp.example/{party.id}", "fixed host"),
        ('https://erp.example/"{party.id}', "fixed host"),
        ("https://erp.example/{party.shoe}", "known are"),
        ("https://erp.example/{party.id", "brace"),
        ("https://erp.example/" + "x" * 1000, "fixed host"),
    ],
)
def test_a_template_that_could_lead_anywhere_is_refused(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        LinkTemplate("ERP", url)


def test_who_may_not_see_a_field_gets_no_link_that_tells_it() -> None:
    by_name = LinkTemplate("By name", "https://erp.example/?q={party.name}")
    plain = LinkTemplate("Plain", "https://erp.example/{party.id}")
    body = orjson.dumps(with_links(KATJA_WHOLE.as_json(), [ERP, by_name, plain], CUSTOMER, "c1"))

    def titles(*hidden: str) -> list[str]:
        seen = orjson.loads(Masking({"agent": hidden}).masked("agent", body))
        return [each["title"] for each in seen["links"]]

    assert titles() == ["Contract", "ERP", "By name", "Plain"]
    assert titles("number") == ["Contract", "By name", "Plain"]
    assert titles("name") == ["Contract", "ERP", "Plain"]
    assert titles("links") == []


@pytest.mark.parametrize("hidden", ["appointments", "tasks", "balance", "company", "links", "notes", "cases"])
def test_each_section_can_be_hidden(hidden: str) -> None:
    whole = evolve(KATJA_WHOLE, organisation="o5").as_json()
    seen = orjson.loads(Masking({"agent": [hidden]}).masked("agent", orjson.dumps(whole)))
    keys = {"balance": ("balance", "dunning"), "company": ("company", "organisation")}.get(hidden, (hidden,))
    for key in keys:
        assert whole[key]
        assert not seen[key]
    assert seen["name"] == whole["name"]


# How large.


def test_a_card_is_bounded_however_much_a_crm_says() -> None:
    much = evolve(
        KATJA,
        notes="ü" * 4000,
        cases=tuple(Case(f"T-{n}", "ü" * 250, url="https://crm.example/" + "x" * 2000) for n in range(20)),
        last_contacts=tuple(LastContact("2026-11-02T10:30:00Z", "call", "u", "ü" * 1000) for _ in range(20)),
    )
    call = Floor().call
    many = tuple(evolve(much, id=str(number)) for number in range(100))
    for parties in ((much,), many):
        identified = Identification(PLAN.parse(CUSTOMER), parties)
        body = card_body(call, identified, None, Services([], PLAN, [ERP]))
        assert len(orjson.dumps(body)) <= CARD_LIMIT
        assert body["shortened"]
        assert body["parties"][0]["name"] == "Katja Brandt"


def test_a_card_of_the_usual_size_is_left_as_it_is() -> None:
    body = {"parties": [KATJA_WHOLE.as_json()]}
    assert bounded(body) is body


# Late.


class Late(Floor):
    """Anna's phone rings, and the card has who an index knew."""

    def __init__(self, *parties: Party) -> None:
        super().__init__()
        self.crm = self.adapters["crm"] = Crm()
        self.house.services = Services([SALES], PLAN, [ERP])
        found = parties or (KATJA,)
        identified = Identification(PLAN.parse(CUSTOMER), found)
        self.ringing()
        self.call.identification = identified
        self.call.card = card_body(self.call, identified, SALES, self.house.services)
        if len(found) == 1:
            self.call.record.party = {
                "adapter": "crm",
                "type": "contact",
                "id": found[0].id,
                "name": found[0].name,
            }

    @property
    def shown(self) -> list[Any]:
        """What the card says of each party now."""
        return list((self.call.card or {})["parties"])

    def answers(self) -> None:
        for each in self.crm.waiting:
            each.callback(None)


def test_a_card_that_was_shown_briefly_is_brought_up_to_date_for_whoever_has_it() -> None:
    late = Late()
    late.crm.hangs = True
    late.late_cards.freshen(late.call)
    assert late.shown[0]["tasks"] == []
    assert late.events("card.updated") == []
    late.answers()
    ((event, audience),) = late.events("card.updated")
    assert audience == ("anna",)
    assert event["agent"] == "anna"
    assert [task["title"] for task in event["card"]["parties"][0]["tasks"]] == ["Send the offer"]
    assert [each["title"] for each in event["card"]["parties"][0]["links"]] == ["Contract", "ERP"]
    assert late.the_call()["party"]["balance"] == "EUR 1,250.00 open"
    assert late.rows("CardRecord")[-1].body == late.call.card, "the log has it, too"


def test_a_card_that_is_whole_already_is_no_news() -> None:
    late = Late()
    late.late_cards.freshen(late.call)
    before = len(late.house.store.units)
    late.late_cards.freshen(late.call)
    assert len(late.events("card.updated")) == 1
    assert len(late.house.store.units) == before, "nothing is written"


@pytest.mark.parametrize("trouble", ["away", "gone", "slow"])
def test_a_crm_that_cannot_say_more_leaves_the_card_as_it_is(trouble: str) -> None:
    late = Late()
    if trouble == "away":
        late.crm.fails = AdapterUnavailable("it is away")
    elif trouble == "gone":
        late.crm.whole.clear()
    else:
        late.crm.hangs = True
    late.late_cards.freshen(late.call)
    late.house.clock.advance(10)
    assert late.shown[0]["name"] == "Katja Brandt"
    assert late.events("card.updated") == []
    assert late.house.clock.getDelayedCalls() == []


def test_of_many_parties_with_one_number_a_few_are_asked_about_until_one_is_chosen() -> None:
    late = Late(*(evolve(KAI, id=str(number)) for number in range(8)), KATJA)
    late.late_cards.freshen(late.call)
    assert [what for by, what in late.crm.asked if by == "card"] == ["0", "1", "2"]
    late.crm.asked.clear()
    late.call.record.party = {"adapter": "crm", "type": "contact", "id": "1001"}
    late.late_cards.freshen(late.call)
    assert [what for by, what in late.crm.asked if by == "card"] == ["1001"]


def test_what_is_fresh_counts_at_the_next_question_of_the_dialplan() -> None:
    late = Late(evolve(KATJA, tier=None))
    late.late_cards.freshen(late.call)
    assert late.call.identification is not None
    assert late.call.identification.party is not None
    assert late.call.identification.party.tier == "gold"


def test_an_adapter_without_cards_is_not_asked_for_any() -> None:
    late = Late()
    late.crm.capabilities = frozenset()
    late.late_cards.freshen(late.call)
    assert late.crm.asked == []


# Who it is.


def says(late: Late, id: str, who: Any = ANNA) -> Any:
    party = {"adapter": "crm", "type": "contact", "id": id}
    return settled(late.written.write(who, late.call.id, {"party": party}, "*"))


def test_any_party_that_its_adapter_confirms_can_be_said_to_be_who_calls() -> None:
    late = Late(KAI)
    record = says(late, "1001")
    assert (record.party["id"], record.party["match"], record.party["name"]) == (
        "1001",
        "chosen",
        "Katja Brandt",
    )
    assert [party["id"] for party in late.shown] == ["1001", "1002"], "who was there may be chosen again"
    assert late.shown[0]["tasks"]
    assert late.the_call()["party"]["id"] == "1001"
    assert not late.the_call()["choose"]
    assert late.events("call.updated")[-1][0]["changed"] == ["party"]


def test_who_is_in_no_crm_cannot_be_who_calls() -> None:
    late = Late(KAI)
    with pytest.raises(NotWritten, match="no adapter knows them"):
        says(late, "9")
    late.crm.fails = AdapterUnavailable("it is away")
    with pytest.raises(NotWritten, match="it is away"):
        says(late, "1001")
    assert late.call.record.party is not None
    assert late.call.record.party["id"] == "1002"


def test_who_may_not_write_of_a_call_makes_nobody_be_asked() -> None:
    late = Late(KAI)
    with pytest.raises(Exception, match="no such call"):
        says(late, "1001", BEN)
    assert late.crm.asked == []
