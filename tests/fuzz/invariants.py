"""What must hold for both parsers whatever bytes come; the fuzzer looks for bytes for which it does not.

Pure: who finds the bytes (`tests.fuzz.__main__`, hypothesis, the kept corpus) is left to others.
"""

from collections.abc import Callable, Iterable, Iterator

from attrs import frozen

from cti.asterisk import agi_parser, ami_parser
from cti.asterisk.agi_parser import AgiParser, AgiProtocolError, AgiValueError, Reply
from cti.asterisk.ami_parser import AmiFieldError, AmiParser, AmiProtocolError
from tests.fuzz.as_asterisk_reads import agi_words, ami_fields

#: Small, so that a fuzzer's short inputs reach the limits.
MAX_BLOCK = 96
MAX_HEADERS = 8


@frozen
class Outcome:
    """What a parser made of a stream: its events, and whether it gave up after them."""

    events: tuple[object, ...]
    broke: bool


def agi_outcome(pieces: Iterable[bytes], waits: bool) -> Outcome:
    """As `fastagi` feeds it; with `waits`, a command is sent whenever none is under way."""
    parser = AgiParser()
    if waits:
        parser.feed(b"agi_network: yes\n\n")
        parser.expect_reply()
    return _outcome(parser, pieces, AgiProtocolError, agi_parser.MAX_HEADER_BYTES + 65536)


def ami_outcome(pieces: Iterable[bytes], wanted: frozenset[bytes] | None, greeted: bool) -> Outcome:
    parser = AmiParser(wanted, "cti-", max_block=MAX_BLOCK, max_headers=MAX_HEADERS)
    if greeted:
        parser.feed(b"Asterisk Call Manager/9.0.0\r\n")
    return _outcome(parser, pieces, AmiProtocolError, MAX_BLOCK + ami_parser.MAX_BANNER_BYTES + 8)


def _outcome(
    parser: AgiParser | AmiParser,
    pieces: Iterable[bytes],
    error: type[AgiProtocolError | AmiProtocolError],
    most: int,
) -> Outcome:
    events: list[object] = []
    for piece in pieces:
        try:
            events += parser.feed(piece)
        except error as broke:
            return Outcome((*events, *broke.events), True)
        held = kept_bytes(parser)
        assert held <= most, f"{held} bytes are kept of one message"
    return Outcome(tuple(events), False)


def kept_bytes(parser: AgiParser | AmiParser) -> int:
    """How much of the stream the parser holds."""
    if isinstance(parser, AgiParser):
        return len(parser._buffer)
    return sum(map(len, parser._pieces))


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def check_agi(data: bytes) -> None:
    """The first byte chooses the state and the size of the pieces; the rest is what Asterisk says."""
    how, stream = data[:1] or b"\0", data[1:]
    waits, size = bool(how[0] & 1), 1 + (how[0] >> 1) % 7
    whole = agi_outcome([stream], waits)
    cut = agi_outcome(in_pieces(stream, size), waits)
    if whole != cut and not _value_could_end_earlier(whole, cut):
        raise AssertionError(f"{stream!r} in pieces of {size}: {cut} instead of {whole}")
    _check_set_variable(stream.decode("utf-8", "surrogateescape"))


def _value_could_end_earlier(whole: Outcome, cut: Outcome) -> bool:
    """AGI does not say how long a value is. One that has the look of its own end, parted by the network just
    there, is read too short; then the rest must be refused, so that it never counts as an answer.
    """
    early = [event for event in cut.events if isinstance(event, Reply)]
    if len(early) != 1 or early[0].value is None:
        return False
    for reply in whole.events:
        if isinstance(reply, Reply):
            return (reply.value or "").startswith(early[0].value) and cut.broke
    # To the whole, the value goes on where the bytes end, or until they are too many.
    return True


def _check_set_variable(value: str) -> None:
    for too_long in ("raise", "cut"):
        try:
            line = agi_parser.set_variable("X", value, too_long=too_long)
        except AgiValueError:
            continue
        assert line.endswith(b"\n")
        assert len(line) <= agi_parser.MAX_COMMAND_BYTES
        words = agi_words(line)
        assert words[:3] == [b"SET", b"VARIABLE", b"X"], line
        assert len(words) == 4, line
        if too_long == "raise":
            assert words[3] == one_line(value), line


def check_ami(data: bytes) -> None:
    """The first byte chooses the state and the size of the pieces; the rest is what Asterisk says."""
    how, stream = data[:1] or b"\0", data[1:]
    greeted, some, size = bool(how[0] & 1), bool(how[0] & 2), 1 + (how[0] >> 2) % 7
    wanted = frozenset([b"Hangup", b"Newstate"]) if some else None
    whole = ami_outcome([stream], wanted, greeted)
    cut = ami_outcome(in_pieces(stream, size), wanted, greeted)
    assert whole == cut, f"{stream!r} in pieces of {size}: {cut} instead of {whole}"
    for event in whole.events:
        if isinstance(event, ami_parser.Event):
            assert event.name is not None
            assert event.timestamp is None or event.timestamp >= 0
            event.channel_variables, event.dest_channel_variables, event.action_id  # noqa: B018
        elif isinstance(event, ami_parser.Response):
            event.success, event.message  # noqa: B018
    _check_action(stream.decode("utf-8", "surrogateescape"))


def _check_action(text: str) -> None:
    name, _, value = text.partition("|")
    try:
        data = ami_parser.action(name, {"Val": value, "Variable": [value, name]}, "cti-1")
    except AmiFieldError:
        return
    given = [("Action", name), ("ActionID", "cti-1"), ("Val", value), ("Variable", value), ("Variable", name)]
    blanks = bytes(range(1, 33))
    assert ami_fields(data) == [(field.encode(), one_line(text).lstrip(blanks)) for field, text in given], (
        data
    )


def one_line(text: str) -> bytes:
    """What may arrive of a text: said again here, apart from the code under test."""
    joined = text.replace("\r\n", " ").replace("\r", " ").replace("\n", " ").replace("\0", "")
    return joined.encode("utf-8", "replace")


TARGETS: dict[str, Callable[[bytes], None]] = {"agi": check_agi, "ami": check_ami}
