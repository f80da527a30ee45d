"""Call control against a strict fake of AMI: refusals, silence, a lost connection, and what may never be written."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest
from attrs import frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from cti.asterisk.ami import AmiActionFailed, AmiDisconnected, AmiOverloaded, AmiTimeout
from cti.asterisk.ami_parser import Event, Response, action
from cti.asterisk.channels import Channels
from cti.asterisk.pbx import NotDone, NotPossible, Pbx, PbxAway, PbxError, Refused

ANNA, KATJA, BEN = "1.1", "1.2", "1.3"

#: What Asterisk needs of each action; anything else is not an action of ours.
NEEDS = {
    "Getvar": {"Channel", "Variable"},
    "Hangup": {"Channel", "Cause"},
    "MixMonitor": {"Channel", "File", "Options"},
    "MixMonitorMute": {"Channel", "Direction", "State"},
    "Originate": {"Channel", "ChannelId", "Context", "Exten", "Priority", "Async", "Variable"},
    "PJSIPNotify": {"Channel", "Variable"},
    "Park": {"Channel", "TimeoutChannel"},
    "PlayDTMF": {"Channel", "Digit", "Duration"},
    "Redirect": {"Channel", "Context", "Exten", "Priority"},
    "Setvar": {"Channel", "Variable", "Value"},
    "StopMixMonitor": {"Channel", "MixMonitorID"},
}


class StrictAmi:
    """Says yes to every well-formed action, unless told otherwise by `answers`; keeps variables as Asterisk does."""

    def __init__(self) -> None:
        self.up = True
        self.done: list[tuple[str, dict[str, Any]]] = []
        self.lines: list[bytes] = []
        self.answers: dict[str, Exception | Deferred[Any] | Callable[[dict[str, Any]], None]] = {}
        self.variables: dict[tuple[str, str], str] = {}

    def action(
        self, name: str, /, *, timeout: float | None = None, **fields: str | Iterable[str]
    ) -> "Deferred[Response]":
        written = action(name, fields, "id-1")
        assert NEEDS[name] <= set(fields), f"{name} lacks {NEEDS[name] - set(fields)}"
        assert not any(field.startswith("Extra") for field in fields) or "ExtraChannel" in fields
        self.done.append((name, dict(fields)))
        self.lines += written.split(b"\r\n")
        answer = self.answers.get(name)
        if isinstance(answer, Exception):
            return fail(answer)
        if isinstance(answer, Deferred):
            return answer
        if answer is not None:
            answer(dict(fields))
        headers = {"Response": "Success"}
        if name == "Setvar":
            variable = str(fields["Variable"]).lstrip("_")
            self.variables[str(fields["Channel"]), variable] = str(fields["Value"])
        if name == "Getvar":
            headers["Value"] = self.variables.get((str(fields["Channel"]), str(fields["Variable"])), "")
        return succeed(Response(headers))

    def did(self, name: str) -> list[dict[str, Any]]:
        return [fields for done, fields in self.done if done == name]


class Desk:
    """Anna talks to Katja; `hears` plays Asterisk's events."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.channels = Channels(self.clock)
        self.ami = StrictAmi()
        self.pbx = Pbx("main", cast(Any, self.ami), self.channels, self.clock, **options)
        for uniqueid, name in ((ANNA, "PJSIP/anna-00000001"), (KATJA, "PJSIP/trunk-00000002")):
            self.hears("Newchannel", Uniqueid=uniqueid, Channel=name, ChannelStateDesc="Up")
            self.hears("BridgeEnter", Uniqueid=uniqueid, BridgeUniqueid="b")

    def hears(self, name: str, **headers: str) -> None:
        self.channels.take(Event({"Event": name, **headers}))
        self.channels.tell()

    def arrives(self, uniqueid: str, place: str, **more: str) -> None:
        self.hears("BridgeLeave", Uniqueid=uniqueid, BridgeUniqueid="b")
        self.hears("UserEvent", UserEvent="CtiControl", Uniqueid=uniqueid, At=place, **more)

    def parted(self, fields: dict[str, Any]) -> None:
        """What a Redirect makes Asterisk do."""
        self.arrives(fields["Channel"], fields["Context"])
        if fields["Context"] == "cti-control-meet":
            self.hears("BridgeEnter", Uniqueid=fields["Channel"], BridgeUniqueid="own")
        if "ExtraChannel" in fields:
            self.arrives(fields["ExtraChannel"], fields["ExtraContext"])

    def does(self, operation: str, *arguments: Any, **more: Any) -> list[Any]:
        """What the operation has come to, if it has: its result or its error."""
        results: list[Any] = []
        done = Deferred.fromCoroutine(getattr(self.pbx, operation)(*arguments, **more))
        done.addCallbacks(results.append, lambda failure: results.append(failure.value))
        return results

    def holds(self) -> None:
        """Anna puts Katja on hold."""
        self.ami.answers["Redirect"] = self.parted
        assert self.does("hold_call", ANNA) == [None]


@pytest.fixture
def desk():
    return Desk()


@frozen
class Case:
    """An operation with arguments that are all right, the action that does it, and whether Katja is held before."""

    operation: str
    arguments: tuple[Any, ...]
    action: str = "Redirect"
    held: bool = False


CASES = [
    Case("make_call", ("PJSIP/anna", "017139200"), "Originate"),
    Case("clear_connection", (ANNA,), "Hangup"),
    Case("hold_call", (ANNA,)),
    Case("retrieve_call", (ANNA,), held=True),
    Case("reconnect_call", (ANNA,), held=True),
    Case("consultation_call", (ANNA, "21")),
    Case("single_step_transfer", (KATJA, "queue,7,1")),
    Case("park", (KATJA,), "Park"),
    Case("digits", (KATJA, "1"), "PlayDTMF"),
    Case("start_recording", (ANNA, "a.wav"), "MixMonitor"),
    Case("start_recording", (ANNA, "a.wav", "our/words"), "Originate"),
    Case("pause_recording", (ANNA,), "MixMonitorMute"),
    Case("resume_recording", (ANNA,), "MixMonitorMute"),
    Case("stop_recording", (ANNA, "0x1"), "StopMixMonitor"),
    Case("monitor", ("PJSIP/ben", ANNA, "listen"), "Originate"),
]


def begin(desk: Desk, case: Case, answer: Any = None) -> list[Any]:
    """The operation, done by an action that Asterisk answers so."""
    desk.ami.variables[KATJA, "DIALPLAN_EXISTS(queue,7,1)"] = "1"
    if case.held:
        desk.holds()
        del desk.ami.answers["Redirect"]
    if answer is not None:
        desk.ami.answers[case.action] = answer
    arguments = case.arguments
    if len(arguments) == 3 and case.operation == "start_recording":
        return desk.does(case.operation, *arguments[:2], announcement=arguments[2])
    return desk.does(case.operation, *arguments)


#: What the API calls it, and the method with arguments that are all right. What is done to the other side is not
#: here: Control says whether there is one.
OPERATIONS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "answer": ("answer_call", (ANNA,)),
    "hold": ("hold_call", (ANNA,)),
    "retrieve": ("retrieve_call", (ANNA,)),
    "consult": ("consultation_call", (ANNA, "21")),
    "alternate": ("alternate_call", (ANNA,)),
    "reconnect": ("reconnect_call", (ANNA,)),
    "complete": ("transfer_call", (ANNA,)),
    "conference": ("conference_call", (ANNA, "room")),
    "deflect": ("deflect_call", (ANNA, "queue,7,1")),
    "clear": ("clear_connection", (ANNA,)),
}


def talking() -> Desk:
    return Desk()


def holding() -> Desk:
    desk = Desk()
    desk.holds()
    return desk


def consulting() -> Desk:
    """Anna talks to Ben, while Katja hears music."""
    desk = holding()
    desk.hears("Newchannel", Uniqueid=BEN, Channel="PJSIP/ben-00000003", ChannelStateDesc="Up")
    for uniqueid in (ANNA, BEN):
        desk.hears("BridgeEnter", Uniqueid=uniqueid, BridgeUniqueid="c")
    return desk


def in_a_conference() -> Desk:
    desk = Desk()
    desk.hears("Newchannel", Uniqueid=BEN, Channel="PJSIP/ben-00000003", ChannelStateDesc="Up")
    desk.hears("BridgeEnter", Uniqueid=BEN, BridgeUniqueid="b")
    return desk


def ringing(capable: bool = False) -> Desk:
    desk = Desk(capable=lambda _: capable)
    for uniqueid in (ANNA, KATJA):
        desk.hears("Hangup", Uniqueid=uniqueid)
    desk.hears("Newchannel", Uniqueid=KATJA, Channel="PJSIP/trunk-00000002", ChannelStateDesc="Ring")
    desk.hears("Newchannel", Uniqueid=ANNA, Channel="PJSIP/anna-00000001", ChannelStateDesc="Ringing")
    desk.hears(
        "DialBegin", Uniqueid=KATJA, DestUniqueid=ANNA, DestChannel="PJSIP/anna-00000001", DialString="anna"
    )
    return desk


def holding_by_phone(capable: bool = False) -> Desk:
    desk = Desk(capable=lambda _: capable)
    desk.hears("Hold", Uniqueid=ANNA)
    return desk


SITUATIONS: dict[str, Callable[[], Desk]] = {
    "talking": talking,
    "holding": holding,
    "consulting": consulting,
    "conference": in_a_conference,
    "ringing": ringing,
    "capable rings": lambda: ringing(capable=True),
    "holding by the phone": holding_by_phone,
    "holding by a capable phone": lambda: holding_by_phone(capable=True),
    "a capable phone talks": lambda: Desk(capable=lambda _: True),
}
#: What is accepted and does nothing, as it is so already: no button is shown for it.
NOTHING_TO_DO = {
    ("answer", "talking"), ("answer", "holding"), ("answer", "consulting"), ("answer", "conference"),
    ("answer", "holding by the phone"), ("answer", "holding by a capable phone"), ("answer", "a capable phone talks"),
    ("hold", "holding by the phone"), ("hold", "holding by a capable phone"),
}  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_said_to_be_possible_is_what_would_be_done(operation: str, situation: str) -> None:
    desk = SITUATIONS[situation]()
    possible = desk.pbx.possible(ANNA)
    desk.ami.answers.pop("Redirect", None)
    desk.ami.variables[KATJA, "DIALPLAN_EXISTS(queue,7,1)"] = "1"

    method, arguments = OPERATIONS[operation]
    results = desk.does(method, *arguments)
    # Some wait for a bridge that may be on its way.
    desk.clock.pump([1] * 40)

    accepted = not any(isinstance(result, NotPossible) for result in results)
    assert (operation in possible) == (accepted and (operation, situation) not in NOTHING_TO_DO), results


def test_who_is_held_is_known_again_after_a_restart():
    before = holding()
    desk = Desk()
    desk.ami.variables = before.ami.variables
    desk.hears("BridgeLeave", Uniqueid=ANNA, BridgeUniqueid="b")
    desk.hears("BridgeLeave", Uniqueid=KATJA, BridgeUniqueid="b")
    assert "retrieve" not in desk.pbx.possible(ANNA)
    assert desk.does("recall", ANNA) == [True]
    assert "retrieve" in desk.pbx.possible(ANNA)


def hung_up(desk: Desk) -> list[str]:
    return [fields["Channel"] for fields in desk.ami.did("Hangup")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.operation}-{case.action}")
def test_a_refusal_is_told_in_asterisk_s_words(desk, case):
    results = begin(desk, case, AmiActionFailed("Channel does not exist: x"))

    assert [type(result) for result in results] == [Refused]
    assert "Channel does not exist" in str(results[0])
    assert KATJA not in hung_up(desk)
    assert desk.clock.getDelayedCalls() == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.operation}-{case.action}")
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (AmiTimeout("Asterisk did not answer x in time"), NotDone),
        (AmiOverloaded("1000 actions wait"), PbxAway),
        (AmiDisconnected("Asterisk closed the connection"), PbxAway),
    ],
)
def test_no_answer_and_no_connection_are_told_apart(desk, case, answer, error):
    results = begin(desk, case, answer)

    assert [type(result) for result in results] == [error]
    assert desk.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.operation != "digits"],
    ids=lambda case: f"{case.operation}-{case.action}",
)
def test_a_yes_that_no_event_confirms_is_not_believed(desk, case):
    results = begin(desk, case)
    assert results == []

    desk.clock.pump([5] * 20)

    assert [type(result) for result in results] == [NotDone]
    assert KATJA not in hung_up(desk)
    assert desk.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.operation != "digits"],
    ids=lambda case: f"{case.operation}-{case.action}",
)
def test_an_asterisk_that_goes_away_in_the_middle_is_told_at_once(desk, case):
    results = begin(desk, case)

    desk.ami.up = False
    for name in NEEDS:
        desk.ami.answers[name] = AmiDisconnected("gone")
    desk.channels.forget_all()

    assert [type(result) for result in results] == [PbxAway]
    assert desk.clock.getDelayedCalls() == []


def test_an_asterisk_that_is_away_says_so_and_not_that_the_call_has_ended(desk):
    desk.ami.up = False
    desk.channels.forget_all()

    (error,) = desk.does("hold_call", ANNA)

    assert isinstance(error, PbxAway)


HOSTILE = [
    "",
    "0171\r\nAction: Hangup",
    "0171\nExten: s",
    "21@from-trunk",
    "21,1)&System(x",
    "${SHELL(x)}",
    "0171&PJSIP",
    "0171/n",
    "0" * 41,
    "٠١٧١",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_number_reaches_no_asterisk(desk, text):
    results = [
        *desk.does("make_call", "PJSIP/anna", text),
        *desk.does("make_call", "PJSIP/anna", "0171", office_number=text),
        *desk.does("consultation_call", ANNA, text),
        *desk.does("digits", KATJA, text),
    ]

    assert [type(result) for result in results] == [NotPossible] * 4
    assert desk.ami.done == []


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        *(
            ("make_call", (phone, "0171"))
            for phone in ("anna", "PJSIP/anna&PJSIP/ben", "PJSIP/a\r\nX: y", "Local/x@y/n")
        ),
        *(
            ("single_step_transfer", (KATJA, target))
            for target in (
                "queue",
                "queue,7",
                "queue,7,1)",
                "queue,${X},1",
                "queue,7,1\r\nX: y",
                "a,b,c,d",
                ",,",
            )
        ),
        *(
            ("start_recording", (ANNA, file))
            for file in ("a", "../a.wav", "a,b.wav", "a/../b.wav", "^{X}.wav", "a.wav\r\n")
        ),
        *(("stop_recording", (ANNA, id)) for id in ("", "0x1\r\nX: y", "0x1,1")),
        ("park", (KATJA,)),
        ("conference_call", (ANNA, "room,profile")),
        ("monitor", ("PJSIP/ben", ANNA, "nothing")),
        ("monitor", ("PJSIP/ben&PJSIP/x", ANNA, "listen")),
        ("pickup", ("PJSIP/ben&PJSIP/x", ANNA)),
        ("deflect_call", (ANNA, "x")),
    ],
)
def test_what_is_malformed_reaches_no_asterisk(desk, operation, arguments):
    more = {"lot": "x,y"} if operation == "park" else {}

    results = desk.does(operation, *arguments, **more)

    assert [type(result) for result in results] == [NotPossible]
    assert desk.ami.done == []


@pytest.mark.parametrize("name", ["", "X Y", "PJSIP_HEADER(add,X)", "X=1,Y", "___X", "X\r\nAction"])
def test_a_variable_s_name_is_a_name(desk, name):
    assert type(desk.does("make_call", "PJSIP/anna", "0171", variables={name: "x"})[0]) is NotPossible
    assert type(desk.does("consultation_call", ANNA, "21", variables={name: "x"})[0]) is NotPossible
    assert desk.ami.done == []


def test_a_hostile_value_stays_one_value_of_one_line(desk):
    value = 'a,CTI_OTHER=b"\\(c)[d]\r\nAction: Hangup\r\n\r\n'

    desk.does(
        "make_call",
        "PJSIP/anna",
        "0171",
        variables={"CTI_NOTE": value},
        caller_id=('Katja" <0900>\r\nAction: Hangup', "0171>\r\nExten: s"),
    )

    assert [line for line in desk.ami.lines if line.startswith((b"Action:", b"Exten:"))] == [
        b"Action: Originate",
        b"Exten: 0171",
    ]
    (note,) = [line for line in desk.ami.lines if b"CTI_NOTE" in line]
    assert as_asterisk_splits(note.partition(b": ")[2].decode()) == ["CTI_NOTE=" + value.replace("\r\n", " ")]
    (caller_id,) = [line for line in desk.ami.lines if line.startswith(b"CallerID")]
    assert caller_id == b'CallerID: "Katja 0900Action: Hangup" <0171Exten: s>'


def as_asterisk_splits(text: str) -> list[str]:
    """AST_STANDARD_APP_ARGS of main/app.c, by which a Variable line is read."""
    parts, part, parentheses, brackets, quoted = [], "", 0, 0, False
    letters = iter(text)
    for letter in letters:
        if letter == "\\":
            part += next(letters, "")
            continue
        if letter == '"':
            quoted = not quoted
            continue
        if letter == "," and not (parentheses or brackets or quoted):
            parts.append(part)
            part = ""
            continue
        parentheses = max(0, parentheses + {"(": 1, ")": -1}.get(letter, 0))
        brackets = max(0, brackets + {"[": 1, "]": -1}.get(letter, 0))
        part += letter
    return [*parts, part]


def test_what_asterisk_would_cut_is_refused(desk):
    (error,) = desk.does("make_call", "PJSIP/anna", "0171", variables={"X": "x" * 2000})

    assert isinstance(error, NotPossible)
    assert desk.ami.done == []


def test_a_second_click_waits_for_the_first(desk):
    first = desk.does("hold_call", ANNA)
    second = desk.does("hold_call", ANNA)
    desk.clock.pump([5, 5])

    assert "at this moment" in str(second[0])
    assert isinstance(first[0], NotDone)
    desk.ami.answers["Redirect"] = desk.parted
    assert desk.does("hold_call", ANNA) == [None]


def test_a_call_that_has_ended_can_only_be_ended(desk):
    desk.hears("Hangup", Uniqueid=ANNA)

    assert desk.does("clear_connection", ANNA) == [None]
    assert desk.does("stop_recording", ANNA, "0x1") == [None]
    for operation in ("answer_call", "hold_call", "retrieve_call", "alternate_call", "transfer_call"):
        (error,) = desk.does(operation, ANNA)
        assert (type(error), str(error)) == (NotPossible, "that call has ended")
    assert desk.ami.done == []


def test_a_channel_that_went_while_it_was_hung_up_is_fine(desk):
    desk.ami.answers["Hangup"] = AmiActionFailed("No such channel")

    results = desk.does("clear_connection", ANNA)
    desk.hears("Hangup", Uniqueid=ANNA)

    assert results == [None]


def test_only_capable_phones_are_told_to_answer_and_to_hold():
    desk = Desk(capable=lambda phone: phone == "PJSIP/anna")
    desk.hears("Newchannel", Uniqueid=BEN, Channel="PJSIP/ben-00000003", ChannelStateDesc="Ringing")

    assert isinstance(desk.does("answer_call", BEN)[0], NotPossible)
    holding = desk.does("hold_call", ANNA)
    assert desk.ami.did("PJSIPNotify") == [{"Channel": "PJSIP/anna-00000001", "Variable": "Event=hold"}]
    assert holding == []
    desk.hears("Hold", Uniqueid=ANNA)
    assert holding == [None]
    taking = desk.does("retrieve_call", ANNA)
    desk.hears("Unhold", Uniqueid=ANNA)

    assert taking == [None]
    assert desk.ami.did("Redirect") == []


def test_a_phone_that_was_put_on_hold_by_hand_is_taken_off_by_hand(desk):
    desk.hears("Hold", Uniqueid=ANNA)

    for operation, more in (("retrieve_call", ()), ("consultation_call", ("21",))):
        (error,) = desk.does(operation, ANNA, *more)
        assert str(error) == "PJSIP/anna holds the call itself: take it back there"
    assert desk.ami.done == []


def test_a_call_is_deflected_once_the_phone_is_silent(desk):
    desk.ami.variables[KATJA, "DIALPLAN_EXISTS(queue,7,1)"] = "1"
    desk.ami.answers["Redirect"] = desk.parted
    desk.hears(
        "DialBegin", Uniqueid=KATJA, DestUniqueid=BEN, DestChannel="PJSIP/ben-00000003", DialString="ben"
    )

    deflecting = desk.does("deflect_call", BEN, "queue,7,1")
    assert deflecting == []
    desk.hears("Hangup", Uniqueid=BEN)

    assert deflecting == [None]
    assert [fields["Channel"] for fields in desk.ami.did("Redirect")] == [KATJA]


def test_who_rings_is_found_behind_local_channels_and_a_circle_of_them_is_nobody(desk):
    desk.ami.variables[KATJA, "DIALPLAN_EXISTS(queue,7,1)"] = "1"
    desk.hears("DialBegin", Uniqueid=KATJA, DestUniqueid="2.1", DestChannel="Local/b@x-1;1", DialString="b@x")
    desk.hears("Newchannel", Uniqueid="2.2", Channel="Local/b@x-1;2")
    desk.hears("LocalBridge", LocalOneUniqueid="2.1", LocalTwoUniqueid="2.2")
    desk.hears("DialBegin", Uniqueid="2.2", DestUniqueid=BEN, DestChannel="PJSIP/ben-3", DialString="ben")

    desk.does("deflect_call", BEN, "queue,7,1")
    assert [fields["Channel"] for fields in desk.ami.did("Redirect")] == [KATJA]
    desk.clock.pump([5, 5])
    desk.hears("DialBegin", Uniqueid="2.2", DestUniqueid="2.1", DestChannel="Local/b@x-1;1", DialString="b@x")
    (error,) = desk.does("deflect_call", BEN, "queue,7,1")

    assert str(error) == "nobody is calling that phone"


def test_a_phone_that_is_busy_is_told_by_the_end_of_its_channel(desk):
    ringing = desk.does("make_call", "PJSIP/anna", "0171")
    own = desk.ami.did("Originate")[0]["ChannelId"]
    desk.hears("Newchannel", Uniqueid=own, Channel="PJSIP/anna-00000009", ChannelStateDesc="Down")

    desk.hears("OriginateResponse", Uniqueid=own, Response="Failure", Reason="0")
    assert ringing == []
    desk.hears("Hangup", Uniqueid=own, Cause="17")

    assert isinstance(ringing[0], Refused)
    assert str(ringing[0]) == "PJSIP/anna does not ring: it is busy"


def test_a_phone_that_is_not_there_never_gets_a_channel(desk):
    ringing = desk.does("make_call", "PJSIP/anna", "0171")
    own = desk.ami.did("Originate")[0]["ChannelId"]

    desk.hears("OriginateResponse", Uniqueid="another", Response="Failure", Reason="0")
    assert ringing == []
    desk.hears("OriginateResponse", Uniqueid=own, Response="Failure", Reason="0")

    assert str(ringing[0]) == "PJSIP/anna does not ring: it cannot be reached"


def test_a_phone_that_has_answered_before_its_channel_is_told_of_rings_all_the_same(desk):
    ringing = desk.does("make_call", "PJSIP/anna", "0171")
    own = desk.ami.did("Originate")[0]["ChannelId"]

    desk.hears("OriginateResponse", Uniqueid=own, Response="Success", Reason="4")
    assert ringing == []
    desk.hears("Newchannel", Uniqueid=own, Channel="PJSIP/anna-00000009", ChannelStateDesc="Down")
    desk.hears("Newstate", Uniqueid=own, Channel="PJSIP/anna-00000009", ChannelStateDesc="Up")

    assert ringing == [own]


def test_a_phone_that_never_rings_is_released(desk):
    ringing = desk.does("make_call", "PJSIP/anna", "0171")
    own = desk.ami.did("Originate")[0]["ChannelId"]
    desk.hears("Newchannel", Uniqueid=own, Channel="PJSIP/anna-00000009", ChannelStateDesc="Down")

    desk.clock.pump([5] * 5)

    assert isinstance(ringing[0], NotDone)
    assert hung_up(desk) == [own]


def test_an_outside_line_is_never_asked_to_answer_by_itself(desk):
    for phone in ("PJSIP/anna", "PJSIP/0171@trunk", "SIP/anna"):
        desk.does("make_call", phone, "0171", auto_answer=True)

    headers = [
        [line for line in fields["Variable"] if "PJSIP_HEADER" in line]
        for fields in desk.ami.did("Originate")
    ]
    assert [len(of_phone) for of_phone in headers] == [2, 0, 0]


def test_a_consultation_that_fails_brings_the_customer_back(desk):
    def answer(fields: dict[str, Any]) -> None:
        desk.parted(fields)
        if fields["Context"] == "cti-control-join" or fields.get("ExtraContext") == "cti-control-join":
            for uniqueid in (ANNA, KATJA):
                desk.hears("BridgeEnter", Uniqueid=uniqueid, BridgeUniqueid="c")

    desk.ami.answers["Redirect"] = answer
    results = desk.does("consultation_call", ANNA, "21")
    assert results == []

    desk.hears("UserEvent", UserEvent="CtiControl", Uniqueid=ANNA, At="cti-control-consulted", Status="BUSY")

    assert str(results[0]) == "the number is busy"
    assert desk.channels.get(ANNA).bridge == desk.channels.get(KATJA).bridge == "c"


def a_desk_with_a_consultation() -> Desk:
    """Anna talks to Ben and holds Katja; each call has its id."""
    desk = Desk()
    desk.holds()
    for uniqueid, name, call in (
        (KATJA, "PJSIP/trunk-00000002", "c-1"),
        (BEN, "PJSIP/ben-00000003", "c-2"),
        (ANNA, "PJSIP/anna-00000001", "c-2"),
    ):
        headers = {"Event": "Newstate", "Uniqueid": uniqueid, "Channel": name, "ChannelStateDesc": "Up"}
        desk.channels.take(Event({**headers, "ChanVariable": f"CTI_CALL_ID={call}"}))
        desk.ami.variables[uniqueid, "CTI_CALL_ID"] = call
    desk.ami.variables[ANNA, "CTI_CONSULTS_FOR"] = KATJA
    for uniqueid in (ANNA, BEN):
        desk.hears("BridgeEnter", Uniqueid=uniqueid, BridgeUniqueid="b")
    desk.ami.done.clear()
    return desk


def test_two_are_not_put_on_hold_at_once_since_one_would_be_forgotten():
    desk = a_desk_with_a_consultation()

    for operation, more in (("hold_call", ()), ("consultation_call", ("22",))):
        (error,) = desk.does(operation, ANNA, *more)
        assert "on hold already" in str(error)
    assert desk.ami.did("Redirect") == []


def test_an_alternation_that_is_refused_leaves_everything_as_it_was():
    desk = a_desk_with_a_consultation()
    desk.ami.answers["Redirect"] = AmiActionFailed("Channel does not exist: x")

    (error,) = desk.does("alternate_call", ANNA)

    assert isinstance(error, Refused)
    assert desk.ami.variables[ANNA, "CTI_HOLDS"] == KATJA
    assert desk.ami.variables[ANNA, "CTI_CALL_ID"] == "c-2"


def test_an_alternation_whose_other_side_hangs_up_goes_back_to_who_is_left():
    desk = a_desk_with_a_consultation()

    def redirected(fields: dict[str, Any]) -> None:
        desk.parted(fields)
        if "ExtraChannel" in fields:
            desk.hears("Hangup", Uniqueid=KATJA)
        else:
            for uniqueid in (ANNA, BEN):
                desk.hears("BridgeEnter", Uniqueid=uniqueid, BridgeUniqueid="c")

    desk.ami.answers["Redirect"] = redirected
    (error,) = desk.does("alternate_call", ANNA)

    assert str(error) == "that call has ended"
    assert desk.channels.get(ANNA).bridge == desk.channels.get(BEN).bridge == "c"


def test_who_talks_again_is_in_that_call_again():
    desk = a_desk_with_a_consultation()

    desk.does("reconnect_call", ANNA)

    assert desk.ami.variables[ANNA, "CTI_CALL_ID"] == "c-1"
    assert desk.ami.variables[ANNA, "CTI_WITH"] == "PJSIP/trunk-00000002"


def test_who_is_transferred_to_is_in_the_customer_s_call_from_then_on():
    desk = a_desk_with_a_consultation()

    desk.does("transfer_call", ANNA)

    assert desk.ami.variables[BEN, "CTI_CALL_ID"] == "c-1"
    fetched, redirect = desk.ami.did("Redirect")
    assert (fetched["Channel"], fetched["Context"]) == (KATJA, "cti-control-meet")
    assert (redirect["Channel"], redirect["Context"]) == (BEN, "cti-control-join")
    assert (redirect["ExtraChannel"], redirect["ExtraContext"]) == (ANNA, "cti-control-wait")


def test_a_consultation_that_is_refused_leaves_the_agent_in_the_first_call(desk):
    desk.channels.take(
        Event(
            {
                "Event": "Newstate",
                "Uniqueid": KATJA,
                "Channel": "PJSIP/t-2",
                "ChanVariable": "CTI_CALL_ID=c-1",
            }
        )
    )
    desk.ami.answers["Redirect"] = AmiActionFailed("Redirect failed")

    (error,) = desk.does("consultation_call", ANNA, "21", variables={"__CTI_CALL_ID": "c-2"})

    assert isinstance(error, Refused)
    assert [value["Value"] for value in desk.ami.did("Setvar") if value["Variable"] == "__CTI_CALL_ID"] == [
        "c-2",
        "c-1",
    ]


def test_a_place_that_the_dialplan_does_not_have_is_told_before_anybody_is_moved(desk):
    (error,) = desk.does("single_step_transfer", KATJA, "queue,7,1")

    assert str(error) == "the dialplan of main has no queue,7,1"
    assert desk.ami.did("Redirect") == []


def just_answered() -> Desk:
    """Anna has picked up, which Asterisk tells before it tells of a bridge."""
    desk = Desk()
    for uniqueid in (ANNA, KATJA):
        desk.hears("BridgeLeave", Uniqueid=uniqueid, BridgeUniqueid="b")
    desk.ami.answers["Redirect"] = desk.parted
    return desk


@pytest.mark.parametrize(("operation", "channel"), [("hold_call", ANNA), ("park", KATJA)])
def test_what_is_asked_for_just_after_the_answer_waits_for_the_bridge(operation, channel):
    desk = just_answered()

    results = desk.does(operation, channel)
    desk.clock.advance(0.9)
    assert (results, desk.ami.did("Redirect"), desk.ami.did("Park")) == ([], [], [])
    for uniqueid in (ANNA, KATJA):
        desk.hears("BridgeEnter", Uniqueid=uniqueid, BridgeUniqueid="c")

    assert len(desk.ami.did("Redirect") + desk.ami.did("Park")) == 1


def test_who_talks_to_nobody_is_told_so_after_a_second():
    desk = just_answered()

    results = desk.does("hold_call", ANNA)
    desk.clock.advance(1)

    assert [str(result) for result in results] == ["nobody is talking there"]
    assert isinstance(results[0], NotPossible)
    assert desk.clock.getDelayedCalls() == []


def test_who_hangs_up_instead_of_talking_is_not_waited_for():
    desk = just_answered()

    results = desk.does("hold_call", ANNA)
    desk.hears("Hangup", Uniqueid=ANNA)

    assert [str(result) for result in results] == ["that call has ended"]


def test_a_consultation_is_completed_just_after_its_answer():
    desk = a_desk_with_a_consultation()
    desk.hears("BridgeLeave", Uniqueid=ANNA, BridgeUniqueid="b")
    desk.hears(
        "DialBegin", Uniqueid=ANNA, DestUniqueid=BEN, DestChannel="PJSIP/ben-00000003", DialString="ben"
    )

    results = desk.does("transfer_call", ANNA)
    assert (results, desk.ami.did("Redirect")) == ([], [])
    desk.hears("BridgeEnter", Uniqueid=ANNA, BridgeUniqueid="b")

    assert [fields["Channel"] for fields in desk.ami.did("Redirect")] == [KATJA, BEN]


def test_a_conference_is_not_taken_for_a_conversation(desk):
    desk.hears("Newchannel", Uniqueid=BEN, Channel="PJSIP/ben-00000003", ChannelStateDesc="Up")
    desk.hears("BridgeEnter", Uniqueid=BEN, BridgeUniqueid="b")

    assert str(desk.does("hold_call", ANNA)[0]) == "that is a conference"


def test_every_failure_is_one_of_a_few_kinds():
    assert {NotPossible, Refused, NotDone, PbxAway} <= set(PbxError.__subclasses__())
