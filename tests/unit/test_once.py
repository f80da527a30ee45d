"""Requests with an Idempotency-Key: carried out once, whatever becomes of the answers; and how many may be asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cti.calls.control import AsteriskAway, AsteriskSilent, Done, NotNow
from cti.store.records import AskedOnce
from cti.store.sqlite import open_store_for_command
from cti.store.threaded import CommandStore
from cti.web.api import ROUTES
from cti.web.once import KEPT_KEYS, KEPT_SECONDS, Once
from cti.web.services import Options
from tests.unit.test_web import NOW, Reply, Web, a_call, parse, request_bytes

TO = {"agent": "anna", "to": "015228817386"}


def dial(web: Web, token: str, key: str | None = "k1", **changes: Any) -> Reply:
    headers = {} if key is None else {"Idempotency-Key": key}
    return web.ask("POST", "/api/v1/calls", token, {**TO, **changes}, headers=headers)


def test_a_request_sent_again_is_answered_again_and_not_done_again() -> None:
    web = Web()
    token = web.token("crm")
    first, again = dial(web, token), dial(web, token)
    assert (first.status, again.status) == (202, 202)
    assert again.body == first.body
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert len(web.control.asked) == 1


def test_without_a_key_each_request_is_done() -> None:
    web = Web()
    token = web.token("crm")
    dial(web, token, None), dial(web, token, None)
    assert len(web.control.asked) == 2


def test_a_key_belongs_to_who_sends_it() -> None:
    web = Web()
    dial(web, web.token("crm")), dial(web, web.token("crm"))
    assert len(web.control.asked) == 2


@pytest.mark.parametrize("changes", [{"to": "015228895456"}, {"agent": "ben"}])
def test_the_same_key_for_another_request_is_refused(changes: dict[str, str]) -> None:
    web = Web()
    token = web.token("crm")
    dial(web, token)
    other = dial(web, token, **changes)
    assert (other.status, other.json["type"]) == (422, "urn:problem-type:cordboard:key-reused")
    assert len(web.control.asked) == 1


def test_of_two_at_the_same_moment_one_is_done_and_the_other_is_told_so() -> None:
    web = Web()
    token = web.token("crm")
    web.control.pending = Deferred()
    channel, transport = web.connect()
    channel.dataReceived(request_bytes("POST", "/api/v1/calls", token, TO, headers={"Idempotency-Key": "k1"}))
    second = dial(web, token)
    assert (second.status, second.json["type"]) == (409, "urn:problem-type:cordboard:still-running")
    assert second.headers["Retry-After"] == "1"
    web.control.pending.callback(Done(a_call(), {}))
    assert parse(transport.value()).status == 202
    assert dial(web, token).headers["Idempotency-Replayed"] == "true"
    assert len(web.control.asked) == 1


def test_who_leaves_before_the_answer_gets_it_by_the_same_key() -> None:
    web = Web()
    token = web.token("crm")
    web.control.pending = Deferred()
    channel, _ = web.connect()
    channel.dataReceived(request_bytes("POST", "/api/v1/calls", token, TO, headers={"Idempotency-Key": "k1"}))
    channel.connectionLost(Failure(ConnectionError()))
    web.control.pending.callback(Done(a_call(), {}))
    assert dial(web, token).status == 202
    assert len(web.control.asked) == 1


@pytest.mark.parametrize("refusal", [NotNow("the phone is busy"), AsteriskAway("no connection")])
def test_what_was_refused_may_be_tried_again_with_the_same_key(refusal: Exception) -> None:
    web = Web()
    token = web.token("crm")
    web.control.failure = refusal
    assert dial(web, token).status in (409, 503)
    web.control.failure = None
    assert dial(web, token).status == 202


@pytest.mark.parametrize("trouble", [AsteriskSilent("nothing came"), RuntimeError("a fault of ours")])
def test_what_nobody_knows_the_end_of_is_not_done_again(trouble: Exception) -> None:
    web = Web()
    token = web.token("crm")
    web.control.failure = trouble
    assert dial(web, token).status in (500, 504)
    web.control.failure = None
    again = dial(web, token)
    assert (again.status, again.json["type"]) == (409, "urn:problem-type:cordboard:outcome-unknown")
    assert len(web.control.asked) == 1


def test_a_server_that_starts_anew_knows_what_was_answered_and_what_was_not() -> None:
    before, after = Web(), Web()
    token = before.token("crm")
    dial(before, token, "done")
    before.control.pending = Deferred()
    channel, _ = before.connect()
    channel.dataReceived(
        request_bytes("POST", "/api/v1/calls", token, TO, headers={"Idempotency-Key": "cut off"})
    )
    after.store.asked, after.store.kept_tokens = before.store.asked, before.store.kept_tokens
    assert dial(after, token, "done").headers["Idempotency-Replayed"] == "true"
    assert dial(after, token, "cut off").json["type"] == "urn:problem-type:cordboard:outcome-unknown"
    assert after.control.asked == []


def test_nothing_is_done_for_a_key_that_cannot_be_kept() -> None:
    web = Web()
    token = web.token("crm")
    web.store.broken = True
    assert dial(web, token).status == 503
    assert web.control.asked == []


def test_a_disk_that_hangs_keeps_nobody_from_hearing_that_it_is_done() -> None:
    web = Web()
    token = web.token("crm")
    web.control.pending = Deferred()
    channel, transport = web.connect()
    channel.dataReceived(request_bytes("POST", "/api/v1/calls", token, TO, headers={"Idempotency-Key": "k1"}))
    web.store.pending = Deferred()
    web.control.pending.callback(Done(a_call(), {}))
    web.clock.advance(5)
    assert parse(transport.value()).status == 202


def test_a_key_holds_for_a_day() -> None:
    web = Web()
    token = web.token("crm")
    dial(web, token)
    web.clock.advance(KEPT_SECONDS - 1)
    dial(web, token)
    assert len(web.control.asked) == 1
    web.clock.advance(2)
    dial(web, token)
    assert len(web.control.asked) == 2


@pytest.mark.parametrize("key", ["", "a" * 256, "a\tb", "ü"])
def test_what_is_no_key_is_told_how_one_looks(key: str) -> None:
    web = Web()
    refused = dial(web, web.token("crm"), key)
    assert refused.status == 400
    assert "Idempotency-Key" in refused.json["detail"]
    assert web.control.asked == []


def test_a_request_that_is_wrong_does_not_use_its_key_up() -> None:
    web = Web()
    token = web.token("crm")
    assert dial(web, token, to="").status == 422
    assert dial(web, token).status == 202


#: Posted, and without a key: it makes nothing, or a password is in it, and answers and digests are kept.
WITHOUT_KEY = {
    "/api/v1/calls/{id}/card",
    "/api/v1/erasures",
    "/api/v1/explain",
    "/api/v1/export",
    "/api/v1/identify",
    "/api/v1/numbers/blocked",
    "/api/v1/numbers/ignored",
    "/api/v1/numbers/normalise",
    "/api/v1/purge",
    "/api/v1/outbox/drop",
    "/api/v1/outbox/retry",
    "/api/v1/session",
    "/api/v1/softphone/connected",
    "/api/v1/softphone/ended",
    "/api/v1/softphone/missed",
    "/api/v1/softphone/ringing",
    "/api/v1/session/password",
    "/api/v1/users",
    "/api/v1/webhooks/{name}/test",
}


def test_everything_that_is_posted_and_makes_something_takes_a_key() -> None:
    assert {route.path for route in ROUTES if route.method == "POST" and not route.idempotent} == WITHOUT_KEY
    assert all(route.method == "POST" and route.roles for route in ROUTES if route.idempotent)


# In the database.


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CommandStore]:
    with open_store_for_command(tmp_path / "cti.db", destinations={}, clock=lambda: NOW) as opened:
        yield opened


def an_answer(**changes: Any) -> AskedOnce:
    values = {
        "who": "t1",
        "key": "k1",
        "digest": "d" * 64,
        "at": NOW,
        "status": 202,
        "media_type": "application/json",
        "headers": {"ETag": '"a"'},
        "body": "{}",
        **changes,
    }
    return AskedOnce(**values)


def keys(store: CommandStore, *asked: AskedOnce, keep: int = KEPT_KEYS, before: float = 0.0) -> set[str]:
    """The keys that are there after these were put, one after the other."""
    for each in asked:
        unit = store.unit()
        unit.put_asked_once(each)
        unit.trim_asked_once(each.who, keep)
        unit.forget_asked_once(before)
        store.commit_now(unit)
    return {each.key for each in asked if store.read.asked_once(each.who, each.key) is not None}


def test_an_answer_is_kept_as_it_was(store: CommandStore) -> None:
    assert keys(store, an_answer(status=None, body=None), an_answer()) == {"k1"}
    assert store.read.asked_once("t1", "k1") == an_answer()
    assert store.read.asked_once("t2", "k1") is None


def test_a_key_that_is_freed_is_gone(store: CommandStore) -> None:
    keys(store, an_answer())
    unit = store.unit()
    unit.remove_asked_once("t1", "k1")
    store.commit_now(unit)
    assert store.read.asked_once("t1", "k1") is None


def test_only_the_newest_of_each_who_asks_are_kept(store: CommandStore) -> None:
    asked = [an_answer(key=f"k{n}", at=NOW + n) for n in range(5)]
    assert keys(store, an_answer(who="t2", key="other", at=NOW - 9), *asked, keep=3) == {
        "other",
        "k2",
        "k3",
        "k4",
    }


def test_what_is_older_than_a_day_is_forgotten(store: CommandStore) -> None:
    assert keys(store, an_answer(key="old", at=NOW - 10), an_answer(), before=NOW - 5) == {"k1"}


def test_the_server_forgets_by_the_clock() -> None:
    web = Web()
    asked: list[Any] = []
    web.store.commit = lambda unit: asked.extend(unit.rows) or Deferred()  # type: ignore[method-assign]
    Once(web.store, web.clock).forget()
    assert [row for _, row in asked] == [(NOW - KEPT_SECONDS,)]


# How many.


def test_who_asks_too_often_is_told_when_to_ask_again_and_nobody_else_is() -> None:
    web = Web(Options(requests_per_minute=60))
    mad, other = web.token("crm"), web.token("crm")
    statuses = [web.ask("GET", "/api/v1/calls", mad).status for _ in range(61)]
    assert statuses == [200] * 60 + [429]
    refused = web.ask("GET", "/api/v1/calls", mad)
    assert (refused.headers["Retry-After"], refused.json["type"]) == (
        "1",
        "urn:problem-type:cordboard:too-many-requests",
    )
    assert web.ask("GET", "/api/v1/calls", other).status == 200
    web.clock.advance(1)
    assert web.ask("GET", "/api/v1/calls", mad).status == 200


def test_an_open_event_stream_counts_once_however_long_it_beats() -> None:
    web = Web(Options(requests_per_minute=60))
    token = web.token("agent", "anna")
    channel, transport = web.connect()
    channel.dataReceived(request_bytes("GET", "/api/v1/events", token))
    for _ in range(600):
        web.clock.advance(1)
    assert transport.value().count(b":\n\n") == 40
    assert [web.ask("GET", "/api/v1/calls", token).status for _ in range(60)] == [200] * 60
