"""The log: one JSON object a line, nobody's number in it, Twisted's failures not lost."""

import io
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import structlog
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure

from cti import logs

NUMBER = "+4915228817386"


class Log:
    def __init__(self, **settings: Any) -> None:
        self.stream = io.BytesIO()
        logs.configure(stream=self.stream, **{"format": "json", **settings})

    @property
    def records(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_a_line_is_a_json_object_with_time_level_event_and_call_first() -> None:
    log = Log()
    logs.get_logger("cti.calls").bind(call="c1").info("call routed", service="sales", attempt=1)
    (record,) = log.records
    assert list(record)[:4] == ["at", "level", "event", "call"]
    assert record["at"].endswith("Z")
    assert record["at"][10] == "T"
    assert record["level"] == "info"
    assert record["event"] == "call routed"
    assert record["call"] == "c1"
    assert record["source"] == "cti.calls"
    assert (record["service"], record["attempt"]) == ("sales", 1)


def test_numbers_and_names_are_masked_at_the_default_level() -> None:
    log = Log()
    logs.get_logger("x").info(
        "asked",
        **{"from": NUMBER, "to": "494066969100", "from_raw": "0152 28817386"},
        caller_name="Käthe Ørsted",
        party={"adapter": "directory", "type": "contact", "id": "17", "name": "Käthe Ørsted"},
        request={"did": NUMBER, "attempt": 1, "numbers": [NUMBER]},
    )
    text = log.stream.getvalue().decode()
    for personal in ("28817386", "66969100", "Käthe", "Ørsted"):
        assert personal not in text
    (record,) = log.records
    assert record["from"] == "+4915…86"
    assert record["party"] == {"adapter": "directory", "type": "contact", "id": "17"}
    assert record["request"]["attempt"] == 1


@pytest.mark.parametrize("written", [NUMBER, "0152 28817386", "+49 (152) 288-17386", "tel:" + NUMBER])
def test_a_number_inside_of_a_sentence_is_masked(written: str) -> None:
    log = Log()
    logs.get_logger("x").warning(f"no match for {written}.", error=f"parse({written!r}) failed", line=4711)
    text = log.stream.getvalue().decode()
    assert "17386" not in text
    assert "no match for" in text
    assert log.records[0]["line"] == 4711


def test_what_an_operator_needs_to_find_a_call_stays_readable() -> None:
    log = Log()
    logs.get_logger("x").info("hangup of 1770110100.12 at 127.0.0.1:8470", uniqueid="1770110100.12")
    (record,) = log.records
    assert record["event"] == "hangup of 1770110100.12 at 127.0.0.1:8470"
    assert record["uniqueid"] == "1770110100.12"


def test_debug_shows_numbers_and_never_secrets() -> None:
    log = Log(level="debug")
    logs.get_logger("x").debug(
        "asked", **{"from": NUMBER}, ami={"username": "cti", "secret": "s3cr3t"}, token="t0k3n"
    )
    (record,) = log.records
    assert record["from"] == NUMBER
    assert record["ami"]["username"] == "cti"
    assert b"s3cr3t" not in log.stream.getvalue()
    assert b"t0k3n" not in log.stream.getvalue()


def test_secrets_are_hidden_at_the_default_level_too() -> None:
    log = Log()
    logs.get_logger("x").info("log-in", Authorization="Bearer abc", nested=[{"ami_password": "abc"}])
    assert b"abc" not in log.stream.getvalue()


def test_lines_below_the_level_are_not_written() -> None:
    log = Log(level="warning")
    logs.get_logger("x").info("quiet")
    logs.get_logger("x").warning("loud")
    assert [record["event"] for record in log.records] == ["loud"]


@pytest.mark.parametrize("value", [2**70, "\ud800", {1: {2: object()}}, b"\xff", {3, 4}, object()])
def test_what_json_cannot_say_is_still_one_line(value: Any) -> None:
    log = Log()
    logs.get_logger("x").info("odd", value=value)
    assert len(log.records) == 1
    assert log.records[0]["event"] == "odd"


def test_a_newline_in_a_value_does_not_make_a_second_line() -> None:
    log = Log()
    logs.get_logger("x").info("a\nb", device='PJSIP/x"\n{"level":"error"}')
    assert len(log.stream.getvalue().splitlines()) == 1


def test_a_stream_that_fails_costs_no_call() -> None:
    class Broken(io.BytesIO):
        def write(self, data: Any) -> int:
            raise BrokenPipeError

    logs.configure(stream=Broken(), format="json")
    logs.get_logger("x").error("nobody reads this")


def test_people_get_a_console_format_and_machines_json() -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    logs.configure(stream=terminal)
    logs.get_logger("x").info("ready", **{"from": NUMBER})
    assert b"ready" in terminal.getvalue()
    assert b"28817386" not in terminal.getvalue()
    assert not terminal.getvalue().startswith(b"{")
    assert Log(format="auto").stream.getvalue() == b""


def a_twisted_logger() -> Logger:
    publisher = LogPublisher(logs.observe_twisted)  # type: ignore[arg-type]
    return Logger(namespace="twisted.test", observer=publisher)


def test_an_unhandled_failure_of_twisted_is_a_line_with_its_traceback() -> None:
    log = Log()
    try:
        raise RuntimeError(f"adapter broke on {NUMBER}")
    except RuntimeError:
        failure = Failure()
    a_twisted_logger().failure("Unhandled error in Deferred", failure=failure)
    (record,) = log.records
    assert record["level"] == "critical"
    assert record["event"] == "Unhandled error in Deferred"
    assert "RuntimeError: adapter broke on" in record["exception"]
    assert "28817386" not in record["exception"]
    assert record["source"] == "twisted.test"


def test_twisteds_levels_and_formats_are_kept() -> None:
    log = Log()
    a_twisted_logger().warn("100% of {what} used", what="descriptors")
    (record,) = log.records
    assert (record["level"], record["event"]) == ("warning", "100% of descriptors used")
