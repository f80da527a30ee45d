"""The measures of the reports: what each is called, what it means, and how it follows from what was counted.

A definition is shown wherever its figures are. Counts can be added up, whatever they are of; a measure that is no
count, such as a share, is made of the sums, never of other shares.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final

from attrs import frozen

Value = int | float | None


class Unit(StrEnum):
    """What a figure counts; a share is a number from 0 to 1."""

    NUMBER = "number"
    SECONDS = "seconds"
    SHARE = "share"


class Counts(dict[str, float]):
    """What was counted, by name; what is not there was not seen."""

    def __missing__(self, key: str) -> float:
        return 0

    def add(self, other: Mapping[str, float]) -> None:
        for name, value in other.items():
            self[name] = max(self[name], value) if name in LONGEST else self[name] + value


#: Of these, the whole is the longest of the parts.
LONGEST: Final = frozenset({"longest_wait"})


@frozen
class Measure:
    """`of`: the figure out of the counts; None where there is nothing to tell, such as the share of no calls.

    `brief`: one of those that people look at first.
    """

    name: str
    title: str
    unit: Unit
    definition: str
    of: Callable[[Counts], Value]

    @property
    def brief(self) -> bool:
        return self.name in _BRIEF


_BRIEF: Final = frozenset(
    {
        "calls",
        "answered",
        "missed",
        "abandoned",
        "service_level",
        "average_wait",
        "longest_wait",
        "average_handling",
        "knew_caller",
        "offers",
        "taken",
        "not_taken",
        "made",
        "agents",
        "ready_time",
        "paused_time",
        "busy_time",
        "wrap_up_time",
        "logged_in_time",
        "occupancy",
    }
)


def _counted(name: str, title: str, definition: str, unit: Unit = Unit.NUMBER) -> Measure:
    def of(counts: Counts) -> Value:
        return _rounded(counts[name], unit)

    return Measure(name, title, unit, definition, of)


def _ratio(
    name: str,
    title: str,
    definition: str,
    part: Callable[[Counts], float],
    whole: Callable[[Counts], float],
    unit: Unit = Unit.SHARE,
) -> Measure:
    def of(counts: Counts) -> Value:
        divisor = whole(counts)
        return _rounded(part(counts) / divisor, unit) if divisor > 0 else None

    return Measure(name, title, unit, definition, of)


def _rounded(value: float, unit: Unit) -> Value:
    if unit is Unit.NUMBER:
        return round(value)
    return round(value, 3 if unit is Unit.SECONDS else 4)


def _wanted(counts: Counts) -> float:
    return counts["answered"] + counts["missed"] + counts["abandoned"] - counts["short"]


def _handled(counts: Counts) -> float:
    return counts["talk"] + counts["wrap_up"]


def _with_calls(counts: Counts) -> float:
    return counts["offered_time"] + counts["busy_time"] + counts["wrap_up_time"]


def _at_work(counts: Counts) -> float:
    return _with_calls(counts) + counts["ready_time"]


#: What became of a call, in the words of the log; and `open`, of one that is not over.
OUTCOMES: Final[Mapping[str, str]] = {
    "answered": "Calls in which a person talked.",
    "missed": "Calls for which somebody's phone rang, and in which nobody talked.",
    "abandoned": "Calls whose caller left before anybody's phone rang.",
    "voicemail": "Calls that ended in a mailbox.",
    "self_service": "Calls that ended with an announcement, or in a place of the company's own dialplan.",
    "rejected": "Calls that were turned away.",
    "busy": "Calls that met a busy line.",
    "failed": "Calls that could not be connected.",
    "fallback": "Calls that ended at the fallback of their service.",
    "open": "Calls that are not over yet; they are in `calls`, and in no other measure but this.",
}

CALL_MEASURES: Final[Sequence[Measure]] = (
    _counted(
        "calls",
        "Calls",
        "Calls that began in this time, whatever became of them: one for each that a caller made, however often"
        " it was offered or transferred. The sum of the outcomes.",
    ),
    *(_counted(word, word.replace("_", " ").capitalize(), text) for word, text in OUTCOMES.items()),
    _counted(
        "short",
        "Given up at once",
        "Missed and abandoned calls whose caller left within the first {short} s. They are left out of the service"
        " level, for nobody could have answered them.",
    ),
    _ratio(
        "service_level",
        "Service level",
        "Calls answered within the threshold of their service ({levels}), by all that were answered, missed or"
        " abandoned, less those given up at once. Counted from the beginning of the call.",
        lambda counts: counts["within"],
        _wanted,
    ),
    _counted(
        "within", "Answered in time", "Calls answered within the threshold of their service ({levels})."
    ),
    _ratio(
        "answer_rate",
        "Answer rate",
        "Answered calls by all that were answered, missed or abandoned, less those given up at once.",
        lambda counts: counts["answered"],
        _wanted,
    ),
    _ratio(
        "average_wait",
        "Average wait",
        "Of answered calls: seconds from the beginning of the call to the answer.",
        lambda counts: counts["wait"],
        lambda counts: counts["answered"],
        Unit.SECONDS,
    ),
    _counted("longest_wait", "Longest wait", "The longest wait of an answered call.", Unit.SECONDS),
    _ratio(
        "average_wait_lost",
        "Average wait of the lost",
        "Of missed and abandoned calls: seconds until the caller left, or was sent on.",
        lambda counts: counts["wait_lost"],
        lambda counts: counts["missed"] + counts["abandoned"],
        Unit.SECONDS,
    ),
    _counted(
        "talk",
        "Talk",
        "Seconds from the answer to the end of the call, with transfers and the time on hold.",
        Unit.SECONDS,
    ),
    _ratio(
        "average_talk",
        "Average talk",
        "`talk` by the answered calls.",
        lambda counts: counts["talk"],
        lambda counts: counts["answered"],
        Unit.SECONDS,
    ),
    _counted(
        "wrap_up",
        "Wrap-up",
        "Seconds that agents were held afterwards to write these calls up, all agents of a call together.",
        Unit.SECONDS,
    ),
    _ratio(
        "average_handling",
        "Average handling time",
        "`talk` and `wrap_up` by the answered calls.",
        _handled,
        lambda counts: counts["answered"],
        Unit.SECONDS,
    ),
    _ratio(
        "knew_caller",
        "Answered by who knew them",
        "Share of the answered calls whose first agent is the caller's owner in the CRM, or was the last who had"
        " talked with this number before, in either direction. Noted when the call ended.",
        lambda counts: counts["knew"],
        lambda counts: counts["answered"],
    ),
)

#: What agents' time is made of.
_TIMES: Final = (
    _counted("ready_time", "Ready", "Seconds in which they could be offered a call.", Unit.SECONDS),
    _counted("paused_time", "Paused", "Seconds of pauses.", Unit.SECONDS),
    _counted("offered_time", "Being offered", "Seconds in which a call was offered to them.", Unit.SECONDS),
    _counted(
        "busy_time",
        "Busy",
        "Seconds in which they had a call, or a phone of theirs was in use, also for calls that they made.",
        Unit.SECONDS,
    ),
    _counted("wrap_up_time", "In wrap-up", "Seconds in which they wrote a call up.", Unit.SECONDS),
    Measure(
        "logged_in_time",
        "Logged in",
        Unit.SECONDS,
        "The sum of these times. While the server did not run nobody was seen, and no time is counted.",
        lambda counts: _rounded(_at_work(counts) + counts["paused_time"], Unit.SECONDS),
    ),
    _ratio(
        "occupancy",
        "Occupancy",
        "Time being offered a call, busy or in wrap-up, by the time logged in without pauses.",
        _with_calls,
        _at_work,
    ),
)

AGENT_MEASURES: Final[Sequence[Measure]] = (
    _counted(
        "offers",
        "Offers",
        "Offers of calls that began in this time, to this agent alone or with others; one call may be offered several"
        " times. The sum of the next five.",
    ),
    _counted("taken", "Taken", "Offers that they answered."),
    _counted("taken_by_others", "Taken by others", "Offers that somebody else answered."),
    _counted("not_taken", "Not taken", "Offers that rang until their time was over."),
    _counted("caller_left", "Caller left", "Offers during which the caller left."),
    _counted("not_reached", "Not reached", "Offers whose phone was busy, away or forwarded, or broke off."),
    _counted("talk", "Talk", "Seconds that they talked in calls offered to them.", Unit.SECONDS),
    _ratio(
        "average_talk",
        "Average talk",
        "`talk` by the offers taken.",
        lambda counts: counts["talk"],
        lambda counts: counts["taken"],
        Unit.SECONDS,
    ),
    _counted("wrap_up", "Wrap-up", "Seconds that they were held to write these calls up.", Unit.SECONDS),
    _counted("made", "Calls made", "Calls to outside that they made."),
    _counted("reached", "Reached", "Of these, those that were answered."),
    _counted("made_talk", "Talk in calls made", "Seconds that they talked in these.", Unit.SECONDS),
    *_TIMES,
)

TEAM_MEASURES: Final[Sequence[Measure]] = (
    _counted("agents", "Agents", "How many different agents were logged in at some moment of this time."),
    *_TIMES,
)
