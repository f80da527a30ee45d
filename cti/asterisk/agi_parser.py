"""AGI without a socket: bytes from Asterisk become events, commands become bytes.

Connections, deadlines and who may send what when are left to `fastagi`. What Asterisk sends and reads is
taken from res/res_agi.c of Asterisk 16 and 22 (`setup_env`, `run_agi`, `agi_handle_command`, `parse_args`).
"""

import re
from collections.abc import Sequence
from enum import Enum, auto
from functools import lru_cache
from typing import Literal

from attrs import frozen

from cti.asterisk.wire import decode, encode, one_line

MAX_HEADER_BYTES = 64 * 1024
MAX_HEADER_LINES = 256
MAX_REPLY_BYTES = 64 * 1024
MAX_COMMAND_BYTES = 2047
"""Longest command line with its newline: Asterisk 16 reads into 2,048 bytes, 22 into 8,192."""

TooLong = Literal["raise", "cut"]


class AgiProtocolError(Exception):
    """The other side sent what Asterisk does not send; the connection is of no further use."""

    events: "Sequence[AgiEvent]" = ()
    """What `feed` had read before."""


class AgiValueError(ValueError):
    """A command cannot be written: a bad name, or a value too long for Asterisk's line."""


@frozen
class Request:
    """The block with which Asterisk opens a session; `headers` has every value as sent, by its full name."""

    headers: dict[str, str]
    args: tuple[str, ...]
    """`agi_arg_1` and on, in order: the arguments of the dialplan's `AGI()` after the address."""

    @property
    def script(self) -> str:
        """Path of the requested address: `route` for `agi://host/route`."""
        return self.headers.get("agi_network_script", "")

    @property
    def channel(self) -> str:
        return self.headers.get("agi_channel", "")

    @property
    def uniqueid(self) -> str:
        return self.headers.get("agi_uniqueid", "")

    @property
    def language(self) -> str:
        return self.headers.get("agi_language", "")

    @property
    def callerid(self) -> str:
        """The caller's number, or `unknown` where Asterisk has none."""
        return self.headers.get("agi_callerid", "")

    @property
    def calleridname(self) -> str:
        """The caller's name, or `unknown` where Asterisk has none."""
        return self.headers.get("agi_calleridname", "")

    @property
    def callingpres(self) -> int | None:
        """Presentation and screening of the caller's number (Q.931, as `AST_PRES_*`), if it is a number."""
        value = self.headers.get("agi_callingpres", "")
        return int(value) if value.isascii() and value.isdigit() else None

    @property
    def dnid(self) -> str:
        return self.headers.get("agi_dnid", "")

    @property
    def rdnis(self) -> str:
        return self.headers.get("agi_rdnis", "")

    @property
    def context(self) -> str:
        return self.headers.get("agi_context", "")

    @property
    def extension(self) -> str:
        return self.headers.get("agi_extension", "")

    @property
    def priority(self) -> str:
        return self.headers.get("agi_priority", "")


@frozen
class Reply:
    """The answer to one command: `200 result=1 (value) data`, or a refusal such as `510 text`."""

    code: int
    result: str = ""
    value: str | None = None
    """What stood in parentheses; may hold newlines, quotes and parentheses."""
    data: str = ""
    """What followed, such as `endpos=0`; the whole text if the line has no `result=`."""


@frozen
class Trying:
    """A provisional `100` line; the answer follows."""

    text: str


@frozen
class UsageBlock:
    """The `520` answer to a command whose arguments Asterisk could not use, with the command's help."""

    text: str


@frozen
class HungUp:
    """The `HANGUP` line: Asterisk ends the session. The caller may live, as after a Redirect."""


AgiEvent = Request | Reply | Trying | UsageBlock | HungUp

_NOTHING: tuple[AgiEvent, ...] = ()
_SET_DONE: tuple[AgiEvent, ...] = (Reply(200, "1"),)
_CONFIRMATION = b"200 result=1\n"
_HANGUP = b"HANGUP\n"
# Nothing but an answer has a value: a provisional line or a refusal ends at its newline. A result is printable
# ASCII, said in so many words because bytes and text differ in what is a blank.
_OPENS_VALUE = re.compile(rb"200 result=[!-')-~]* \(")
# Asterisk writes nothing but these after a value in parentheses.
_CLOSES_VALUE = re.compile(rb"\)(?: (?:endpos|digit)=[^\n)]*)?\n\Z")
_REPLY = re.compile(r"(\d{3})(?: result=([!-')-~]*)(?: \((.*)\))?)?(?: (.*))?\Z", re.DOTALL)


class _Awaits(Enum):
    HEADERS = auto()
    NOTHING = auto()
    REPLY = auto()


class AgiParser:
    """One session's bytes from Asterisk, in any pieces, to events.

    Opens in the header block. After that a reply is legal only after `expect_reply()`, once: AGI is not
    pipelined, so what arrives unasked is not Asterisk's, or the tail of a value that was made to look like
    replies.

    A value may end a line with `)`, as the reply itself does. As one reply at most is due, the last such end
    in the bytes at hand counts; Asterisk writes a reply at once, and should the network part it there, the
    rest is an error.
    """

    def __init__(self) -> None:
        self._awaits = _Awaits.HEADERS
        self._buffer = bytearray()
        self._searched = 0

    def expect_reply(self) -> None:
        """Say that a command goes out now. Raises AgiProtocolError if one is due, or before the request."""
        if self._awaits is not _Awaits.NOTHING:
            raise AgiProtocolError("a command before the answer to the one before it, or before the request")
        self._awaits = _Awaits.REPLY

    def is_confirmation(self, data: bytes) -> bool:
        """Whether `data` is just the confirmation that is due. Who then sends a command at once, in a run of
        several, need not feed `data`: the parser goes on expecting a reply.
        """
        return data == _CONFIRMATION and self._awaits is _Awaits.REPLY and not self._buffer

    def feed(self, data: bytes) -> Sequence[AgiEvent]:
        """Events that `data` completes, in order. Raises AgiProtocolError, and is of no use after that.

        The error's `events` are what came before it, so that nothing depends on how the network cut the bytes.
        """
        if self.is_confirmation(data):
            self._awaits = _Awaits.NOTHING
            return _SET_DONE
        self._buffer += data
        events: list[AgiEvent] = []
        try:
            while self._buffer and (event := self._next_event()) is not None:
                events.append(event)
        except AgiProtocolError as error:
            error.events = events
            raise
        return events or _NOTHING

    def _next_event(self) -> AgiEvent | None:
        if self._awaits is _Awaits.HEADERS:
            return self._request()
        if self._buffer.startswith(_HANGUP):
            self._take(len(_HANGUP))
            return HungUp()
        if _HANGUP.startswith(self._buffer):
            return None
        if self._awaits is _Awaits.NOTHING:
            raise AgiProtocolError("bytes that no command asked for; Asterisk sends one reply a command")
        return self._answer()

    def _take(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._searched = 0
        return taken

    def _find(self, mark: bytes) -> int:
        """Like bytes.find, without looking again at what earlier pieces brought."""
        found = self._buffer.find(mark, max(0, self._searched - len(mark) + 1))
        self._searched = len(self._buffer)
        return found

    def _request(self) -> Request | None:
        if not self._buffer.startswith(b"agi_"[: len(self._buffer)]):
            raise AgiProtocolError("not an AGI request: its first line starts with agi_")
        end = self._find(b"\n\n")
        # A newline at the end may be the first of the two that end the block.
        size = len(self._buffer) - self._buffer.endswith(b"\n") if end < 0 else end
        if size > MAX_HEADER_BYTES:
            raise AgiProtocolError(f"a request of more than {MAX_HEADER_BYTES} bytes")
        if end < 0:
            return None
        block = self._take(end + 2)[:-2]
        self._awaits = _Awaits.NOTHING
        return read_request(block)

    def _answer(self) -> AgiEvent | None:
        buffer = self._buffer
        if not buffer[:3].isdigit():
            raise AgiProtocolError("not an AGI reply: it starts with three digits")
        if buffer.startswith(b"520-"):
            end = self._end_of_usage()
        elif _OPENS_VALUE.match(buffer):
            end = self._end_of_value()
        else:
            end = self._find(b"\n") + 1
        if (end or len(buffer)) > MAX_REPLY_BYTES:
            raise AgiProtocolError(f"a reply of more than {MAX_REPLY_BYTES} bytes")
        if not end:
            return None
        text = decode(self._take(end)[:-1])
        if text.startswith("100"):
            return Trying(text[4:])
        self._awaits = _Awaits.NOTHING
        if text.startswith("520-"):
            return UsageBlock(text)
        return read_reply(text)

    def _end_of_usage(self) -> int:
        last = self._find(b"\n520 ")
        if last < 0:
            return 0
        end = self._buffer.find(b"\n", last + 1)
        if end < 0:
            self._searched = last
        return end + 1

    def _end_of_value(self) -> int:
        end = len(self._buffer)
        if self._buffer.endswith(b"\n" + _HANGUP):
            end -= len(_HANGUP)
        # The last line is enough, and keeps the search short however long the value grows.
        line = self._buffer.rfind(b"\n", 0, end - 1) + 1
        return end if _CLOSES_VALUE.search(self._buffer, line, end) else 0


def read_request(block: bytes) -> Request:
    """The request in a header block (without its blank line). Raises AgiProtocolError."""
    if b"\0" in block:
        raise AgiProtocolError("a request with a NUL byte")
    if block.count(b"\n") >= MAX_HEADER_LINES:
        raise AgiProtocolError(f"a request of more than {MAX_HEADER_LINES} lines")
    lines: list[str]
    try:
        lines = block.decode().split("\n")
    except UnicodeDecodeError:
        # By line: one old name must not spoil the others.
        lines = [decode(line) for line in block.split(b"\n")]
    try:
        headers = dict([line.split(": ", 1) for line in lines])
    except ValueError:
        lines = _joined(lines)
        headers = dict([line.split(": ", 1) for line in lines])
    if len(headers) != len(lines):
        # A value with a newline in it could pose as any header; Asterisk sends each once.
        raise AgiProtocolError("a request with a header twice")
    args: list[str] = []
    while (arg := headers.get(f"agi_arg_{len(args) + 1}")) is not None:
        args.append(arg)
    return Request(headers, tuple(args))


def _joined(lines: list[str]) -> list[str]:
    """`lines` with each that is no header put back on the value before it, whose newline parted them."""
    joined: list[str] = []
    for line in lines:
        if ": " in line:
            joined.append(line)
        elif joined:
            joined[-1] += "\n" + line
        else:
            raise AgiProtocolError("not an AGI request: its first line has no colon and space")
    return joined


def read_reply(line: str) -> Reply:
    """The reply in a line without its end; inside a value it may hold newlines. Raises AgiProtocolError."""
    match = _REPLY.match(line)
    if match is None:
        raise AgiProtocolError("not an AGI reply: it has no code, result and value")
    code, result, value, data = match.groups()
    return Reply(int(code), result or "", value, data or "")


_VERB = re.compile(r"[A-Za-z]+(?: [A-Za-z]+)*")
_NAME = re.compile(r"(?:_{0,2}[A-Za-z][A-Za-z0-9_]*)(?:\([A-Za-z0-9_.,:/@=&+-]*\))?")
_NEEDS_CARE = re.compile(r'[\\"\r\n\0]').search
_CUT_MARK = "…"


def quote(value: str) -> str:
    """`value` as one argument that Asterisk's `parse_args` reads back unchanged, on one line.

    Inside double quotes that function unescapes a backslash before anything, and takes blanks and tabs as
    they are.
    """
    if _NEEDS_CARE(value):
        value = one_line(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{value}"'


def command(verb: str, *args: str) -> bytes:
    """The line of a command such as `EXEC`. Raises AgiValueError if Asterisk 16 could not read it."""
    if not _VERB.fullmatch(verb):
        raise AgiValueError(f"not the name of an AGI command: {verb!r}")
    line = " ".join([verb, *map(quote, args)]).encode(errors="replace") + b"\n"
    if len(line) > MAX_COMMAND_BYTES:
        raise AgiValueError(f"{verb}: a line of {len(line)} bytes; Asterisk 16 reads {MAX_COMMAND_BYTES}")
    return line


def get_variable(name: str) -> bytes:
    """The line that asks for a variable's value. Raises AgiValueError."""
    return f"GET VARIABLE {_checked_name(name)}\n".encode()


def set_variable(name: str, value: str, *, too_long: TooLong = "raise") -> bytes:
    """The line that sets a channel variable, or writes a dialplan function such as `CALLERID(name)`.

    A value too long for `MAX_COMMAND_BYTES` raises AgiValueError, as half a dial string is worse than none;
    text for people may be cut (`too_long="cut"`): between characters, with an ellipsis as its last one.
    """
    start = _set_start(name)
    # The way of nearly every value, and nine of them make an answer.
    if not _NEEDS_CARE(value):
        line = start + b'"' + value.encode(errors="replace") + b'"\n'
    else:
        line = start + quote(value).encode(errors="replace") + b"\n"
    if len(line) <= MAX_COMMAND_BYTES:
        return line
    if too_long == "raise":
        raise AgiValueError(f"{name}: a line of {len(line)} bytes; Asterisk 16 reads {MAX_COMMAND_BYTES}")
    room = MAX_COMMAND_BYTES - len(start) - len(quote(_CUT_MARK).encode()) - 1
    kept: list[str] = []
    for character in encode(value).decode():
        room -= 2 if character in '\\"' else len(character.encode())
        if room < 0:
            break
        kept.append(character)
    return start + quote("".join(kept) + _CUT_MARK).encode() + b"\n"


@lru_cache(maxsize=256)
def _set_start(name: str) -> bytes:
    return f"SET VARIABLE {_checked_name(name)} ".encode()


def _checked_name(name: str) -> str:
    """`name` unless it could be read as anything but one variable or one function call."""
    if len(name) > 80 or not _NAME.fullmatch(name):
        raise AgiValueError(f"not the name of a channel variable or function: {name[:100]!r}")
    return name
