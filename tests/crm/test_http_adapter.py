"""Adapters of kind ``http``: what a description may say, and what happens when the CRM does not keep to it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from adapters.base import (
    AdapterAnswerError,
    AdapterBusy,
    AdapterDenied,
    AdapterError,
    AdapterTimeout,
    AdapterUnavailable,
    Capability,
    JournalEntry,
    JournalState,
    ListedParty,
    Party,
    PartyRef,
    PartyType,
)
from adapters.http import HttpAdapter, HttpOptions
from adapters.http_preset import PresetError, preset_names, preset_path, read_description
from adapters.http_words import Expression, Template, Vocabulary, WordsError
from adapters.trace import Trace
from adapters.trial import a_context, in_reactor
from cti.secret import Secret
from tests.crm import test_presets
from tests.crm.benches import FakeBench
from tests.crm.fakes import Answer, FakeCrm, Refused, Request

SMALL = """\
title: A small CRM
parties:
  contact:
    id: id
    name: name
    numbers: {phone: phone, mobile: mobile}
    url: "{here.url}/contacts/{id}"
identify:
  steps: [{get: /find, query: {phone: "{number.e164}"}}]
  parties: {contact: answer}
"""


class Scripted(FakeCrm):
    """Answers by the function that a test gives it."""

    def __init__(self, answers: Callable[[Request], Any]) -> None:
        super().__init__()
        self.answers = answers

    def handle(self, request: Request) -> Answer:
        said = self.answers(request)
        return said if isinstance(said, Answer) else Answer(body=said)


@contextmanager
def an_adapter(
    base: Path, answers: Callable[[Request], Any], description: str = SMALL, **options: Any
) -> Iterator[tuple[HttpAdapter, Scripted]]:
    file = base / "crm.yaml"
    file.write_text(description, encoding="utf-8")
    crm = Scripted(answers)
    trace = Trace()
    given = HttpOptions(options.pop("url", crm.url), file=file, **options)
    adapter = HttpAdapter("crm", given, evolve(a_context(base), trace=trace))
    adapter.trace = trace  # type: ignore[attr-defined]
    try:
        in_reactor(adapter.start)
        yield adapter, crm
    finally:
        in_reactor(adapter.stop)
        crm.close()


def identified(adapter: HttpAdapter, number: str = "+4915228817386") -> list[Party]:
    return list(in_reactor(adapter.identify, a_context(Path()).plan.parse(number)))


def ada(**changes: Any) -> dict[str, Any]:
    return {"id": 17, "name": "Ada Adler", "phone": "01522 8817386"} | changes


# What comes back.


def test_only_records_that_have_the_number_are_found(tmp_path: Path) -> None:
    everybody = [
        ada(),
        ada(id=18, phone="+49 30 23125001"),
        ada(id=19, phone=None, mobile="0049 1522 8817386"),
    ]
    with an_adapter(tmp_path, lambda _: everybody) as (adapter, _):
        assert [party.id for party in identified(adapter)] == ["17", "19"]
        notes = [step for step in adapter.trace.steps if isinstance(step, str)]  # type: ignore[attr-defined]
        assert [("kept" in note, "dropped" in note) for note in notes] == [
            (True, False),
            (False, True),
            (True, False),
        ]


def test_a_filter_that_the_crm_does_not_know_brings_everybody_and_finds_nobody(tmp_path: Path) -> None:
    with an_adapter(tmp_path, lambda _: [ada(id=n, phone=f"030 231250{n:02}") for n in range(99)]) as (
        adapter,
        _,
    ):
        assert identified(adapter) == []


def test_a_key_is_compared_whole_whatever_the_crm_takes_for_alike(tmp_path: Path) -> None:
    keys = (
        "keys: {customer: {title: c, steps: [{get: /find}], parties: {contact: answer}, value: customer}}\n"
    )
    everybody = [ada(customer=4711), ada(id=18, customer="47110"), ada(id=19)]
    with an_adapter(tmp_path, lambda _: everybody, SMALL + keys) as (adapter, _):
        (party,) = in_reactor(adapter.by_key, "customer", "4711")
        assert (party.id, party.match) == ("17", "key")
        assert in_reactor(adapter.by_key, "ticket", "4711") == ()


@pytest.mark.parametrize(
    "answer", [Answer(204), Answer(200), [], {}, None, Answer(body=b"null"), [None, 1, "x"], {"id": 1}]
)
def test_an_empty_answer_is_nobody(tmp_path: Path, answer: Any) -> None:
    with an_adapter(tmp_path, lambda _: answer) as (adapter, _):
        assert identified(adapter) == []


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://crm.example/17", True),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("//evil.example/", False),
    ],
)
def test_a_link_out_of_the_crm_is_http_or_none(tmp_path: Path, url: str, kept: bool) -> None:
    description = SMALL.replace('"{here.url}/contacts/{id}"', '"{link}"')
    with an_adapter(tmp_path, lambda _: [ada(link=url)], description) as (adapter, _):
        (party,) = identified(adapter)
        assert party.url == (url if kept else None)


def test_an_id_in_a_link_is_escaped(tmp_path: Path) -> None:
    with an_adapter(tmp_path, lambda _: [ada(id="../x?y=1")]) as (adapter, crm):
        (party,) = identified(adapter)
        assert party.url == f"{crm.url}/contacts/..%2Fx%3Fy%3D1"


def test_a_record_without_an_id_or_with_one_too_long_is_dropped(tmp_path: Path) -> None:
    with an_adapter(tmp_path, lambda _: [ada(id=""), ada(id="x" * 999), ada(id=None), ada()]) as (adapter, _):
        assert [party.id for party in identified(adapter)] == ["17"]


def test_numbers_are_read_as_in_the_crm_s_country(tmp_path: Path) -> None:
    with an_adapter(tmp_path, lambda _: [ada(phone="020 7946 0123")], region="GB") as (adapter, _):
        assert [party.id for party in identified(adapter, "+442079460123")] == ["17"]


def test_our_own_number_is_nobody_s_and_not_asked_for(tmp_path: Path) -> None:
    with an_adapter(tmp_path, lambda _: [ada()]) as (adapter, crm):
        adapter._own = frozenset({"+4915228817386"})
        assert identified(adapter) == []
        assert crm.requests == []


# What goes wrong.


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (Answer(500, {}), AdapterUnavailable, "answered 500"),
        (Answer(500, b"<html>", {"content-type": "text/html"}), AdapterUnavailable, "answered 500"),
        (Answer(400, {}), AdapterAnswerError, "answered 400"),
        (
            Answer(200, b"<html>", {"content-type": "text/html"}),
            AdapterAnswerError,
            "text/html instead of JSON",
        ),
        (Answer(401, {}), AdapterDenied, "login"),
        (Answer(403, {}), AdapterDenied, "login"),
        (Answer(429, {}, {"retry-after": "3"}), AdapterBusy, "asked again in 3 s"),
        (Answer(302, {}, {"location": "http://169.254.169.254/latest"}), AdapterAnswerError, "configure it"),
        (Answer(200, b'[{"id": 1, "name": "\xff"}]'), AdapterAnswerError, "utf-8 that is none"),
    ],
)
def test_an_answer_that_is_none_is_an_error_and_the_adapter_down(
    tmp_path: Path, answer: Answer, error: type[AdapterError], words: str
) -> None:
    with an_adapter(tmp_path, lambda _: answer) as (adapter, _):
        with pytest.raises(error, match=words) as raised:
            identified(adapter)
        assert "8817386" not in str(raised.value)
        assert not in_reactor(adapter.health).up


def test_what_does_not_suit_the_description_is_an_error_that_shows_no_data(tmp_path: Path) -> None:
    description = SMALL.replace("name: name", "name: join(' ', [name, phone])")
    with an_adapter(tmp_path, lambda _: [ada(name=4711)], description) as (adapter, _):
        with pytest.raises(AdapterAnswerError, match="does not suit") as raised:
            identified(adapter)
        assert "4711" not in str(raised.value)


def test_a_server_that_hangs_is_a_timeout(tmp_path: Path) -> None:
    import time

    description = SMALL + "limits: {seconds: 1}\n"
    with (
        an_adapter(tmp_path, lambda _: time.sleep(3), description) as (adapter, _),
        pytest.raises(AdapterTimeout),
    ):
        identified(adapter)


def test_an_error_told_in_an_answer_that_looks_well_is_one(tmp_path: Path) -> None:
    rules = """\
    errors:
      - {when: code == 'busy', is: busy}
      - {when: code == 'who', is: denied}
      - {when: code == 'gone', is: none}
      - {when: code, is: failed}
    """
    description = SMALL + textwrap.dedent(rules)
    for code, error in (("busy", AdapterBusy), ("who", AdapterDenied), ("else", AdapterAnswerError)):
        with (
            an_adapter(tmp_path, lambda _, c=code: {"code": c}, description) as (adapter, _),
            pytest.raises(error),
        ):
            identified(adapter)
    with an_adapter(tmp_path, lambda _: {"code": "gone"}, description) as (adapter, _):
        assert identified(adapter) == []


# Proving who we are.

LOGIN = """\
settings:
  user: {about: "who"}
  key: {secret: true, about: "the key"}
auth:
  headers: {Authorization: "Bearer {token}"}
  login:
    steps: [{post: /login, form: {user: "{values.user}", key: "{secret.key}"}}]
    token: answer.token
    seconds: answer.seconds
"""
KEYS: dict[str, Any] = {"values": {"user": "cti"}, "secrets": {"key": Secret("s3cret-key")}}


class Door:
    """Gives tokens, and lets in who has the latest."""

    def __init__(self) -> None:
        self.given = 0
        self.valid = True
        self.seconds: int | None = None

    def __call__(self, request: Request) -> Any:
        if request.path == "/login":
            assert request.form("user", "key") == {"user": "cti", "key": "s3cret-key"}
            self.given += 1
            return {"token": f"token-{self.given}", "seconds": self.seconds}
        if not self.valid or request.headers.get("authorization") != f"Bearer token-{self.given}":
            return Answer(401, {})
        return [ada()]


def test_a_token_is_got_once_and_used_until_it_is_refused(tmp_path: Path) -> None:
    door = Door()
    with an_adapter(tmp_path, door, SMALL + LOGIN, **KEYS) as (adapter, _):
        for _ in range(3):
            assert len(identified(adapter)) == 1
        assert door.given == 1
        # In the middle of the night, the CRM forgets it.
        adapter._token.since -= 60  # type: ignore[union-attr]
        door.given = 7
        assert len(identified(adapter)) == 1
        assert door.given == 8


def test_a_login_that_does_not_help_is_visible_and_not_tried_again_and_again(tmp_path: Path) -> None:
    door = Door()
    with an_adapter(tmp_path, door, SMALL + LOGIN, **KEYS) as (adapter, _crm):
        door.valid = False
        for _ in range(4):
            with pytest.raises(AdapterDenied):
                identified(adapter)
        assert door.given == 1
        assert "login" in in_reactor(adapter.health).detail
        shown = str(list(adapter.trace.steps))  # type: ignore[attr-defined]
        assert "s3cret" not in shown
        assert "token-1" not in shown


def test_a_token_is_renewed_before_it_runs_out(tmp_path: Path) -> None:
    door = Door()
    door.seconds = 3600
    with an_adapter(tmp_path, door, SMALL + LOGIN, **KEYS) as (adapter, _):
        identified(adapter)
        adapter._token.until -= 3590  # type: ignore[union-attr, operator]
        identified(adapter)
        assert door.given == 2


def test_many_questions_at_once_log_in_once(tmp_path: Path) -> None:
    door = Door()
    with an_adapter(tmp_path, door, SMALL + LOGIN, **KEYS) as (adapter, _):

        async def many() -> list[int]:
            from twisted.internet.defer import Deferred

            number = a_context(tmp_path).plan.parse("+4915228817386")
            asked = [Deferred.fromCoroutine(adapter.identify(number)) for _ in range(10)]
            return [len(await each) for each in asked]

        assert in_reactor(many) == [1] * 10
        assert door.given == 1


@pytest.mark.parametrize(
    ("auth", "header", "query"),
    [
        ('headers: {X-Key: "{secret.key}"}', ("x-key", "s3cret-key"), None),
        ('query: {key: "{secret.key}"}', None, ("key", "s3cret-key")),
        (
            'basic: {username: "{values.user}", password: "{secret.key}"}',
            ("authorization", "Basic Y3RpOnMzY3JldC1rZXk="),
            None,
        ),
    ],
)
def test_who_we_are_is_said_by_header_query_or_password(
    tmp_path: Path, auth: str, header: tuple[str, str] | None, query: tuple[str, str] | None
) -> None:
    settings = LOGIN.partition("auth:")[0]
    with an_adapter(tmp_path, lambda _: [], f"{SMALL}{settings}auth: {{{auth}}}\n", **KEYS) as (adapter, crm):
        identified(adapter)
        (request,) = crm.requests
        assert header is None or request.headers[header[0]] == header[1]
        assert query is None or query in request.query
        shown = str(list(adapter.trace.steps))  # type: ignore[attr-defined]
        assert "s3cret" not in shown
        assert "Y3RpOnMzY3JldC1rZXk=" not in shown


# Where requests go.


def test_a_part_of_a_path_stays_a_part_of_it(tmp_path: Path) -> None:
    card = 'card: {steps: [{get: "/contacts/{party.id}"}], parties: {contact: answer}}\n'
    with an_adapter(tmp_path, lambda _: {}, SMALL + card) as (adapter, crm):
        in_reactor(adapter.card, PartyRef(PartyType.CONTACT, "a/../../admin?x=1#y"))
        assert crm.requests[0].path == "/contacts/a%2F..%2F..%2Fadmin%3Fx%3D1%23y"
        for sly in ("..", "."):
            with pytest.raises(AdapterAnswerError, match="would lead elsewhere"):
                in_reactor(adapter.card, PartyRef(PartyType.CONTACT, sly))
        assert len(crm.requests) == 1


def test_values_in_a_query_a_form_and_a_body_stay_values(tmp_path: Path) -> None:
    writing = """\
    search:
      steps: [{get: /search, query: {q: "name:{words.text}"}}]
      parties: {contact: answer}
    note:
      type: note
      create:
        - {post: /json, json: {text: "{note.text}", id: "{party.id}"}}
        - {post: /form, form: {text: "{note.text}", element: {nested: "{note.text}"}}}
      id: "'1'"
    """
    text = 'a"},{"b":1}&c=d\n%00'
    with an_adapter(tmp_path, lambda _: {}, SMALL + textwrap.dedent(writing)) as (adapter, crm):
        in_reactor(adapter.search, 'x&y=1#"', 5)
        in_reactor(adapter.note, PartyRef(PartyType.CONTACT, "17"), text)
        search, body, form = crm.requests
        assert search.query == (("q", 'name:x&y=1#"'),)
        assert body.json() == {"text": text, "id": "17"}
        assert form.form("text", "element")["text"] == text
        import json

        assert json.loads(form.form("text", "element")["element"]) == {"nested": text}


def test_a_header_never_has_two_lines(tmp_path: Path) -> None:
    note = 'note: {type: note, create: [{post: /n, headers: {X-Text: "{note.text}"}}], id: "\'1\'"}\n'
    with an_adapter(tmp_path, lambda _: {}, SMALL + note) as (adapter, crm):
        with pytest.raises(AdapterAnswerError, match="control characters"):
            in_reactor(adapter.note, PartyRef(PartyType.CONTACT, "17"), "a\r\nX-Admin: 1")
        assert crm.requests == []


def test_another_server_is_asked_only_if_the_description_names_it(tmp_path: Path) -> None:
    step = SMALL.replace("[{get: /find,", '[{get: /find, at: "{values.other}",')
    settings = 'settings: {other: {about: "another server"}}\n'
    with an_adapter(tmp_path, lambda _: [ada()], step + settings, values={"other": "http://127.0.0.1:1"}) as (
        adapter,
        crm,
    ):
        with pytest.raises(AdapterAnswerError, match="not configured"):
            identified(adapter)
        assert crm.requests == []


# Steps.


def test_each_form_of_a_number_is_tried_until_one_finds_somebody(tmp_path: Path) -> None:
    description = SMALL.replace(
        '[{get: /find, query: {phone: "{number.e164}"}}]',
        '[{get: /find, each: number.variants, until_found: true, query: {phone: "{each}"}}]',
    )
    description += "numbers: [e164, zeros, national, spaced, digits]\n"
    by_form = {"015228817386": [ada()]}
    with an_adapter(tmp_path, lambda r: by_form.get(dict(r.query)["phone"], []), description) as (
        adapter,
        crm,
    ):
        assert len(identified(adapter)) == 1
        assert [dict(request.query)["phone"] for request in crm.requests] == [
            "+4915228817386",
            "004915228817386",
            "015228817386",
        ]


def test_a_step_uses_what_those_before_it_found(tmp_path: Path) -> None:
    description = SMALL.replace(
        'steps: [{get: /find, query: {phone: "{number.e164}"}}]',
        """steps:
    - {get: /find, take: ids, as: ids}
    - {get: /never, when: "!ids", as: never}
    - {get: "/contacts/{each}", each: ids, none: [404]}""",
    )

    def answers(request: Request) -> Any:
        if request.path == "/find":
            return {"ids": [17, 18, 19]}
        if request.path == "/contacts/18":
            raise Refused(404, {})
        return ada(id=int(request.parts[1]))

    with an_adapter(tmp_path, answers, description) as (adapter, crm):
        assert [party.id for party in identified(adapter)] == ["17", "19"]
        assert "/never" not in {request.path for request in crm.requests}


def test_one_step_leads_to_a_bounded_number_of_requests(tmp_path: Path) -> None:
    description = SMALL.replace(
        'steps: [{get: /find, query: {phone: "{number.e164}"}}]',
        'steps: [{get: /find, as: ids}, {get: "/contacts/{each}", each: ids, none: [404]}]',
    )
    with an_adapter(tmp_path, lambda r: list(range(500)) if r.path == "/find" else ada(), description) as (
        adapter,
        crm,
    ):
        identified(adapter)
        assert len(crm.requests) == 21


def test_a_list_that_does_not_go_on_is_an_error(tmp_path: Path) -> None:
    listing = 'list: {steps: [{get: /all, query: {after: "{after}"}}], '
    listing += "parties: {contact: answer.all}, after: answer.next}\n"
    with an_adapter(tmp_path, lambda _: {"all": [ada()], "next": "2"}, SMALL + listing) as (adapter, _):
        first = in_reactor(adapter.list, None)
        assert (len(first.parties), first.after) == (1, "2")
        with pytest.raises(AdapterAnswerError, match="does not go on"):
            in_reactor(adapter.list, "2")


def test_what_a_description_does_not_have_cannot_be_asked_for(tmp_path: Path) -> None:
    with an_adapter(tmp_path, lambda _: []) as (adapter, _):
        assert adapter.capabilities == {Capability.IDENTIFY}
        with pytest.raises(AdapterUnavailable):
            in_reactor(adapter.search, "Adler", 5)


# Journal entries whose answer is lost.


def a_listed_party() -> ListedParty:
    return ListedParty(Party("crm", PartyType.CONTACT, "wish", "Ada Adler"))


def all_benches() -> Iterator[tuple[str, type[Any]]]:
    for name, each in sorted(vars(test_presets).items()):
        if name.startswith("Test") and Capability.JOURNAL in each.capabilities:
            yield name, each


@pytest.mark.parametrize(("name", "suite"), list(all_benches()))
def test_a_call_whose_answer_was_lost_is_written_once(name: str, suite: type[Any], tmp_path: Path) -> None:
    conformance = suite()
    conformance.base, conformance.opened = tmp_path, []
    bench: FakeBench = conformance.crm()
    adapter: Any = bench.make()
    try:
        in_reactor(adapter.start)
        person = bench.fake.add("contact", "+4915228817386", **dict(bench._fields(a_listed_party())))
        entry = JournalEntry(
            key="c0ffee-4711",
            state=JournalState.ENDED,
            direction="inbound",
            started=datetime(2026, 3, 2, 9, 30, tzinfo=UTC),
            ended=datetime(2026, 3, 2, 9, 33, tzinfo=UTC),
            party=PartyRef(PartyType.CONTACT, person.id),
            number="+4915228817386",
            user=bench.user,
            duration=180.0,
            talk=171.5,
            subject="Call",
            text="was answered",
        )
        bench.fake.lose_answers = 1
        if name == "TestWebhook":
            # A PUT may be sent again at once.
            in_reactor(adapter.journal, entry, ())
        else:
            with pytest.raises(AdapterUnavailable):
                in_reactor(adapter.journal, entry, ())
        first = in_reactor(adapter.journal, entry, ())
        again = in_reactor(adapter.journal, entry, ())
        assert [each.id for each in first] == [each.id for each in again]
        assert len(bench.journaled("+4915228817386")) == 1
    finally:
        in_reactor(adapter.stop)
        for fake in conformance.opened:
            fake.close()


# Descriptions.


def problems(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "crm.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PresetError) as raised:
        read_description(file)
    return str(raised.value).replace(f"{file}:", "").split("; ")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("title: A small CRM", "titel: A small CRM", '1:1: titel: unknown key "titel"'),
        ("name: name", "nam: name", '5:5: parties.contact.nam: unknown key "nam"'),
        ("id: id", "id: id(", "4:9: parties.contact.id: is no expression"),
        ("name: name", "name: shout(name)", '5:11: parties.contact.name: uses a function "shout"'),
        ("{number.e164}", "{number.e164", "9:39: identify.steps[0].query.phone: has a { without its }"),
        ("get: /find", "fetch: /find", '9:12: identify.steps[0].fetch: unknown key "fetch"'),
        ("get: /find", 'get: "http://evil.example/find"', "9:17: identify.steps[0].get: is no path"),
        ("contact: answer", "customer: answer", '10:13: identify.parties.customer: unknown key "customer"'),
        ("title: A small CRM", "title: A\nnumbers: [e165]", "2:11: numbers[0]: unknown form of a number"),
        ("title: A small CRM", "title: A\nzone: Mars/Olympus", '2:7: zone: "Mars/Olympus" is no time zone'),
        ("title: A small CRM", "title: A\nlimits: {seconds: 0}", "2:19: limits.seconds: 0 is out of range"),
    ],
)
def test_what_is_wrong_in_a_description_is_named_with_its_place(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    found = problems(tmp_path, SMALL.replace(old, new, 1))
    assert any(each.startswith(problem) for each in found), found


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    wrong = (
        SMALL.replace("id: id", "id: id(").replace("get: /find", "get: find").replace("name: name", "x: y")
    )
    assert len(problems(tmp_path, wrong)) >= 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "one of them"),
        ({"preset": "zammad", "file": Path("x.yaml")}, "one of them"),
        ({"preset": "zamad"}, "zammad"),
        ({"preset": "zammad"}, "secrets.token is missing: an access token"),
        (
            {"preset": "zammad", "secrets": {"token": Secret("a"), "tokn": Secret("b")}},
            "secrets.tokn is not asked for",
        ),
        ({"preset": "zammad", "values": {"token": "a"}}, "missing|not asked for"),
        ({"preset": "zammad", "secrets": {"token": Secret("a")}, "url": "ftp://crm.example"}, "http"),
        ({"preset": "zammad", "secrets": {"token": Secret("a")}, "region": "XX"}, "ISO 3166"),
    ],
)
def test_options_that_are_wrong_are_said_to_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        HttpOptions(**({"url": "https://crm.example"} | options))


def test_each_preset_says_what_it_was_tested_against_and_is_tested() -> None:
    tested = {each for each in vars(test_presets) if each.startswith("Test")}
    for name in preset_names():
        head = preset_path(name).read_text(encoding="utf-8").partition("\n\ntitle")[0]
        assert f"tests/crm/fakes/{name}.py" in head, name
        assert any(each.lower() == f"test{name}" for each in tested), name


def test_settings_of_a_file_are_the_same_until_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "crm.yaml"
    file.write_text(SMALL, encoding="utf-8")
    one, other = (HttpOptions("https://crm.example", file=file) for _ in range(2))
    assert one == other
    file.write_text(SMALL + "zone: Europe/Berlin\n", encoding="utf-8")
    assert HttpOptions("https://crm.example", file=file) != one


# Words.

WORDS = Vocabulary({"direction": {"inbound": 1}}, UTC)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("digits('+49 (1522) 88')", "49152288"),
        ("last('4915228817386', `4`)", "7386"),
        ("mapped('direction', 'inbound')", 1),
        ("mapped('direction', 'sideways')", None),
        ("time('2026-03-02T10:30:00+01:00', 'iso')", "2026-03-02T09:30:00Z"),
        ("time('2026-03-02T10:30:00+01:00', 'ms')", 1772443800000),
        ("moment('2026-03-02 09:30:00', '%Y-%m-%d %H:%M:%S')", "2026-03-02T09:30:00+00:00"),
        ("moment('soon', 'iso')", None),
        ("minutes(`61`)", 2),
        ("minutes_seconds(`171.5`)", "02:52"),
        ("odata('O\\'Neill')", "O''Neill"),
        ("soql('a\\'b')", "a\\'b"),
        ("sosl('a{b}')", "a\\{b\\}"),
        ("lucene('a:b*')", "a\\:b\\*"),
        ("html('<b>&')", "&lt;b&gt;&amp;"),
        ("md5('abc')", "900150983cd24fb0d6963f7d28e17f72"),
        ("known(['', null_, 'a'])", ["a"]),
        ("parameter('https://a.example/?x=1&y=%2B', 'y')", "+"),
        ("text(`true`)", "true"),
        ("digits(nothing)", None),
    ],
)
def test_functions_of_expressions(expression: str, value: Any) -> None:
    assert Expression(expression).of({}, WORDS) == value


def test_a_template_of_one_expression_keeps_its_value_and_others_are_text() -> None:
    context = {"list": [1, 2], "none": None, "n": 2.0}
    assert Template("{list}").value(context, WORDS) == [1, 2]
    assert Template("{none}").value(context, WORDS) is None
    assert Template("a{n}{none}{{b}}").value(context, WORDS) == "a2{b}"


@pytest.mark.parametrize("source", ["{", "}", "{a", "a}", "{a(}", "{nothing_known(a)}", "{}"])
def test_what_is_no_template_is_an_error(source: str) -> None:
    with pytest.raises(WordsError):
        Template(source)
