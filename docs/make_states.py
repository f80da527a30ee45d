"""Writes docs/states.md, the pictures of the call's and the agent's states, from the tables that the code uses.

Run it after a change of those tables: `python docs/make_states.py`. A test fails while the file is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cti.agents.states import (  # noqa: E402
    ABSENT,
    DEVICE_WHY_NOT,
    ENGAGED,
    SET_ASIDE,
    STEPS,
    TAKES_ONE_MORE,
    WEIGHTIEST,
    Engagement,
    Step,
    Wish,
    state,
)
from cti.calls.life import LAST_RESORTS, SEGMENT_RESULTS, TURNS, State, Turn  # noqa: E402

PAGE: Final = ROOT / "docs" / "states.md"

STATES: Final[Mapping[State, str]] = {
    State.ASKED: "Asterisk waits for a decision",
    State.OFFERED: "agents are reserved, have the card, and are rung",
    State.WAITING: "in a line for an agent, hearing music",
    State.CONNECTED: "a person talks with the caller",
    State.ELSEWHERE: "at the fallback, in observe mode, or wherever else the decision sent it",
    State.ENDED: "the last channel is gone",
}
TURN_TEXTS: Final[Mapping[Turn, str]] = {
    Turn.ASK: "the dialplan asks over FastAGI, the first time or again",
    Turn.OFFER: "a decision: ring these agents",
    Turn.WAIT: "a decision: wait in a line",
    Turn.SEND: "a decision: anything but ringing; or an offer that could not be made",
    Turn.ANSWER: "AMI: a dialled channel answered",
    Turn.END: "AMI, a resync, or the ended-record: no channel is left",
}
ENGAGEMENTS: Final[Mapping[Engagement, str]] = {
    Engagement.NONE: "no call holds the agent",
    Engagement.OFFERED: "held for a call that is on its way to the phone, or rings there",
    Engagement.BUSY: "talks on a call of ours",
    Engagement.WRAP_UP: "works on a call that is over",
}
STEP_TEXTS: Final[Mapping[Step, str]] = {
    Step.RESERVE: "a decision names the agent",
    Step.CONNECT: "the agent talks: in the call they are held for, or in one that reached them otherwise",
    Step.RELEASE: "the offer or the call is over, or the lease has run out",
    Step.WRITE_UP: "the call is over, and the agent has work to do on it",
}


def page() -> str:
    """The whole file."""
    return "\n".join([*_head(), *_call(), *_agent(), *_set_aside(), ""])


def _head() -> Iterator[str]:
    yield "# States"
    yield ""
    yield "Made by `python docs/make_states.py` from the tables in `cti/calls/life.py` and `cti/agents/states.py`;"
    yield "change those, not this page. What is no arrow here raises an exception there."


def _call() -> Iterator[str]:
    yield from ("", "## A call", "")
    first = ("[*]", State.ASKED.value, "ask")
    arrows = [(before.value, after.value, turn.value) for (before, turn), after in TURNS.items()]
    yield from _picture([first, *arrows, (State.ENDED.value, "[*]", "")])
    yield from _table(("state", "what it means"), ((f"`{each}`", STATES[each]) for each in State))
    yield from _table(("turn", "what happened"), ((f"`{each}`", TURN_TEXTS[each]) for each in Turn))
    yield ""
    yield "What became of an offer (`segments[].result`), by Dial's last word:"
    yield from _table(
        ("DIALSTATUS", "result"), ((f"`{word}`", f"`{result}`") for word, result in SEGMENT_RESULTS.items())
    )
    yield ""
    yield "Anything else is `failed`; `forwarded` means that the phone, or who had it ring, sent the call on; `lost`"
    yield "that the end was seen by nobody. The outcome of the whole call is the first that holds: `answered` (a"
    yield "person talked), `missed` (an agent's phone rang), then by the last action:"
    yield from _table(
        ("last action", "outcome"),
        ((f"`{action}`", f"`{outcome}`") for action, outcome in LAST_RESORTS.items()),
    )
    yield ""
    yield "and for a call whose last action was to dial: `busy` or `failed` if its last offer ended so, else"
    yield "`abandoned`. Of a call that one of us makes (`outbound`, `internal`): `answered`; `busy`; `missed`;"
    yield "`abandoned` if the caller gave up while it rang elsewhere; else `failed`."


def _agent() -> Iterator[str]:
    yield from ("", "## An agent", "")
    yield "An agent is a *wish*, which people set, and an *engagement*, which calls set. Neither overwrites the"
    yield "other: who pauses while talking is paused when the call is over."
    yield ""
    arrows = [(before.value, after.value, step.value) for (before, step), after in STEPS.items()]
    yield from _picture([("[*]", Engagement.NONE.value, ""), *arrows])
    yield from _table(
        ("engagement", "what it means"), ((f"`{each}`", ENGAGEMENTS[each]) for each in Engagement)
    )
    yield from _table(("step", "what happened"), ((f"`{each}`", STEP_TEXTS[each]) for each in Step))
    yield ""
    yield "The state that the API, the events and the screen show (a free agent whose phone is in use for"
    yield "something else is shown as `busy`, too):"
    columns = ("wish", "free", *(each.value for each in ENGAGED))
    yield from _table(
        columns,
        ((f"`{wish}`", *(f"`{state(wish, each)}`" for each in (Engagement.NONE, *ENGAGED))) for wish in Wish),
    )
    yield ""
    yield "Whether a ready and free agent may be offered a call, by the device states of their phones. Any phone that"
    yield "has a call keeps them from another one; a phone that is absent does not, while another can be rung:"
    yield from _table(
        ("device state", "the phone", "its agent"),
        ((f"`{word}`", why_not or "can be rung", _so(word)) for word, why_not in DEVICE_WHY_NOT.items()),
    )
    yield ""
    yield "Who may have several calls at once (`concurrency`) has an engagement in each; of these the state shows the"
    yield f"first of {', '.join(f'`{each}`' for each in WEIGHTIEST)}. While they talk they may be offered"
    yield f"one more, if their phone is {' or '.join(f'`{word}`' for word in sorted(TAKES_ONE_MORE))}."


def _set_aside() -> Iterator[str]:
    yield from ("", "### Set aside", "")
    yield "Who lets an offer of the rules ring to its end (Dial says `NOANSWER`) becomes `paused`, reason"
    yield f"`{SET_ASIDE}`, after `set_aside_after` of them in a row: whoever is not at their desk costs each caller"
    yield "the time to ring. Their desktop says so, and one click makes them ready again. An answered call, or any"
    yield "state that they set, begins the count anew; so does a restart of the server. What does not count: a phone"
    yield "that is busy, refuses, fails or was not seen ringing; a caller who hangs up; a colleague who answers"
    yield "first; a call that a colleague passes on; one more call for who talks already. Whoever has set their"
    yield "state while it rang keeps it."


def _so(word: str) -> str:
    if DEVICE_WHY_NOT[word] is None:
        return "may be offered a call"
    return "may, if another phone can be rung" if word in ABSENT else "may not"


def _picture(arrows: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    together: dict[tuple[str, str], list[str]] = {}
    for before, after, name in arrows:
        together.setdefault((before, after), []).append(name)
    yield "```mermaid"
    yield "stateDiagram-v2"
    for (before, after), names in together.items():
        label = ", ".join(name for name in names if name)
        yield f"    {before} --> {after}" + (f" : {label}" if label else "")
    yield "```"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    head = tuple(head)
    yield ""
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
