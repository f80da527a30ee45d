"""The pages: how their files are sent, that nothing comes from elsewhere or becomes markup, and their words."""

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from cti.calls.control import OPERATIONS
from cti.identify.identification import Outcome as Said
from cti.metrics import AGENT_STATES, OUTCOMES
from cti.settings import Desk
from cti.web.desk import ROUTES as DESK_ROUTES
from cti.web.page import FILES, MEDIA_TYPES, PAGE, read_files
from cti.web.tokens import ADMIN, AGENT, SUPERVISOR
from routing.clock import Hours
from routing.decide import Action, Outcome as Tried
from tests.unit.test_web import Web

SCRIPTS: Final = {name: file.body.decode() for name, file in FILES.items() if name.endswith(".js")}
HTML: Final = FILES["desk.html"].body.decode()
LANGUAGES: Final = {path.stem: json.loads(path.read_text("utf-8")) for path in PAGE.glob("languages/*.json")}
#: The categories of CLDR's plurals for whole numbers and fractions, as `Intl.PluralRules` names them.
PLURALS: Final = {
    "en": {"one", "other"},
    "de": {"one", "other"},
    "sl": {"one", "two", "few", "other"},
    "ru": {"one", "few", "many", "other"},
}


@pytest.fixture
def web() -> Web:
    return Web()


# How they are sent.


def test_the_desk_is_a_page_without_a_log_in(web: Web) -> None:
    for path in ("/", "/dial?number=tel%3A%2B4915228817386"):
        reply = web.ask("GET", path)
        assert reply.status == 200
        assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
        assert reply.body == FILES["desk.html"].body


def test_every_file_of_the_pages_is_sent_as_what_it_is(web: Web) -> None:
    assert {Path(name).suffix for name in FILES} == set(MEDIA_TYPES)
    for name, file in FILES.items():
        reply = web.ask("GET", f"/static/{name}")
        assert (reply.status, reply.body) == (200, file.body)
        assert reply.headers["Content-Type"] == MEDIA_TYPES[Path(name).suffix]


@pytest.mark.parametrize(
    "name", ["page.py", "..%2Fpage.py", "%2e%2e%2fapi.py", "languages", "de.json%00", "x"]
)
def test_nothing_else_is_sent(web: Web, name: str) -> None:
    assert web.ask("GET", f"/static/{name}").status == 404


def test_a_browser_that_has_a_file_is_not_sent_it_again(web: Web) -> None:
    first = web.ask("GET", "/static/desk.js")
    assert first.headers["Cache-Control"] == "no-cache"
    tag = first.headers["ETag"]
    for known in (tag, f'"old", W/{tag}', "*"):
        again = web.ask("GET", "/static/desk.js", headers={"If-None-Match": known})
        assert (again.status, again.body) == (304, b"")
        assert again.headers["ETag"] == tag
        assert "Content-Length" not in again.headers
    assert web.ask("GET", "/static/desk.js", headers={"If-None-Match": '"old"'}).status == 200


def test_a_file_is_packed_for_a_browser_that_unpacks(web: Web) -> None:
    reply = web.ask("GET", "/static/desk.js", headers={"Accept-Encoding": "gzip, br"})
    assert reply.headers["Content-Encoding"] == "gzip"
    assert reply.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(reply.body) == FILES["desk.js"].body
    assert len(reply.body) < len(FILES["desk.js"].body) / 2
    # Packed or not are two answers of one address: a proxy must not take one tag for the other.
    assert reply.headers["ETag"] != web.ask("GET", "/static/desk.js").headers["ETag"]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "languages").mkdir()
    (tmp_path / "de.json").write_text("{}")
    (tmp_path / "languages" / "de.json").write_text("{}")
    with pytest.raises(ValueError, match="another file of this name"):
        read_files(tmp_path)


# What they may not do. That a browser would refuse it is tested in a browser.


def test_a_page_runs_only_what_comes_from_here(web: Web) -> None:
    policy = web.ask("GET", "/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy


def test_the_page_has_no_script_or_style_of_its_own() -> None:
    assert re.findall(r"<script(?![^>]*\ssrc=)", HTML) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", HTML) == []


def test_nothing_is_fetched_from_elsewhere() -> None:
    for name, file in FILES.items():
        text = file.body.decode().replace("http://www.w3.org/2000/svg", "")
        assert re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text) == [], name


def test_what_a_page_names_is_there() -> None:
    texts = [
        HTML,
        FILES["desk.css"].body.decode(),
        FILES["desk.webmanifest"].body.decode(),
        *SCRIPTS.values(),
    ]
    named = {name for text in texts for name in re.findall(r"/static/([\w.-]+\.\w+)", text)}
    imported = {name for text in SCRIPTS.values() for name in re.findall(r'from "\./([\w.-]+)"', text)}
    assert {"desk.js", "desk.css", "icon.svg"} <= named
    assert named | imported <= set(FILES)


def test_every_script_is_imported_by_another_or_by_the_page() -> None:
    imported = {name for text in SCRIPTS.values() for name in re.findall(r'from "\./([\w.-]+)"', text)}
    pages = "".join(file.body.decode() for name, file in FILES.items() if name.endswith(".html"))
    assert set(SCRIPTS) - imported <= set(re.findall(r'src="/static/([\w.-]+)"', pages))


def test_the_description_is_a_page_of_its_own_and_loads_nothing_from_elsewhere(web: Web) -> None:
    reply = web.ask("GET", "/docs")
    assert reply.status == 200
    assert web.ask("GET", "/docs", headers={"If-None-Match": reply.headers["ETag"]}).status == 304
    text = reply.body.decode()
    sources = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert [source for source in sources if not source.startswith(("/", "#"))] == []
    for source in sources:
        if source.startswith("/static/"):
            assert web.ask("GET", source).status == 200, source
    assert re.findall(r"<script(?![^>]*src=)|<style| style=| on[a-z]+=", text) == []
    assert "http" not in SCRIPTS["docs.js"]


@pytest.mark.parametrize(
    "sink",
    ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"],
)
def test_text_never_becomes_markup_or_script(sink: str) -> None:
    assert [name for name, text in SCRIPTS.items() if sink in text] == []


# The words.


def keys_in(scripts: Mapping[str, str]) -> Iterator[str]:
    """Every text in the scripts that could be a key, such as `card.title`."""
    for text in scripts.values():
        yield from re.findall(r'["`]([a-z]+\.[a-z0-9_-]+)["`]', text)


def families_in(scripts: Mapping[str, str]) -> set[str]:
    """What keys are put together from: `state.` of `state.${…}`."""
    return {found for text in scripts.values() for found in re.findall(r"`([a-z]+\.)\$\{", text)}


#: What stands behind the dot in a key that is put together. Where only the page itself knows, what it says.
MEMBERS: Final[Mapping[str, set[str]]] = {
    "state.": set(AGENT_STATES),
    "outcome.": set(OUTCOMES),
    "did.": set(Action),
    "tried.": set(Tried),
    "said.": set(Said),
    "hours.": set(Hours),
    "role.": {AGENT, SUPERVISOR, ADMIN},
    "op.": set(OPERATIONS) - {"listen", "whisper", "barge"},
    "status.": set(
        next(r for r in DESK_ROUTES if r.path == "/api/v1/desk").answers[1]["properties"]["calls"]["items"][
            "properties"
        ]["status"]["enum"]
    ),
    "party.": {"organisation", "lead", "partner", "supplier"},
    "reason.": {*Desk().pause_reasons, "no_answer"},
    "notes.": {"saved", "waiting", "saving", "kept", "refused"},
    "line.": {"live", "connecting", "offline"},
    "theme.": {"auto", "light", "dark"},
    "target.": {"transfer", "consult", "deflect"},
    "record.": {"start", "pause", "resume", "stop"},
    "nav.": {"desk", "missed", "unwritten", "recent", "search", "settings"},
    "list.": {
        f"{name}{part}" for name in ("missed", "unwritten", "recent") for part in ("", "-about", "-none")
    },
    "key.": set(re.findall(r': "(\w+)",', SCRIPTS["keys.js"].partition("KEYS = {")[2].partition("}")[0])),
}


def test_there_are_the_four_languages_and_the_page_offers_just_these() -> None:
    assert set(LANGUAGES) == set(PLURALS)
    offered = re.search(r"LANGUAGES = \{(.*?)\}", SCRIPTS["words.js"])
    assert offered is not None
    assert set(re.findall(r"(\w+):", offered[1])) == set(PLURALS)


@pytest.mark.parametrize("language", sorted(PLURALS))
def test_every_language_has_the_same_keys_and_places(language: str) -> None:
    ours, english = LANGUAGES[language], LANGUAGES["en"]
    assert sorted(ours) == sorted(english)
    for key, words in ours.items():
        assert isinstance(words, dict) == isinstance(english[key], dict), key
        for text in words.values() if isinstance(words, dict) else [words]:
            assert text.strip(), key
            assert set(re.findall(r"\{\w+\}", text)) <= places(english[key]), key
        assert places(words) == places(english[key]), key


def places(words: Any) -> set[str]:
    texts = words.values() if isinstance(words, dict) else [words]
    return {place for text in texts for place in re.findall(r"\{\w+\}", text)}


@pytest.mark.parametrize("language", sorted(PLURALS))
def test_plurals_have_the_forms_of_their_language(language: str) -> None:
    for key, words in LANGUAGES[language].items():
        if isinstance(words, dict):
            assert set(words) == PLURALS[language], key


def test_every_key_that_the_page_uses_has_words() -> None:
    used = {key for text in SCRIPTS.values() for key in re.findall(r'\bt\(\s*"([^"]+)"', text)}
    used |= {family + member for family, members in MEMBERS.items() for member in members}
    assert used - set(LANGUAGES["en"]) == set()


def test_every_way_of_putting_a_key_together_is_known_here() -> None:
    # `problem.` has words for some, and the server's own for all others.
    assert families_in(SCRIPTS) - {"problem."} == set(MEMBERS)


def test_no_words_are_left_that_nobody_reads() -> None:
    used = {
        *keys_in(SCRIPTS),
        *(family + member for family, members in MEMBERS.items() for member in members),
    }
    kinds = {f"problem.{kind}" for kind in problem_kinds()}
    statuses = {f"problem.{status}" for status in (401, 403, 404, 409, 412, 422, 429, 500, 503, 504)}
    assert set(LANGUAGES["en"]) - used - kinds - statuses == set()


def problem_kinds() -> set[str]:
    """The kinds of problems that the server's source names, and the page's own."""
    source = "\n".join(path.read_text("utf-8") for path in PAGE.parent.glob("*.py"))
    return {
        "unreachable",
        *re.findall(r'kind="([a-z-]+)"', source),
        *re.findall(r'\(\d{3}, "([a-z-]+)"\)', source),
    }
