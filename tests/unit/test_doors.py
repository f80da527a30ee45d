"""Who comes in, and what they may then see: log-in, sessions, forged requests, users, audit, masking, scopes."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from argon2 import PasswordHasher
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from cti.calls.present import call_detail_json, call_json
from cti.identify.identification import Identification
from cti.numbers import NumberPlan
from cti.store.records import StoredEvent
from cti.web.login import ACCOUNT, ADDRESS, DEVICE
from cti.web.masking import NUMBER, PARTY_FIELDS, Masking
from cti.web.passwords import _HASHER, LONGEST, SHORTEST, Busy, Passwords, wrong_with
from cti.web.schema import errors
from cti.web.services import Options
from cti.web.shapes import SCHEMAS
from cti.web.throttle import Pace, Throttle
from cti.web.tokens import digest_of
from tests.unit.doors import PASSWORD, QUICK, a_user, at_once
from tests.unit.test_event_stream import Stream, publish
from tests.unit.test_web import ELSEWHERE, NOW, Reply, Web, a_call, a_detail, request_bytes

HOST = "cordboard.example"
ANOTHER = "another horse of mine"


class Browser:
    """Keeps cookies, and sends with each request what browsers send."""

    def __init__(self, web: Web, peer: str = ELSEWHERE, headers: Mapping[str, str] | None = None) -> None:
        self.web = web
        self.peer = peer
        self.headers = dict(headers or {})
        self.cookies: dict[str, tuple[str, str]] = {}
        self.csrf: str | None = None
        self.set_cookies: list[str] = []

    def ask(self, method: str, path: str, json: Any = None, **headers: str) -> Reply:
        cookies = "; ".join(
            f"{name}={value}" for name, (value, where) in self.cookies.items() if path.startswith(where)
        )
        fields = self.headers | ({"Cookie": cookies} if cookies else {})
        if self.csrf is not None:
            fields["X-CSRF-Token"] = self.csrf
        sent = {name: value for name, value in (fields | headers).items() if value}
        reply = self.web.ask(method, path, None, json, headers=sent, peer=self.peer)
        self.set_cookies = [value for name, value in reply.fields if name == "Set-Cookie"]
        for cookie in self.set_cookies:
            pair, *attributes = cookie.split("; ")
            name, _, value = pair.partition("=")
            (where,) = (each.removeprefix("Path=") for each in attributes if each.startswith("Path="))
            if "Max-Age=0" in attributes:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = (value, where)
        return reply

    def log_in(self, name: str = "anna", password: str = PASSWORD, **headers: str) -> Reply:
        reply = self.ask("POST", "/api/v1/session", {"username": name, "password": password}, **headers)
        if reply.status == 200:
            self.csrf = reply.json["csrf"]
        return reply

    @property
    def session(self) -> str:
        return next(
            value for name, (value, _) in self.cookies.items() if name in ("cordboard", "__Host-cordboard")
        )


@pytest.fixture
def web() -> Web:
    web = Web()
    web.doors.add(a_user("anna"), a_user("ben"), a_user("chief", "admin"), a_user("sue", "supervisor"))
    return web


def begin(web: Web, name: str) -> bytes:
    """Try to log in with a wrong password; what is answered at once, which may be nothing yet."""
    channel, transport = web.connect()
    body = {"username": name, "password": "wrong horse"}
    channel.dataReceived(request_bytes("POST", "/api/v1/session", None, body))
    return transport.value()


def logged_in(web: Web, name: str = "anna", **more: Any) -> Browser:
    browser = Browser(web, **more)
    assert browser.log_in(name).status == 200
    return browser


def kind_of(reply: Reply) -> str:
    return str(reply.json["type"]).rpartition(":")[2]


# Log-in and the session


def test_a_right_password_begins_a_session_that_says_who_it_is(web: Web) -> None:
    browser = Browser(web)
    reply = browser.log_in("  Anna ")
    assert reply.status == 200
    assert reply.json["user"] == {"name": "anna", "role": "agent", "agent": "anna", "language": None}
    assert browser.ask("GET", "/api/v1/session").json == reply.json
    assert [agent["id"] for agent in browser.ask("GET", "/api/v1/agents").json["agents"]] == ["anna"]


def test_the_session_s_cookie_is_for_us_alone_and_no_script_reads_it(web: Web) -> None:
    browser = logged_in(web)
    session, device = browser.set_cookies
    assert session.split("; ")[1:] == ["Path=/", "Max-Age=604800", "HttpOnly", "SameSite=Strict"]
    assert device.split("; ")[1:] == [
        "Path=/api/v1/session", "Max-Age=15552000", "HttpOnly", "SameSite=Strict"
    ]  # fmt: skip
    assert "anna" not in device


def test_over_tls_the_cookies_go_over_nothing_else(web: Web) -> None:
    web.services = evolve(web.services, options=Options(behind_proxy=True))
    web.site._services = web.services
    browser = logged_in(web, headers={"X-Forwarded-For": ELSEWHERE, "X-Forwarded-Proto": "https"})
    session, device = browser.set_cookies
    assert session.startswith("__Host-cordboard=")
    assert device.startswith("__Secure-cordboard-")
    assert session.endswith("; Secure")
    assert device.endswith("; Secure")
    reply = browser.ask("GET", "/api/v1/session")
    assert reply.status == 200
    assert reply.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_without_tls_no_browser_is_told_to_use_it_only(web: Web) -> None:
    assert "Strict-Transport-Security" not in web.ask("GET", "/healthz").headers


def test_the_store_keeps_neither_the_session_s_id_nor_the_password(web: Web) -> None:
    browser = logged_in(web)
    (kept,) = web.doors.kept_sessions.values()
    assert kept.digest == digest_of(browser.session)
    everything = repr((web.doors.kept_sessions, web.doors.written, web.doors.kept_users["anna"].password))
    assert browser.session not in everything
    assert PASSWORD not in everything


@pytest.mark.parametrize(("name", "password"), [("anna", "wrong horse"), ("nobody", PASSWORD), ("", "x")])
def test_a_wrong_name_is_answered_as_a_wrong_password(web: Web, name: str, password: str) -> None:
    reply = Browser(web).log_in(name or " ", password)
    assert reply.status == 401
    assert kind_of(reply) == "wrong-login"
    assert reply.json["detail"] == "name or password is wrong"
    assert reply.headers.get("Set-Cookie") is None


@pytest.mark.parametrize("name", ["anna", "nobody", "idle"])
def test_an_unknown_name_costs_the_work_of_a_known_one(name: str) -> None:
    asked: list[tuple[str, str]] = []

    class Counting:
        memory_cost, time_cost, parallelism, salt_len, hash_len = 8, 1, 1, 16, 32

        def verify(self, kept: str, password: str) -> bool:
            asked.append((kept, password))
            return QUICK.verify(kept, password)

        def check_needs_rehash(self, _kept: str) -> bool:
            return False

    web = Web(passwords=Passwords(at_once, Counting()))  # type: ignore[arg-type]
    web.doors.add(a_user("anna"), a_user("idle", disabled=True))
    assert Browser(web).log_in(name, "wrong horse").status == 401
    ((kept, password),) = asked
    assert password == "wrong horse"
    assert kept.split("$")[1:4] == web.doors.kept_users["anna"].password.split("$")[1:4]
    assert len(kept) == len(web.doors.kept_users["anna"].password)


def test_who_is_disabled_does_not_come_in(web: Web) -> None:
    web.doors.add(a_user("anna", disabled=True))
    assert kind_of(Browser(web).log_in()) == "wrong-login"


def test_a_password_changed_while_it_is_compared_does_not_open(web: Web) -> None:
    comparing: list[Deferred[Any]] = []

    def later(work: Any) -> "Deferred[Any]":
        comparing.append(Deferred().addCallback(lambda _: work()))
        return comparing[-1]

    web = Web(passwords=Passwords(later, QUICK))
    web.doors.add(a_user("anna"))
    channel, transport = web.connect()
    channel.dataReceived(
        request_bytes("POST", "/api/v1/session", None, {"username": "anna", "password": PASSWORD})
    )
    web.doors.add(a_user("anna", password=QUICK.hash(ANOTHER), changed=2.0))
    comparing[0].callback(None)
    assert transport.value().startswith(b"HTTP/1.1 401 ")


def test_a_user_changed_while_their_password_is_made_anew_stays_as_changed() -> None:
    working: list[Deferred[Any]] = []

    def later(work: Any) -> "Deferred[Any]":
        working.append(Deferred().addCallback(lambda _: work()))
        return working[-1]

    web = Web(passwords=Passwords(later, PasswordHasher(time_cost=2, memory_cost=8, parallelism=1)))
    web.doors.add(a_user("anna"))
    channel, transport = web.connect()
    channel.dataReceived(
        request_bytes("POST", "/api/v1/session", None, {"username": "anna", "password": PASSWORD})
    )
    working[0].callback(None)
    disabled = a_user("anna", disabled=True)
    web.doors.add(disabled)
    working[1].callback(None)
    assert transport.value().startswith(b"HTTP/1.1 401 ")
    assert web.doors.kept_users["anna"] == disabled


def test_a_session_that_begins_by_a_password_just_changed_ends(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.doors.add(a_user("anna"))
    commit = web.doors.commit

    def commit_behind_another(unit: Any) -> Any:
        web.doors.add(a_user("anna", password="$argon2id$another"))
        return commit(unit)

    monkeypatch.setattr(web.doors, "commit", commit_behind_another)
    assert Browser(web).log_in().status == 401
    assert web.doors.kept_sessions == {}


def test_a_log_in_gives_a_new_id_and_the_old_one_is_dead(web: Web) -> None:
    browser = logged_in(web)
    planted = browser.session
    assert browser.log_in().status == 200
    assert browser.session != planted
    stale = Browser(web, headers={"Cookie": f"cordboard={planted}"})
    assert kind_of(stale.ask("GET", "/api/v1/session")) == "session-ended"


def test_an_id_that_somebody_else_made_up_never_becomes_a_session(web: Web) -> None:
    browser = Browser(web, headers={"Cookie": "cordboard=chosen-by-an-attacker"})
    browser.log_in()
    assert browser.session != "chosen-by-an-attacker"
    assert digest_of("chosen-by-an-attacker") not in web.doors.kept_sessions


def test_of_two_cookies_of_the_name_one_was_planted_so_none_counts(web: Web) -> None:
    browser = logged_in(web)
    both = f"cordboard={browser.session}; cordboard=planted"
    assert web.ask("GET", "/api/v1/session", headers={"Cookie": both}).status == 401


def test_a_session_ends_when_it_is_not_used(web: Web) -> None:
    browser = logged_in(web)
    for _ in range(3):
        web.clock.advance(11 * 3600)
        assert browser.ask("GET", "/api/v1/session").status == 200
    web.clock.advance(12 * 3600)
    reply = browser.ask("GET", "/api/v1/session")
    assert reply.status == 401
    assert kind_of(reply) == "session-ended"
    assert "log in again" in reply.json["detail"]


def test_a_session_ends_after_a_week_however_much_it_is_used(web: Web) -> None:
    browser = logged_in(web)
    for _ in range(167):
        web.clock.advance(3600)
        assert browser.ask("GET", "/api/v1/session").status == 200
    web.clock.advance(3600)
    assert browser.ask("GET", "/api/v1/session").status == 401


def test_being_used_is_written_down_once_a_minute_at_most(web: Web) -> None:
    browser = logged_in(web)
    (kept,) = web.doors.kept_sessions.values()
    web.clock.advance(59)
    browser.ask("GET", "/api/v1/session")
    assert web.doors.kept_sessions[kept.digest].used == kept.used
    web.clock.advance(2)
    browser.ask("GET", "/api/v1/session")
    assert web.doors.kept_sessions[kept.digest].used == NOW + 61


def test_who_logs_out_is_out_here_and_nowhere_else(web: Web) -> None:
    here, there = logged_in(web), logged_in(web)
    stolen = Browser(web, headers={"Cookie": f"cordboard={here.session}"})
    assert here.ask("DELETE", "/api/v1/session").status == 204
    assert not any(name == "cordboard" for name in here.cookies)
    assert stolen.ask("GET", "/api/v1/session").status == 401
    assert there.ask("GET", "/api/v1/session").status == 200


def test_who_logs_out_everywhere_is_out_everywhere(web: Web) -> None:
    here, there, other = logged_in(web), logged_in(web), logged_in(web, "ben")
    assert here.ask("DELETE", "/api/v1/session?all=true").status == 204
    assert there.ask("GET", "/api/v1/session").status == 401
    assert other.ask("GET", "/api/v1/session").status == 200


def test_a_new_password_ends_the_other_sessions_and_the_id_of_this_one(web: Web) -> None:
    here, there = logged_in(web), logged_in(web)
    before = here.session
    reply = here.ask("POST", "/api/v1/session/password", {"old": PASSWORD, "new": ANOTHER})
    assert reply.status == 200
    here.csrf = reply.json["csrf"]
    assert here.session != before
    assert here.ask("PATCH", "/api/v1/session", {"language": "de"}).json["user"]["language"] == "de"
    assert there.ask("GET", "/api/v1/session").status == 401
    assert Browser(web).log_in().status == 401
    assert Browser(web).log_in("anna", ANOTHER).status == 200


def test_a_new_password_needs_the_old_one(web: Web) -> None:
    browser = logged_in(web)
    reply = browser.ask("POST", "/api/v1/session/password", {"old": "wrong horse", "new": ANOTHER})
    assert kind_of(reply) == "wrong-login"
    assert Browser(web).log_in().status == 200


def test_a_new_password_has_to_be_a_good_one(web: Web) -> None:
    browser = logged_in(web)
    reply = browser.ask("POST", "/api/v1/session/password", {"old": PASSWORD, "new": "Passwort123!"})
    assert kind_of(reply) == "weak-password"


def test_the_event_stream_of_a_session_ends_with_it(web: Web) -> None:
    for end in ("DELETE /api/v1/session", "DELETE /api/v1/session?all=true"):
        browser = logged_in(web)
        stream = Stream(web, None, Cookie=f"cordboard={browser.session}")
        other = Stream(web, None, Cookie=f"cordboard={logged_in(web, 'ben').session}")
        browser.ask(*end.split())
        assert stream.transport.disconnecting
        assert not other.transport.disconnecting


def test_the_event_stream_ends_when_the_session_runs_out(web: Web) -> None:
    stream = Stream(web, None, Cookie=f"cordboard={logged_in(web).session}")
    for _ in range(12 * 240 - 1):
        web.clock.advance(15)
    assert not stream.transport.disconnecting
    web.clock.pump([1] * 30)
    assert stream.transport.disconnecting


def test_who_is_disabled_by_an_admin_is_out_at_once(web: Web) -> None:
    browser, chief = logged_in(web), logged_in(web, "chief")
    stream = Stream(web, None, Cookie=f"cordboard={browser.session}")
    assert chief.ask("PATCH", "/api/v1/users/anna", {"disabled": True}).status == 200
    assert browser.ask("GET", "/api/v1/session").status == 401
    assert stream.transport.disconnecting


def test_what_a_command_changed_counts_for_sessions_within_a_second(web: Web) -> None:
    browser = logged_in(web)
    assert browser.ask("GET", "/api/v1/calls").status == 200
    web.doors.add(a_user("anna", disabled=True))
    web.clock.advance(1)
    assert browser.ask("GET", "/api/v1/calls").status == 401


def test_a_session_goes_by_the_role_that_its_user_has_now(web: Web) -> None:
    browser = logged_in(web, "chief")
    web.doors.add(a_user("chief", "supervisor"))
    web.clock.advance(1)
    assert browser.ask("GET", "/api/v1/users").status == 403


def test_without_a_store_nobody_comes_in_and_the_reason_is_told(web: Web) -> None:
    web.doors.broken = True
    reply = Browser(web).log_in()
    assert reply.status == 503
    assert "Set-Cookie" not in reply.headers


# Guessing


def test_guessing_is_slowed_by_account_and_then_ever_more(web: Web) -> None:
    answers: list[int] = []
    waits: list[int] = []
    while web.clock.seconds() < NOW + 86_400 and len(answers) < 1000:
        # From everywhere: what is slowed is the account.
        reply = Browser(web, f"2001:db8:{len(answers):x}::1").log_in("anna", "wrong horse")
        answers.append(reply.status)
        if reply.status == 429:
            waits.append(int(reply.headers["Retry-After"]))
            web.clock.advance(waits[-1])
    assert answers[: ACCOUNT.free] == [401] * ACCOUNT.free
    assert waits[:6] == [1, 2, 4, 8, 16, 32]
    assert waits[:11] == sorted(waits[:11])
    # A day of it.
    assert answers.count(401) < 150


def test_a_real_agent_comes_in_while_somebody_guesses(web: Web) -> None:
    browser = logged_in(web)
    browser.ask("DELETE", "/api/v1/session")
    browser.csrf = None
    for guess in range(50):
        Browser(web, browser.peer).log_in("anna", f"guess {guess}")
    assert Browser(web, browser.peer).log_in().status == 429
    assert browser.log_in().status == 200


def test_the_browser_of_a_real_agent_has_a_pace_too(web: Web) -> None:
    browser = logged_in(web)
    answers = [browser.log_in("anna", f"guess {guess}").status for guess in range(DEVICE.free + 1)]
    assert answers == [401] * DEVICE.free + [429]


def test_a_browser_is_known_for_its_own_account_only(web: Web) -> None:
    ben = logged_in(web, "ben")
    ((name, (value, where)),) = [each for each in ben.cookies.items() if each[0] != "cordboard"]
    anna = logged_in(web)
    ((names, _),) = [each for each in anna.cookies.items() if each[0] != "cordboard"]
    forger = Browser(web, "192.0.2.99")
    for made_up in (value, "x", "x.y.z", f"a.{int(NOW)}.{'0' * 64}", f"a.1e400.{'0' * 64}", "é"):
        forger.cookies[names] = (made_up, where)
        forger.log_in("anna", "wrong horse")
    assert forger.log_in("anna", "wrong horse").status == 429
    assert name != names


def test_guessing_at_many_accounts_is_slowed_by_address(web: Web) -> None:
    answers = [Browser(web).log_in(f"user{each}", "Sommer2025!").status for each in range(ADDRESS.free + 1)]
    assert answers == [401] * ADDRESS.free + [429]
    assert Browser(web, "192.0.2.99").log_in().status == 200
    known = logged_in(web, peer="192.0.2.98")
    known.peer = ELSEWHERE
    assert known.log_in().status == 200


def test_who_logs_in_well_does_not_use_up_the_address_of_all(web: Web) -> None:
    assert [Browser(web).log_in().status for _ in range(3 * ADDRESS.free)] == [200] * 3 * ADDRESS.free


def test_a_hundred_guesses_at_the_same_moment_are_a_hundred() -> None:
    waiting: list[Deferred[Any]] = []

    def never(_work: Any) -> "Deferred[Any]":
        waiting.append(Deferred())
        return waiting[-1]

    web = Web(passwords=Passwords(never, QUICK))
    web.doors.add(a_user("anna"))
    for _ in range(100):
        begin(web, "anna")
    assert len(waiting) == ACCOUNT.free


def test_a_flood_of_log_ins_waits_in_a_bounded_queue() -> None:
    waiting: list[Deferred[Any]] = []

    def never(_work: Any) -> "Deferred[Any]":
        waiting.append(Deferred())
        return waiting[-1]

    web = Web(passwords=Passwords(never, QUICK, waiting=3))
    answers = [begin(web, f"user{each}") for each in range(5)]
    assert len(waiting) == 3
    for answer in answers[3:]:
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in answer


def test_a_new_password_forgets_the_guesses_at_the_old_one(web: Web) -> None:
    for each in range(ACCOUNT.free + 1):
        Browser(web, f"2001:db8:{each:x}::1").log_in("anna", "wrong horse")
    assert Browser(web, "192.0.2.99").log_in().status == 429
    web.doors.add(a_user("anna", changed=2.0))
    assert Browser(web, "192.0.2.99").log_in().status == 200


def test_names_that_are_made_up_push_out_nobody_s_count(web: Web) -> None:
    login = web.services.login
    login._accounts._size = login._strangers._size = login._addresses._size = 10
    for each in range(ACCOUNT.free + 1):
        Browser(web, f"2001:db8:{each:x}::1").log_in("anna", "wrong horse")
    for each in range(50):
        Browser(web, f"2001:db8:1:{each:x}::1").log_in(f"made-up-{each}", "wrong horse")
    assert len(login._strangers._tries) == len(login._addresses._tries) == 10
    assert Browser(web, "192.0.2.99").log_in().status == 429


def test_every_log_in_is_counted_by_what_came_of_it(web: Web) -> None:
    logged_in(web)
    for each in range(ACCOUNT.free + 1):
        Browser(web, f"2001:db8:{each:x}::1").log_in("anna", "wrong horse")
    text = web.metrics.render().decode()
    assert 'cti_logins_total{outcome="ok"} 1.0' in text
    assert f'cti_logins_total{{outcome="wrong"}} {ACCOUNT.free}.0' in text
    assert 'cti_logins_total{outcome="slowed"} 1.0' in text


def test_a_throttle_forgets_and_does_not_mind_a_clock_that_is_set_back() -> None:
    clock = Clock()
    clock.rightNow = NOW
    throttle = Throttle(clock, Pace(2, 10.0), size=10)
    for _ in range(9):
        throttle.count("a")
    assert throttle.wait("a") == 10.0
    clock.rightNow = NOW - 5000.0
    assert throttle.wait("a") == 10.0
    clock.rightNow = NOW + 10.0
    assert throttle.wait("a") == 0.0
    clock.rightNow = NOW + 100.0
    throttle.count("a")
    assert throttle.wait("a") == 0.0


# Pages of somebody else's


@pytest.mark.parametrize("csrf", [None, "", "0" * 64, "ñ"])
def test_a_change_needs_the_session_s_token(web: Web, csrf: str | None) -> None:
    browser = logged_in(web)
    browser.csrf = csrf
    reply = browser.ask("PATCH", "/api/v1/agents/anna", {"state": "paused"})
    assert reply.status == 403
    assert kind_of(reply) == "csrf"
    assert web.agents.wishes == []


def test_another_session_s_token_is_of_no_use(web: Web) -> None:
    anna, ben = logged_in(web), logged_in(web, "ben")
    anna.csrf = ben.csrf
    assert anna.ask("PATCH", "/api/v1/agents/anna", {"state": "paused"}).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://{HOST}"},
        {"Origin": f"http://{HOST}.evil.example"},
        {"Origin": f"http://{HOST}:8080"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": f"http://{HOST}"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path", "json"),
    [
        ("PATCH", "/api/v1/agents/anna", {"state": "paused"}),
        ("GET", "/api/v1/events", None),
        ("POST", "/api/v1/session", {"username": "ben", "password": PASSWORD}),
    ],
)
def test_what_a_foreign_page_sends_is_refused(
    web: Web, method: str, path: str, json: Any, headers: Mapping[str, str]
) -> None:
    reply = logged_in(web).ask(method, path, json, **headers)
    assert reply.status == 403
    assert kind_of(reply) == "csrf"
    assert "Set-Cookie" not in reply.headers
    assert web.agents.wishes == []


@pytest.mark.parametrize(
    "headers", [{"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]
)
def test_what_our_own_page_sends_is_taken(web: Web, headers: Mapping[str, str]) -> None:
    reply = logged_in(web).ask("PATCH", "/api/v1/agents/anna", {"state": "paused"}, **headers)
    assert reply.status == 200


def test_behind_a_proxy_our_own_address_is_the_configured_one(web: Web) -> None:
    web.site._services = evolve(
        web.services, options=Options(behind_proxy=True, url="https://cti.example/desk")
    )
    browser = logged_in(web, headers={"X-Forwarded-For": ELSEWHERE})
    change = ("PATCH", "/api/v1/agents/anna", {"state": "paused"})
    assert browser.ask(*change, Origin="https://cti.example").status == 200
    assert browser.ask(*change, Origin="http://cti.example").status == 403


@pytest.mark.parametrize(
    "type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x"]
)
def test_what_a_form_can_send_is_no_request_of_ours(web: Web, type: str) -> None:
    browser = logged_in(web)
    for path in ("/api/v1/session", "/api/v1/calls"):
        reply = browser.ask("POST", path, {"username": "ben", "password": PASSWORD}, **{"Content-Type": type})
        assert reply.status == 415


def test_a_token_needs_none_of_this(web: Web) -> None:
    token = web.token("agent", "anna")
    headers = {"Origin": "https://crm.example", "Sec-Fetch-Site": "cross-site"}
    reply = web.ask("PATCH", "/api/v1/agents/anna", token, {"state": "paused"}, headers=headers)
    assert reply.status == 200


def test_a_cookie_beside_a_token_counts_for_nothing(web: Web) -> None:
    browser = logged_in(web, "chief")
    headers = {"Cookie": f"cordboard={browser.session}"}
    assert web.ask("GET", "/api/v1/users", web.token("agent", "anna"), headers=headers).status == 403
    assert web.ask("GET", "/api/v1/users", "cti_wrong", headers=headers).status == 401


@pytest.mark.parametrize("path", ["/", "/healthz", "/api/v1/calls", "/nothing", "/openapi.json"])
def test_every_answer_forbids_frames_sniffing_and_what_is_not_from_here(web: Web, path: str) -> None:
    headers = web.ask("GET", path).headers
    policy = dict(each.split(" ", 1) for each in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "microphone=()" in headers["Permissions-Policy"]
    assert "Access-Control-Allow-Origin" not in headers


# Users


def test_an_admin_adds_changes_and_removes_users(web: Web) -> None:
    chief = logged_in(web, "chief")
    new = {"name": "Cleo", "role": "supervisor", "password": ANOTHER}
    reply = chief.ask("POST", "/api/v1/users", new)
    assert reply.status == 201
    assert reply.json["name"] == "cleo"
    assert "password" not in reply.json
    assert chief.ask("POST", "/api/v1/users", new).status == 409
    assert Browser(web).log_in("cleo", ANOTHER).status == 200
    changed = chief.ask("PATCH", "/api/v1/users/cleo", {"role": "agent", "agent": "ben"}).json
    assert (changed["role"], changed["agent"]) == ("agent", "ben")
    listed = chief.ask("GET", "/api/v1/users").json["users"]
    assert [user["name"] for user in listed] == ["anna", "ben", "chief", "cleo", "sue"]
    assert chief.ask("DELETE", "/api/v1/users/cleo").status == 204
    assert Browser(web).log_in("cleo", ANOTHER).status == 401
    assert chief.ask("DELETE", "/api/v1/users/cleo").status == 404


@pytest.mark.parametrize(
    ("given", "status", "text"),
    [
        ({"password": "short"}, 422, "12 to 128 characters"),
        ({"password": "cleocleo1234"}, 422, "password"),
        ({"name": "cleo miller"}, 422, "letters, digits"),
        ({"name": "../cleo"}, 422, "letters, digits"),
        ({"role": "crm"}, 422, "agent or supervisor or admin"),
        ({"role": "agent"}, 422, "whose calls"),
        ({"role": "agent", "agent": "nobody"}, 422, 'unknown agent "nobody"'),
        ({"disabled": True}, 422, "not known"),
    ],
)
def test_a_user_that_cannot_be_is_refused(web: Web, given: Mapping[str, Any], status: int, text: str) -> None:
    body = {"name": "cleo", "role": "supervisor", "password": ANOTHER, **given}
    reply = logged_in(web, "chief").ask("POST", "/api/v1/users", body)
    assert reply.status == status
    assert text in reply.json["detail"]


@pytest.mark.parametrize(
    ("method", "change"),
    [("DELETE", None), ("PATCH", {"role": "supervisor"}), ("PATCH", {"disabled": True})],
)
def test_the_last_admin_stays_one(web: Web, method: str, change: Any) -> None:
    chief = logged_in(web, "chief")
    assert kind_of(chief.ask(method, "/api/v1/users/chief", change)) == "last-admin"
    web.doors.add(a_user("deputy", "admin"))
    assert chief.ask(method, "/api/v1/users/chief", change).status in (200, 204)


def test_a_language_ends_no_session_and_anything_else_does(web: Web) -> None:
    anna, chief = logged_in(web), logged_in(web, "chief")
    chief.ask("PATCH", "/api/v1/users/anna", {"language": "sl"})
    assert anna.ask("GET", "/api/v1/session").json["user"]["language"] == "sl"
    chief.ask("PATCH", "/api/v1/users/anna", {"password": ANOTHER})
    assert anna.ask("GET", "/api/v1/session").status == 401


@pytest.mark.parametrize(
    "password",
    ["", "x" * (SHORTEST - 1), "x" * (LONGEST + 1), "password1234", "Passwort2025!", "P@ssw0rd!!!!", "123456789012",
     "abababababab", "abcdefghijkl", "anna12345678", "anna.anna.anna", "qwertzuiop12", "000000000000",
     "  !!  99  11", "x7#Lq2!vTz9"],
)  # fmt: skip
def test_what_is_guessed_first_is_no_password(password: str) -> None:
    assert wrong_with(password, "anna") is not None


@pytest.mark.parametrize(
    "password", ["correct horse battery", "Ёлки-палки и трава", "anna isst gern Kuchen", "x7#Lq2!vTz9w"]
)
def test_any_other_text_is_one_in_any_alphabet_and_with_spaces(password: str) -> None:
    assert wrong_with(password, "anna") is None


def test_a_password_is_the_same_however_its_letters_are_composed() -> None:
    passwords = Passwords(at_once, QUICK)
    kept = result(passwords.kept_of("Käsekuchen mit Öl"))
    assert result(passwords.are_right(kept, "Ka\u0308sekuchen mit O\u0308l"))
    assert not result(passwords.are_right(kept, "Kasekuchen mit Ol"))
    assert kept.startswith("$argon2id$")


def test_what_is_kept_of_a_password_costs_what_owasp_asks_for() -> None:
    assert (_HASHER.memory_cost, _HASHER.time_cost, _HASHER.parallelism) == (19_456, 2, 1)


def test_an_old_way_of_keeping_a_password_is_replaced_at_the_next_log_in(web: Web) -> None:
    stronger = evolve(
        a_user("anna"), password=type(QUICK)(time_cost=2, memory_cost=8, parallelism=1).hash(PASSWORD)
    )
    web.doors.add(stronger)
    logged_in(web)
    assert "t=1" in web.doors.kept_users["anna"].password


def test_too_many_passwords_at_once_are_not_taken() -> None:
    never: Deferred[Any] = Deferred()
    passwords = Passwords(lambda _work: never, QUICK, waiting=1)
    Deferred.fromCoroutine(passwords.kept_of("first"))
    with pytest.raises(Busy):
        result(passwords.kept_of("second"))


def result(work: Any) -> Any:
    """What a coroutine gives that waits for nothing."""
    results: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(results.append)
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


# The audit


def test_every_look_is_written_down_before_it_is_answered(web: Web) -> None:
    web.store.details["c1"] = a_detail(a_call())
    sue = logged_in(web, "sue")
    web.doors.written.clear()
    sue.ask("GET", "/api/v1/calls/c1")
    sue.ask("GET", "/api/v1/calls?number=015228817386")
    sue.ask("GET", "/api/v1/identify?number=015228817386")
    sue.ask("GET", "/api/v1/calls/c1/recording")
    assert [
        (entry.who, entry.kind, entry.action, entry.object, entry.address) for entry in web.doors.written
    ] == [
        ("sue", "user", "GET /api/v1/calls/{id}", "c1", ELSEWHERE),
        ("sue", "user", "GET /api/v1/calls", None, ELSEWHERE),
        ("sue", "user", "GET /api/v1/identify", None, ELSEWHERE),
        ("sue", "user", "GET /api/v1/calls/{id}/recording", "c1", ELSEWHERE),
    ]
    assert web.doors.written[1].detail == {"limit": 50, "number": "015228817386"}
    web.doors.broken = True
    assert sue.ask("GET", "/api/v1/calls/c1").status == 503


def test_a_stream_of_everybody_s_cards_is_a_look_and_an_agent_s_own_is_none(web: Web) -> None:
    Stream(web, web.token("agent", "anna"))
    Stream(web, web.token("supervisor"))
    assert [(entry.who, entry.action) for entry in web.doors.written] == [
        ("supervisor token", "GET /api/v1/events")
    ]
    web.doors.broken = True
    assert web.ask("GET", "/api/v1/events", web.token("supervisor")).status == 503


def test_another_s_desk_and_a_party_s_history_are_looks_and_one_s_own_desk_is_none(web: Web) -> None:
    anna, sue = web.token("agent", "anna"), web.token("supervisor")
    for token, path in (
        (anna, "/api/v1/desk"),
        (sue, "/api/v1/desk?agent=anna"),
        (anna, "/api/v1/calls/c1/history"),
        (anna, "/api/v1/desk/calls/c1"),
        (sue, "/api/v1/desk/unwritten?agent=anna"),
        (sue, "/api/v1/callbacks"),
    ):
        web.ask("GET", path, token)
    assert [(entry.who, entry.action, entry.object) for entry in web.doors.written] == [
        ("supervisor token", "GET /api/v1/desk", "anna"),
        ("agent token", "GET /api/v1/calls/{id}/history", "c1"),
        ("agent token", "GET /api/v1/desk/calls/{id}", "c1"),
        ("supervisor token", "GET /api/v1/desk/unwritten", None),
        ("supervisor token", "GET /api/v1/callbacks", None),
    ]


def test_every_change_is_written_down_and_texts_are_not_copied(web: Web) -> None:
    token = web.token("supervisor")
    web.ask("PATCH", "/api/v1/agents/ben", token, {"state": "paused", "reason": "lunch"})
    (entry,) = web.doors.written
    assert (entry.who, entry.kind, entry.object) == ("supervisor token", "token", "ben")
    assert entry.action == "PATCH /api/v1/agents/{id}"
    assert entry.detail == {"state": "paused", "reason": "lunch"}


def test_what_was_not_done_is_no_change(web: Web) -> None:
    web.ask("PATCH", "/api/v1/agents/nobody", web.token("supervisor"), {"state": "paused"})
    assert web.doors.written == []


def test_log_ins_and_users_are_written_down_with_no_password_in_it(web: Web) -> None:
    chief = logged_in(web, "chief")
    Browser(web).log_in("anna", "wrong horse")
    Browser(web).log_in("my secret in the wrong field", "x")
    chief.ask("POST", "/api/v1/users", {"name": "cleo", "role": "supervisor", "password": ANOTHER})
    chief.ask("PATCH", "/api/v1/users/cleo", {"password": PASSWORD})
    chief.ask("DELETE", "/api/v1/users/cleo")
    chief.ask("DELETE", "/api/v1/session")
    assert [(entry.who, entry.action, entry.object) for entry in web.doors.written] == [
        ("chief", "session.opened", "chief"),
        (None, "session.refused", "anna"),
        (None, "session.refused", None),
        ("chief", "user.added", "cleo"),
        ("chief", "user.changed", "cleo"),
        ("chief", "user.removed", "cleo"),
        ("chief", "session.ended", "chief"),
    ]
    assert not any(secret in repr(web.doors.written) for secret in (PASSWORD, ANOTHER, "wrong"))


def test_an_admin_reads_the_audit_page_by_page(web: Web) -> None:
    chief = logged_in(web, "chief")
    for _ in range(3):
        logged_in(web)
    page = chief.ask("GET", "/api/v1/audit?limit=2&who=anna").json
    assert [entry["id"] for entry in page["audit"]] == [4, 3]
    rest = chief.ask("GET", f"/api/v1/audit?limit=2&who=anna&cursor={page['next']}").json
    assert [entry["id"] for entry in rest["audit"]] == [2]
    assert rest["next"] is None
    assert chief.ask("GET", "/api/v1/audit?object=chief").json["audit"][0]["action"] == "session.opened"


# What a role does not see

PARTY = {
    "adapter": "directory", "type": "contact", "id": "17", "name": "Käthe Ørsted", "company": "Ørsted KG",
    "url": "https://crm.example/17", "owner": "anna", "owner_user": "u1", "match": "number", "tier": "gold",
    "language": "da", "tags": ["vip"], "cases": [{"id": "9", "title": "late"}], "last_contacts": [{"at": "x"}],
    "notes": "never on Mondays",
}  # fmt: skip
SECRETS = ("gold", "Mondays", "late", "+4915228817386", "0152 28817386")


def masked(web: Web) -> Web:
    hidden = Masking({"agent": ("tier", "notes", "cases", "number")})
    web.services = evolve(web.services, masking=hidden)
    web.site._services = web.services
    web.hub._masking = hidden
    return web


def an_offer(web: Web, seq: int = 1) -> StoredEvent:
    call = {
        "id": "c1",
        "direction": "inbound",
        "from": "+4915228817386",
        "to": "+494066969100",
        "service": "sales",
    }
    card = {
        "from": "+4915228817386",
        "to": "+494066969100",
        "display": {"from": "0152 28817386"},
        "parties": [PARTY],
    }
    body = {"seq": seq, "type": "card.offered", "call": call, "party": PARTY, "agent": "anna", "card": card}
    return StoredEvent(seq, "card.offered", NOW, "c1", ("anna",), orjson.dumps(body))


def test_a_masked_role_sees_it_nowhere_and_others_do(web: Web) -> None:
    masked(web)
    detail = a_detail(a_call(party=PARTY, outcome="answered"))
    (decision,) = detail.decisions
    facts = {"at": NOW, "party.tier": "gold", "from.number": "+4915228817386"}
    steps = [{"policy": "case_owner", "note": "one of them has a case, which is late"}]
    identification = {"number": "0152 28817386", "e164": "+4915228817386", "parties": [PARTY], "steps": steps}
    decision = evolve(
        decision, facts=facts, trace=[{"rule": "gold", "found": "gold"}], identification=identification
    )
    (card,) = detail.cards
    card = evolve(card, body={"from": "+4915228817386", "parties": [PARTY]})
    web.store.details["c1"] = evolve(detail, decisions=[decision], cards=[card], events=[an_offer(web)])
    web.store.records = [a_call(party=PARTY)]
    agent, chief = web.token("agent", "anna"), web.token("admin")
    for path in ("/api/v1/calls/c1", "/api/v1/calls"):
        seen, whole = web.ask("GET", path, agent), web.ask("GET", path, chief)
        assert [secret for secret in SECRETS if secret.encode() in seen.body] == []
        assert b"+4915228817386" in whole.body
        assert b"+494066969100" in seen.body
        assert "Käthe Ørsted".encode() in seen.body
        assert int(seen.headers["Content-Length"]) == len(seen.body)
    assert b"gold" in web.ask("GET", "/api/v1/calls/c1", chief).body
    seen_segment = web.ask("GET", "/api/v1/calls/c1", agent).json["segments"][0]
    assert seen_segment["number"] == 1


def test_a_masked_role_sees_it_in_no_event_live_or_later(web: Web) -> None:
    masked(web)
    agent = Stream(web, web.token("agent", "anna"))
    chief = Stream(web, web.token("admin"))
    publish(web, an_offer(web))
    later = Stream(web, web.token("agent", "anna"), "/api/v1/events?after=0")
    for stream in (agent, later):
        assert "card.offered" in stream.text
        assert [secret for secret in SECRETS if secret in stream.text] == []
        assert '"tier":null' in stream.text
    assert all(secret in chief.text for secret in SECRETS)


def test_a_masked_role_does_not_see_it_by_asking_who_has_a_number(web: Web) -> None:
    masked(web)
    number = NumberPlan("DE").parse("0152 28817386")
    web.identifier.pending = Deferred()
    web.identifier.pending.callback(Identification(number, ms=1.0))
    reply = web.ask("GET", "/api/v1/identify?number=015228817386", web.token("agent", "anna"))
    assert reply.json["number"] == ""
    assert reply.json["e164"] is None


def test_what_is_hidden_is_still_of_its_kind() -> None:
    masking = Masking({"agent": (*PARTY_FIELDS, NUMBER)})
    seen = orjson.loads(masking.masked("agent", orjson.dumps(PARTY)))
    assert {key for key, value in seen.items() if value} == {"adapter", "type", "id", "match"}
    assert (seen["name"], seen["notes"], seen["tier"], seen["tags"], seen["cases"]) == ("", "", None, [], [])
    explained = {"own": {"tier": {"value": "gold", "why_not": None, "age": 0.0}}}
    assert orjson.loads(masking.masked("agent", orjson.dumps(explained))) == {"own": {}}
    call = orjson.loads(masking.masked("agent", orjson.dumps(call_json(a_call(party=PARTY)))))
    assert errors(SCHEMAS["Call"], call, "call") == []


def test_who_is_not_to_see_the_owner_does_not_read_it_in_the_reason_of_a_decision() -> None:
    reason = "owner: anna is the owner of the caller"
    detail = call_detail_json(a_detail(a_call(party=PARTY, rule="owner", reason=reason)))
    event = {"seq": 1, "type": "call.routed", "rule": "owner", "reason": reason}
    whole = orjson.dumps({**detail, "events": [event], "agent": {"state": "paused", "reason": "lunch"}})

    seen = Masking({"agent": ("owner",)}).masked("agent", whole)
    assert b"is the owner" in whole
    assert b"is the owner" not in seen
    assert orjson.loads(seen)["agent"]["reason"] == "lunch"
    assert reason.encode() in Masking({"agent": ("tier",)}).masked("agent", whole)


def test_what_an_outgoing_call_hides_is_whom_it_goes_to() -> None:
    masking = Masking({"agent": ("number",)})
    call = b'{"direction":"outbound","from":"+494066969100","from_raw":"1","to":"+4915228817386","to_raw":"0152"}'
    seen = orjson.loads(masking.masked("agent", call))
    assert (seen["from"], seen["to"], seen["to_raw"]) == ("+494066969100", None, "")


def test_where_nothing_is_hidden_nothing_is_read_or_written_anew() -> None:
    body = b'{"as":  "it is"}'
    assert Masking({"agent": ("notes",), "crm": ()}).masked("crm", body) is body


# Scopes


def test_a_token_with_scopes_is_good_for_these_only(web: Web) -> None:
    token = web.token("supervisor", scopes=["read"])
    assert web.ask("GET", "/api/v1/calls", token).status == 200
    reply = web.ask("PATCH", "/api/v1/agents/ben", token, {"state": "paused"})
    assert reply.status == 403
    assert kind_of(reply) == "scope"
    assert "agents would be needed" in reply.json["detail"]
    assert web.ask("GET", "/api/v1/events", token).status == 403
    assert web.ask("GET", "/metrics", token).status == 403
    other = web.token("supervisor", scopes=["agents"])
    assert web.ask("PATCH", "/api/v1/agents/ben", other, {"state": "paused"}).status == 200


def test_a_scope_gives_no_more_than_the_role(web: Web) -> None:
    assert web.ask("GET", "/api/v1/users", web.token("agent", "anna", scopes=["read"])).status == 403
