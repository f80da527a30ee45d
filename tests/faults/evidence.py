"""What Asterisk's log and AstDB and our own log say after a fault: which way each call went, and what is left."""

import re
from datetime import datetime
from typing import Any

from attrs import frozen

from lab.asterisk import AsteriskInstance
from lab.company import Company
from lab.laboratory import eventually

_STEP = re.compile(
    r"Executing \[(?P<exten>[^@\]]+)@(?P<context>[^:]+):\d+\] (?P<application>\w+)\("
    r'"(?P<channel>[^"]*)", "(?P<data>.*)"\)'
)


@frozen
class Step:
    """One priority of the dialplan as Asterisk logged it; `time` in epoch seconds, to the millisecond."""

    time: float
    channel: str
    context: str
    exten: str
    application: str
    data: str


def steps(pbx: AsteriskInstance) -> list[Step]:
    """What the dialplan did so far, oldest first."""
    found = []
    for line in pbx.log("Executing"):
        match = _STEP.search(line.text)
        if match is not None:
            found.append(Step(line.time, *match.group("channel", "context", "exten", "application", "data")))
    return found


def ways(pbx: AsteriskInstance) -> dict[str, list[str]]:
    """By dialled number, the contexts that its last call came through, in order, each once."""
    numbers: dict[str, str] = {}
    contexts: dict[str, dict[str, None]] = {}
    for step in steps(pbx):
        if step.context == "from-trunk" and step.channel not in numbers:
            numbers[step.channel] = step.exten
        contexts.setdefault(step.channel, {})[step.context] = None
    return {number: list(contexts[channel]) for channel, number in numbers.items()}


def channel_of(pbx: AsteriskInstance, did: str) -> str:
    """The caller's channel of the first call to this number."""
    return next(step.channel for step in steps(pbx) if step.context == "from-trunk" and step.exten == did)


def guard_seconds(pbx: AsteriskInstance) -> list[float]:
    """For each question that the dialplan's guard ended: the seconds from where it is set to the extension T.

    Not from AGI(), the next step: on a busy machine that may be late in the log, while the guard runs already.
    """
    asked: dict[str, float] = {}
    seconds = []
    for step in steps(pbx):
        if (step.application, step.data) == ("Set", "TIMEOUT(absolute)=3"):
            asked[step.channel] = step.time
        elif (step.context, step.exten) == ("cti-ask", "T") and step.channel in asked:
            seconds.append(step.time - asked.pop(step.channel))
    return seconds


def left_in_astdb(pbx: AsteriskInstance) -> list[str]:
    """The ends of calls that nobody has collected yet."""
    return [
        line for line in pbx.cli("database show cti/ended").splitlines() if line.startswith("/cti/ended/")
    ]


def settled(company: Company, count: int, timeout: float = 15.0) -> list[dict[str, Any]]:
    """All records, oldest first, once there are `count` of them and nothing is open any more.

    Nothing: every call over, no agent held, no end left in AstDB. Fails when there are more, or not in time.
    """
    daemon = company.daemon
    last: dict[str, Any] = {}

    def quiet() -> bool:
        # AstDB first: what is cleared away there is in the records that are read afterwards.
        last["left"] = left_in_astdb(company.pbx)
        last["calls"] = calls = daemon.calls(limit="500")
        last["open"] = [call["id"] for call in calls if not call["ended"]]
        last["held"] = [
            id for id, agent in daemon.agents().items() if agent["call"] or agent["state"] != "ready"
        ]
        return len(calls) >= count and not (last["open"] or last["held"] or last["left"])

    try:
        eventually(quiet, timeout, pause=0.1, what="the end of everything")
    except TimeoutError as error:
        state = {key: value for key, value in last.items() if key != "calls"}
        raise AssertionError(f"{error}: {len(last['calls'])} of {count} records, {state}") from error
    calls: list[dict[str, Any]] = last["calls"]
    assert len(calls) == count, f"{len(calls)} records of {count} calls"
    return calls[::-1]


def seconds(iso: str) -> float:
    """Epoch seconds of an ISO 8601 time."""
    return datetime.fromisoformat(iso).timestamp()


def rung(company: Company) -> dict[str, int]:
    """How many calls each phone got so far; a phone that got none is left out."""
    return {name: len(phone.invites) for name, phone in company.phones.items() if phone.invites}
