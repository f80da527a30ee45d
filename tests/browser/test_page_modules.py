"""What the page's modules decide without a server, asked in Chromium: merging, drafts, events, words, addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Route

from cti.web import page as pages
from lab.browser import Chromium

#: Nobody listens there: the test answers from the files.
URL = "http://localhost:9"
LANGUAGES = ("en", "de", "sl", "ru")


@pytest.fixture(scope="module")
def tab(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """An empty page that can import the modules, as if the server had sent them."""

    def answer(route: Route) -> None:
        file = pages.FILES.get(route.request.url.rpartition("/")[2])
        if file is None:
            route.fulfill(body="<!doctype html><title>Modules</title>", content_type="text/html")
        else:
            route.fulfill(body=file.body, content_type=file.media_type)

    with chromium.window(URL, tmp_path_factory.mktemp("modules")) as window:
        window.context.route("**/*", answer)
        yield window.open("/")


def ask(tab: Page, module: str, expression: str, value: Any = None) -> Any:
    """What an expression is in which `m` is the module, and `v` the value."""
    return tab.evaluate(
        f"async v => {{ const m = await import('/static/{module}.js'); return {expression}; }}", value
    )


# Notes


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "merged"),
    [
        ("", "mine", "", "mine"),
        ("old", "old", "theirs", "theirs"),
        ("old", "mine", "old", "mine"),
        ("old", "same", "same", "same"),
        ("", "mine", "theirs", "theirs\nmine"),
        (
            "Wants a pump.",
            "Wants a pump. Today.",
            "Wants a pump.\nCalled twice.",
            "Wants a pump.\nCalled twice.\n Today.",
        ),
        ("a\nb", "a\nb\nc", "a\nb\nd", "a\nb\nd\nc"),
        ("one\ntwo", "one\ntwo, and mine", "theirs\ntwo", "theirs\ntwo\ntwo, and mine"),
    ],
)
def test_notes_that_two_have_changed_keep_the_words_of_both(tab, base, mine, theirs, merged):
    assert ask(tab, "notes", "m.merge(...v)", [base, mine, theirs]) == merged


def test_what_i_type_is_saved_once_i_pause_and_stays_here_until_then(tab):
    seen = ask(
        tab,
        "notes",
        """await (async () => {
            sessionStorage.clear();
            const sent = [];
            const drafts = new m.Drafts({
                send: async (id, changes, etag) => {
                    sent.push([id, changes, etag]);
                    return {call: {id, notes: changes.notes}, etag: '"2"'};
                },
                changed: () => {},
            });
            const each = {call: {id: "c1", notes: "be"}, etag: '"1"'};
            drafts.edit(each, {notes: "bef"}, 20);
            drafts.edit(each, {notes: "before"}, 20);
            const kept = JSON.parse(sessionStorage.getItem("cordboard.draft.c1"));
            const unsaved = drafts.unsaved;
            await new Promise(resolve => setTimeout(resolve, 200));
            return {sent, kept, unsaved, after: drafts.unsaved, left: sessionStorage.length};
        })()""",
    )
    assert seen["sent"] == [["c1", {"notes": "before"}, '"1"']]
    assert seen["kept"]["notes"] == "before"
    assert (seen["unsaved"], seen["after"], seen["left"]) == (True, False, 0)


def test_what_changes_while_it_is_being_saved_is_saved_after_that(tab):
    seen = ask(
        tab,
        "notes",
        """await (async () => {
            sessionStorage.clear();
            const sent = [];
            const drafts = new m.Drafts({
                send: async (id, changes, etag) => {
                    sent.push([changes, etag]);
                    await new Promise(resolve => setTimeout(resolve, 50));
                    return {call: {id, ...changes}, etag: `"${sent.length + 1}"`};
                },
                changed: () => {},
            });
            const each = {call: {id: "c1", notes: ""}, etag: '"1"'};
            drafts.edit(each, {notes: "mine"}, 0);
            await new Promise(resolve => setTimeout(resolve, 20));
            drafts.edit(each, {disposition: "sold"}, 0);
            await drafts.flush();
            return {sent, unsaved: drafts.unsaved};
        })()""",
    )
    assert seen["sent"] == [[{"notes": "mine"}, '"1"'], [{"notes": "mine", "disposition": "sold"}, '"2"']]
    assert seen["unsaved"] is False


def test_what_the_server_has_in_another_version_is_merged_and_sent_again(tab):
    seen = ask(
        tab,
        "notes",
        """await (async () => {
            sessionStorage.clear();
            const {Problem} = await import('/static/api.js');
            const sent = [];
            const drafts = new m.Drafts({
                send: async (id, changes, etag) => {
                    sent.push([changes.notes, etag]);
                    if (etag === '"1"') {
                        throw new Problem(412, {call: {id, notes: "theirs"}, etag: '"2"'});
                    }
                    return {call: {id, notes: changes.notes}, etag: '"3"'};
                },
                changed: () => {},
            });
            drafts.edit({call: {id: "c1", notes: ""}, etag: '"1"'}, {notes: "mine"}, 0);
            await new Promise(resolve => setTimeout(resolve, 200));
            return {sent, unsaved: drafts.unsaved};
        })()""",
    )
    assert seen == {"sent": [["mine", '"1"'], ["theirs\nmine", '"2"']], "unsaved": False}


def test_an_answer_that_is_older_than_what_was_saved_does_not_bring_old_words_back(tab):
    seen = ask(
        tab,
        "notes",
        """await (async () => {
            sessionStorage.clear();
            const sent = [];
            const drafts = new m.Drafts({
                send: async (id, changes, etag) => {
                    sent.push([changes.notes, etag]);
                    return {call: {id, notes: changes.notes, disposition: null}, etag: `"${sent.length + 1}"`};
                },
                changed: () => {},
            });
            const old = {call: {id: "c1", notes: ""}, etag: '"1"'};
            const shown = () => drafts.of(drafts.fresh(old).call).notes;
            drafts.edit(old, {notes: "Hel"}, 0);
            await new Promise(resolve => setTimeout(resolve, 50));
            const after = shown();
            drafts.edit(drafts.fresh(old), {notes: "Hello"}, 20);
            drafts.seen(drafts.fresh(old));
            await new Promise(resolve => setTimeout(resolve, 100));
            const foreign = drafts.fresh({call: {id: "c1", notes: "theirs"}, etag: '"9"'}).call.notes;
            return {sent, after, last: shown(), foreign};
        })()""",
    )
    assert seen["sent"] == [["Hel", '"1"'], ["Hello", '"2"']]
    assert (seen["after"], seen["last"], seen["foreign"]) == ("Hel", "Hello", "theirs")


def test_what_was_typed_before_the_calls_version_was_known_is_saved_when_it_is(tab):
    seen = ask(
        tab,
        "notes",
        """await (async () => {
            sessionStorage.clear();
            const sent = [];
            const drafts = new m.Drafts({
                send: async (id, changes, etag) => {
                    sent.push([changes.notes, etag]);
                    return {call: {id, notes: changes.notes}, etag: '"2"'};
                },
                changed: () => {},
            });
            drafts.edit({call: {id: "c1", notes: null}, etag: null}, {notes: "early"}, 0);
            await new Promise(resolve => setTimeout(resolve, 50));
            drafts.seen({call: {id: "c1", notes: null}, etag: '"1"'});
            await new Promise(resolve => setTimeout(resolve, 1200));
            return sent;
        })()""",
    )
    assert seen == [["early", '"1"']]


def test_a_draft_survives_a_reload_of_the_page(tab):
    notes = ask(
        tab,
        "notes",
        """(() => {
            sessionStorage.clear();
            const never = {send: () => new Promise(() => {}), changed: () => {}};
            new m.Drafts(never).edit({call: {id: "c1", notes: ""}, etag: '"1"'}, {notes: "typed"}, 1e6);
            return new m.Drafts(never).of({id: "c1", notes: ""});
        })()""",
    )
    assert (notes["notes"], notes["state"]) == ("typed", "waiting")


# The event stream


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_events_are_read_however_the_network_cuts_them(tab, end):
    stream = end.join(
        [
            "retry: 1500",
            "",
            ": a comment",
            "",
            "id: 7",
            "event: card.offered",
            'data: {"a":',
            "data: 1}",
            "",
            "",
        ]
    )
    whole = ask(tab, "stream", "new m.EventParser().feed(v)", stream)
    assert [(each["retry"], each["id"], each["type"], each["data"]) for each in whole] == [
        (1500, None, "message", ""),
        (None, 7, "card.offered", '{"a":\n1}'),
    ]
    cut = ask(
        tab,
        "stream",
        "(parser => [...v].flatMap(each => parser.feed(each)))(new m.EventParser())",
        stream,
    )
    assert cut == whole


# What an event makes of what is known


DESK: dict[str, Any] = {"seq": 10, "agent": {"id": "anna", "state": "ready"}, "calls": []}
OFFER = {
    "seq": 11,
    "type": "card.offered",
    "at": "2026-01-05T09:00:00Z",
    "agent": "anna",
    "attempt": 1,
    "call": {"id": "c1", "from": "+4915228817386"},
    "card": {"parties": []},
}
GONE = {"seq": 12, "type": "card.withdrawn", "agent": "anna", "call": {"id": "c1"}}


def cards(tab: Page, *news: dict[str, Any]) -> list[str]:
    """Which calls are shown after a desk (it has `calls`) or an event, one after the other."""
    shown: list[str] = ask(
        tab,
        "state",
        """m.callsOf(v.reduce(
            (state, each) => "calls" in each ? m.takeDesk(state, each) : m.takeEvent(state, each).state,
            m.nothingKnown(),
        )).map(each => each.call.id)""",
        list(news),
    )
    return shown


def test_a_card_that_became_whole_is_shown_before_the_desk_is_read_again(tab):
    updated = {
        **OFFER,
        "seq": 13,
        "type": "card.updated",
        "card": {"parties": [{"adapter": "crm", "id": "1"}]},
    }
    shown = ask(
        tab,
        "state",
        "m.callsOf(v.reduce((state, each) => m.takeEvent(state, each).state, m.nothingKnown()))",
        [OFFER, updated],
    )
    assert [each["party"] for each in shown] == [{"adapter": "crm", "id": "1"}]
    assert cards(tab, DESK, updated) == [], "who was offered nothing is shown nothing"


def test_an_offer_is_shown_at_once_and_a_withdrawn_one_no_more(tab):
    assert cards(tab, DESK, OFFER) == ["c1"]
    assert cards(tab, DESK, OFFER, GONE) == []


def test_a_desk_that_is_older_than_an_event_does_not_undo_it(tab):
    call = {"call": {"id": "c1"}, "status": "ringing"}
    assert cards(tab, OFFER, DESK) == ["c1"]
    assert cards(tab, DESK, OFFER, GONE, {**DESK, "seq": 11, "calls": [call]}) == []
    assert cards(tab, {**DESK, "seq": 12}, {**DESK, "calls": [call]}) == []
    assert cards(tab, DESK, OFFER, {**DESK, "seq": 11, "calls": [call]}) == ["c1"]


# Words


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_the_words_of_english_and_the_plurals_of_its_own(tab, language):
    english = json.loads(pages.FILES["en.json"].body)
    table = json.loads(pages.FILES[f"{language}.json"].body)
    assert table.keys() == english.keys()
    forms = set(tab.evaluate("tag => new Intl.PluralRules(tag).resolvedOptions().pluralCategories", language))
    for key, words in table.items():
        assert isinstance(words, str) == isinstance(english[key], str), key
        if isinstance(words, dict):
            assert set(words) <= forms, key
            # A language may say two forms alike, but must have the last to fall back on.
            assert "other" in words, key
            assert all(each.strip() for each in words.values()), key
        else:
            assert words.strip(), key


def test_numbers_durations_and_plurals_follow_the_language(tab):
    def words(language: str, expression: str) -> Any:
        return ask(
            tab, "words", f"await (async () => {{ await m.speak(v); return {expression}; }})()", language
        )

    assert words("de", "m.number(12345.5)") == "12.345,5"
    assert words("en", "[m.duration(42), m.duration(725), m.duration(3727), m.duration(-3)]") == [
        "0:42",
        "12:05",
        "1:02:07",
        "0:00",
    ]
    assert words("ru", "document.documentElement.lang") == "ru"


# What comes from a CRM


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "JavaScript:alert(1)", " java\nscript:alert(1)", "data:text/html,x", "file:///etc/passwd",
     "vbscript:x", "//", "", "crm/17", None, 17, "blob:https://crm.example/1"],
)  # fmt: skip
def test_only_addresses_of_the_web_become_links(tab, address):
    assert ask(tab, "alerts", "m.webAddress(v)", address) is None


def test_an_address_of_the_web_becomes_a_link(tab):
    assert ask(tab, "alerts", "m.webAddress(v)", "https://crm.example/17") == "https://crm.example/17"


def test_text_is_never_markup(tab):
    shown = ask(
        tab,
        "view",
        """(() => {
            const place = document.createElement("div");
            m.show(place, m.h("p", {title: v}, v), v);
            return [place.textContent, place.querySelectorAll("*").length, place.firstChild.title];
        })()""",
        "<img src=x onerror=alert(1)>",
    )
    assert shown == ["<img src=x onerror=alert(1)>" * 2, 1, "<img src=x onerror=alert(1)>"]


def test_what_is_drawn_again_keeps_the_focus_and_what_is_typed(tab):
    kept = ask(
        tab,
        "view",
        """(() => {
            const place = document.body.appendChild(document.createElement("div"));
            const draw = (title, names) => m.show(place, m.h("h1", {}, title),
                names.map(name => m.h("input", {key: name, id: name})));
            draw("one", ["a", "b"]);
            document.getElementById("b").focus();
            document.getElementById("b").value = "typed";
            draw("two", ["c", "b"]);
            const seen = [document.activeElement.id, document.getElementById("b").value, place.children.length];
            place.remove();
            return seen;
        })()""",
    )
    assert kept == ["b", "typed", 3]


def test_a_key_that_is_pressed_while_typing_is_a_letter(tab):
    acted = ask(
        tab,
        "keys",
        """await (async () => {
            const acted = [];
            m.listen(name => { acted.push(name); return true; });
            const field = document.body.appendChild(document.createElement("textarea"));
            const press = (on, key, more = {}) =>
                on.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, ...more}));
            press(field, "a");
            press(document.body, "a", {ctrlKey: true});
            press(document.body, "a", {repeat: true});
            press(document.body, "a");
            press(document.body, "X");
            field.remove();
            return acted;
        })()""",
    )
    assert acted == ["answer", "clear"]
