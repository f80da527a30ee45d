"""A call as everybody outside sees it: the contract's "A call in the log", as plain values for JSON.

One mapping for the API, the command line and whatever exports calls. Reading the log, filters and paging
are the store's; formatting as a table or a CSV file is the command line's.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson

from cti.agents.roster import AgentView
from cti.agents.states import Wish
from cti.numbers import Number, NumberKind
from cti.settings import PauseReason
from cti.store.base import CallDetail
from cti.store.records import (
    CallRecord,
    CardRecord,
    ChannelRecord,
    DecisionRecord,
    GapRecord,
    JournalRecord,
    SegmentRecord,
    StoredEvent,
)

#: The columns of a call in a table or a CSV file; `call_row` gives the cells in this order.
CALL_COLUMNS: Final[tuple[str, ...]] = (
    "id",
    "parent",
    "pbx",
    "direction",
    "from",
    "from_raw",
    "to",
    "service",
    "party",
    "agent",
    "outcome",
    "started",
    "queued",
    "ringing",
    "answered",
    "ended",
    "duration",
    "talk",
    "wait",
    "wrap_up",
    "rule",
    "reason",
    "identify_ms",
    "setup_ms",
    "hangup_cause",
    "notes",
    "disposition",
    "recording",
)

#: What stands as a party's `match` once an agent has said that it is them.
CHOSEN: Final = "chosen"
# What a spreadsheet takes for a formula; numbers are left alone, telephone numbers with their + among them.
_FORMULA: Final = re.compile(r"[=@\t\r]|[+-](?![\d .]*\Z)")
_SUSPECT: Final = frozenset("=@\t\r+-")
_PARTY: Final = ("adapter", "type", "id", "name", "url")
_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d(?:[Tt ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d\d:?\d\d)?)?", re.ASCII
)


def iso(at: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC with milliseconds: `2026-02-03T09:15:00.250Z`."""
    milliseconds = round(at * 1000)
    # Not by %Y, which leaves out the zeros of a year before 1000.
    whole = datetime.fromtimestamp(milliseconds // 1000, UTC).isoformat()[:19]
    return f"{whole}.{milliseconds % 1000:03d}Z"


def iso_or_none(at: float | None) -> str | None:
    """The same of what has not come to pass yet: None."""
    return None if at is None else iso(at)


def agent_json(view: AgentView) -> dict[str, Any]:
    """An agent, in the API and for the command line; each adds what only it knows."""
    return {
        "id": view.id,
        "name": view.name,
        "state": view.state,
        "reason": view.reason,
        "since": iso(view.since),
        "phones": list(view.phones),
        "groups": list(view.groups),
        "skills": dict(view.skills),
        "concurrency": view.concurrency,
        "call": view.call,
    }


def labels_json(id: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """What people read of something that is configured: one label for everybody, and those of single languages."""
    return {
        "label": labels.get("") or labels.get("en") or next(iter(labels.values()), id),
        "labels": {language: label for language, label in labels.items() if language},
    }


def pause_json(view: AgentView, pauses: Mapping[str, PauseReason], now: float) -> dict[str, Any] | None:
    """What the configuration knows of the pause that an agent makes, and whether it is over its time."""
    pause = pauses.get(view.reason or "") if view.state == Wish.PAUSED else None
    if pause is None or view.reason is None:
        return None
    until = pause.until(view.since)
    return {
        **labels_json(view.reason, pause.titles),
        "until": None if until is None else iso(until),
        "over": until is not None and until < now,
    }


def moment(text: str) -> float:
    """The opposite of `iso`: seconds since the epoch of an ISO 8601 date or time, UTC where it names no zone.

    Raises `ValueError` saying what would be right.
    """
    wrong = f"{text[:40]!r} is no time; write one like 2026-02-03T09:15:00Z, or a date"
    if _MOMENT.fullmatch(text) is None:
        raise ValueError(wrong)
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError(wrong) from error


def gap_json(gap: GapRecord) -> dict[str, Any]:
    """A time in which an Asterisk was not heard."""
    return {
        "pbx": gap.pbx,
        "since": iso(gap.since),
        "until": iso(gap.until),
        "recovered": gap.recovered,
        "why": gap.why,
    }


def call_json(call: CallRecord) -> dict[str, Any]:
    """The call without its parts. Times are text in UTC, durations decimal seconds, both None if unknown.

    `duration` runs from the start to the end, `wait` to the answer (or the end, if nobody answered), `talk`
    from the answer to the end.
    """
    return {
        "id": call.id,
        "parent": call.parent,
        "pbx": call.pbx,
        "direction": call.direction,
        "from": call.from_number,
        "from_raw": call.from_raw,
        "to": call.to_number or call.to_raw or None,
        "service": call.service,
        "party": _party(call.party),
        "agent": call.agent,
        "outcome": call.outcome,
        "started": iso(call.started),
        "queued": iso_or_none(call.queued),
        "ringing": iso_or_none(call.ringing),
        "answered": iso_or_none(call.answered),
        "ended": iso_or_none(call.ended),
        "duration": _between(call.started, call.ended),
        "talk": _between(call.answered, call.ended),
        "wait": _between(call.started, call.ended if call.answered is None else call.answered),
        "wrap_up": _seconds(call.wrap_up),
        "rule": call.rule,
        "reason": call.reason,
        "identify_ms": call.identify_ms,
        "setup_ms": call.setup_ms,
        "hangup_cause": call.hangup_cause,
        "notes": call.notes,
        "disposition": call.disposition,
        "recording": call.recording,
        # Beyond the contract: what an operator needs to find the call in Asterisk's own log.
        "state": call.state,
        "mode": call.mode,
        "attempt": call.attempt,
        "from_kind": call.from_kind,
        "to_raw": call.to_raw,
        "uniqueid": call.uniqueid,
        "linkedid": call.linkedid,
        "closed_by": call.closed_by,
    }


def etag_of(record: CallRecord) -> str:
    """The entity tag (RFC 9110, 8.8.3) of what people have written of a call."""
    party = record.party or {}
    # Whom a CRM found, late as it may be, nobody has written.
    who = [party.get(key) for key in ("adapter", "type", "id")] if party.get("match") == CHOSEN else None
    content = orjson.dumps([record.notes, record.disposition, who])
    return f'"{hashlib.blake2b(content, digest_size=9).hexdigest()}"'


class _Plan(Protocol):
    def parse(self, raw: str | None) -> Number: ...
    def display(self, number: str | None) -> str | None: ...


def number_json(written: str, plan: _Plan) -> dict[str, str | None]:
    """What somebody wrote as a telephone number: its key and what people of the plan's country read, or why not."""
    number = plan.parse(written)
    return {
        "raw": written,
        "e164": number.e164,
        "display": plan.display(number.dialable),
        "error": _WHY_NO_KEY.get(number.kind),
    }


_WHY_NO_KEY: Final[Mapping[NumberKind, str]] = {
    NumberKind.INTERNAL: "an internal number, which nobody has outside",
    NumberKind.WITHHELD: "this stands for a caller who shows no number",
    NumberKind.UNAVAILABLE: "there is no number",
    NumberKind.UNKNOWN: "not a telephone number; one is written like +4915228817386 or 0152 28817386",
}


def with_display(call: Mapping[str, Any], display: Callable[[str | None], str | None]) -> dict[str, Any]:
    """A call for people: with its numbers as they are written where this server stands."""
    return {**call, "display": {side: display(call[side]) for side in ("from", "to")}}


def call_detail_json(detail: CallDetail) -> dict[str, Any]:
    """The call with its segments, channels, events, cards, decisions (with their traces) and CRM records (`crm`).

    `card` is the one offered last, None if there was none.
    """
    cards = [_card(card) for card in detail.cards]
    return {
        **call_json(detail.call),
        "segments": [_segment(segment) for segment in detail.segments],
        "channels": [_channel(channel) for channel in detail.channels],
        "events": [_event(event) for event in detail.events],
        "card": cards[-1] if cards else None,
        "cards": cards,
        "decisions": decisions_json(detail),
        "crm": [_journaled(record) for record in detail.journal],
        "deliveries": [_delivery(delivery) for delivery in detail.deliveries],
    }


def decisions_json(detail: CallDetail) -> list[dict[str, Any]]:
    """Each decision about the call, the first one first: what it was made from, and each rule that was tried."""
    return [_decision(decision) for decision in detail.decisions]


def call_row(call: CallRecord) -> tuple[str | int | float | None, ...]:
    """The cells of one call in the order of `CALL_COLUMNS`; a party is its name, or its id without one."""
    return call_cells(call_json(call))


def call_cells(values: Mapping[str, Any]) -> tuple[str | int | float | None, ...]:
    """The same of a call that is JSON already."""
    party = values["party"]
    name = None if party is None else party["name"] or party["id"]
    return tuple(name if column == "party" else values[column] for column in CALL_COLUMNS)


def harmless(cell: object) -> object:
    """A cell of a CSV file, with a ' in front of a text that a spreadsheet would run as a formula."""
    # Looking at one character first halves what an export takes for it.
    if isinstance(cell, str) and cell[:1] in _SUSPECT and _FORMULA.match(cell):
        return f"'{cell}"
    return cell


def _party(party: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if party is None else {key: party.get(key) for key in _PARTY}


def _segment(segment: SegmentRecord) -> dict[str, Any]:
    return {
        "number": segment.number,
        "attempt": segment.attempt,
        "service": segment.service,
        "agents": list(segment.agents),
        "agent": segment.agent,
        "target": segment.target,
        "rule": segment.rule,
        "reason": segment.reason,
        "offered": iso(segment.offered),
        "ringing": iso_or_none(segment.ringing),
        "answered": iso_or_none(segment.answered),
        "ended": iso_or_none(segment.ended),
        "rang": _between(segment.ringing, segment.ended if segment.answered is None else segment.answered),
        "talk": _between(segment.answered, segment.ended),
        "wrap_up": _seconds(segment.wrap_up),
        "result": segment.result,
    }


def _channel(channel: ChannelRecord) -> dict[str, Any]:
    return {
        "pbx": channel.pbx,
        "uniqueid": channel.uniqueid,
        "device": channel.device,
        "role": channel.role,
        "segment": channel.segment,
        "agent": channel.agent,
        "began": iso(channel.began),
        "answered": iso_or_none(channel.answered),
        "ended": iso_or_none(channel.ended),
        "cause": channel.cause,
    }


def _event(event: StoredEvent) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(event.data)
    return body


def _card(card: CardRecord) -> dict[str, Any]:
    return {
        "agent": card.agent,
        "attempt": card.attempt,
        "offered": iso(card.offered),
        "shown": iso_or_none(card.shown),
        "withdrawn": iso_or_none(card.withdrawn),
        "body": dict(card.body),
    }


def _journaled(record: JournalRecord) -> dict[str, Any]:
    return {
        "adapter": record.adapter,
        "type": record.type,
        "id": record.id,
        "url": record.url,
        "at": iso(record.at),
    }


def _delivery(delivery: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **delivery,
        **{moment: iso_or_none(delivery[moment]) for moment in ("created", "due", "finished")},
    }


def _facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    shown = dict(facts)
    if "at" in facts:
        shown["at"] = iso(facts["at"])
    if facts.get("history") is not None:
        shown["history"] = history_json(facts["history"])
    return shown


def history_json(history: Mapping[str, Any]) -> dict[str, Any]:
    """What rules saw of a caller's past, as the API has it."""
    return {**history, "last_spoken": iso_or_none(history["last_spoken"])}


def _decision(decision: DecisionRecord) -> dict[str, Any]:
    identification = decision.identification
    return {
        "attempt": decision.attempt,
        "at": iso(decision.at),
        "service": decision.service,
        "mode": decision.mode,
        "action": decision.action,
        "agents": list(decision.agents),
        "target": decision.target,
        "rule": decision.rule,
        "reason": decision.reason,
        "last": decision.last,
        "facts": _facts(decision.facts),
        "trace": [dict(step) for step in decision.trace],
        "identification": None if identification is None else dict(identification),
    }


def _seconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _between(begin: float | None, end: float | None) -> float | None:
    if begin is None or end is None:
        return None
    # Our clock says when a call began, Asterisk's when it was answered; they may differ by milliseconds.
    return max(0.0, round(end - begin, 3))
