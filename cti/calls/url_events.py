"""Tells a CRM what its softphone connector would: opens an address when a call rings, is connected, over or missed.

Which events that is of is said in `subscriptions`; when to try again is the outbox's business.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

import orjson
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers

from cti.agents.roster import AgentUnknown
from cti.calls.outbox import DeliveryFailed
from cti.calls.subscriptions import moment_of
from cti.calls.web_client import WebClient, shown
from cti.links import AddressTemplate
from cti.numbers import NumberPlan, as_dialled
from cti.settings import URL_WORDS_OF_AGENT, UrlEvents
from cti.store.base import CallDetail, StoreError
from cti.store.records import AgentRecord, Delivery

#: Deliveries half of whose addresses were opened, and which these were.
REMEMBERED: Final = 1000
#: A call that never was, to try an address with.
_SAMPLE: Final = {
    "direction": "inbound",
    "from": "+493023125100",
    "to": "+494066969100",
    "service": "sample",
    "id": "0-sample",
}


class People(Protocol):
    """Of the agents, what is told of them."""

    def record(self, id: str) -> AgentRecord:
        """Raises `AgentUnknown`."""

    def user_of(self, id: str, adapter: str) -> str | None: ...


class UrlEventsSender:
    """A `Sender` that opens the addresses of one CRM.

    What rings at several agents rings in the CRM at each of them: an address in which the agent stands is opened once
    for each. A call that is over is told once, as one that was missed is one miss.
    """

    def __init__(
        self,
        urls: UrlEvents,
        client: WebClient,
        *,
        people: People,
        plan: NumberPlan,
        call: "Callable[[str], Deferred[CallDetail | None]]",
    ) -> None:
        self._urls = urls
        self._client = client
        self._people = people
        self._plan = plan
        self._call = call
        self._opened: OrderedDict[str, set[tuple[str | None, int]]] = OrderedDict()

    async def send(self, delivery: Delivery) -> int | None:
        event = orjson.loads(delivery.data)
        moment = moment_of(event, self._urls)
        if moment is None:
            return None
        agents = await self._whose(moment, event)
        opened = self._opened.setdefault(delivery.key, set())
        if len(self._opened) > REMEMBERED:
            self._opened.popitem(last=False)
        status = None
        for agent, number, template in self._addresses(moment, agents):
            if (agent, number) not in opened:
                status = await self._open(template, moment, event, agent, delivery.key)
                opened.add((agent, number))
        self._opened.pop(delivery.key, None)
        return status

    async def test(self, key: str) -> int | None:
        """Open the addresses of the first moment that has any, as for a call that never was."""
        moment = next(iter(self._urls.addresses))
        event = {"type": "test", "call": _SAMPLE}
        status = None
        for _, _, template in self._addresses(moment, [None]):
            status = await self._open(template, moment, event, None, key)
        return status

    def _addresses(
        self, moment: str, agents: Iterable[str | None]
    ) -> Iterable[tuple[str | None, int, AddressTemplate]]:
        for number, template in enumerate(self._urls.addresses[moment]):
            if not URL_WORDS_OF_AGENT.intersection(template.gaps):
                yield None, number, template
                continue
            for agent in agents:
                yield agent, number, template

    async def _whose(self, moment: str, event: Mapping[str, Any]) -> list[str | None]:
        """The agents at whom it rings, or who talk or have talked, or were rung last."""
        call = event["call"]
        if event["type"] == "call.ringing":
            return list(event["agents"])
        agent = event.get("agent") or call.get("agent")
        if agent is None and moment != "connected":
            try:
                detail = await self._call(call["id"])
            except StoreError as error:
                raise DeliveryFailed(str(error)) from error
            if detail is not None:
                rung = [*detail.segments[-1].agents[:1]] if detail.segments else []
                agent = detail.call.agent or next(iter(rung), None)
        return [] if agent is None else [agent]

    async def _open(
        self, template: AddressTemplate, moment: str, event: Mapping[str, Any], agent: str | None, key: str
    ) -> int:
        address = template.filled(self._words(moment, event, agent, key), whole=False)
        if address is None:
            raise DeliveryFailed(f"{shown(template.url)} would become too long, or lead out of its place")
        headers = Headers({"idempotency-key": [key if agent is None else f"{key}.{agent}"]})
        for name, value in self._urls.headers.items():
            headers.setRawHeaders(name, [value.reveal()])
        if self._urls.method == "GET":
            return await self._client.ask("GET", address, headers)
        # As a form, so that no number stands in the receiver's log of what was asked.
        address, _, form = address.partition("#")[0].partition("?")
        headers.setRawHeaders("content-type", ["application/x-www-form-urlencoded"])
        return await self._client.ask("POST", address, headers, form.encode("ascii"))

    def _words(
        self, moment: str, event: Mapping[str, Any], agent: str | None, key: str
    ) -> Mapping[str, str | None]:
        call, party = event["call"], event.get("party") or {}
        theirs, ours = ("from", "to") if call["direction"] == "inbound" else ("to", "from")
        number = call[theirs] or ""
        return {
            "event": moment,
            "event_id": key,
            "call_id": call["id"],
            "direction": call["direction"],
            "number": number,
            "number_digits": number.removeprefix("+"),
            "number_with_prefix": self._with_prefix(number),
            "own_number": call[ours],
            "service": call["service"],
            "agent": agent,
            "agent_name": None if agent is None else self._name(agent),
            "extension": self._extension(agent),
            "party_id": _text(party.get("id")),
            "party_type": _text(party.get("type")),
            "party_name": _text(party.get("name")),
            "at": event.get("at"),
            "outcome": call.get("outcome"),
            "duration": _text(call.get("duration")),
            "talk": _text(call.get("talk")),
            "secret": None if self._urls.secret is None else self._urls.secret.reveal(),
        }

    def _with_prefix(self, number: str) -> str:
        """As a telephone here dials it: for an outside line, and without a plus."""
        if not number.startswith("+"):
            return number
        return self._urls.prefix + as_dialled(number, self._plan.region)

    def _name(self, agent: str) -> str | None:
        try:
            return self._people.record(agent).name
        except AgentUnknown:
            return None

    def _extension(self, agent: str | None) -> str | None:
        """What the CRM knows an agent by: as said in their `crm`, else the name of the phone at which they sit."""
        if agent is None:
            return None
        said = self._people.user_of(agent, self._urls.name)
        if said is not None:
            return said
        try:
            record = self._people.record(agent)
        except AgentUnknown:
            return None
        phone = record.phone or next(iter(record.phones), "")
        return phone.partition("/")[2].partition("@")[0].partition("/")[0]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
