"""What an agent's desktop shows at a moment: their calls, what can be done with each, and what waits for them.

One truthful answer out of what is in memory, so that a page that has slept, or lost its stream, is right at once.
What may be done is asked of `control`, what is being written up of `writing_up`; nothing is changed here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from adapters.base import KeyKind
from cti.agents.roster import Roster
from cti.calls.control import Control
from cti.calls.life import LiveCall
from cti.calls.log import CallLog
from cti.calls.present import (
    CHOSEN,
    agent_json,
    call_json,
    etag_of,
    iso,
    labels_json,
    pause_json,
    with_display,
)
from cti.calls.services import Services
from cti.calls.writing_up import WritingUp
from cti.settings import Desk as DeskSettings
from cti.store.base import CallDetail, IStore
from cti.store.records import ChannelRecord
from routing.rules import Service

#: What an agent may ask for in wrap-up.
#: So many free desks are listed to choose from; more would be no list any more.
MAX_DESKS: Final = 500
IN_WRAP_UP: Final = ("extend", "finish")


class Desk:
    """The desktops of all agents."""

    def __init__(
        self,
        *,
        calls: CallLog,
        roster: Roster,
        services: Callable[[], Services],
        control: Control,
        writing_up: WritingUp,
        store: IStore,
        settings: Callable[[], DeskSettings],
        newest: Callable[[], int],
        missed: Callable[[str], int],
        now: Callable[[], float],
        keys: Callable[[], Iterable[KeyKind]],
    ) -> None:
        """`newest`: number of the event published last. `missed(agent)`: how many callbacks wait for them.

        `keys`: by which kinds of key a party can be found.
        """
        self._calls = calls
        self._roster = roster
        self._services = services
        self._control = control
        self._writing_up = writing_up
        self._store = store
        self._settings = settings
        self._newest = newest
        self._missed = missed
        self._now = now
        self._keys = keys

    def snapshot(self, agent: str) -> dict[str, Any]:
        """Everything that their desktop shows at once. Raises `AgentUnknown`, `StoreError`."""
        view, settings = self._roster.view(agent), self._settings()
        writing = self._writing_up.of(agent)
        owed = self._store.count_unwritten(agent)
        until = None if writing is None else iso(writing.record.until)
        return {
            # First, so that what happens meanwhile is told behind it.
            "seq": self._newest(),
            "now": iso(self._now()),
            "agent": agent_json(view)
            | {"why_not": view.why_not, "phone": view.phone, "wrap_up_until": until}
            | {"pause": pause_json(view, settings.pauses, self._now())},
            "services": dict(self._services().titles),
            "pause_reasons": list(settings.pause_reasons),
            "pauses": [
                {"id": id, **labels_json(id, pause.titles), "minutes": pause.minutes}
                for id, pause in settings.pauses.items()
            ],
            "desks": self._roster.free_desks()[:MAX_DESKS],
            "keys": [
                {"name": kind.name, "title": kind.title, "sensitive": kind.sensitive} for kind in self._keys()
            ],
            "calls": [self.call(call, agent) for call in self._of(agent)],
            "unwritten": {"count": owed - self._is_owed(agent)},
            "missed": {"count": self._missed(agent)},
        }

    def call(self, call: LiveCall, agent: str) -> dict[str, Any]:
        """One call as this agent's desktop shows it."""
        record = call.record
        writing = self._writing_up.of(agent)
        mine = writing if writing is not None and writing.call.id == call.id else None
        service = self._services().named(record.service or "")
        card = call.cards.get(agent)
        body = card.body if card is not None else call.card
        parties: Sequence[Mapping[str, Any]] = (body or {}).get("parties", ())
        chosen = (record.party or {}).get("match") == CHOSEN
        choose = len(parties) > 1 and record.party is None
        return {
            "call": with_display(call_json(record), self._services().plan.display),
            "etag": etag_of(record),
            "status": "wrap_up" if mine is not None else self._status(call, agent),
            "can": list(IN_WRAP_UP) if mine is not None else self._control.possible(call, agent),
            "attempt": card.attempt if card is not None else record.attempt,
            "card": None if body is None else dict(body),
            "party": None if choose else _whole(record.party, parties),
            "choose": choose,
            "dispositions": _dispositions(service),
            "disposition_required": service is not None and service.disposition_required,
            "open": "button" if service is None else service.open_card,
            "wrap_up_until": None if mine is None else iso(mine.record.until),
            "quick_create": self._may_create(service, record.from_number, parties, chosen),
            "quick_create_type": "contact"
            if service is None or service.quick_create is None
            else service.quick_create.type,
        }

    def unwritten(self, details: Iterable[CallDetail], agent: str) -> list[dict[str, Any]]:
        """Calls of the worklist; the one that they are at just now is on the desktop itself."""
        writing = self._writing_up.of(agent)
        at_it = None if writing is None else writing.record.call
        return [self.one(detail, agent) for detail in details if detail.call.id != at_it]

    def one(self, detail: CallDetail, agent: str) -> dict[str, Any]:
        """A call of the log, perhaps long past, as this agent's desktop shows it."""
        return self.call(self._calls.get(detail.call.id) or LiveCall.restored(detail), agent)

    def colleagues(self) -> list[dict[str, Any]]:
        """Everybody, as far as it takes to pass a call on to them."""
        return [
            {"id": view.id, "name": view.name, "state": view.state, "groups": list(view.groups)}
            for view in self._roster.views()
        ]

    # Inside.

    def _of(self, agent: str) -> list[LiveCall]:
        """Those that their phone is in, or that are on their way to it; consultations; and what they write up."""
        found = {call.id: call for call in self._calls.of_agent(agent)}
        held = self._roster.view(agent).call
        for call in (self._calls.get(held or ""), *self._calls.made_by(agent, found)):
            if call is not None:
                found.setdefault(call.id, call)
        writing = self._writing_up.of(agent)
        if writing is not None:
            found[writing.call.id] = writing.call
        return sorted(found.values(), key=lambda call: (call.record.started, call.id), reverse=True)

    def _status(self, call: LiveCall, agent: str) -> str:
        if call.over:
            return "ended"
        legs = call.living_of(agent)
        if not legs:
            if call.ours and call.record.agent == agent:
                return "talking" if call.record.answered is not None else "dialling"
            return "offered" if agent in call.cards or self._roster.view(agent).call == call.id else "ended"
        if any(other.id != call.id for other in self._calls.made_by(agent, {call.id: call})):
            return "consulting"
        leg = max(legs, key=lambda each: each.answered is not None)
        if any(each.key in call.held for each in legs):
            return "held"
        return self._word(call, leg)

    @staticmethod
    def _word(call: LiveCall, leg: ChannelRecord) -> str:
        if leg.role == "caller":
            return "dialling" if call.record.answered is None else "talking"
        return "ringing" if leg.answered is None else "talking"

    def _is_owed(self, agent: str) -> int:
        """1 if the call that they write up just now still lacks its disposition: that is no backlog yet."""
        writing = self._writing_up.of(agent)
        if writing is None or writing.call.record.disposition is not None:
            return 0
        service = self._services().named(writing.call.record.service or "")
        return int(service is not None and service.disposition_required)

    @staticmethod
    def _may_create(
        service: Service | None, number: str | None, parties: Sequence[Any], chosen: bool
    ) -> bool:
        return bool(
            service is not None
            and service.quick_create is not None
            and number is not None
            and not parties
            and not chosen
        )


def _dispositions(service: Service | None) -> list[dict[str, Any]]:
    """Each with a label, and with those in single languages."""
    if service is None:
        return []
    return [{"id": id, **labels_json(id, labels)} for id, labels in service.dispositions.items()]


def _whole(party: Mapping[str, Any] | None, parties: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The party of a call with all that the card says of it; the call itself has only who it is."""
    if party is None:
        return None
    who = [party.get(key) for key in ("adapter", "type", "id")]
    found = (each for each in parties if [each.get(key) for key in ("adapter", "type", "id")] == who)
    return next(found, party)
