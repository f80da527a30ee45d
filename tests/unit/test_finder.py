"""Parties found by keys, by words and by which one they are: everywhere at once, bounded, none harmed by others."""

import logging
from typing import Any

import orjson
import pytest
from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from adapters.base import AdapterUnavailable, Capability, KeyKind, Party
from cti.calls.asking import Question, Reply, ask_all
from cti.calls.finder import (
    AT_ONCE,
    KEPT,
    KEPT_SECONDS,
    KEY_SECONDS,
    SEARCH_SECONDS,
    Finder,
    NotAsked,
    UnknownKey,
)
from cti.identify.identification import Identification, Outcome
from cti.identify.identifier import Identifier
from cti.numbers import Number, NumberPlan
from tests.unit.crms import KAI, KATJA, KATJA_WHOLE, Crm
from tests.unit.desktops import settled
from tests.unit.test_web import ELSEWHERE, Web

PLAN = NumberPlan("DE")
NOBODY = PLAN.parse(None)


class Desk:
    """A finder and its CRMs, on a clock."""

    def __init__(self, *names: str) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.crms = {name: Crm(name) for name in names or ("crm",)}
        self.sensitive: set[str] = set()
        self.open: set[str] = set()
        self.observed: list[tuple[str, str]] = []
        self.finder = Finder(
            adapters=lambda: self.crms,
            identify=self.identify,
            owners=lambda adapter, user: {"u1": "anna", "u2": "ben"}.get(user),
            settle=lambda number, parties: self.identifier().settle(number, parties),
            sensitive=lambda: self.sensitive,
            is_open=lambda adapter: adapter in self.open,
            clock=self.clock,
            observe=lambda adapter, outcome, seconds: self.observed.append((adapter, str(outcome))),
        )

    @property
    def crm(self) -> Crm:
        return next(iter(self.crms.values()))

    async def identify(self, number: Number) -> Identification:
        return await self.identifier().identify(number)

    def identifier(self) -> Identifier:
        return Identifier(self.crms, self.clock, owners=lambda adapter, user: None, plan=PLAN)

    def search(self, words: str, limit: int = 20) -> Any:
        return settled(self.finder.search(words, PLAN.parse(words), limit))

    def by_key(self, kind: str, value: str) -> Any:
        return settled(self.finder.by_key(kind, value, NOBODY))


# By a key.


def test_a_key_finds_whose_it_is_and_says_so() -> None:
    desk = Desk()
    found = desk.by_key("customer", "4711")
    assert (found.party.id, found.party.match, found.owner) == ("1001", "key", "anna")
    assert desk.observed == [("crm", "hit")]
    assert desk.by_key("customer", "471").parties == ()
    assert desk.observed[-1] == ("crm", "miss")


def test_several_with_one_key_are_settled_as_with_one_number() -> None:
    desk = Desk("crm", "other")
    found = desk.by_key("customer", "4711")
    assert (len(found.parties), found.party, found.resolved_by) == (2, None, "ask")


def test_only_those_are_asked_who_know_such_a_key() -> None:
    desk = Desk("crm", "other")
    desk.crms["other"].keys = (KeyKind("ticket", "Ticket"),)
    desk.by_key("customer", "4711")
    assert desk.crms["other"].asked == []
    assert list(desk.finder.kinds) == ["customer", "card", "ticket"]


def test_an_unknown_kind_of_key_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(UnknownKey, match="customer, card"):
        Desk().by_key("shoe_size", "43")


@pytest.mark.parametrize("value", ["", "x" * 129, "47\n11", "47\x0011"])
def test_what_can_be_no_key_is_nobodys_and_asked_of_nobody(value: str) -> None:
    desk = Desk()
    with pytest.raises(ValueError, match="1 to 128 characters"):
        desk.by_key("customer", value)
    assert desk.crm.asked == []


def test_the_configuration_can_make_a_key_sensitive_that_its_adapter_does_not() -> None:
    desk = Desk()
    assert [kind.sensitive for kind in desk.finder.kinds.values()] == [False, True]
    desk.sensitive.add("customer")
    assert [kind.sensitive for kind in desk.finder.kinds.values()] == [True, True]


def test_a_key_waits_no_longer_than_a_caller_would() -> None:
    desk = Desk()
    desk.crm.hangs = True
    found: list[Identification] = []
    Deferred.fromCoroutine(desk.finder.by_key("customer", "4711", NOBODY)).addCallback(found.append)
    desk.clock.advance(KEY_SECONDS - 0.01)
    assert not found
    desk.clock.advance(0.02)
    assert found[0].adapters[0].outcome is Outcome.TIMEOUT
    assert desk.crm.waiting[0].called, "the question was not cancelled"


# By anything.


def test_a_search_asks_for_words_numbers_and_keys_and_puts_the_surest_first() -> None:
    desk = Desk()
    desk.crm.people = [KAI, KATJA]
    assert [party.id for party in desk.search("Brandt").parties] == ["1002", "1001"]
    assert [party.match for party in desk.search("4711").parties] == ["key"]
    by_number = desk.search("0152 / 288 95 456")
    assert [(party.id, party.match) for party in by_number.parties] == [("1002", "number")]
    assert [reply.by for reply in by_number.replies] == ["key:customer", "number", "words"]


def test_nobody_comes_twice_in_a_search() -> None:
    desk = Desk()
    desk.crm.people = [evolve(KATJA, name="4711 Ltd")]
    found = desk.search("4711")
    assert [(party.id, party.match) for party in found.parties] == [("1001", "key")]


def test_a_search_asks_nobody_for_a_sensitive_key() -> None:
    desk = Desk()
    assert desk.search("4929123412341234").parties == []
    assert "card" not in [by for by, _ in desk.crm.asked]
    desk.sensitive.add("customer")
    desk.search("4711")
    assert "customer" not in [by for by, _ in desk.crm.asked[-2:]]


def test_a_crm_that_fails_or_hangs_takes_nothing_from_the_others_and_is_told() -> None:
    desk = Desk("crm", "hanging", "failing")
    desk.crms["hanging"].hangs = True
    desk.crms["failing"].fails = AdapterUnavailable("it is away")
    found: list[Any] = []
    Deferred.fromCoroutine(desk.finder.search("Katja", PLAN.parse("Katja"), 20)).addCallback(found.append)
    desk.clock.advance(SEARCH_SECONDS)
    (answer,) = found
    assert [(party.adapter, party.id) for party in answer.parties] == [("crm", "1001")]
    outcomes = {
        reply.adapter: (str(reply.outcome), reply.error) for reply in answer.replies if reply.by == "words"
    }
    assert outcomes == {
        "crm": ("hit", None),
        "hanging": ("timeout", None),
        "failing": ("error", "AdapterUnavailable: it is away"),
    }
    assert not answer.complete


def test_a_search_that_finds_more_than_wanted_says_so() -> None:
    desk = Desk()
    desk.crm.people = [evolve(KATJA, id=str(number)) for number in range(30)]
    both = Desk("crm", "other")
    both.crms["crm"].people = both.crms["other"].people = [evolve(KATJA, id=str(n)) for n in range(15)]
    answer = both.search("Katja", 20)
    assert (len(answer.parties), answer.complete) == (20, False)
    assert desk.search("Katja", 20).complete, "what the adapter itself left out, nobody knows of"


def test_what_is_no_answer_of_an_adapter_is_an_error_of_that_adapter_alone() -> None:
    clock = Clock()

    async def strange(answer: Any) -> Any:
        return answer

    def asked(answer: Any) -> Reply:
        (reply,) = settled(ask_all([Question("crm", "words", lambda: strange(answer))], clock, 1.0))
        return reply

    assert asked({"a": 1}).outcome is Outcome.ERROR
    assert (
        asked([KATJA, "Kai"]).error
        == "AdapterAnswerError: the adapter answered with what is no party of its own"
    )
    assert asked([evolve(KATJA, adapter="other")]).outcome is Outcome.ERROR
    assert len(asked([evolve(KATJA, id=str(n)) for n in range(500)]).parties) == 100
    assert clock.getDelayedCalls() == []


def test_an_adapter_that_does_not_let_go_holds_nobody_up() -> None:
    clock, never = Clock(), Deferred()

    async def stubborn() -> Any:
        while True:
            try:
                await never
            except CancelledError:
                await Deferred()

    replies: list[list[Reply]] = []
    asked = Deferred.fromCoroutine(ask_all([Question("crm", "words", stubborn)], clock, 1.0))
    asked.addCallback(replies.append)
    clock.advance(1.0)
    assert [reply.outcome for reply in replies[0]] == [Outcome.TIMEOUT]


def test_who_asks_no_more_cancels_all_questions() -> None:
    desk = Desk("one", "two")
    for crm in desk.crms.values():
        crm.hangs = True
    asked = Deferred.fromCoroutine(desk.finder.search("Katja", PLAN.parse("Katja"), 20))
    asked.addErrback(lambda failure: failure.trap(CancelledError))
    asked.cancel()
    waiting = [each for crm in desk.crms.values() for each in crm.waiting]
    assert len(waiting) == 4
    assert all(each.called for each in waiting)
    assert desk.clock.getDelayedCalls() == []


# One party.


def test_a_party_is_asked_of_its_crm_and_of_what_was_found_where_that_cannot_say() -> None:
    desk = Desk()
    assert settled(desk.finder.party("crm", "contact", "1001")) == KATJA_WHOLE
    assert settled(desk.finder.party("crm", "contact", "9")) is None
    assert settled(desk.finder.party("nobody", "contact", "1001")) is None
    with pytest.raises(ValueError, match="martian"):
        settled(desk.finder.party("crm", "martian", "1001"))
    desk.crm.capabilities -= {Capability.CARD}
    fresh = Desk()
    fresh.crm.capabilities -= {Capability.CARD}
    assert settled(fresh.finder.party("crm", "contact", "1001")) is None, "nobody has found them yet"
    fresh.search("Katja")
    found: Party = settled(fresh.finder.party("crm", "contact", "1001"))
    assert found.name == "Katja Brandt"
    fresh.clock.advance(KEPT_SECONDS)
    assert settled(fresh.finder.party("crm", "contact", "1001")) is None


def test_a_crm_that_does_not_answer_about_somebody_is_not_taken_for_one_who_does_not_know_them() -> None:
    desk = Desk()
    desk.crm.fails = AdapterUnavailable("it is away")
    with pytest.raises(NotAsked, match="it is away"):
        settled(desk.finder.party("crm", "contact", "1001"))
    desk.crm.fails = None
    desk.search("Katja")
    desk.crm.fails = AdapterUnavailable("it is away")
    assert settled(desk.finder.party("crm", "contact", "1001")).name == "Katja Brandt"


def test_what_was_found_is_not_kept_without_end() -> None:
    desk = Desk()
    desk.crm.capabilities -= {Capability.CARD}
    desk.search("Katja")
    for start in range(0, KEPT + 100, 100):
        desk.crm.people = [evolve(KATJA, id=f"x{start + number}") for number in range(100)]
        desk.search("Katja", 100)
    assert settled(desk.finder.party("crm", "contact", "1001")) is None
    assert settled(desk.finder.party("crm", "contact", f"x{KEPT}")) is not None


def test_an_adapter_that_is_left_alone_is_left_alone_here_too() -> None:
    desk = Desk("crm", "broken")
    desk.open.add("broken")
    found = desk.search("Katja")
    assert [(each.adapter, str(each.outcome)) for each in found.replies if each.by == "words"] == [
        ("crm", "hit"),
        ("broken", "open"),
    ]
    assert desk.crms["broken"].asked == []
    with pytest.raises(NotAsked, match="left alone"):
        settled(desk.finder.party("broken", "contact", "1001"))


def test_no_adapter_is_asked_by_more_than_so_many_at_once() -> None:
    desk = Desk()
    desk.crm.hangs = True
    asking = [
        Deferred.fromCoroutine(desk.finder.party("crm", "contact", str(number))) for number in range(AT_ONCE)
    ]
    for each in asking:
        each.addErrback(lambda failure: failure.trap(NotAsked))
    with pytest.raises(NotAsked, match="asked enough already"):
        settled(desk.finder.party("crm", "contact", "1001"))
    assert len(desk.crm.asked) == AT_ONCE
    desk.clock.advance(SEARCH_SECONDS)
    desk.crm.hangs = False
    assert settled(desk.finder.party("crm", "contact", "1001")) == KATJA_WHOLE


# Over HTTP.


@pytest.fixture
def web() -> Web:
    web = Web()
    web.behind.adapters["crm"] = Crm()
    return web


def written_down(web: Web) -> str:
    """Everything that was put into the audit."""
    return orjson.dumps([[a.action, a.object, dict(a.detail or {})] for a in web.doors.written]).decode()


def test_a_key_is_looked_up_over_http(web: Web) -> None:
    reply = web.ask("GET", "/api/v1/identify?key=customer&value=4711", web.token("crm"))
    assert reply.status == 200
    assert (reply.json["key"], [party["id"] for party in reply.json["parties"]]) == ("customer", ["1001"])
    assert "value" not in reply.json
    assert "4711" not in written_down(web)
    assert '"key":"customer"' in written_down(web)


def test_a_sensitive_key_is_taken_in_a_body_only_and_stands_nowhere(
    web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token, number = web.token("crm"), "4929123412341234"
    refused = web.ask("GET", f"/api/v1/identify?key=card&value={number}", token)
    assert (refused.status, refused.json["type"]) == (422, "urn:problem-type:cordboard:sensitive-key")
    reply = web.ask("POST", "/api/v1/identify", token, {"key": "card", "value": number})
    assert (reply.status, reply.json["parties"][0]["id"]) == (200, "1002")
    assert number not in reply.body.decode()
    assert number not in refused.body.decode()
    assert number not in written_down(web)
    assert number not in caplog.text
    assert len(web.doors.written) == 2


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("", "either number, or key and value"),
        ("key=customer", "either number, or key and value"),
        ("value=4711", "either number, or key and value"),
        ("number=015228817386&key=customer&value=4711", "either number, or key and value"),
        ("key=shoe_size&value=43", "customer, card"),
    ],
)
def test_identifying_by_half_of_what_is_needed_says_what_would_be_right(
    web: Web, query: str, detail: str
) -> None:
    reply = web.ask("GET", f"/api/v1/identify?{query}", web.token("crm"))
    assert reply.status == 422
    assert detail in reply.json["detail"]


def test_a_search_answers_briefly_and_a_card_wholly(web: Web) -> None:
    token = web.token("agent", "anna")
    found = web.ask("GET", "/api/v1/search?q=katja", token).json
    (katja,) = found["parties"]
    assert (katja["name"], katja["id"], found["complete"]) == ("Katja Brandt", "1001", True)
    assert "notes" not in katja
    card = web.ask("GET", "/api/v1/card?adapter=crm&type=contact&id=1001", token).json
    assert card["notes"] == "Prefers a call to a mail."
    assert [each["title"] for each in card["appointments"]] == ["Service on site"]
    assert (card["balance"], card["dunning"]) == ("EUR 1,250.00 open", "first reminder")


def test_a_search_for_one_letter_or_for_nobody_of_ours_is_told(web: Web) -> None:
    token = web.token("crm")
    assert web.ask("GET", "/api/v1/search?q=%20a%20", token).status == 422
    assert web.ask("GET", "/api/v1/card?adapter=crm&type=contact&id=9", token).status == 404
    assert web.ask("GET", "/api/v1/card?adapter=crm&type=martian&id=9", token).status == 422
    web.behind.adapters["crm"].fails = AdapterUnavailable("it is away")
    away = web.ask("GET", "/api/v1/card?adapter=crm&type=contact&id=9", token)
    assert (away.status, away.json["type"]) == (502, "urn:problem-type:cordboard:adapter-failed")


def test_who_searches_without_a_pause_has_to_wait_and_nobody_else(web: Web) -> None:
    token = web.token("agent", "anna")
    statuses = [web.ask("GET", "/api/v1/search?q=katja", token, peer=ELSEWHERE).status for _ in range(61)]
    assert statuses == [200] * 60 + [429]
    refused = web.ask("POST", "/api/v1/identify", token, {"key": "customer", "value": "4711"})
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    assert web.ask("GET", "/api/v1/search?q=katja", web.token("agent", "ben")).status == 200
    web.clock.advance(1.1)
    assert web.ask("GET", "/api/v1/search?q=katja", token).status == 200


def test_each_look_up_is_written_down_before_it_is_answered(web: Web) -> None:
    token = web.token("agent", "anna")
    web.ask("GET", "/api/v1/search?q=katja", token)
    web.ask("GET", "/api/v1/card?adapter=crm&type=contact&id=1001", token)
    assert [(record.action, record.detail) for record in web.doors.written] == [
        ("GET /api/v1/search", {"q": "katja", "limit": 20}),
        ("GET /api/v1/card", {"adapter": "crm", "type": "contact", "id": "1001"}),
    ]
