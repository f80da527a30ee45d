"""The server's log: one JSON object a line on stderr, numbers and names masked unless the level is debug.

Twisted's own messages and unhandled failures come out here too. What is worth a line, and binding the call's
id to it (`get_logger(__name__).bind(call=id)`), is up to those who log.
"""

import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence, Set
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import Enum, auto
from functools import lru_cache
from typing import Any, BinaryIO, Final, Literal, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor, WrappedLogger
from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    formatEvent,
    globalLogBeginner,
    globalLogPublisher,
)

from cti.numbers import mask

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error", "critical"]

LEVELS: Final[Mapping[Level, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

#: Fields that carry a telephone number.
NUMBER_FIELDS: Final = frozenset(
    {
        "caller",
        "callerid",
        "connected",
        "did",
        "e164",
        "exten",
        "from",
        "from_number",
        "from_raw",
        "number",
        "numbers",
        "raw",
        "to",
        "to_number",
        "to_raw",
    }
)
#: Fields that carry what a person or a company is called, or what is written about them.
NAME_FIELDS: Final = frozenset(
    {"caller_name", "company", "connected_name", "contact", "display_name", "notes", "party", "party_name"}
)
#: Parts of a field's name that say that it is a secret; those are never shown, at any level.
SECRET_WORDS: Final = ("secret", "password", "passwd", "token", "authorization", "cookie", "credential")
#: Fields that hold somebody else's sentences, in which a number may stand.
TEXT_FIELDS: Final = frozenset({"event", "detail", "error", "exception", "reason"})

#: What of a party stays readable: where it is to be found, not who it is.
PARTY_KEYS: Final = frozenset({"adapter", "type", "id"})

_MASK: Final = "…"
_DEPTH: Final = 4
_SCALARS: Final = (str, int, float)
_PLAIN_TYPES: Final = frozenset({str, int, float, bool, type(None)})
_TEXT_LIMIT: Final = 8192
#: Seven digits or more in one run as people write numbers. A trunk's uniqueid and line numbers stay readable:
#: a full stop ends the run.
_NUMBER_IN_TEXT: Final = re.compile(r"(?<![\w.])\+?\(?\d(?:[ ()/-]{0,2}\d){6,18}(?![\w.]*\d)")


def configure(
    *,
    level: Level = "info",
    format: Format = "auto",
    stream: BinaryIO | None = None,
) -> None:
    """Log from now on at `level` to `stream` (stderr). May be called again, for every logger.

    `auto` is for people if the stream is a terminal, else JSON.
    """
    out = stream if stream is not None else sys.stderr.buffer
    for_people = format == "console" or (format == "auto" and out.isatty())
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        _add_time,
        structlog.processors.ExceptionRenderer(),
        _hide_secrets if level == "debug" else _mask_people,
    ]
    if for_people:
        processors += [_time_first, structlog.dev.ConsoleRenderer(timestamp_key="at"), _encode]
    else:
        processors.append(_as_json)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _Lines(out),
        cache_logger_on_first_use=False,
    )


@contextmanager
def aside() -> Iterator[None]:
    """Only warnings, and to stderr: for a command, whose stdout is for what was asked."""
    before = structlog.get_config() if structlog.is_configured() else None
    configure(level="warning", format="console")
    try:
        yield
    finally:
        if before is None:
            structlog.reset_defaults()
        else:
            structlog.configure(**before)


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry `source: name`. Fields are given by keyword; `bind` keeps some for good."""
    return cast(FilteringBoundLogger, structlog.get_logger(source=name))


def forward_twisted(*, begin: bool = True) -> None:
    """Take Twisted's own messages into this log.

    `begin`: nobody else begins Twisted's logging; False under `twist`, which does.
    """
    observer = cast(ILogObserver, observe_twisted)
    if begin:
        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    else:
        globalLogPublisher.addObserver(observer)


def observe_twisted(event: LogEvent) -> None:
    """Write an event of `twisted.logger` as a line of ours, a failure with its traceback."""
    level = event.get("log_level") or LogLevel.info
    fields: dict[str, Any] = {}
    failure = event.get("log_failure")
    if failure is not None:
        fields["exception"] = failure.getTraceback()
    message = formatEvent(event) or (failure.getErrorMessage() if failure is not None else "")
    log = get_logger(event.get("log_namespace") or "twisted")
    getattr(log, "warning" if level is LogLevel.warn else level.name)(message, **fields)


class _Lines:
    """Writes finished lines; all levels are one."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def msg(self, line: bytes) -> None:
        # A full disk or a reader that went away may cost a line of the log, never a call.
        with suppress(OSError, ValueError):
            self._stream.write(line + b"\n")
            self._stream.flush()

    debug = info = warning = error = critical = msg


def _add_time(_logger: WrappedLogger, _method: str, record: MutableMapping[str, Any]) -> Any:
    record["at"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return record


def _time_first(_logger: WrappedLogger, _method: str, record: MutableMapping[str, Any]) -> Any:
    return {"at": record.pop("at"), **record}


def _encode(_logger: WrappedLogger, _method: str, line: Any) -> Any:
    return str(line).encode("utf-8", "backslashreplace")


def _as_json(_logger: WrappedLogger, _method: str, record: MutableMapping[str, Any]) -> Any:
    ordered = {"at": record.pop("at"), "level": record.pop("level"), "event": record.pop("event", "")}
    if "call" in record:
        ordered["call"] = record.pop("call")
    ordered.update(record)
    try:
        return orjson.dumps(ordered, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return orjson.dumps({_plain(key): _plain(value) for key, value in ordered.items()})


def _plain(value: Any) -> str:
    # A lone surrogate, a number beyond 64 bits, a loop: what can't be JSON is still worth its line.
    return str(value)[:_TEXT_LIMIT].encode("utf-8", "backslashreplace").decode("utf-8")


def _mask_people(_logger: WrappedLogger, _method: str, record: MutableMapping[str, Any]) -> Any:
    for key, value in record.items():
        # What most fields are; asking first makes a line a quarter cheaper.
        if type(value) not in _PLAIN_TYPES or _kind(key) is not _Kind.PLAIN:
            record[key] = _masked(key, value, _DEPTH)
    return record


def _hide_secrets(_logger: WrappedLogger, _method: str, record: MutableMapping[str, Any]) -> Any:
    for key, value in record.items():
        record[key] = _without_secrets(key, value, _DEPTH)
    return record


class _Kind(Enum):
    PLAIN = auto()
    TEXT = auto()
    NUMBER = auto()
    NAME = auto()
    SECRET = auto()


# Fields' names come from our own code, mostly; the bound is for those inside of values.
@lru_cache(maxsize=1024)
def _kind(key: str) -> _Kind:
    lower = key.lower()
    if any(word in lower for word in SECRET_WORDS):
        return _Kind.SECRET
    if lower in NUMBER_FIELDS:
        return _Kind.NUMBER
    if lower in NAME_FIELDS:
        return _Kind.NAME
    return _Kind.TEXT if lower in TEXT_FIELDS else _Kind.PLAIN


def _masked(key: str, value: Any, depth: int) -> Any:
    kind = _kind(key)
    if value is None or (kind is _Kind.PLAIN and isinstance(value, _SCALARS)):
        return value
    if kind is _Kind.SECRET or (depth == 0 and not isinstance(value, _SCALARS)):
        return _MASK
    if isinstance(value, Mapping):
        if kind is _Kind.NAME:
            return {inner: item for inner, item in value.items() if inner in PARTY_KEYS}
        return {inner: _masked(str(inner), item, depth - 1) for inner, item in value.items()}
    if isinstance(value, Sequence | Set) and not isinstance(value, str | bytes):
        return [_masked(key, item, depth - 1) for item in value]
    if kind is _Kind.NUMBER:
        return mask(str(value))
    if kind is _Kind.NAME:
        return _MASK
    return _scrubbed(str(value)) if kind is _Kind.TEXT else value


def _without_secrets(key: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, _SCALARS):
        return _MASK if value is not None and _kind(key) is _Kind.SECRET else value
    if depth == 0 or _kind(key) is _Kind.SECRET:
        return _MASK
    if isinstance(value, Mapping):
        return {inner: _without_secrets(str(inner), item, depth - 1) for inner, item in value.items()}
    if isinstance(value, Sequence | Set) and not isinstance(value, bytes):
        return [_without_secrets(key, item, depth - 1) for item in value]
    return value


def _scrubbed(text: str) -> str:
    return _NUMBER_IN_TEXT.sub(lambda found: mask(found[0]), text[:_TEXT_LIMIT])
