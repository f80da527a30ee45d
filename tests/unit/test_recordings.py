"""Reading recordings: from a directory or a web server, and what is said when neither gives one."""

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from cti.calls.recordings import (
    CHUNK,
    MAX_OPEN,
    PIECE_SECONDS,
    NoRecording,
    Reading,
    RecordingAway,
    Recordings,
)
from cti.settings import Recordings as Place
from cti.store.records import CallRecord

CALL = "01930000-0000-7000-8000-000000000001"
RECORD = CallRecord(id=CALL, pbx="main", started=100.0, recording=f"{CALL}.wav")


def result(work: Any) -> Any:
    """What a coroutine gives that waits for nothing."""
    outcome: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(outcome.append)
    (found,) = outcome
    return found.raiseException() if isinstance(found, Failure) else found


def whole(reading: Reading) -> bytes:
    pieces: list[bytes] = []
    while piece := result(reading.piece()):
        pieces.append(piece)
    reading.close()
    return b"".join(pieces)


class FakeTransport:
    def __init__(self) -> None:
        self.flowing = True
        self.closed = False

    def pauseProducing(self) -> None:
        self.flowing = False

    def resumeProducing(self) -> None:
        self.flowing = True

    def loseConnection(self) -> None:
        self.closed = True


class FakeResponse:
    def __init__(self, code: int, length: int | str) -> None:
        self.code, self.length = code, length
        self.body: Any = None

    def deliverBody(self, body: Any) -> None:
        self.body = body
        body.makeConnection(FakeTransport())


class FakeAgent:
    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.answer: Deferred[Any] = Deferred()

    def request(self, _method: bytes, url: bytes, _headers: Any) -> "Deferred[Any]":
        self.asked.append(url)
        return self.answer


@pytest.fixture
def clock() -> Clock:
    return Clock()


def on_disk(clock: Clock, directory: Path) -> Recordings:
    def in_thread(work: Any) -> "Deferred[Any]":
        try:
            return succeed(work())
        except OSError as error:
            return fail(error)

    return Recordings({"main": Place(directory=directory)}, clock, in_thread)


@pytest.fixture
def web(clock: Clock) -> tuple[Recordings, FakeAgent]:
    recordings = Recordings({"main": Place(url="https://pbx.example/r")}, clock, lambda work: succeed(work()))
    recordings._agent = agent = FakeAgent()
    return recordings, agent


def test_a_file_is_read_piece_by_piece(tmp_path: Path, clock: Clock) -> None:
    sound = bytes(range(256)) * 1024
    (tmp_path / f"{CALL}.wav").write_bytes(sound)
    reading = result(on_disk(clock, tmp_path).open(RECORD))
    assert reading.size == len(sound)
    assert len(result(reading.piece())) == CHUNK
    assert whole(reading) == sound[CHUNK:]


def test_what_is_no_file_of_ours_is_not_read(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "secret").write_text("sesame")
    recordings = on_disk(clock, tmp_path)
    with pytest.raises(NoRecording, match="not there"):
        result(recordings.open(RECORD))
    (tmp_path / f"{CALL}.wav").symlink_to(tmp_path / "secret")
    with pytest.raises(RecordingAway):
        result(recordings.open(RECORD))


def test_a_disk_that_hangs_is_given_up(tmp_path: Path, clock: Clock) -> None:
    recordings = Recordings({"main": Place(directory=tmp_path)}, clock, lambda work: Deferred())
    failed: list[Any] = []
    Deferred.fromCoroutine(recordings.open(RECORD)).addErrback(failed.append)
    clock.advance(PIECE_SECONDS + 1)
    assert failed[0].check(RecordingAway)


def test_a_disk_that_hangs_keeps_no_thread_from_others(tmp_path: Path, clock: Clock) -> None:
    begun: list[Any] = []

    def in_thread(work: Any) -> "Deferred[Any]":
        begun.append(work)
        return Deferred()

    recordings = Recordings({"main": Place(directory=tmp_path)}, clock, in_thread)
    for _ in range(3 * MAX_OPEN):
        Deferred.fromCoroutine(recordings.open(RECORD)).addErrback(lambda failure: None)
        clock.advance(PIECE_SECONDS + 1)
    assert len(begun) == MAX_OPEN
    with pytest.raises(FileNotFoundError):
        begun[0]()
    Deferred.fromCoroutine(recordings.open(RECORD)).addErrback(lambda failure: None)
    assert len(begun) == MAX_OPEN + 1


def test_only_so_many_are_heard_at_once_and_each_makes_room_for_one(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / f"{CALL}.wav").write_bytes(b"RIFF")
    recordings = on_disk(clock, tmp_path)
    readings = [result(recordings.open(RECORD)) for _ in range(MAX_OPEN)]
    with pytest.raises(RecordingAway, match="try again"):
        result(recordings.open(RECORD))
    for _ in range(2):
        readings[0].close()
    result(recordings.open(RECORD))
    with pytest.raises(RecordingAway):
        result(recordings.open(RECORD))


def test_an_asterisk_of_which_nobody_has_said_where_is_named(clock: Clock) -> None:
    with pytest.raises(RecordingAway, match=r"asterisks\.main\.recordings"):
        result(Recordings({}, clock, lambda work: succeed(work())).open(RECORD))


def test_a_web_server_gives_it_no_faster_than_it_is_taken(web: tuple[Recordings, FakeAgent]) -> None:
    recordings, agent = web
    response = FakeResponse(200, 8)
    agent.answer.callback(response)
    reading = result(recordings.open(RECORD))
    assert agent.asked == [f"https://pbx.example/r/{CALL}.wav".encode()]
    assert reading.size == 8
    response.body.dataReceived(b"RIFF")
    assert not response.body.transport.flowing
    assert result(reading.piece()) == b"RIFF"
    waiting: list[Any] = []
    Deferred.fromCoroutine(reading.piece()).addBoth(waiting.append)
    assert response.body.transport.flowing
    response.body.dataReceived(b"last")
    assert waiting == [b"last"]
    response.body.connectionLost(Failure(ResponseDone()))
    assert result(reading.piece()) == b""


def test_a_web_server_that_breaks_off_does_not_pass_for_the_end(web: tuple[Recordings, FakeAgent]) -> None:
    recordings, agent = web
    response = FakeResponse(200, "unknown")
    agent.answer.callback(response)
    reading = result(recordings.open(RECORD))
    assert reading.size is None
    response.body.connectionLost(Failure(ConnectionResetError()))
    with pytest.raises(RecordingAway, match="broke off"):
        result(reading.piece())


@pytest.mark.parametrize(("code", "error"), [(404, NoRecording), (403, RecordingAway), (500, RecordingAway)])
def test_what_a_web_server_refuses_is_not_taken_for_a_sound(
    web: tuple[Recordings, FakeAgent], code: int, error: type[Exception]
) -> None:
    recordings, agent = web
    response = FakeResponse(code, 3)
    agent.answer.callback(response)
    with pytest.raises(error):
        result(recordings.open(RECORD))
    assert response.body.transport.closed


def test_a_web_server_that_is_away_or_silent_is_said_to_be(
    web: tuple[Recordings, FakeAgent], clock: Clock
) -> None:
    recordings, agent = web
    failed: list[Any] = []
    Deferred.fromCoroutine(recordings.open(RECORD)).addErrback(failed.append)
    clock.advance(PIECE_SECONDS + 1)
    agent.answer = fail(ConnectionRefusedError())
    Deferred.fromCoroutine(recordings.open(RECORD)).addErrback(failed.append)
    assert [bool(each.check(RecordingAway)) for each in failed] == [True, True]
