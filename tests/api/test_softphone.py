"""What a softphone may tell over HTTP: its own extension's calls, and nothing else; its token is seen nowhere."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import pytest

from cti.store.sqlite import open_store_for_command
from cti.web.api import ROUTES
from lab.laboratory import eventually
from tests.api.site import CUSTOMER, Reply, Site, put_token

OWN = "/api/v1/softphone/"


@pytest.fixture(scope="module")
def token(site: Site) -> str:
    """That of Anna's softphone, extension 21."""
    with a_store(site) as store:
        unit = store.unit()
        made = put_token(unit, "agent", "anna", scopes=["softphone"], extension="21")
        store.commit_now(unit)
    return made


@contextmanager
def a_store(site: Site) -> Iterator[Any]:
    path = site.daemon.directory / "cti.db"
    with open_store_for_command(path, destinations={}, clock=time.time) as store:
        yield store


def opens(site: Site, token: str | None, news: str, **given: str) -> Reply:
    """A URL is opened, with the token in it."""
    query = {"extension": "21", "number": CUSTOMER, **given}
    if token is not None:
        query["token"] = token
    return site.ask("GET", f"{OWN}{news}?{urlencode(query)}")


def test_urls_and_json_tell_of_the_same_call(site: Site, token: str) -> None:
    call = opens(site, token, "ringing", call_id="one").json["call"]
    body = {"extension": "21", "number": CUSTOMER, "call_id": "one"}
    assert site.ask("POST", f"{OWN}connected", token=token, body=body).json == {"call": call}
    assert opens(site, token, "ended", call_id="one").json == {"call": call}
    admin = site.tokens["admin"]
    record = site.ask("GET", f"/api/v1/calls/{call}", token=admin).json
    assert (record["pbx"], record["outcome"], record["agent"]) == ("softphone", "answered", "anna")
    assert record["party"]["name"] == "Käthe Ørsted"
    assert record["card"]["body"]["parties"][0]["id"] == "17"
    assert record["closed_by"] is None


def test_it_tells_of_no_other_extension(site: Site, token: str) -> None:
    reply = opens(site, token, "ringing", extension="22")
    assert (reply.status, reply.kind) == (403, "not-your-extension")


def test_it_is_good_for_nothing_else(site: Site, token: str) -> None:
    for route in ROUTES:
        if route.roles is not None and route.scope != "softphone" and "{" not in route.path:
            assert site.ask(route.method, route.path, token=token, body={}).status in (400, 403, 422), route
    assert site.ask("GET", "/api/v1/calls", token=token).kind == "scope"
    assert site.ask("GET", f"/api/v1/calls?token={token}").status == 401


@pytest.mark.parametrize("role", ["agent", "admin"])
def test_no_other_token_may_stand_in_a_url(site: Site, role: str) -> None:
    reply = opens(site, site.tokens[role], "ringing")
    assert (reply.status, reply.kind) == (403, "token-in-url")


def test_a_page_cannot_tell_by_the_session_of_who_opens_it(site: Site) -> None:
    path = f"{OWN}ringing?extension=21"
    assert site.ask("GET", path, cookie=site.cookies["agent"]).kind == "no-softphone"


@pytest.mark.parametrize("wrong", ["", "cti_" + "x" * 43, "x" * 257, "\x00"])
def test_wrong_tokens_are_refused(site: Site, wrong: str) -> None:
    assert opens(site, wrong, "ringing").status in (401, 422)


@pytest.mark.parametrize(
    "given",
    [
        {"call_id": "x" * 129},
        {"call_id": "a b"},
        {"call_id": "a\r\nb"},
        {"number": "1" * 65},
        {"number": "+49\x00"},
        {"direction": "sideways"},
        {"extension": ""},
        {"colour": "red"},
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(
    site: Site, token: str, given: dict[str, str]
) -> None:
    reply = opens(site, token, "ringing", **given)
    assert reply.status == 422
    assert next(iter(given)) in json.dumps(reply.json)
    assert token not in reply.body.decode()


def test_hostile_ids_and_numbers_are_only_texts(site: Site, token: str) -> None:
    for nasty in ("../../etc", "'--", "<script>", "%00", "\u202e1", "21/one", "{call}"):
        reply = opens(site, token, "missed", call_id=nasty, number=nasty)
        assert reply.status in (200, 422), reply
    assert not site.faults()


def test_the_token_and_the_number_stand_in_no_log_and_no_table(site: Site, token: str) -> None:
    call = opens(site, token, "missed", call_id="seen nowhere".replace(" ", "-")).json["call"]

    def outcome() -> Any:
        return site.ask("GET", f"/api/v1/calls/{call}", token=site.tokens["admin"]).json["outcome"]

    eventually(lambda: outcome() == "missed", what="the end of the call")
    opens(site, token, "ended", extension="22")
    opens(site, token, "ended", call_id="a b")
    log = "\n".join(json.dumps(line) for line in site.daemon.log())
    assert token not in log
    assert CUSTOMER not in log
    for file in site.daemon.directory.rglob("*"):
        if file.is_file():
            assert token.encode() not in file.read_bytes(), file.name
