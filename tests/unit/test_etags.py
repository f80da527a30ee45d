"""Versions of things: tags, what a request must say, and that nobody's change is lost."""

import pytest
from attrs import define

from cti.calls.written import matches
from cti.web.etags import ANY, changed, known, tags_of
from cti.web.problems import Problem
from cti.web.routing_table import Answer, Asked, Route, Table
from cti.web.server import Site
from cti.web.services import Services
from tests.unit.test_web import Web


@define
class Note:
    """A thing that two people may change."""

    text: str = "first"

    @property
    def etag(self) -> str:
        return f'"{self.text}"'


def a_site(web: Web, note: Note) -> Web:
    """The site with a note at `/note`, that may be read and changed."""

    async def read(_services: Services, _asked: Asked) -> Answer:
        return Answer(note.text.encode(), content_type="text/plain", etag=note.etag)

    async def change(_services: Services, asked: Asked) -> Answer:
        if not matches(asked.if_match, note.etag):
            raise changed("somebody was faster", note.etag, text=note.text)
        note.text = asked.body["text"]
        return Answer(b"{}", etag=note.etag)

    body = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
    web.site = Site(
        web.services,
        Table(
            [
                Route("GET", "/note", read, "Read it", etag=True),
                Route("PATCH", "/note", change, "Change it", body=body, etag=True),
            ]
        ),
    )
    return web


def test_who_changes_the_version_they_have_read_is_answered_with_the_new_one() -> None:
    web = a_site(Web(), Note())
    read = web.ask("GET", "/note")
    changed = web.ask("PATCH", "/note", json={"text": "second"}, headers={"If-Match": read.headers["ETag"]})
    assert changed.status == 200
    assert changed.headers["ETag"] == web.ask("GET", "/note").headers["ETag"] != read.headers["ETag"]


def test_of_two_who_change_the_same_version_the_second_gets_what_the_first_wrote() -> None:
    note = Note()
    web = a_site(Web(), note)
    read = {"If-Match": web.ask("GET", "/note").headers["ETag"]}
    web.ask("PATCH", "/note", json={"text": "annas"}, headers=read)
    late = web.ask("PATCH", "/note", json={"text": "bens"}, headers=read)
    assert (late.status, note.text) == (412, "annas")
    assert late.json["type"] == "urn:problem-type:cordboard:changed"
    assert (late.json["text"], late.json["etag"]) == ("annas", note.etag)
    assert late.headers["ETag"] == note.etag


def test_a_change_that_names_no_version_is_refused() -> None:
    note = Note()
    refused = a_site(Web(), note).ask("PATCH", "/note", json={"text": "second"})
    assert (refused.status, note.text) == (428, "first")
    assert refused.json["type"] == "urn:problem-type:cordboard:precondition-required"


def test_a_star_is_for_who_means_any_version() -> None:
    note = Note()
    assert (
        a_site(Web(), note).ask("PATCH", "/note", json={"text": "x"}, headers={"If-Match": "*"}).status == 200
    )
    assert note.text == "x"


def test_who_has_it_already_gets_nothing_again() -> None:
    web = a_site(Web(), Note())
    tag = web.ask("GET", "/note").headers["ETag"]
    for has in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = web.ask("GET", "/note", headers={"If-None-Match": has})
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
        assert "Content-Type" not in again.headers
    for has in ('"other"', "0", "", '"'):
        assert web.ask("GET", "/note", headers={"If-None-Match": has}).body == b"first"


def test_a_weak_tag_names_no_version_that_may_be_changed() -> None:
    assert not matches(['W/"a"'], '"a"')
    assert known(['W/"a"'], '"a"')


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (['"a"'], ['"a"']),
        (['"a", W/"b"', '"c"'], ['"a"', 'W/"b"', '"c"']),
        (['"a,b" ,"c"'], ['"a,b"', '"c"']),
        ([" * "], [ANY]),
    ],
)
def test_a_header_lists_tags(fields: list[str], found: list[str]) -> None:
    assert list(tags_of(fields, "If-Match") or ()) == found


@pytest.mark.parametrize(
    "text", ["", "a", '"a', '"a" "b"', '*, "a"', "W/a", '"' + "a" * 3000 + '"', '"ü"', '"a",']
)
def test_what_is_no_tag_is_told_how_one_looks(text: str) -> None:
    with pytest.raises(Problem, match="in its quotes") as caught:
        tags_of([text], "If-Match")
    assert caught.value.status == 400
