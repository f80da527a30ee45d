"""AGI bytes in, events out; commands that Asterisk reads back as they were meant."""

from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from cti.asterisk import agi_parser
from cti.asterisk.agi_parser import (
    MAX_COMMAND_BYTES,
    AgiEvent,
    AgiParser,
    AgiProtocolError,
    AgiValueError,
    HungUp,
    Reply,
    Request,
    Trying,
    UsageBlock,
)
from tests.fuzz.as_asterisk_reads import agi_words


def a_request(
    *extra: bytes, name: bytes = b"Anna Kova\xc4\x8d", args: Iterable[bytes] = (b"v=1", b"pbx=main")
) -> bytes:
    lines = [
        b"agi_network: yes",
        b"agi_network_script: route",
        b"agi_request: agi://127.0.0.1/route",
        b"agi_channel: PJSIP/trunk-00000001",
        b"agi_language: de",
        b"agi_uniqueid: main-1700000000.1",
        b"agi_callerid: 015228817386",
        b"agi_calleridname: " + name,
        b"agi_callingpres: 0",
        b"agi_dnid: 4066969100",
        b"agi_rdnis: unknown",
        b"agi_context: cti-inbound",
        b"agi_extension: 4066969100",
        b"agi_priority: 7",
        b"agi_accountcode: ",
        *extra,
        *(b"agi_arg_%d: %s" % (number, arg) for number, arg in enumerate(args, 1)),
    ]
    return b"\n".join(lines) + b"\n\n"


def a_parser_with_its_request() -> AgiParser:
    parser = AgiParser()
    parser.feed(a_request())
    return parser


def a_waiting_parser() -> AgiParser:
    parser = a_parser_with_its_request()
    parser.expect_reply()
    return parser


def the_request(data: bytes) -> Request:
    (event,) = AgiParser().feed(data)
    assert isinstance(event, Request)
    return event


def the_events(data: bytes) -> list[AgiEvent]:
    return list(a_waiting_parser().feed(data))


def in_pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


# The request


def test_a_request_has_its_headers_and_arguments() -> None:
    request = the_request(a_request())
    assert request.script == "route"
    assert request.args == ("v=1", "pbx=main")
    assert request.channel == "PJSIP/trunk-00000001"
    assert request.uniqueid == "main-1700000000.1"
    assert request.callerid == "015228817386"
    assert request.calleridname == "Anna Kovač"
    assert request.callingpres == 0
    assert request.extension == request.dnid == "4066969100"
    assert request.context == "cti-inbound"
    assert request.rdnis == "unknown"
    assert request.language == "de"
    assert request.priority == "7"
    assert request.headers["agi_accountcode"] == ""


def test_a_latin_1_caller_name_is_read_and_spoils_no_other_header() -> None:
    request = the_request(a_request(b"agi_note: \xd0\x90\xd0\xbd\xd0\xbd\xd0\xb0", name=b"J\xfcrgen"))
    assert request.calleridname == "Jürgen"
    assert request.headers["agi_note"] == "Анна"


@pytest.mark.parametrize(
    "name", [b"A: B", b'"Anna" <x>', b"  two  blanks ", b"100 Trying", b"HANGUP", b"a\\b"]
)
def test_a_caller_name_is_taken_as_it_is(name: bytes) -> None:
    assert the_request(a_request(name=name)).calleridname == name.decode()


def test_a_newline_in_a_caller_name_stays_in_the_name() -> None:
    request = the_request(a_request(name=b"Anna\nBerta"))
    assert request.calleridname == "Anna\nBerta"
    assert request.dnid == "4066969100"


def test_a_caller_name_that_poses_as_another_header_ends_the_connection() -> None:
    with pytest.raises(AgiProtocolError, match="twice"):
        AgiParser().feed(a_request(name=b"Anna\nagi_arg_1: v=9"))


def test_a_caller_name_that_ends_the_headers_ends_the_connection() -> None:
    with pytest.raises(AgiProtocolError):
        AgiParser().feed(a_request(name=b"Anna\n\n200 result=1"))


def test_half_a_header_is_no_event() -> None:
    assert AgiParser().feed(a_request()[:-1]) == ()


def test_what_does_not_begin_like_agi_is_refused_at_its_first_byte() -> None:
    with pytest.raises(AgiProtocolError, match="agi_"):
        AgiParser().feed(b"G")


def test_a_header_block_without_end_is_refused() -> None:
    parser = AgiParser()
    assert parser.feed(b"agi_x: " + b"x" * (65536 - 7)) == ()
    with pytest.raises(AgiProtocolError, match="65536 bytes"):
        parser.feed(b"x")


def test_a_header_block_too_long_is_refused_though_complete() -> None:
    with pytest.raises(AgiProtocolError, match="65536 bytes"):
        AgiParser().feed(a_request(b"agi_x: " + b"x" * 65536))


@pytest.mark.parametrize("size", [1, 2, 3, 65536])
def test_a_header_block_of_just_the_limit_is_read_in_any_pieces(size: int) -> None:
    data = b"agi_x: " + b"x" * (65536 - 7) + b"\n\n"
    parser = AgiParser()
    events = [event for cut in range(0, len(data), size) for event in parser.feed(data[cut : cut + size])]
    assert [type(event) for event in events] == [Request]


def test_a_header_block_with_too_many_lines_is_refused() -> None:
    lines = (b"agi_x%d: 1" % number for number in range(300))
    with pytest.raises(AgiProtocolError, match="256 lines"):
        AgiParser().feed(a_request(*lines))


def test_a_nul_byte_is_refused() -> None:
    with pytest.raises(AgiProtocolError, match="NUL"):
        AgiParser().feed(a_request(name=b"Anna\0"))


@pytest.mark.parametrize("value", [b"x", b"", b"-1", b"\xc2\xb2"])
def test_a_presentation_that_is_no_number_is_none(value: bytes) -> None:
    assert the_request(b"agi_request: x\nagi_callingpres: " + value + b"\n\n").callingpres is None


# Replies


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"200 result=1\n", Reply(200, "1")),
        (b"200 result=0\n", Reply(200, "0")),
        (b"200 result=-1\n", Reply(200, "-1")),
        (b"200 result=1 (PJSIP/anna)\n", Reply(200, "1", "PJSIP/anna")),
        (b"200 result=1 ()\n", Reply(200, "1", "")),
        (b"200 result=1 (timeout) endpos=1234\n", Reply(200, "1", "timeout", "endpos=1234")),
        (b"200 result=0 endpos=77\n", Reply(200, "0", None, "endpos=77")),
        (b"200 result= (timeout)\n", Reply(200, "", "timeout")),
        (b'200 result=1 (a "quoted" (value))\n', Reply(200, "1", 'a "quoted" (value)')),
        (b"200 result=1 (two\nlines)\n", Reply(200, "1", "two\nlines")),
        (b"200 result=1 (ends\n(like)\nthis)\n", Reply(200, "1", "ends\n(like)\nthis")),
        (b"200 result=1 (\n)\n", Reply(200, "1", "\n")),
        (b"200 result=1 (J\xfcrgen)\n", Reply(200, "1", "Jürgen")),
        (b"510 Invalid or unknown command\n", Reply(510, "", None, "Invalid or unknown command")),
        (
            b"511 Command Not Permitted on a dead channel\n",
            Reply(511, "", None, "Command Not Permitted on a dead channel"),
        ),
        (b"520 Invalid command syntax.\n", Reply(520, "", None, "Invalid command syntax.")),
    ],
)
def test_a_reply_is_read(line: bytes, reply: Reply) -> None:
    assert the_events(line) == [reply]


def test_trying_is_not_the_reply() -> None:
    assert the_events(b"100 result=0 Trying...\n200 result=1\n") == [
        Trying("result=0 Trying..."),
        Reply(200, "1"),
    ]


def test_only_an_answer_has_a_value() -> None:
    """A provisional line or a refusal with parentheses in its text ends at its newline."""
    assert the_events(b"100 result=0 (x)\n200 result=1 (y\nz)\n") == [
        Trying("result=0 (x)"),
        Reply(200, "1", "y\nz"),
    ]


def test_a_result_with_controls_in_it_is_none_however_its_line_comes() -> None:
    line = b"200 result=\x1d1 (x)\n"
    assert the_events(line) == [Reply(200, "", None, "result=\x1d1 (x)")]
    parser = a_waiting_parser()
    assert [event for byte in line for event in parser.feed(bytes([byte]))] == the_events(line)
    with pytest.raises(AgiProtocolError, match="no command asked"):
        the_events(line + b"x")


def test_a_usage_block_is_one_answer() -> None:
    block = (
        b"520-Invalid command syntax.  Proper usage follows:\n"
        b"\nUsage: SET VARIABLE\n 200 result=1\n\n520 End of proper usage.\n"
    )
    assert the_events(block) == [UsageBlock(block.decode().rstrip("\n"))]


def test_hangup_is_not_the_reply() -> None:
    assert the_events(b"HANGUP\n200 result=1\n") == [HungUp(), Reply(200, "1")]


def test_hangup_may_follow_a_value() -> None:
    assert the_events(b"200 result=1 (x)\nHANGUP\n") == [Reply(200, "1", "x"), HungUp()]


def test_hangup_may_come_while_nothing_is_asked() -> None:
    assert a_parser_with_its_request().feed(b"HANGUP\n") == [HungUp()]


def test_a_value_that_poses_as_two_replies_stays_one_value() -> None:
    assert the_events(b"200 result=1 (a)\n200 result=1 (b)\n") == [Reply(200, "1", "a)\n200 result=1 (b")]


@pytest.mark.parametrize("data", [b"200 result=1\n200 result=1\n", b"200 result=1\nxyz"])
def test_more_than_was_asked_for_is_refused(data: bytes) -> None:
    with pytest.raises(AgiProtocolError, match="no command asked"):
        a_waiting_parser().feed(data)


def test_what_came_before_a_breach_is_told_with_it() -> None:
    with pytest.raises(AgiProtocolError) as breach:
        a_waiting_parser().feed(b"200 result=1\nxyz")
    assert breach.value.events == [Reply(200, "1")]


def test_a_reply_nobody_asked_for_is_refused() -> None:
    with pytest.raises(AgiProtocolError, match="no command asked"):
        a_parser_with_its_request().feed(b"200 result=1\n")


def test_a_second_command_before_the_reply_is_refused() -> None:
    with pytest.raises(AgiProtocolError):
        a_waiting_parser().expect_reply()


@pytest.mark.parametrize("start", [b"200 result=1 (", b"200 result=1 ", b"520-x\n"])
def test_a_reply_without_end_is_refused(start: bytes) -> None:
    parser = a_waiting_parser()
    assert parser.feed(start + b"x" * (65536 - len(start))) == ()
    with pytest.raises(AgiProtocolError, match="65536 bytes"):
        parser.feed(b"x")


@pytest.mark.parametrize(
    "reply",
    [
        b"200 result=1 (" + b"x" * 65536 + b")\n",
        b"200 result=1 " + b"x" * 65536 + b"\n",
        b"520-x\n" + b"x\n" * 32768 + b"520 End\n",
    ],
)
def test_a_reply_too_long_is_refused_though_complete(reply: bytes) -> None:
    with pytest.raises(AgiProtocolError, match="65536 bytes"):
        a_waiting_parser().feed(reply)


def test_a_latin_1_value_is_read() -> None:
    assert list(a_waiting_parser().feed(b"200 result=1 (J\xfcrgen\nM)\n")) == [Reply(200, "1", "Jürgen\nM")]


@pytest.mark.parametrize("data", [b"hello\n", b"20 result\n", b"2000 x\n"])
def test_what_is_no_reply_is_refused(data: bytes) -> None:
    with pytest.raises(AgiProtocolError, match="not an AGI reply"):
        a_waiting_parser().feed(data)


ANSWERS = [
    (b"200 result=1\n", Reply(200, "1")),
    (b"100 Trying\n200 result=1 (two\nlines (x) y)\nHANGUP\n", Reply(200, "1", "two\nlines (x) y")),
    (
        b"520-Invalid\nUsage: X\n\n520 End of proper usage.\n",
        UsageBlock("520-Invalid\nUsage: X\n\n520 End of proper usage."),
    ),
    (b"200 result=0 endpos=7\n", Reply(200, "0", None, "endpos=7")),
    (b"HANGUP\n511 Command Not Permitted\n", Reply(511, "", None, "Command Not Permitted")),
]


@given(st.lists(st.integers(0, 500)))
def test_a_request_may_be_split_anywhere(cuts: list[int]) -> None:
    data = a_request(name=b"J\xfcrgen\nX")
    parser = AgiParser()
    events = [
        event
        for piece in in_pieces(data, (min(cut, len(data)) for cut in cuts))
        for event in parser.feed(piece)
    ]
    assert events == [the_request(data)]


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 60)))
def test_an_answer_may_be_split_anywhere(answer: tuple[bytes, AgiEvent], cuts: list[int]) -> None:
    data, wanted = answer
    parser = a_waiting_parser()
    events = [
        event
        for piece in in_pieces(data, (min(cut, len(data)) for cut in cuts))
        for event in parser.feed(piece)
    ]
    assert events == the_events(data)
    assert wanted in events


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_do_anything_but_give_events_or_a_protocol_error(data: bytes, waiting: bool) -> None:
    parser = a_waiting_parser() if waiting else AgiParser()
    with suppress(AgiProtocolError):
        parser.feed(data)


# Commands


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "two words",
        'say "hi"',
        "back\\slash",
        "ends with \\",
        "tab\there",
        "$100 ${EXTEN}",
        "Müller & Söhne",
        "a,b|c;d",
    ],
)
def test_a_value_reaches_asterisk_unchanged(value: str) -> None:
    line = agi_parser.set_variable("CTI_CALLER_NAME", value)
    assert agi_words(line) == [b"SET", b"VARIABLE", b"CTI_CALLER_NAME", value.encode()]


@given(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=300))
def test_any_line_of_text_reaches_asterisk_unchanged(value: str) -> None:
    assert agi_words(agi_parser.set_variable("X", value))[3] == value.encode()


@given(st.text(max_size=300))
def test_nothing_adds_a_line_to_a_command(value: str) -> None:
    for line in (agi_parser.set_variable("X", value), agi_parser.command("EXEC", "NoOp", value)):
        assert line.count(b"\n") == 1
        assert line.endswith(b"\n")
        assert b"\r" not in line
        assert b"\0" not in line
        assert len(agi_words(line)) == (4 if line.startswith(b"SET") else 3)


def test_line_ends_become_blanks_and_nul_goes() -> None:
    line = agi_parser.set_variable("X", "a\r\nb\nc\rd\0e")
    assert agi_words(line)[3] == b"a b c de"


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    assert agi_words(agi_parser.set_variable("X", "a\udcff"))[3] == b"a?"


@pytest.mark.parametrize(
    "name", ["CTI_TARGET", "__CTI_CALL_ID", "_X", "CALLERID(name)", "PJSIP_HEADER(add,Call-Info)"]
)
def test_the_name_of_a_variable_or_function_is_accepted(name: str) -> None:
    assert agi_words(agi_parser.set_variable(name, "1"))[2] == name.encode()
    assert agi_words(agi_parser.get_variable(name)) == [b"GET", b"VARIABLE", name.encode()]


@pytest.mark.parametrize(
    "name",
    ["", " ", "A B", "A\nB", "A\n", 'A"', "1A", "___A", "A(", "A(b) c", "A(b c)", "É", "A" * 81, "A\\"],
)
def test_a_name_that_could_be_more_than_one_is_refused(name: str) -> None:
    with pytest.raises(AgiValueError):
        agi_parser.set_variable(name, "1")
    with pytest.raises(AgiValueError):
        agi_parser.get_variable(name)


@pytest.mark.parametrize("verb", ["", "EXEC\n", "EXEC x1", " EXEC", 'EX"EC'])
def test_a_verb_that_is_none_is_refused(verb: str) -> None:
    with pytest.raises(AgiValueError):
        agi_parser.command(verb)


def test_a_value_that_asterisk_16_could_not_read_is_refused() -> None:
    start = len('SET VARIABLE X ""\n')
    assert len(agi_parser.set_variable("X", "x" * (MAX_COMMAND_BYTES - start))) == MAX_COMMAND_BYTES
    with pytest.raises(AgiValueError, match="2048 bytes"):
        agi_parser.set_variable("X", "x" * (MAX_COMMAND_BYTES - start + 1))
    with pytest.raises(AgiValueError):
        agi_parser.command("EXEC", "NoOp", "x" * 3000)


@given(st.text(st.sampled_from('aé\\"😀\n'), min_size=60, max_size=100))
def test_a_value_may_be_cut_between_characters_with_an_ellipsis(end: str) -> None:
    value = "x" * 2000 + end
    line = agi_parser.set_variable("CTI_REASON", value, too_long="cut")
    read = agi_words(line)[3].decode()
    assert MAX_COMMAND_BYTES - 4 < len(line) <= MAX_COMMAND_BYTES
    assert read.endswith("…")
    assert value.replace("\n", " ").startswith(read[:-1])
