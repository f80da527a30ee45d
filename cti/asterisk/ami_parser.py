"""AMI without a socket: bytes from Asterisk become events and responses, actions become bytes.

Log-in, connections, deadlines and matching responses to actions are left to `ami`. What Asterisk sends and
reads is taken from main/manager.c and main/manager_channels.c of Asterisk 16 and 22.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from cti.asterisk.wire import decode, encode

MAX_BANNER_BYTES = 256
MAX_BLOCK_BYTES = 256 * 1024
MAX_HEADERS = 4096
MAX_ACTION_LINE = 1022
"""Bytes of an action's line without its end: Asterisk drops a message with a line that fills its 1,024."""
MAX_ACTION_LINES = 128
MAX_SHAPES = 256
"""Shapes of events that a parser keeps in mind; of each name a few, as Asterisk leaves some headers out at times."""
MAX_SHAPES_OF_NAME = 4
MAX_SHAPE_HEADERS = 64

_BANNER = b"Asterisk Call Manager/"
_END = b"\r\n\r\n"
_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_TIMESTAMP = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_NO_REPEATS: Mapping[str, tuple[str, ...]] = {}
_NO_SHAPES: "Sequence[_Shape]" = ()


class AmiProtocolError(Exception):
    """The other side sent what Asterisk does not send; the connection is of no further use."""

    events: "Sequence[AmiEvent]" = ()
    """What `feed` had read before."""


class AmiFieldError(ValueError):
    """An action cannot be written: a bad field name, or more than Asterisk reads."""


@frozen
class Banner:
    """The greeting; `version` is that of the protocol, not of Asterisk."""

    version: str


class _Shape:
    """The headers of one kind of event, each once and in their order, as one expression that takes their values.

    It costs a quarter of parting the lines, and as no header in it comes twice, no event that it matches needs a
    second look for added ones.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.places = {name: place for place, name in enumerate(names, 1)}
        lines = (re.escape(name.encode()) + rb": ([^\r\0]*)" for name in names)
        self.match = re.compile(rb"\r\n".join(lines)).fullmatch


class _Matched(Mapping[str, str]):
    """The headers of an event of a known shape; a value becomes text when somebody reads it."""

    __slots__ = ("_places", "_values")

    def __init__(self, places: Mapping[str, int], values: re.Match[bytes]) -> None:
        self._places = places
        self._values = values

    def __getitem__(self, header: str) -> str:
        return decode(self._values[self._places[header]])

    def get(self, header: str, default: Any = None, /) -> Any:
        # Mapping's own finds out by an exception, and most headers that are asked for in vain are asked for always.
        place = self._places.get(header)
        return default if place is None else decode(self._values[place])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, header: object) -> bool:
        return header in self._places

    def __repr__(self) -> str:
        return repr(dict(self))


@frozen
class _Block:
    """Headers of one message."""

    headers: Mapping[str, str]
    """The value of each header, the first of a repeated one; names as sent."""
    repeated: Mapping[str, tuple[str, ...]] = field(default=_NO_REPEATS, kw_only=True)
    """All values of the headers that came more than once."""

    def __getitem__(self, header: str) -> str:
        return self.headers[header]

    def get(self, header: str, default: str = "") -> str:
        return self.headers.get(header, default)

    def all(self, header: str) -> tuple[str, ...]:
        """Every value of `header` in order, such as each `Output` line; empty if it is not there."""
        several = self.repeated.get(header)
        if several is not None:
            return several
        return (self.headers[header],) if header in self.headers else ()

    @property
    def action_id(self) -> str | None:
        return self.headers.get("ActionID")


@frozen
class Response(_Block):
    """The answer to an action. `success` also for `Goodbye` and `Follows`; only `Error` is none."""

    @property
    def success(self) -> bool:
        return self.headers.get("Response", "").lower() in ("success", "follows", "goodbye")

    @property
    def message(self) -> str:
        return self.headers.get("Message", "")


@frozen
class Event(_Block):
    """One thing that happened, or one entry of a list that an action asked for."""

    @property
    def name(self) -> str:
        return self.headers["Event"]

    @property
    def timestamp(self) -> float | None:
        """When it happened, in seconds of Unix time (`timestampevents=yes`), if Asterisk says so."""
        value = self.headers.get("Timestamp", "")
        return float(value) if _TIMESTAMP.fullmatch(value) else None

    @property
    def tampered(self) -> bool:
        """Whether one of its values has added headers, as a caller's number with line ends in it does.

        Asterisk writes callers' numbers as they came, and repeats no header of an event but `ChanVariable` and
        its like; so an added one that could do harm comes twice.
        """
        return bool(self.repeated) and any(not header.endswith("Variable") for header in self.repeated)

    @property
    def channel_variables(self) -> dict[str, str]:
        """The channel's variables that manager.conf names in `channelvars`; see `variables_of`.

        It must name them without leading underscores, which belong to setting them: `__X` is always empty there.
        """
        return self.variables_of("")

    @property
    def dest_channel_variables(self) -> dict[str, str]:
        """The same of the channel that is dialled (`DestChanVariable`)."""
        return self.variables_of("Dest")

    def variables_of(self, prefix: str) -> dict[str, str]:
        """Variables from `{prefix}ChanVariable: NAME=VALUE`; newer Asterisks escape VALUE as in C."""
        variables: dict[str, str] = {}
        for pair in self.all(f"{prefix}ChanVariable"):
            name, equals, value = pair.partition("=")
            if equals:
                variables[name] = value
        return variables


@frozen
class Unknown:
    """A block of `size` bytes that is neither; some module of Asterisk's wrote it, and nobody needs it."""

    size: int


AmiEvent = Banner | Response | Event | Unknown


class AmiParser:
    """One connection's bytes from Asterisk, in any pieces, to a banner, then events and responses in order.

    Of events, only those named in `wanted` (all if None), and those that carry an ActionID beginning with
    `own_ids`, are parsed and returned: at thousands a second most of the work is in the headers that nobody
    reads. Responses are always returned. A line ends with CR and LF only, so that a lone LF inside a value
    does not end it.
    """

    def __init__(
        self,
        wanted: frozenset[bytes] | None = None,
        own_ids: str | None = None,
        *,
        max_block: int = MAX_BLOCK_BYTES,
        max_headers: int = MAX_HEADERS,
    ) -> None:
        self._wanted = wanted
        self._own_mark = None if own_ids is None else b"\r\nActionID: " + encode(own_ids)
        self._max_block = max_block
        self._max_headers = max_headers
        self._shapes: dict[bytes, list[_Shape]] = {}
        self._learnt = 0
        self._greeted = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._tail = b""

    def feed(self, data: bytes) -> list[AmiEvent]:
        """What `data` completes, in order. Raises AmiProtocolError; the parser is of no use after that.

        The error's `events` are what came before it, so that nothing depends on how the network cut the bytes.
        """
        events: list[AmiEvent] = []
        try:
            self._feed(data, events)
        except AmiProtocolError as error:
            error.events = events
            raise
        return events

    def _feed(self, data: bytes, events: list[AmiEvent]) -> None:
        if not self._greeted:
            rest = self._greet(data, events)
            if rest is None:
                return
            data = rest
        # Joined only when a block may be complete: a block sent byte by byte must not cost its square.
        edge = self._tail + data[:3]
        if _END not in data and _END not in edge:
            self._keep(data)
            return
        self._pieces.append(data)
        blocks = b"".join(self._pieces).split(_END)
        rest = blocks.pop()
        self._pieces.clear()
        self._size = 0
        self._tail = b""
        for block in blocks:
            event = self._read(block)
            if event is not None:
                events.append(event)
        self._keep(rest)

    def _keep(self, data: bytes) -> None:
        if data:
            self._pieces.append(data)
            self._size += len(data)
            self._tail = (self._tail + data)[-3:]
        # What may be the blank line's beginning is not the message's.
        if self._size > self._max_block and self._size - _begun(self._tail) > self._max_block:
            raise AmiProtocolError(f"a message of more than {self._max_block} bytes without its blank line")

    def _greet(self, data: bytes, events: list[AmiEvent]) -> bytes | None:
        """What follows the banner in `data`, or None before its end. Adds the banner to `events`."""
        self._pieces.append(data)
        line, end, rest = b"".join(self._pieces).partition(b"\r\n")
        if len(line) > MAX_BANNER_BYTES or not line.startswith(_BANNER[: len(line)]):
            raise AmiProtocolError(
                f"not Asterisk's manager port: it greets with {_BANNER.decode()} and a version"
            )
        if not end:
            self._pieces = [line]
            return None
        if len(line) < len(_BANNER):
            raise AmiProtocolError("not Asterisk's manager port: its greeting has no version")
        self._pieces.clear()
        self._greeted = True
        events.append(Banner(decode(line[len(_BANNER) :])))
        return rest

    def _read(self, block: bytes) -> AmiEvent | None:
        if len(block) > self._max_block:
            raise AmiProtocolError(f"a message of more than {self._max_block} bytes")
        if block.startswith(b"\r\n"):
            block = block.lstrip(b"\r\n")
        if block.startswith(b"Event: "):
            end = block.find(b"\r\n")
            name = block[7:] if end < 0 else block[7:end]
            if (
                self._wanted is not None
                and name not in self._wanted
                and (self._own_mark is None or self._own_mark not in block)
            ):
                return None
            shapes = self._shapes.get(name, _NO_SHAPES)
            for shape in shapes:
                values = shape.match(block)
                if values is not None:
                    return Event(_Matched(shape.places, values))
            headers, repeated = read_headers(block, self._max_headers)
            if not repeated and len(shapes) < MAX_SHAPES_OF_NAME and self._learnt < MAX_SHAPES:
                self._learn(name, headers)
            return Event(headers, repeated=repeated)
        if block.startswith(b"Response: "):
            headers, repeated = read_headers(block, self._max_headers)
            return Response(headers, repeated=repeated)
        return Unknown(len(block)) if block else None

    def _learn(self, name: bytes, headers: Mapping[str, str]) -> None:
        """Know events like this one from now on."""
        if len(headers) <= MAX_SHAPE_HEADERS and all(map(str.isascii, headers)):
            self._shapes.setdefault(name, []).append(_Shape(list(headers)))
            self._learnt += 1


def _begun(tail: bytes) -> int:
    """How many bytes at the end of `tail` may be the beginning of a blank line."""
    return next((length for length in (3, 2, 1) if tail.endswith(_END[:length])), 0)


def read_headers(
    block: bytes, max_headers: int = MAX_HEADERS
) -> tuple[dict[str, str], Mapping[str, tuple[str, ...]]]:
    """First values and repeated values of the headers in `block`. Raises AmiProtocolError."""
    if b"\0" in block:
        raise AmiProtocolError("a message with a NUL byte")
    try:
        lines = block.decode().split("\r\n")
    except UnicodeDecodeError:
        # By line: one old name must not spoil the others.
        lines = [decode(line) for line in block.split(b"\r\n")]
    if len(lines) > max_headers:
        raise AmiProtocolError(f"a message of more than {max_headers} headers")
    try:
        headers = dict([line.split(": ", 1) for line in lines])
    except ValueError:
        pass
    else:
        if len(headers) == len(lines):
            return headers, _NO_REPEATS
    return _collected(lines)


def _collected(lines: list[str]) -> tuple[dict[str, str], Mapping[str, tuple[str, ...]]]:
    """The same for headers that repeat, that have no value, or whose value runs on to a next line."""
    values: dict[str, list[str]] = {}
    latest: list[str] = []
    for line in lines:
        header, colon, value = line.partition(":")
        if colon and " " not in header:
            latest = values.setdefault(header, [])
            latest.append(value.removeprefix(" "))
        elif latest:
            latest[-1] += "\r\n" + line
    headers = {header: several[0] for header, several in values.items()}
    return headers, {header: tuple(several) for header, several in values.items() if len(several) > 1}


def action(name: str, fields: Mapping[str, str | Iterable[str]], action_id: str) -> bytes:
    """The bytes of an action. A value that is not a string is several, each its own line (`Variable`).

    Line ends and NUL in values become blanks or go. Raises AmiFieldError for a field name that is none, for a
    value longer than Asterisk reads, and for more lines than it reads: it would drop the action, or read half
    of it.
    """
    lines = [b"Action: " + encode(name), b"ActionID: " + encode(action_id)]
    for header, value in fields.items():
        if not _FIELD_NAME.fullmatch(header) or header.lower() in ("action", "actionid"):
            raise AmiFieldError(f"not the name of an action's field: {header!r}")
        start = header.encode() + b": "
        lines.extend(start + encode(one) for one in ((value,) if isinstance(value, str) else value))
    for line in lines:
        if len(line) > MAX_ACTION_LINE:
            header = line.partition(b":")[0].decode()
            raise AmiFieldError(
                f"{name}: {header}: a line of {len(line)} bytes; Asterisk reads {MAX_ACTION_LINE}"
            )
    if len(lines) > MAX_ACTION_LINES:
        raise AmiFieldError(f"{name}: {len(lines)} lines; Asterisk reads {MAX_ACTION_LINES}")
    return b"\r\n".join(lines) + _END
