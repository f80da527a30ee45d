"""A daemon as a company has it, without an Asterisk: people, tokens, sessions, calls and gaps are in its log already.

What needs Asterisk is refused there with what the API documents for that. Requests are sent byte by byte as a test
wants them, one a connection.
"""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from cti.store.records import (
    AgentRecord,
    CallbackRecord,
    CallRecord,
    CardRecord,
    ChannelRecord,
    DecisionRecord,
    ErasureRecord,
    GapRecord,
    SegmentRecord,
    SessionRecord,
    TokenRecord,
    UserRecord,
)
from cti.store.sqlite import open_store_for_command
from cti.web.passwords import kept_of
from cti.web.sessions import USER_ROLES
from cti.web.tokens import ROLES, digest_of, mint_token
from lab.daemon import Daemon
from lab.ports import LOOPBACK, PortBlock

PASSWORD = "a horse that may be told"
CUSTOMER = "+4915228817386"
COMPANY = "+494066969100"
COOKIE = "__Host-cordboard"
_CONTACT = {"id": "17", "type": "contact", "name": "Käthe Ørsted", "numbers": CUSTOMER, "owner": "user-anna"}


@frozen
class Reply:
    """What came back; `kind` is that of a problem, None for anything else."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str | None:
        if self.headers.get("Content-Type") != "application/problem+json":
            return None
        type: str = self.json["type"]
        return type.removeprefix("urn:problem-type:cordboard:")


@define
class Site:
    """The daemon and the keys to it.

    `tokens` by role, the agent's of anna; `cookies` and `spare` by role, of the users anna, sam and ada. Calls:
    `anna-1` and `ben-1` are over and were answered by these, `anna-2` is over and rang at anna.
    Callbacks: `annas` and `bens`.
    """

    daemon: Daemon
    tokens: dict[str, str] = field(factory=dict)
    cookies: dict[str, str] = field(factory=dict)
    spare: dict[str, str] = field(factory=dict)
    _csrf: dict[str, str] = field(factory=dict, init=False)
    _addresses: Iterator[int] = field(factory=lambda: iter(range(1 << 24)), init=False)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.daemon.http_port}"

    def ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        cookie: str | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request, from an address of its own, so that wrong ones slow nobody else."""
        sent = {"X-Forwarded-For": self.an_address(), **(headers or {})}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if cookie is not None:
            sent["Cookie"] = f"{COOKIE}={cookie}"
        if body is not None:
            sent["Content-Type"] = "application/json"
        with closing(http.client.HTTPConnection(LOOPBACK, self.daemon.http_port, timeout=30)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            # An event stream has no end.
            endless = answer.getheader("Content-Type", "").startswith("text/event-stream")
            return Reply(answer.status, dict(answer.getheaders()), b"" if endless else answer.read())

    def csrf_of(self, cookie: str) -> str:
        """What our own pages send along in this session."""
        if cookie not in self._csrf:
            self._csrf[cookie] = self.ask("GET", "/api/v1/session", cookie=cookie).json["csrf"]
        return self._csrf[cookie]

    def an_address(self) -> str:
        """One that nobody has asked from yet."""
        number = next(self._addresses)
        return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"

    def faults(self) -> list[str]:
        """What the daemon says went wrong by its own fault."""
        return [
            json.dumps(line)
            for line in self.daemon.log()
            if line.get("event") in ("a request failed", "an answer could not be sent", "a download failed")
        ]


@contextmanager
def a_site(directory: Path) -> Iterator[Site]:
    """A running daemon with what `Site` says."""
    ports = PortBlock.claim()
    daemon = Daemon(directory, _settings(ports.take(), ports.take(), ports.take()), 0, 0)
    daemon.http_port = int(daemon.settings["http"]["listen"].rpartition(":")[2])
    site = Site(daemon)
    daemon.write_configuration()
    _fill(site, directory / "cti.db")
    contacts = directory / "contacts.csv"
    rows = (_CONTACT, _CONTACT.values(), (_CONTACT | {"id": "18", "numbers": ""}).values())
    contacts.write_text("".join(",".join(row) + "\n" for row in rows), "utf-8")
    daemon.run("contacts", "import", str(contacts))
    daemon.start(with_ami=False)
    try:
        yield site
    finally:
        daemon.stop()


def _settings(http_port: int, agi_port: int, nobody: int) -> Mapping[str, Any]:
    return {
        "region": "DE",
        "store": {"sqlite": "cti.db"},
        "fastagi": {"listen": f"{LOOPBACK}:{agi_port}"},
        "http": {
            "listen": f"{LOOPBACK}:{http_port}",
            "behind_proxy": True,
            "requests_per_minute": 1_000_000,
        },
        "asterisks": {"main": {"ami": f"{LOOPBACK}:{nobody}", "username": "cti", "secret": "not asked for"}},
        "adapters": {"directory": {"kind": "directory"}},
        "services": {
            "sales": {
                "numbers": [COMPANY],
                "mode": "route",
                "fallback": "old-context,s,1",
                "rules": [{"name": "rest", "dial": {"group": "sales"}}],
            }
        },
        # Where nobody listens.
        "webhooks": {
            "crm": {
                "url": f"http://{LOOPBACK}:{nobody}/hook",
                "secret": "whsec_c2VjcmV0",
                "events": ["call.offered"],
            }
        },
        "call_control": {"calls_per_minute": 1000, "supervise": ["listen"]},
    }


def _fill(site: Site, path: Path) -> None:
    now = time.time()
    told = {"crm": frozenset({"call.offered"})}
    with open_store_for_command(path, destinations=told, clock=time.time) as store:
        unit = store.unit()
        for id in ("anna", "ben"):
            unit.put_agent(
                AgentRecord(id, id.title(), [f"PJSIP/{id}"], ["sales"], {"directory": f"user-{id}"}, "ready")
            )
        for role in ROLES:
            site.tokens[role] = put_token(unit, role, "anna" if role == "agent" else None)
        site.tokens["expired"] = put_token(unit, "admin", None, expires=now - 1)
        site.tokens["revoked"] = put_token(unit, "admin", None, revoked=now - 1)
        password = kept_of(PASSWORD)
        for name, role in zip(("anna", "sam", "ada"), USER_ROLES, strict=True):
            agent = name if role == "agent" else None
            unit.put_user(UserRecord(name, role, password, now, now, agent))
            for cookies in (site.cookies, site.spare):
                cookies[role] = secrets.token_urlsafe(32)
                unit.put_session(SessionRecord(digest_of(cookies[role]), name, now, now, now + 86_400))
        # Nobody logs in as her.
        unit.put_user(UserRecord("uma", "supervisor", password, now, now))
        for id, agent, outcome in (
            ("anna-1", "anna", "answered"),
            ("anna-2", "anna", "missed"),
            ("ben-1", "ben", "answered"),
        ):
            put_call(unit, id, agent, outcome, now - 600)
        for id, owner in (("annas", "anna"), ("bens", "ben")):
            unit.put_callback(CallbackRecord(id, now - 300, CUSTOMER, owner=owner, changed=now - 300))
        unit.put_erasure(ErasureRecord("e1", now - 60, "done", done=now - 59, report={"erased": {}}))
        unit.put_gap(GapRecord("main", now - 500, now - 400, None, "no call records are configured"))
        store.commit_now(unit)


def put_token(unit: Any, role: str, agent: str | None, **changes: Any) -> str:
    """A new token of this role."""
    token, digest = mint_token()
    unit.put_token(TokenRecord(digest[:12], f"{role} {digest[:6]}", role, digest, 0.0, agent, **changes))
    return token


def put_call(unit: Any, id: str, agent: str, outcome: str, at: float) -> None:
    """A call that is over, with all that belongs to one."""
    answered = at + 4.0 if outcome == "answered" else None
    party = {"adapter": "directory", "type": "contact", "id": "17", "name": "Käthe Ørsted", "url": None}
    unit.put_call(
        CallRecord(
            id=id,
            pbx="main",
            started=at,
            uniqueid=f"1.{id}",
            state="ended",
            from_number=CUSTOMER,
            from_raw=CUSTOMER,
            from_kind="e164",
            to_number=COMPANY,
            to_raw=COMPANY,
            service="sales",
            mode="route",
            party=party,
            agent=agent if answered else None,
            outcome=outcome,
            ringing=at + 1.0,
            answered=answered,
            ended=at + 60.0,
            attempt=1,
            rule="rest",
            reason="the longest idle",
            hangup_cause=16,
        )
    )
    unit.put_segment(
        SegmentRecord(
            id, 1, 1, "sales", [agent], f"PJSIP/{agent}", "rest", "the longest idle", at, at + 1.0, answered,
            at + 60.0, agent if answered else None, None, "answered" if answered else "no_answer",
        )
    )  # fmt: skip
    unit.put_channel(
        ChannelRecord("main", f"1.{id}", id, "PJSIP/trunk", "caller", at, ended=at + 60.0, cause=16)
    )
    unit.put_decision(
        DecisionRecord(
            id, 1, at, "sales", "route", "dial", [agent], f"PJSIP/{agent}", "rest", "the longest idle",
            {"at": at, "from_number": CUSTOMER}, [{"rule": "rest", "held": True}],
        )
    )  # fmt: skip
    unit.put_card(CardRecord(id, agent, 1, at, {"title": "Käthe Ørsted"}, None, at + 60.0))
    unit.emit("call.offered", at, {"call": {"id": id, "from": CUSTOMER, "to": COMPANY}}, call=id)
