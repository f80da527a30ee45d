"""AMI bytes in, events and responses out; actions that can't become more than one."""

from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from cti.asterisk.ami_parser import (
    MAX_SHAPES,
    MAX_SHAPES_OF_NAME,
    AmiEvent,
    AmiFieldError,
    AmiParser,
    AmiProtocolError,
    Banner,
    Event,
    Response,
    Unknown,
    action,
)
from tests.fuzz.as_asterisk_reads import ami_fields

BANNER = b"Asterisk Call Manager/9.0.0\r\n"

NEWSTATE = (
    b"Event: Newstate\r\n"
    b"Privilege: call,all\r\n"
    b"Timestamp: 1700000000.123456\r\n"
    b"Channel: PJSIP/anna-00000002\r\n"
    b"ChannelStateDesc: Ringing\r\n"
    b"CallerIDName: Firma: M\xc3\xbcller GmbH\r\n"
    b"AccountCode: \r\n"
    b"Uniqueid: main-1700000000.2\r\n"
    b"ChanVariable: __CTI_CALL_ID=c1\r\n"
    b"ChanVariable: CTI_X=a=b\r\n"
    b"\r\n"
)
HANGUP = b"Event: Hangup\r\nUniqueid: main-1700000000.2\r\nCause: 16\r\n\r\n"
PONG = b"Response: Success\r\nActionID: cti-1\r\nPing: Pong\r\n\r\n"
OUTPUT = (
    b"Response: Success\r\nActionID: cti-2\r\nMessage: Command output follows\r\n"
    b"Output: first\r\nOutput: \r\nOutput: third: x\r\n\r\n"
)


def a_greeted_parser(
    wanted: frozenset[bytes] | None = None, own_ids: str | None = None, **limits: int
) -> AmiParser:
    parser = AmiParser(wanted, own_ids, **limits)
    parser.feed(BANNER)
    return parser


def the_event(block: bytes) -> Event:
    (event,) = a_greeted_parser().feed(block)
    assert isinstance(event, Event)
    return event


def the_response(block: bytes) -> Response:
    (response,) = a_greeted_parser().feed(block)
    assert isinstance(response, Response)
    return response


def in_pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


# What Asterisk says


def test_the_banner_comes_first() -> None:
    assert AmiParser().feed(BANNER) == [Banner("9.0.0")]


def test_an_event_has_its_headers() -> None:
    event = the_event(NEWSTATE)
    assert event.name == "Newstate"
    assert event["Channel"] == "PJSIP/anna-00000002"
    assert event["CallerIDName"] == "Firma: Müller GmbH"
    assert event["AccountCode"] == ""
    assert event.get("Nothing") == ""
    assert event.action_id is None


def test_every_channel_variable_is_kept() -> None:
    event = the_event(NEWSTATE)
    assert event.channel_variables == {"__CTI_CALL_ID": "c1", "CTI_X": "a=b"}
    assert event.dest_channel_variables == {}


def test_variables_of_the_dialled_channel_are_its_own() -> None:
    event = the_event(b"Event: DialBegin\r\nChanVariable: A=1\r\nDestChanVariable: A=2\r\n\r\n")
    assert event.channel_variables == {"A": "1"}
    assert event.dest_channel_variables == {"A": "2"}


def test_every_line_of_output_is_kept() -> None:
    response = the_response(OUTPUT)
    assert response.all("Output") == ("first", "", "third: x")
    assert response.all("Message") == ("Command output follows",)
    assert response.all("Nothing") == ()


def test_a_timestamp_is_unix_time() -> None:
    assert the_event(NEWSTATE).timestamp == 1700000000.123456
    assert the_event(HANGUP).timestamp is None


@pytest.mark.parametrize("stamp", [b"nan", b"inf", b"1e400", b"-1", b"", b"12:00"])
def test_a_timestamp_that_is_none_is_not_guessed(stamp: bytes) -> None:
    assert the_event(b"Event: X\r\nTimestamp: " + stamp + b"\r\n\r\n").timestamp is None


@pytest.mark.parametrize(
    ("word", "success"),
    [(b"Success", True), (b"Goodbye", True), (b"Follows", True), (b"Error", False), (b"?", False)],
)
def test_a_response_is_a_success_or_not(word: bytes, success: bool) -> None:
    response = the_response(b"Response: " + word + b"\r\nActionID: 7\r\nMessage: m\r\n\r\n")
    assert response.success is success
    assert response.action_id == "7"
    assert response.message == "m"


def test_a_latin_1_name_is_read_and_spoils_no_other_header() -> None:
    event = the_event(b"Event: X\r\nCallerIDName: J\xfcrgen\r\nConnectedLineName: M\xc3\xbcller\r\n\r\n")
    assert event["CallerIDName"] == "Jürgen"
    assert event["ConnectedLineName"] == "Müller"


def test_a_lone_newline_in_a_value_neither_ends_the_line_nor_the_message() -> None:
    event = the_event(b"Event: X\r\nA: one\n\nEvent: Hangup\nUniqueid: 1\r\nB: two\r\n\r\n")
    assert event["A"] == "one\n\nEvent: Hangup\nUniqueid: 1"
    assert event["B"] == "two"
    assert "Uniqueid" not in event.headers


def test_a_value_may_run_on_to_a_next_line() -> None:
    event = the_event(b"Event: X\r\nA: one\r\nand two: three\r\nB: two\r\nC:\r\nD:x\r\n\r\n")
    assert event["A"] == "one\r\nand two: three"
    assert event["B"] == "two"
    assert event["C"] == ""
    assert event["D"] == "x"


def test_a_header_that_repeats_gives_its_first_value() -> None:
    event = the_event(b"Event: X\r\nUniqueid: 1\r\nUniqueid: 2\r\n\r\n")
    assert event["Uniqueid"] == "1"
    assert event.all("Uniqueid") == ("1", "2")


@pytest.mark.parametrize(
    ("block", "tampered"),
    [
        (NEWSTATE, False),
        (b"Event: X\r\nChanVariable: A=1\r\nChanVariable: B=2\r\nDestChanVariable: A=1\r\n\r\n", False),
        (b"Event: Newstate\r\nCallerIDNum: 1\r\nUniqueid: victim\r\nUniqueid: main-1\r\n\r\n", True),
        (b"Event: Newstate\r\nCallerIDNum: 1\r\nEvent: Hangup\r\nUniqueid: main-1\r\n\r\n", True),
    ],
)
def test_a_header_that_a_caller_has_written_into_an_event_is_seen(block: bytes, tampered: bool) -> None:
    assert the_event(block).tampered is tampered


@pytest.mark.parametrize(
    "block",
    [
        NEWSTATE,
        HANGUP,
        b"Event: X\r\nCallerIDName: J\xfcrgen\r\nA: \r\nConnectedLineName: M\xc3\xbcller: two\r\n\r\n",
        b"Event: X\r\nA: one\n\nEvent: Hangup\nUniqueid: 1\r\nB: two\r\n\r\n",
        b"Event: X\r\nA: one\r\nand two: three\r\nB: two\r\nC:\r\nD:x\r\n\r\n",
        b"Event: X\r\nChanVariable: A=1\r\nChanVariable: B=2\r\n\r\n",
    ],
)
def test_an_event_like_an_earlier_one_is_read_as_that_was(block: bytes) -> None:
    parser = a_greeted_parser()
    (first,), (again,) = parser.feed(block), parser.feed(block)
    assert isinstance(first, Event)
    assert isinstance(again, Event)
    assert again == first
    assert dict(again.headers) == dict(first.headers)
    assert (again.get("A", "-"), again.get("Nothing", "-")) == (first.get("A", "-"), "-")
    assert ("A" in again.headers, "Nothing" in again.headers) == ("A" in first.headers, False)


def test_a_header_written_into_an_event_is_seen_however_many_came_without() -> None:
    parser = a_greeted_parser()
    honest = b"Event: Newstate\r\nCallerIDNum: 1\r\nUniqueid: main-1\r\n\r\n"
    forged = honest.replace(b"Num: 1\r\n", b"Num: 1\r\nUniqueid: victim\r\n")
    events = parser.feed(honest + honest + forged + honest + forged + honest)
    assert [isinstance(event, Event) and event.tampered for event in events] == [
        *(False, False, True, False, True, False)
    ]


def test_a_nul_in_an_event_like_an_earlier_one_is_refused() -> None:
    parser = a_greeted_parser()
    parser.feed(b"Event: X\r\nA: one\r\n\r\n")
    with pytest.raises(AmiProtocolError):
        parser.feed(b"Event: X\r\nA: o\0e\r\n\r\n")


def test_shapes_of_events_are_not_kept_without_end() -> None:
    parser = a_greeted_parser()
    for number in range(1000):
        parser.feed(b"Event: X%d\r\nH%d: 1\r\n\r\n" % (number // 8, number))
    kept = [len(shapes) for shapes in parser._shapes.values()]
    assert (max(kept), sum(kept)) == (MAX_SHAPES_OF_NAME, MAX_SHAPES)


def test_only_wanted_events_are_read_and_responses_always() -> None:
    parser = a_greeted_parser(frozenset([b"Hangup"]))
    names = [type(message).__name__ for message in parser.feed(NEWSTATE + HANGUP + PONG)]
    assert names == ["Event", "Response"]


def test_entries_of_our_own_lists_are_read_though_not_wanted() -> None:
    parser = a_greeted_parser(frozenset([b"Hangup"]), "cti-")
    ours = b"Event: CoreShowChannel\r\nActionID: cti-5\r\n\r\n"
    others = b"Event: CoreShowChannel\r\nActionID: other-5\r\n\r\n"
    (event,) = parser.feed(ours + others)
    assert isinstance(event, Event)
    assert event.action_id == "cti-5"


def test_an_event_of_one_line_is_an_event() -> None:
    (event,) = a_greeted_parser(frozenset([b"Reload"])).feed(b"Event: Reload\r\n\r\n")
    assert isinstance(event, Event)
    assert event.name == "Reload"


def test_a_blank_line_too_many_is_harmless() -> None:
    messages = a_greeted_parser().feed(HANGUP + b"\r\n" + HANGUP + b"\r\n\r\n" + HANGUP)
    assert [type(message) for message in messages] == [Event, Event, Event]


def test_a_message_that_is_neither_does_not_end_the_stream() -> None:
    messages = a_greeted_parser().feed(b"Something: else\r\n\r\n" + HANGUP)
    assert isinstance(messages[0], Unknown)
    assert isinstance(messages[1], Event)


# What Asterisk never says


@pytest.mark.parametrize(
    "data", [b"H", b"SSH-2.0-x\r\n", b"Asterisk\r\n", b"Asterisk Call Manager/" + b"9" * 300]
)
def test_what_does_not_greet_like_asterisk_is_refused(data: bytes) -> None:
    with pytest.raises(AmiProtocolError, match="manager port"):
        AmiParser().feed(data)


def test_a_message_without_end_is_refused() -> None:
    parser = a_greeted_parser(max_block=1000)
    assert parser.feed(b"Event: X\r\n" + b"x" * 990) == []
    with pytest.raises(AmiProtocolError, match="1000 bytes"):
        parser.feed(b"x")


def test_a_message_too_long_is_refused_though_complete() -> None:
    with pytest.raises(AmiProtocolError, match="1000 bytes"):
        a_greeted_parser(max_block=1000).feed(b"Event: X\r\n" + b"x" * 1000 + b"\r\n\r\n")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 2000])
@pytest.mark.parametrize(("length", "read"), [(1000, 1), (1001, 0)])
def test_the_limit_is_the_same_in_any_pieces(size: int, length: int, read: int) -> None:
    data = b"Event: X\r\n" + b"x" * (length - 10) + b"\r\n\r\n"
    parser = a_greeted_parser(max_block=1000)
    events: list[AmiEvent] = []
    with suppress(AmiProtocolError):
        for cut in range(0, len(data), size):
            events += parser.feed(data[cut : cut + size])
    assert len(events) == read


def test_what_came_before_a_breach_is_told_with_it() -> None:
    with pytest.raises(AmiProtocolError) as breach:
        a_greeted_parser().feed(HANGUP + b"Event: X\r\nA: \0\r\n\r\n" + HANGUP)
    assert breach.value.events == [the_event(HANGUP)]


def test_two_hundred_thousand_headers_are_refused() -> None:
    parser = a_greeted_parser()
    with pytest.raises(AmiProtocolError):
        parser.feed(b"Event: X\r\n" + b"A: b\r\n" * 200_000 + b"\r\n")


def test_too_many_headers_are_refused_though_the_message_is_short() -> None:
    with pytest.raises(AmiProtocolError, match="4096 headers"):
        a_greeted_parser().feed(b"Event: X\r\n" + b"A: b\r\n" * 5000 + b"\r\n")


def test_a_nul_byte_is_refused() -> None:
    with pytest.raises(AmiProtocolError, match="NUL"):
        a_greeted_parser().feed(b"Event: X\r\nA: \0\r\n\r\n")


STREAM = BANNER + PONG + NEWSTATE + OUTPUT + b"Event: X\r\nA: J\xfcrgen\r\n\r\n" + HANGUP


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_the_stream_may_be_split_anywhere(cuts: list[int]) -> None:
    parser = AmiParser()
    messages: list[AmiEvent] = []
    for piece in in_pieces(STREAM, cuts):
        messages += parser.feed(piece)
    assert messages == AmiParser().feed(STREAM)
    assert len(messages) == 6


def test_the_stream_may_come_byte_by_byte() -> None:
    parser = AmiParser()
    messages = [message for byte in STREAM for message in parser.feed(bytes([byte]))]
    assert messages == AmiParser().feed(STREAM)


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_give_messages_or_a_protocol_error(data: bytes) -> None:
    for start in (b"", b"Event: ", b"Response: "):
        with suppress(AmiProtocolError):
            a_greeted_parser().feed(start + data + b"\r\n\r\n")


# Actions


def test_an_action_is_its_lines_and_a_blank_one() -> None:
    data = action("DBPut", {"Family": "cti", "Key": "fallback/1", "Val": "old context,s,1"}, "cti-9")
    assert data == (
        b"Action: DBPut\r\nActionID: cti-9\r\nFamily: cti\r\nKey: fallback/1\r\nVal: old context,s,1\r\n\r\n"
    )


def test_several_values_are_several_lines() -> None:
    assert b"\r\nVariable: A=1\r\nVariable: B=2\r\n" in action("Originate", {"Variable": ["A=1", "B=2"]}, "1")


@given(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=200))
def test_any_line_of_text_reaches_asterisk_unchanged(value: str) -> None:
    """But for what stands before it and cannot be seen: Asterisk skips that."""
    read = ami_fields(action("DBPut", {"Val": value, "Variable": ["A=1", value]}, "cti-1"))
    told = value.encode().lstrip(bytes(range(1, 33)))
    assert read == [
        (b"Action", b"DBPut"),
        (b"ActionID", b"cti-1"),
        (b"Val", told),
        (b"Variable", b"A=1"),
        (b"Variable", told),
    ]


@given(st.text(max_size=200), st.text(max_size=200))
def test_nothing_adds_a_line_to_an_action(name: str, value: str) -> None:
    data = action(name, {"Val": value}, "cti-1")
    assert data.endswith(b"\r\n\r\n")
    lines = data[:-4].split(b"\r\n")
    assert len(lines) == 3
    assert not any(bad in line for line in lines for bad in (b"\r", b"\n", b"\0"))


@pytest.mark.parametrize("field", ["", "A B", "A:", "A\r\nB", "Action", "ActionID", "actionid", "É"])
def test_the_name_of_a_field_that_is_none_is_refused(field: str) -> None:
    with pytest.raises(AmiFieldError):
        action("Ping", {field: "x"}, "1")


def test_a_value_that_asterisk_could_not_read_is_refused() -> None:
    assert action("X", {"Val": "x" * 1017}, "1")
    with pytest.raises(AmiFieldError, match="Val: a line of 1023 bytes"):
        action("X", {"Val": "x" * 1018}, "1")
    with pytest.raises(AmiFieldError, match="129 lines"):
        action("X", {"Variable": ["x"] * 127}, "1")
