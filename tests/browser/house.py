"""A company whose agents sit at browsers: real Asterisk, phones and daemon, and the desks of all in one Chromium."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field
from playwright.sync_api import Route

from lab.browser import Chromium, Window
from lab.company import DIALLED, AnAgent, Company, way_out
from lab.laboratory import Answers, Call, eventually
from tests.browser.desk import Desk

#: Of everybody here.
PASSWORD = "harbour lights at dusk"
CUSTOMER, CUSTOMER_E164 = "015228817386", "+4915228817386"
STRANGER, STRANGER_E164 = "01713920042", "+491713920042"

#: Rings until it is told to answer, at the phone or from the browser; its own calls it picks up by itself.
BY_CLICK = Answers(after_ms=None, capable=True, auto_answer=True)
ANNA = AnAgent("anna", "Anna Lindner", BY_CLICK)
BEN = AnAgent("ben", "Ben Achterberg", BY_CLICK, state="paused")

KATJA: Mapping[str, str] = {
    "id": "1001",
    "type": "contact",
    "name": "Katja Brandt",
    "company": "Bootswerft Brandt & Söhne",
    "numbers": "0152 / 288 17 386; (040) 66969-271",
    "owner": "user-anna",
    "tier": "gold",
    "language": "de",
    "tags": "boats;service contract",
    "notes": "Prefers a call to a mail, and not before nine.",
    "url": "https://crm.example/contacts/1001",
}
SALES: Mapping[str, Any] = {
    "title": "Sales",
    "numbers": [DIALLED],
    "mode": "route",
    "instruction": "Greet with “Nordkai Pumpen”, and ask for the machine's number.",
    "fallback": "old-context,s,1",
    "rules": [{"name": "rest", "dial": {"group": "sales"}, "timeout": 20}],
    "wrap_up": 20,
    "dispositions": {
        "sold": {"en": "Sold", "de": "Verkauft", "sl": "Prodano", "ru": "Продано"},
        "callback": {"en": "Call again", "de": "Wieder anrufen", "sl": "Pokliči znova", "ru": "Перезвонить"},
    },
    "disposition": "required",
    "quick_create": True,
}


@define
class House:
    """One company for all tests of a module: each begins with nobody talking, and Anna ready."""

    company: Company
    chromium: Chromium
    _live: list[Call] = field(factory=list, init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.company.daemon.http_port}"

    @contextmanager
    def desk(self, who: str, directory: Path, **how: Any) -> Iterator[Desk]:
        """Somebody logged in at a browser of their own; `how` is told at `Chromium.window`."""
        with self.window(who, directory, **how) as window:
            desk = Desk.opened(window)
            desk.log_in(who, PASSWORD)
            yield desk

    @contextmanager
    def window(self, who: str, directory: Path, **how: Any) -> Iterator[Window]:
        """A browser in which nobody is logged in; `at` is where it finds the server, unless at `url`."""
        # That nobody is logged in is an answer of 401, which Chromium writes to the console.
        expects = [*how.pop("expects", ()), "/api/v1/session.*401", "401 .*/api/v1/session"]
        url = how.pop("at", self.url)
        with self.chromium.window(url, directory, who, expects=expects, **how) as window:
            window.context.route("https://crm.example/**", _crm)
            yield window

    def rings(self, number: str = CUSTOMER, **how: Any) -> Call:
        """Somebody outside calls the company."""
        call = self.company.call(from_number=number, **how)
        self._live.append(call)
        return call

    def does(self, agent: str, call: str, operation: str, **body: Any) -> None:
        """An agent does something with a call by other means than their desk."""
        token = self.company.daemon.token("agent", agent)
        self.company.daemon.request("POST", f"/api/v1/calls/{call}/{operation}", body, token)

    def ready(self, *agents: str) -> None:
        """These agents are ready, and no others."""
        for id in self.company.daemon.agents():
            state = "ready" if id in agents else "paused"
            self.company.daemon.request("PATCH", f"/api/v1/agents/{id}", {"state": state})

    def nothing_is_missed(self) -> None:
        """What other tests have missed is done."""
        daemon = self.company.daemon
        for each in daemon.get("/api/v1/callbacks", state="open")["callbacks"]:
            path = f"/api/v1/callbacks/{each['id']}"
            daemon.request("PATCH", path, {"state": "done"}, etag=each["etag"])

    def calls(self) -> list[dict[str, Any]]:
        return self.company.daemon.calls()

    def dialled_outside(self) -> list[str]:
        """The numbers that the company has called over its trunk."""
        return [invite.to_number for invite in self.company.phones["outside"].invites]

    def newest(self) -> dict[str, Any]:
        """The latest call in full."""
        return self.company.daemon.call(self.calls()[0]["id"])

    def clear(self) -> None:
        """Nobody talks any more, whatever a test has left."""
        for call in self._live:
            call.stop()
        self._live.clear()
        self.company.pbx.cli("channel request hangup all")

        def quiet() -> bool:
            held = [id for id, each in self.company.daemon.agents().items() if each["call"]]
            for id in held:
                if self.company.daemon.agents()[id]["state"] == "wrap_up":
                    self.company.daemon.request("PATCH", f"/api/v1/agents/{id}", {"state": "paused"})
            return not held and not self.company.pbx.channels()

        eventually(quiet, 20, what="a quiet company")


def _crm(route: Route) -> None:
    """The CRM's own pages."""
    route.fulfill(body="<!doctype html><title>CRM</title>", content_type="text/html")


@contextmanager
def a_house(
    chromium: Chromium,
    directory: Path,
    *,
    agents: Sequence[AnAgent] = (ANNA, BEN),
    knows: Sequence[Mapping[str, str]] = (KATJA,),
    service: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[House]:
    """A company in which everybody has a user of their agent's name, and there is an `admin`."""
    sales = {**SALES, **(service or {})}
    all_settings = {"services": {"sales": sales}, "call_control": {"auto_answer": True}, **(settings or {})}
    with Company(
        directory,
        agents=agents,
        settings=all_settings,
        more_extensions=way_out(),
        trunk=Answers(after_ms=200),
        environment=environment or {},
    ) as company:
        main = company.daemon.settings["asterisks"]["main"]
        main["capable_phones"] = [f"PJSIP/{agent.id}" for agent in agents]
        company.daemon.write_configuration()
        if knows:
            company.knows(*knows)
        for agent in agents:
            company.daemon.add_user(agent.id, "agent", PASSWORD, agent.id)
        company.daemon.add_user("admin", "admin", PASSWORD)
        company.start()
        yield House(company, chromium)
