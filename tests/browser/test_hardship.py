"""What a desk makes of second tabs, sleep, outages, ended sessions, and of two who write at the same time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from lab.browser import Chromium
from lab.laboratory import eventually
from tests.browser.desk import Desk
from tests.browser.house import PASSWORD, House, a_house
from tests.faults.link import Link

#: What Chromium and the page say while the server is away or does not know us.
AWAY = (
    "ERR_CONNECTION_REFUSED",
    "ERR_CONNECTION_RESET",
    "ERR_INCOMPLETE_CHUNKED",
    "ERR_EMPTY_RESPONSE",
    ": 503",
)
#: Where a call is, and what is written about it.
CALL_ADDRESS = "**/api/v1/calls/*"
#: What the CRM is asked for when the customer's page there is opened.
CRM = "GET /contacts/1001"
#: Notes who pops up, although Playwright's tabs all believe that they are being looked at.
NOTIFICATIONS = """
    window.popped = [];
    window.Notification = class extends EventTarget {
        static permission = "granted";
        static requestPermission = async () => "granted";
        constructor(title) { super(); window.popped.push(title); }
        close() {}
    };
    document.hasFocus = () => false;
"""
#: Writes down what the desk shows: pairs of when, in milliseconds, and the agent's state and the line's.
DIARY = """() => {
    window.diary = [];
    let shown = "";
    const look = () => {
        const state = document.querySelector("[data-test=state]")?.dataset.state;
        const line = document.querySelector("[data-test=line]")?.dataset.line;
        if (shown !== (shown = `${state} ${line}`)) window.diary.push([Date.now(), shown]);
    };
    new MutationObserver(look).observe(document, {attributes: true, childList: true, subtree: true});
}"""


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory, chromium: Chromium) -> Iterator[House]:
    service = {"open_card": "ring", "wrap_up": 0, "disposition": "optional"}
    with a_house(chromium, tmp_path_factory.mktemp("hardship"), service=service) as house:
        yield house


@pytest.fixture
def house(company: House) -> Iterator[House]:
    if not company.company.daemon.is_running:
        company.company.daemon.start()
    company.ready("anna")
    yield company
    if company.company.daemon.is_running:
        company.clear()


def talking(house: House, desk: Desk) -> str:
    """A customer who talks with whom the desk belongs to; the id of the call."""
    house.rings()
    desk.sees_card("Katja Brandt", status="ringing")
    desk.answers()
    return desk.shown_call()


def test_a_second_tab_follows_the_first_and_takes_over_when_that_is_closed(
    house: House, tmp_path: Path
) -> None:
    with house.window("anna", tmp_path) as window:
        window.context.add_init_script(NOTIFICATIONS)
        first = Desk.opened(window)
        first.log_in("anna", PASSWORD)
        first.goes_to("settings")
        first.at("wish-notify").check()
        first.goes_to("desk")
        second = Desk.opened(window)
        second.is_live()

        call = house.rings()
        for desk in (first, second):
            desk.sees_card("Katja Brandt", status="ringing")
        eventually(
            lambda: CRM in window.requests or first.tab.wait_for_timeout(50), 10, what="the CRM's own page"
        )
        first.tab.wait_for_timeout(500)
        assert window.requests.count(CRM) == 1
        popped = [desk.tab.evaluate("window.popped") for desk in (first, second)]
        assert len(popped[0]) == 1
        assert popped[1] == []
        assert sum("/api/v1/events" in each for each in window.requests) == 1

        first.tab.close()
        second.is_live()
        call.hang_up()
        second.sees_no_card()
        assert sum("/api/v1/events" in each for each in window.requests) == 2


def test_a_desk_shows_that_it_is_offline_and_comes_back_by_itself(house: House, tmp_path: Path) -> None:
    with house.desk("anna", tmp_path, expects=AWAY) as desk:
        house.company.daemon.stop()
        desk.is_offline()
        desk.picture("offline")
        house.company.daemon.start()
        desk.is_live()
        house.rings()
        desk.sees_card("Katja Brandt", status="ringing")


def test_after_sleep_the_desk_shows_the_truth_within_two_seconds(house: House, tmp_path: Path) -> None:
    with house.desk("anna", tmp_path, expects=AWAY) as desk:
        desk.is_in_state("ready")
        desk.tab.evaluate(DIARY)
        with house.chromium.asleep():
            # Its connection ends, and what it shows is no longer so.
            house.company.daemon.stop()
            time.sleep(4)
            house.company.daemon.start()
            house.ready()
            woken = time.time()
        desk.is_in_state("paused")
        desk.is_live()
        assert shows_after(desk, "paused live", woken) < 2


def test_after_sleep_no_connection_is_trusted_that_may_be_dead_without_knowing(
    house: House, tmp_path: Path
) -> None:
    link = Link()
    link.target = house.company.daemon.http_port
    with ExitStack() as after, house.desk("anna", tmp_path, at=f"http://127.0.0.1:{link.port}") as desk:
        after.callback(link.cut)
        desk.is_in_state("ready")
        desk.tab.evaluate(DIARY)
        with house.chromium.asleep():
            link.strand()
            time.sleep(18)
            house.ready()
            woken = time.time()
        desk.is_in_state("paused")
        desk.is_live()
        assert shows_after(desk, "paused live", woken) < 2


def shows_after(desk: Desk, what: str, since: float) -> float:
    """How many seconds after `since` its diary has it first: who asks from outside looks each second only."""
    diary = [(at / 1000 - since, shown) for at, shown in desk.tab.evaluate("window.diary")]
    return next(at for at, shown in diary if shown == what and at > 0)


def test_what_was_typed_survives_a_session_that_ends_in_mid_call(house: House, tmp_path: Path) -> None:
    with house.desk("anna", tmp_path, expects=["401"]) as desk, house.desk("anna", tmp_path) as elsewhere:
        call = talking(house, desk)
        desk.writes("Bilge pump ")
        desk.has_saved()
        # What is typed is on its way as the session ends; else the page may ask for the password first.
        on_the_way: list[Route] = []

        def hold(route: Route) -> None:
            on_the_way.append(route) if route.request.method == "PATCH" else route.continue_()

        desk.tab.route(CALL_ADDRESS, hold)
        with desk.tab.expect_request(lambda request: request.method == "PATCH"):
            desk.writes("loses pressure.")
        elsewhere.tab.evaluate(
            """async () => {
                const {csrf} = await (await fetch("/api/v1/session")).json();
                await fetch("/api/v1/session?all=true", {method: "DELETE", headers: {"X-CSRF-Token": csrf}});
            }"""
        )
        for route in on_the_way:
            route.continue_()
        desk.tab.unroute(CALL_ADDRESS)
        desk.is_asked_to_log_in()
        desk.picture("session-ended")
        expect(desk.at("notes")).to_have_value("Bilge pump loses pressure.")
        desk.at("password").fill(PASSWORD)
        desk.at("password").press("Enter")
        expect(desk.at("login")).to_have_count(0)
        desk.has_saved()
        desk.sees_notes("Bilge pump loses pressure.")
        assert house.company.daemon.call(call)["notes"] == "Bilge pump loses pressure."
        desk.is_live()
        elsewhere.window.expects("401", "ERR_")
        desk.hangs_up()


def test_the_browsers_back_button_goes_back_and_forgets_nothing(house: House, tmp_path: Path) -> None:
    with house.desk("anna", tmp_path) as desk:
        call = talking(house, desk)
        desk.writes("Half a sen")
        desk.goes_to("missed")
        desk.goes_to("settings")
        desk.tab.go_back()
        expect(desk.at("missed")).to_be_visible()
        desk.tab.go_back()
        desk.sees_card("Katja Brandt", status="talking")
        desk.sees_notes("Half a sen")
        desk.has_saved()

        # Away from the desk altogether, and back.
        desk.tab.goto("about:blank")
        desk.tab.go_back()
        desk.is_live()
        desk.sees_card("Katja Brandt", status="talking")
        desk.sees_notes("Half a sen")
        assert desk.window.requests.count(CRM) == 1, "the customer's page is opened once"
        desk.writes("tence.")
        desk.has_saved()
        assert house.company.daemon.call(call)["notes"] == "Half a sentence."
        desk.hangs_up()


def test_a_call_that_rings_while_the_daemon_restarts_is_still_the_agents(
    house: House, tmp_path: Path
) -> None:
    with house.desk("anna", tmp_path, expects=AWAY) as desk:
        house.rings()
        desk.sees_card("Katja Brandt", status="ringing")
        call = desk.shown_call()
        house.company.daemon.kill()
        desk.is_offline()
        house.company.daemon.start()
        desk.is_live()
        desk.sees_card("Katja Brandt", status="ringing")
        assert desk.shown_call() == call
        desk.answers()
        desk.writes("After the restart.")
        desk.has_saved()
        assert house.company.daemon.call(call)["notes"] == "After the restart."
        desk.hangs_up()
        desk.sees_no_card()


def test_notes_that_two_write_at_once_keep_the_words_of_both(house: House, tmp_path: Path) -> None:
    with house.desk("anna", tmp_path, expects=["412"]) as desk, house.desk("anna", tmp_path) as other:
        call = talking(house, desk)
        other.sees_card("Katja Brandt", status="talking")
        held: list[Route] = []
        desk.tab.route(
            f"**/api/v1/calls/{call}", lambda route: route.continue_() if held else held.append(route)
        )
        desk.writes("Needs a pump.")
        eventually(lambda: held or desk.tab.wait_for_timeout(20), what="the notes on their way")
        other.writes("Calls from the yard.")
        other.has_saved()
        held[0].continue_()

        desk.has_saved()
        for one in (desk, other):
            expect(one.at("notes")).to_have_value("Calls from the yard.\nNeeds a pump.")
        assert house.company.daemon.call(call)["notes"] == "Calls from the yard.\nNeeds a pump."
        desk.picture("both")
        desk.hangs_up()


def test_what_has_been_typed_stays_when_the_server_is_away_while_it_is_saved(
    house: House, tmp_path: Path
) -> None:
    with house.desk("anna", tmp_path, expects=AWAY) as desk:
        call = talking(house, desk)
        house.company.daemon.kill()
        desk.writes("Typed into the dark.")
        expect(desk.at("saved")).to_have_attribute("data-state", "kept")
        house.company.daemon.start()
        desk.is_live()
        desk.has_saved()
        assert house.company.daemon.call(call)["notes"] == "Typed into the dark."
        desk.hangs_up()


def test_a_log_out_loses_no_words_and_shows_the_next_one_nothing(house: House, tmp_path: Path) -> None:
    def leaves() -> None:
        if desk.at("leave").count() == 0:
            desk.at("person").click()
        desk.at("leave").click()

    with house.desk("anna", tmp_path, expects=["503", "404", "403"]) as desk:
        call = talking(house, desk)
        desk.tab.route(
            f"**/api/v1/calls/{call}",
            lambda route: route.fulfill(status=503, content_type="application/problem+json", body="{}"),
        )
        desk.writes("Wants a second pump.")
        expect(desk.at("saved")).to_have_attribute("data-state", "kept")
        desk.goes_to("recent")
        expect(desk.at("recent")).to_contain_text("Katja Brandt")
        leaves()
        expect(desk.tab.locator(".toast")).to_be_visible()
        expect(desk.at("login")).to_have_count(0)
        leaves()
        desk.is_asked_to_log_in()

        desk.tab.unroute(f"**/api/v1/calls/{call}")
        desk.log_in("anna", PASSWORD)
        eventually(
            lambda: (
                house.company.daemon.call(call)["notes"] == "Wants a second pump."
                or desk.tab.wait_for_timeout(50)
            ),
            what="the words at the server",
        )
        leaves()
        desk.is_asked_to_log_in()

        desk.log_in("ben", PASSWORD)
        desk.goes_to("recent")
        expect(desk.at("recent")).to_be_visible()
        expect(desk.at("recent")).not_to_contain_text("Wants a second pump.")
        assert desk.tab.evaluate("window.performance.getEntriesByType('navigation')[0].type") == "reload"


def test_a_key_that_is_pressed_while_another_operation_is_under_way_is_not_lost(
    house: House, tmp_path: Path
) -> None:
    with house.desk("anna", tmp_path) as desk:
        answers: list[Route] = []
        # The server has answered the call, and the answer to the desk's request is not there yet.
        desk.tab.route("**/answer", lambda route: answers.append(route) or route.fetch())
        house.rings()
        desk.sees_card("Katja Brandt", status="ringing")
        expect(desk.at("op-answer")).to_be_visible()
        desk.tab.keyboard.press("a")
        desk.sees_status("talking")
        desk.tab.keyboard.press("h")
        desk.tab.wait_for_timeout(300)
        desk.sees_status("talking")
        answers[0].fulfill(status=200, json={})
        desk.sees_status("held")
        desk.hangs_up()
        desk.sees_no_card()
