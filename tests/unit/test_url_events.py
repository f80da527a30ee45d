"""What a CRM is told as by its softphone connector: which address, when, how often, and with what in it."""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest
from attrs import define, evolve, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers

from cti.agents.roster import AgentUnknown
from cti.calls.outbox import DeliveryFailed
from cti.calls.subscriptions import moment_of, subscriptions
from cti.calls.url_events import UrlEventsSender
from cti.calls.web_client import WebClient
from cti.links import AddressTemplate
from cti.numbers import NumberPlan
from cti.reach import Reach
from cti.secret import Secret
from cti.settings import URL_WORDS, UrlEvents, Wanted, Webhook
from cti.store.base import CallDetail, Subscription
from cti.store.records import AgentRecord, CallRecord, Delivery, SegmentRecord

CUSTOMER = "+4915228817386"
COMPANY = "+494066969100"
BASE = "https://crm.example/softphone"
EVERY_WORD = "&".join(f"{word}={{{word}}}" for word in URL_WORDS)


def a_template(url: str) -> AddressTemplate:
    return AddressTemplate(url, URL_WORDS, "https://crm.example/?n={number}")


def some_urls(**changes: Any) -> UrlEvents:
    addresses = {
        moment: (a_template(f"{BASE}/{moment}?n={{number}}&e={{extension}}&c={{call_id}}"),)
        for moment in ("ringing", "connected", "ended", "missed")
    }
    return evolve(
        UrlEvents(
            "vtiger",
            addresses,
            "GET",
            {},
            "0",
            None,
            Wanted(directions=frozenset({"inbound", "outbound"})),
            Reach(),
        ),
        **changes,
    )


def an_event(type: str, call: Mapping[str, Any] | None = None, **body: Any) -> dict[str, Any]:
    about = {
        "id": "c1",
        "direction": "inbound",
        "from": CUSTOMER,
        "to": COMPANY,
        "service": "sales",
        **(call or {}),
    }
    return {"type": type, "at": "2026-03-02T09:00:00.000Z", "call": about, "party": None, **body}


def over(outcome: str, agent: str | None = None, **call: Any) -> dict[str, Any]:
    return {"outcome": outcome, "agent": agent, "duration": 12.5, "talk": 7.0, **call}


@define
class People:
    agents: dict[str, AgentRecord] = field(factory=dict)

    def record(self, id: str) -> AgentRecord:
        if id not in self.agents:
            raise AgentUnknown(id)
        return self.agents[id]

    def user_of(self, id: str, adapter: str) -> str | None:
        return self.record(id).crm.get(adapter) if id in self.agents else None


@define
class Browser:
    """A web client that notes what it is asked, and answers 200 or as the test says."""

    statuses: list[int] = field(factory=list)
    asked: list[tuple[str, str, Headers, bytes | None]] = field(factory=list)

    async def ask(self, method: str, url: str, headers: Headers, body: bytes | None = None) -> int:
        status = self.statuses.pop(0) if self.statuses else 200
        if status >= 300:
            raise DeliveryFailed(f"answered {status}", status=status)
        self.asked.append((method, url, headers, body))
        return status

    @property
    def opened(self) -> list[tuple[str, dict[str, str]]]:
        """The last step of each path, and the parameters."""
        return [
            (parts.path.rpartition("/")[2], dict(parse_qsl(parts.query)))
            for parts in (urlsplit(url) for _, url, _, _ in self.asked)
        ]


ANNA = AgentRecord("anna", "Anna Ørsted", ["PJSIP/201", "PJSIP/+4915228895456@trunk"], [], {})
BEN = AgentRecord("ben", "Ben", ["PJSIP/ben-desk"], [], {"vtiger": "202"})


def a_sender(
    browser: Browser, urls: UrlEvents | None = None, detail: CallDetail | None = None
) -> UrlEventsSender:
    return UrlEventsSender(
        urls or some_urls(),
        browser,  # type: ignore[arg-type]
        people=People({"anna": ANNA, "ben": BEN}),
        plan=NumberPlan("DE"),
        call=lambda id: succeed(detail),
    )


def send(sender: UrlEventsSender, event: Mapping[str, Any], key: str = "c1.7") -> Any:
    delivery = Delivery(1, "notify:vtiger", "c1", 7, key, event["type"], orjson.dumps(event), 0.0, 0, 0.0)
    results: list[Any] = []
    Deferred.fromCoroutine(sender.send(delivery)).addBoth(results.append)
    (result,) = results
    return getattr(result, "value", result)


def test_what_rings_at_two_agents_rings_at_both_by_their_extensions() -> None:
    browser = Browser()
    assert send(a_sender(browser), an_event("call.ringing", agents=["anna", "ben"])) == 200
    assert browser.opened == [
        ("ringing", {"n": CUSTOMER, "e": "201", "c": "c1"}),
        ("ringing", {"n": CUSTOMER, "e": "202", "c": "c1"}),
    ]
    keys = [headers.getRawHeaders("idempotency-key") for _, _, headers, _ in browser.asked]
    assert keys == [["c1.7.anna"], ["c1.7.ben"]]


def test_an_address_without_the_agent_is_opened_once_however_many_are_rung() -> None:
    browser = Browser()
    urls = some_urls(addresses={"ringing": (a_template(f"{BASE}/ringing?c={{call_id}}"),)})
    send(a_sender(browser, urls), an_event("call.ringing", agents=["anna", "ben"]))
    assert browser.opened == [("ringing", {"c": "c1"})]


def test_who_was_told_before_another_could_not_be_is_not_told_again() -> None:
    browser = Browser([200, 500])
    sender = a_sender(browser)
    event = an_event("call.ringing", agents=["anna", "ben"])
    assert isinstance(send(sender, event), DeliveryFailed)
    assert send(sender, event) == 200
    assert [parameters["e"] for _, parameters in browser.opened] == ["201", "202"]
    # It is forgotten then: the same may be asked for again by hand.
    send(sender, event)
    assert len(browser.asked) == 4


def test_the_one_who_talks_is_connected_and_ended() -> None:
    browser = Browser()
    sender = a_sender(browser)
    send(sender, an_event("call.connected", agent="ben"))
    send(sender, an_event("call.ended", over("answered", "ben")))
    assert [(what, parameters["e"]) for what, parameters in browser.opened] == [
        ("connected", "202"),
        ("ended", "202"),
    ]


def test_a_call_that_nobody_of_ours_talks_in_is_told_to_nobody() -> None:
    browser = Browser()
    assert send(a_sender(browser), an_event("call.connected", agent=None)) is None
    assert browser.asked == []


def test_a_missed_call_is_one_miss_of_the_last_who_was_rung_and_no_end_besides() -> None:
    segments = [
        SegmentRecord("c1", number, number, "sales", agents, "", None, None, 0.0)
        for number, agents in ((1, ["anna"]), (2, ["ben", "anna"]))
    ]
    detail = CallDetail(CallRecord("c1", "main", 0.0), segments, (), (), (), (), ())
    browser = Browser()
    sender = a_sender(browser, detail=detail)
    for type in ("call.missed", "call.ended"):
        send(sender, an_event(type, over("missed")))
    assert [(what, parameters["e"]) for what, parameters in browser.opened] == [("missed", "202")]


def test_without_an_address_for_missed_calls_they_end() -> None:
    urls = some_urls()
    urls = evolve(urls, addresses={"ended": urls.addresses["ended"]})
    assert moment_of(an_event("call.missed", over("missed")), urls) is None
    assert moment_of(an_event("call.ended", over("missed")), urls) == "ended"


@pytest.mark.parametrize("outcome", ["abandoned", "voicemail", "self_service", "rejected", "fallback"])
def test_a_call_that_rang_at_no_agent_is_told_of_at_no_moment(outcome: str) -> None:
    assert moment_of(an_event("call.ended", over(outcome)), some_urls()) is None


def test_a_call_of_our_own_rings_when_it_is_made_with_the_number_that_is_called() -> None:
    record = CallRecord("c1", "main", 0.0, direction="outbound", agent="anna")
    browser = Browser()
    sender = a_sender(browser, detail=CallDetail(record, (), (), (), (), (), ()))
    call = {"direction": "outbound", "from": COMPANY, "to": "+442079460123"}
    send(sender, an_event("call.offered", call))
    send(sender, an_event("call.ended", over("busy", "anna", **call)))
    assert browser.opened == [
        (moment, {"n": "+442079460123", "e": "201", "c": "c1"}) for moment in ("ringing", "ended")
    ]
    # Their own phone, which rings first where they dial by a click, is no call to them.
    assert moment_of(an_event("call.ringing", call, agents=["anna"]), some_urls()) is None
    # One that comes in is offered before it rings anywhere.
    assert moment_of(an_event("call.offered"), some_urls()) is None


def test_every_word_is_filled_in_and_nothing_breaks_out_of_its_place() -> None:
    urls = some_urls(
        addresses={"connected": (a_template(f"{BASE}/connected?{EVERY_WORD}"),)},
        secret=Secret("s3&cret"),
    )
    browser = Browser()
    party = {"adapter": "crm", "type": "contact", "id": 17, "name": "A&B=C #1\n/../ Müller"}
    send(a_sender(browser, urls), an_event("call.connected", over("answered"), agent="anna", party=party))
    ((_, words),) = browser.opened
    assert words == {
        "event": "connected",
        "event_id": "c1.7",
        "call_id": "c1",
        "direction": "inbound",
        "number": CUSTOMER,
        "number_digits": "4915228817386",
        "number_with_prefix": "0015228817386",
        "own_number": COMPANY,
        "service": "sales",
        "agent": "anna",
        "agent_name": "Anna Ørsted",
        "extension": "201",
        "party_id": "17",
        "party_type": "contact",
        "party_name": "A&B=C #1\n/../ Müller",
        "at": "2026-03-02T09:00:00.000Z",
        "outcome": "answered",
        "duration": "12.5",
        "talk": "7.0",
        "secret": "s3&cret",
    }


def test_a_number_that_is_withheld_is_empty() -> None:
    browser = Browser()
    send(a_sender(browser), an_event("call.connected", {"from": None}, agent="anna"))
    assert urlsplit(browser.asked[0][1]).query == "n=&e=201&c=c1"


def test_a_value_that_would_lead_out_of_its_path_is_not_sent_anywhere() -> None:
    browser = Browser()
    urls = some_urls(addresses={"connected": (a_template(BASE + "/{party_id}/call"),)})
    event = an_event("call.connected", agent="anna", party={"id": ".."})
    failure = send(a_sender(browser, urls), event)
    assert isinstance(failure, DeliveryFailed)
    assert browser.asked == []


def test_by_post_the_parameters_are_a_form_and_headers_come_along() -> None:
    browser = Browser()
    urls = some_urls(method="POST", headers={"X-VTIGER-SECRET": Secret("s3cret")})
    send(a_sender(browser, urls), an_event("call.connected", agent="anna"))
    ((method, url, headers, body),) = browser.asked
    assert (method, url) == ("POST", f"{BASE}/connected")
    assert body == b"n=%2B4915228817386&e=201&c=c1"
    assert headers.getRawHeaders("content-type") == ["application/x-www-form-urlencoded"]
    assert headers.getRawHeaders("x-vtiger-secret") == ["s3cret"]


def test_several_addresses_of_a_moment_are_opened_in_their_order() -> None:
    browser = Browser()
    urls = some_urls(
        addresses={"ringing": (a_template(f"{BASE}/start"), a_template(f"{BASE}/dial?e={{extension}}"))}
    )
    send(a_sender(browser, urls), an_event("call.ringing", agents=["anna", "ben"]))
    assert [what for what, _ in browser.opened] == ["start", "dial", "dial"]


def test_an_address_can_be_tried_without_a_call() -> None:
    browser = Browser()
    results: list[Any] = []
    Deferred.fromCoroutine(a_sender(browser).test("test.1")).addBoth(results.append)
    assert results == [200]
    ((what, parameters),) = browser.opened
    assert (what, parameters["c"]) == ("ringing", "0-sample")


def test_a_real_client_takes_what_is_built_here() -> None:
    """The stand-in of this page and the client have to be asked in the same way."""
    requests: list[tuple[bytes, bytes]] = []

    class Agent:
        def request(self, method: bytes, uri: bytes, headers: Headers, body: Any, /) -> "Deferred[Any]":
            requests.append((method, uri))
            return Deferred()

    client = WebClient(Agent(), Clock(), clock=time.time)
    sender = UrlEventsSender(
        some_urls(),
        client,
        people=People({"anna": ANNA}),
        plan=NumberPlan("DE"),
        call=lambda id: succeed(None),
    )
    delivery = Delivery(
        1,
        "notify:vtiger",
        "c1",
        7,
        "c1.7",
        "",
        orjson.dumps(an_event("call.connected", agent="anna")),
        0.0,
        0,
        0.0,
    )
    Deferred.fromCoroutine(sender.send(delivery))
    assert requests == [(b"GET", b"https://crm.example/softphone/connected?n=%2B4915228817386&e=201&c=c1")]


# Who gets what.


@define
class Configured:
    webhooks: Mapping[str, Webhook] = field(factory=dict)
    notify: Mapping[str, UrlEvents] = field(factory=dict)


def a_subscription(**configured: Any) -> Subscription:
    settings: Any = Configured(**configured)
    (subscription,) = subscriptions(settings).values()
    assert isinstance(subscription, Subscription)
    return subscription


def concerns(subscription: Subscription, event: Mapping[str, Any]) -> bool:
    assert subscription.concerns is not None
    # As the store has it: from behind the number.
    return subscription.concerns(orjson.dumps(event)[1:])


def a_hook(**wanted: Any) -> Webhook:
    some = {name: frozenset(values) for name, values in wanted.items()}
    return Webhook(
        "crm", "https://crm.example/", (Secret("s"),), ("call.ended", "agent.state"), Wanted(**some)
    )


def test_a_webhook_without_filters_gets_all_events_of_its_types_unread() -> None:
    subscription = a_subscription(webhooks={"crm": a_hook()})
    assert subscription.types == {"call.ended", "agent.state"}
    assert subscription.concerns is None


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ({"services": ["sales"]}, True),
        ({"services": ["support"]}, False),
        ({"directions": ["inbound", "internal"]}, True),
        ({"directions": ["outbound"]}, False),
        ({"adapters": ["crm"]}, True),
        ({"adapters": ["erp"]}, False),
        ({"services": ["sales"], "directions": ["outbound"]}, False),
    ],
)
def test_filters_choose_by_service_direction_and_the_party_s_adapter(
    wanted: dict[str, list[str]], fits: bool
) -> None:
    subscription = a_subscription(webhooks={"crm": a_hook(**wanted)})
    event = an_event("call.ended", over("answered"), party={"adapter": "crm", "id": "17"})
    assert concerns(subscription, event) is fits


def test_what_is_of_no_call_or_of_nobody_passes_no_filter() -> None:
    by_service = a_subscription(webhooks={"crm": a_hook(services=["sales"])})
    assert not concerns(by_service, {"type": "agent.state", "at": "", "agent": "anna"})
    by_adapter = a_subscription(webhooks={"crm": a_hook(adapters=["crm"])})
    assert not concerns(by_adapter, an_event("call.ended", over("answered")))


def test_urls_get_what_one_of_their_moments_is_and_no_internal_calls() -> None:
    subscription = a_subscription(notify={"vtiger": some_urls()})
    assert subscription.types == {
        "call.ringing",
        "call.offered",
        "call.connected",
        "call.ended",
        "call.missed",
    }
    assert concerns(subscription, an_event("call.connected", agent="anna"))
    assert not concerns(subscription, an_event("call.connected", {"direction": "internal"}, agent="anna"))
    assert not concerns(subscription, an_event("call.ended", over("missed")))
    assert concerns(subscription, an_event("call.missed", over("missed")))
