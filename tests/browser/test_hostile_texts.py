"""Whatever a CRM, a caller or an agent writes is shown as text, and the browser refuses what would run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error, Route, expect

from lab.browser import Chromium, overflow
from lab.laboratory import eventually
from tests.browser.desk import Desk
from tests.browser.house import KATJA, PASSWORD, House, a_house
from tests.browser.site import a_site

#: Each would call `ran()` if it were anything but text.
MARKUP = {
    "element": "<b>bold</b><script>ran()</script>",
    "handler": "<img src=x onerror=ran()>",
    "svg": "<svg/onload=ran()><animate onbegin=ran() attributeName=x dur=1s>",
    "attribute": '" onfocus=ran() autofocus tabindex=1 x="',
    "single quote": "' onmouseover='ran()",
    "end of a script": "</script><script>ran()</script>",
    "end of a textarea": "</textarea><iframe srcdoc='<script>parent.ran()</script>'>",
    "template": "{{constructor.constructor('ran()')()}} ${ran()} #{ran()} <%= ran() %> {{name}} {count}",
    "entity": "&lt;script&gt;ran()&lt;/script&gt; &#60;b&#62;",
    "address": "javascript:ran()",
    "data address": "data:text/html,<script>ran()</script>",
    "style": "<style>*{display:none}</style><link rel=stylesheet href=//evil.example/x.css>",
    "base": "<base href=https://evil.example/><meta http-equiv=refresh content=0;url=//evil.example>",
    "markdown": "[x](javascript:ran()) ![x](https://evil.example/x.png)",
    "other direction": "Anna \u202ernp.exe\u202c \u2066left\u2069 \u200f",
    "combining": "Z\u0351\u036b\u0343\u032aalgo" + "\u0301" * 200,
    "control": "bell\u0007 escape\u001b[31m null\u2400 tab\t.",
    "prototype": "__proto__",
    "object": "[object Object]",
    "emoji": "👩‍👩‍👧‍👦🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "long": "x" * 50_000,
    "half a character": "broken \ud800 text",
}
#: Fields of a party that the card shows.
FIELDS = ("name", "company", "tier", "language", "owner", "notes", "balance", "dunning", "organisation")
IMPORTED = {
    **KATJA,
    "name": MARKUP["handler"],
    "company": MARKUP["svg"],
    "tier": MARKUP["element"],
    "tags": MARKUP["single quote"] + ";" + MARKUP["handler"],
    "notes": MARKUP["end of a textarea"] + MARKUP["other direction"],
    "url": "",
}
NAME = "element => element.textContent.toWellFormed()"
WATCH = "window.ran = () => { window.hasRun = true; };"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, chromium: Chromium) -> Iterator[House]:
    service = {
        "instruction": MARKUP["handler"],
        "title": MARKUP["element"],
        "dispositions": {"x": MARKUP["handler"]},
        "wrap_up": 0,
        "disposition": "optional",
        "open_card": "ring",
    }
    directory = tmp_path_factory.mktemp("hostile")
    with a_house(chromium, directory, knows=[IMPORTED], service=service) as house:
        yield house


def a_hostile_party(text: str) -> dict[str, Any]:
    """What a CRM can say of somebody, all of it this text."""
    return {
        **dict.fromkeys(FIELDS, text),
        "tags": [text, text],
        "url": text,
        "cases": [{"id": text, "title": text, "status": text, "opened": text, "url": text}],
        "last_contacts": [{"at": text, "kind": text, "user": text, "summary": text}],
        "appointments": [{"id": text, "at": text, "title": text, "user": text, "url": text}],
        "tasks": [{"id": text, "title": text, "due": text, "user": text, "url": text}],
        "links": [{"title": text, "url": text}, {"title": text, "url": "https://crm.example/5"}],
    }


def nothing_ran(desk: Desk) -> None:
    """No text has become an element, a link that is none, or a script."""
    seen: Mapping[str, Any] = desk.tab.evaluate(
        """() => ({
            ran: window.hasRun ?? false,
            strange: [...document.querySelectorAll("#app *")]
                .filter(e => /^(script|iframe|object|embed|style|link|base|meta|b|animate|image)$/i.test(e.localName))
                .map(e => e.outerHTML),
            handlers: [...document.querySelectorAll("*")]
                .flatMap(e => e.getAttributeNames())
                .filter(name => name.startsWith("on")),
            pictures: [...document.images]
                .map(e => e.getAttribute("src"))
                .filter(src => !src.startsWith("/static/")),
            links: [...document.links].map(e => e.href).filter(href => !/^https?:/.test(href)),
        })"""
    )
    assert seen == {"ran": False, "strange": [], "handlers": [], "pictures": [], "links": []}


def test_a_card_full_of_markup_is_a_card_full_of_text(house: House, tmp_path: Path) -> None:
    house.ready("anna")
    with house.window("anna", tmp_path) as window:
        window.context.add_init_script(WATCH)
        desk = Desk.opened(window)
        desk.log_in("anna", PASSWORD)
        call = house.rings(from_name='"><img src=x onerror=ran()>')
        desk.sees_card(
            IMPORTED["name"], IMPORTED["company"], IMPORTED["tier"], MARKUP["handler"], status="ringing"
        )
        for tag in IMPORTED["tags"].split(";"):
            expect(desk.card).to_contain_text(tag)
        desk.answers()
        desk.writes(MARKUP["element"])
        desk.has_saved()
        desk.says_it_was(MARKUP["handler"])
        desk.has_saved()
        nothing_ran(desk)
        desk.picture("card")
        assert len(window.context.pages) == 1, "the address of the CRM's page was none"
        call.hang_up()
        desk.sees_no_card()
        desk.goes_to("recent")
        expect(desk.at("recent")).to_contain_text(MARKUP["element"])
        nothing_ran(desk)
    house.clear()


def test_every_text_of_the_corpus_is_shown_as_it_is_in_every_place(house: House, tmp_path: Path) -> None:
    house.ready("anna")
    with house.window("anna", tmp_path) as window:
        window.context.add_init_script(WATCH)
        desk = Desk.opened(window)
        desk.log_in("anna", PASSWORD)
        house.rings()
        desk.sees_card(status="ringing")
        text = ""

        def hostile(route: Route) -> None:
            """The server's own answer with the text wherever somebody outside could have put it."""
            answer = route.fetch()
            content = answer.json()
            for each in content["calls"]:
                party = each["card"]["parties"][0]
                party.update(a_hostile_party(text))
                each.update(party=party)
                each["card"].update(instruction=text, display={"from": text, "to": text}, service=text)
                each["call"].update({"from": text, "to": text, "service": text, "notes": text})
            content["agent"].update(name=text, reason=text)
            route.fulfill(response=answer, body=json.dumps(content))

        window.context.route("**/api/v1/desk", hostile)
        for kind, text in MARKUP.items():
            desk.tab.evaluate("window.dispatchEvent(new Event('online'))")
            start = " ".join(text.replace("\ud800", "\ufffd")[:300].split())
            eventually(
                lambda start=start: start in " ".join(desk.at("card-name").evaluate(NAME).split()),
                15,
                what=f"a name with {kind}",
            )
            nothing_ran(desk)
            assert desk.tab.evaluate("document.querySelector('[data-test=card-name] bdi') !== null")
            assert not (wide := overflow(desk.tab)), kind + "\n" + "\n".join(wide)
        window.context.unroute_all()
    house.clear()


def test_every_text_of_the_corpus_is_a_text_among_what_a_search_finds(house: House, tmp_path: Path) -> None:
    house.ready("anna")
    with house.window("anna", tmp_path) as window:
        window.context.add_init_script(WATCH)
        desk = Desk.opened(window)
        desk.log_in("anna", PASSWORD)
        desk.goes_to("search")
        text = ""

        def found(route: Route) -> None:
            party = {"adapter": text, "type": "contact", "id": text, **a_hostile_party(text)}
            asked = [{"adapter": text, "by": text, "outcome": "error", "ms": 1, "error": text}]
            answer = party if "/card?" in route.request.url else {"parties": [party], "adapters": asked}
            route.fulfill(body=json.dumps(answer), content_type="application/json")

        window.context.route("**/api/v1/search?**", found)
        window.context.route("**/api/v1/card?**", found)
        for kind, text in MARKUP.items():
            if len(text) > 1000 or "\ud800" in text:
                # No adapter's id is so long, or can stand in no address.
                continue
            desk.at("search-words").fill("anybody")
            desk.at("search-words").press("Enter")
            start = " ".join(text[:300].split())
            for place in ("search-result", "search-failed", "card-name"):
                eventually(
                    lambda start=start, place=place: start in " ".join(desk.at(place).evaluate(NAME).split()),
                    15,
                    what=f"{place} with {kind}",
                )
            nothing_ran(desk)
            assert not (wide := overflow(desk.tab)), kind + "\n" + "\n".join(wide)
        window.context.unroute_all()
    house.clear()


def test_an_inline_script_that_got_into_the_page_is_blocked_by_the_browser(
    house: House, tmp_path: Path
) -> None:
    def planted(route: Route) -> None:
        answer = route.fetch()
        page = answer.text().replace(
            "<body>", "<body onclick='ran()'><script>ran()</script><img src=x onerror=ran()>"
        )
        route.fulfill(response=answer, body=page)

    with house.window(
        "anna", tmp_path, expects=["Content Security Policy", "TrustedHTML", "/x: 404", "/x\\)"]
    ) as window:
        window.context.add_init_script(
            WATCH
            + """window.reports = [];
            document.addEventListener("securitypolicyviolation", e => reports.push(e.effectiveDirective));"""
        )
        window.context.route(f"{house.url}/", planted)
        desk = Desk.opened(window)
        desk.is_asked_to_log_in()
        desk.tab.mouse.click(5, 5)
        reports = desk.tab.evaluate("window.reports")
        assert "script-src-elem" in reports
        assert "script-src-attr" in reports
        assert desk.tab.evaluate("window.hasRun") is None
        assert any("Content Security Policy" in each for each in window.trouble)
        with pytest.raises(Error, match="TrustedHTML"):
            desk.tab.evaluate("() => { document.body.innerHTML = '<p>x</p>'; }")


def test_no_other_page_can_put_the_desk_into_a_frame_or_act_for_its_user(
    house: House, tmp_path: Path
) -> None:
    house.ready("anna")
    evil = f"""<!doctype html><title>Evil</title><iframe src="{house.url}/"></iframe>
        <form method=post enctype=text/plain action="{house.url}/api/v1/session/password" target=hidden>
        <input name='{{"old":"{PASSWORD}","new":"overheard by the sea","x":"' value='"}}'></form>
        <iframe name=hidden></iframe>"""
    with (
        a_site({"/": evil.encode()}) as site,
        house.desk("anna", tmp_path, expects=["[Ff]ram", "40[0-9]", "ERR_", "CORS", "favicon"]) as desk,
    ):
        tab = desk.window.context.new_page()
        tab.goto(site)
        tab.evaluate("document.forms[0].submit()")
        tab.evaluate(
            """url => Promise.allSettled([
                fetch(url + "/api/v1/agents/anna", {method: "PATCH", credentials: "include",
                    headers: {"Content-Type": "application/json"}, body: '{"state": "paused"}'}),
                fetch(url + "/api/v1/session?all=true", {method: "POST", mode: "no-cors", credentials: "include"}),
            ])""",
            house.url,
        )
        tab.wait_for_timeout(300)
        assert all(
            "login" not in frame.content() for frame in tab.frames[1:] if not frame.url.startswith("chrome")
        )
        assert any("frame" in each for each in desk.window.trouble)
        tab.close()
        desk.tab.reload()
        desk.is_live()
        desk.is_in_state("ready")
    with house.desk("anna", tmp_path) as desk:
        desk.is_in_state("ready")
