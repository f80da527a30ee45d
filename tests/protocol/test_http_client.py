"""The adapters' HTTP client against a small server that misbehaves in every way that servers do."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred

from adapters.base import (
    AdapterAnswerError,
    AdapterBusy,
    AdapterDenied,
    AdapterError,
    AdapterTimeout,
    AdapterUnavailable,
)
from adapters.http_client import Answer, HttpClient, Limits, TlsOptions, origin_of
from adapters.trace import Exchange, Trace
from adapters.trial import eventually, in_reactor
from tests.certificates import Authority

Script = Callable[[socket.socket, str], None]


@define
class Hostile:
    """Reads each request and does what the script does; keeps what it has seen."""

    script: Script
    certificate: str | None = None
    requests: list[str] = field(factory=list)
    closed: list[float] = field(factory=list)
    connections: int = 0
    _socket: socket.socket = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"{'http' if self.certificate is None else 'https'}://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        connection.settimeout(60)
        try:
            if self.certificate is not None:
                context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                context.load_cert_chain(self.certificate)
                connection = context.wrap_socket(connection, server_side=True)
            with connection:
                while (request := read_request(connection)) is not None:
                    self.requests.append(request)
                    self.script(connection, request)
        except OSError:
            pass
        self.closed.append(time.monotonic())


def read_request(connection: socket.socket) -> str | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
        if data.startswith(b"\x16"):
            return "a TLS handshake"
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ),
        0,
    )
    while len(body) < length:
        body += connection.recv(65536)
    return (head + b"\r\n\r\n" + body).decode("utf-8")


def answer(body: bytes = b"{}", status: str = "200 OK", **headers: str) -> bytes:
    fields = {"content-type": "application/json", "content-length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def says(data: bytes) -> Script:
    return lambda connection, _request: connection.sendall(data)


@contextmanager
def a_server(script: Script | bytes, certificate: str | None = None) -> Iterator[Hostile]:
    server = Hostile(says(script) if isinstance(script, bytes) else script, certificate)
    try:
        yield server
    finally:
        server.close()


def ask(
    url: str,
    *,
    method: str = "GET",
    hosts: tuple[str, ...] = (),
    limits: Limits | None = None,
    tls: TlsOptions | None = None,
    trace: Trace | None = None,
    times: int = 1,
    **options: Any,
) -> Answer:
    async def asked() -> Answer:
        from twisted.internet import reactor

        running: Any = reactor
        client = HttpClient(running, hosts=hosts or (url,), limits=limits or Limits(), tls=tls, trace=trace)
        try:
            for _ in range(times):
                got = await client.request(method, url, **options)
            return got
        finally:
            await client.close()

    return in_reactor(asked)


def fails(error: type[AdapterError], words: str, url: str, **options: Any) -> AdapterError:
    with pytest.raises(error, match=words) as raised:
        ask(url, **options).json()
    assert "secret" not in str(raised.value)
    assert "3023125" not in str(raised.value)
    return raised.value


SECRET_URL = "/find?number=3023125001&key=secret"


def test_an_answer_has_its_status_headers_and_json() -> None:
    with a_server(answer('{"name":"Zoë"}'.encode(), x_page="2")) as server:
        got = ask(server.url + "/contacts", query=[("q", "a b&c")], headers=[("x-key", "k")])
        assert (got.status, got.header("X-Page"), got.json()) == (200, "2", {"name": "Zoë"})
        assert server.requests[0].startswith("GET /contacts?q=a+b%26c HTTP/1.1\r\n")
        assert "\r\nx-key: k\r\n" in server.requests[0].lower()


@pytest.mark.parametrize(
    ("options", "content_type", "body"),
    [
        ({"json": {"a": "ä"}}, "application/json", '{"a":"ä"}'),
        ({"form": [("a", "ä&"), ("b", "")]}, "application/x-www-form-urlencoded", "a=%C3%A4%26&b="),
        ({"body": b"<a/>", "headers": [("content-type", "text/xml")]}, "text/xml", "<a/>"),
    ],
)
def test_bodies_are_written_as_what_they_are(options: Any, content_type: str, body: str) -> None:
    with a_server(answer()) as server:
        ask(server.url, method="POST", **options)
        head, _, sent = server.requests[0].partition("\r\n\r\n")
        assert sent == body
        assert f"content-type: {content_type}\r\n" in head.lower()


def test_nothing_and_204_are_no_json() -> None:
    for data in (
        answer(b""),
        answer(b"", "204 No Content", content_length=""),
        answer(b"  \n"),
    ):
        with a_server(data) as server:
            assert ask(server.url).json() is None


def test_a_connection_is_used_again() -> None:
    with a_server(answer()) as server:
        ask(server.url, times=3)
        assert (server.connections, len(server.requests)) == (1, 3)


def test_a_server_that_hangs_is_a_timeout_and_its_connection_is_closed() -> None:
    with a_server(lambda *_: None) as server:
        fails(AdapterTimeout, "no answer within 0.3 s", server.url + SECRET_URL, seconds=0.3)
        eventually(lambda: len(server.closed) == 1, "the connection is closed")


def test_a_deadline_counts_for_the_whole_body() -> None:
    def drips(connection: socket.socket, _request: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        while True:
            connection.sendall(b" ")
            time.sleep(0.02)

    with a_server(drips) as server:
        fails(AdapterTimeout, "no answer within 0.5 s", server.url, seconds=0.5)
        eventually(lambda: len(server.closed) == 1, "the connection is closed")


def test_headers_without_end_are_a_timeout_or_too_many() -> None:
    def drips(connection: socket.socket, _request: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"x-more: %b\r\n" % (b"y" * 1000))

    with a_server(drips) as server:
        fails(AdapterAnswerError, "without an end", server.url, seconds=30)
        eventually(lambda: len(server.closed) == 1, "the connection is closed")


def test_a_stream_without_end_is_cut_at_the_limit() -> None:
    def streams(connection: socket.socket, _request: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        while True:
            connection.sendall(b"[" * 65536)

    with a_server(streams) as server:
        fails(AdapterAnswerError, "more than 1000000 bytes", server.url, limits=Limits(30, 1_000_000))
        eventually(lambda: len(server.closed) == 1, "the connection is closed")


def test_ten_megabytes_are_too_many() -> None:
    with a_server(answer(b'["' + b"x" * 10_000_000 + b'"]')) as server:
        fails(AdapterAnswerError, "more than 2000000 bytes", server.url, seconds=30)


def test_a_gzip_bomb_is_cut_at_the_limit() -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    with a_server(answer(bomb, content_encoding="gzip")) as server:
        fails(AdapterAnswerError, "more than 2000000 bytes", server.url, seconds=30)


def test_gzip_is_unpacked() -> None:
    with a_server(answer(gzip.compress(b'{"a":1}'), content_encoding="gzip")) as server:
        assert ask(server.url).json() == {"a": 1}


@pytest.mark.parametrize(
    ("data", "encoding", "error", "words"),
    [
        (b"no gzip at all", "gzip", AdapterAnswerError, "cannot be unpacked"),
        (gzip.compress(b'{"a":"' + bytes(range(200)) + b'"}')[:-20], "gzip", AdapterUnavailable, "broke off"),
        (b"{}", "br", AdapterAnswerError, "not asked for"),
    ],
)
def test_packing_that_is_none_is_an_error(
    data: bytes, encoding: str, error: type[AdapterError], words: str
) -> None:
    with a_server(answer(data, content_encoding=encoding)) as server:
        fails(error, words, server.url)


def test_html_is_no_json() -> None:
    page = answer(b"<html>Log in</html>", content_type="text/html; charset=utf-8")
    with a_server(page) as server:
        fails(AdapterAnswerError, "answered text/html instead of JSON", server.url)


@pytest.mark.parametrize("body", [b'{"a":', b"[" * 5000, b"nul", b'{"a":NaN}'])
def test_broken_json_is_said_to_be(body: bytes) -> None:
    with a_server(answer(body)) as server:
        fails(AdapterAnswerError, "broken JSON", server.url)


def test_json_under_another_name_is_taken() -> None:
    with a_server(answer(b'{"a":1}', content_type="text/html")) as server:
        assert ask(server.url).json() == {"a": 1}


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        ("iso-8859-1", '{"a":"ü"}'.encode("latin-1")),
        ("utf-8", b'\xef\xbb\xbf{"a":"\xc3\xbc"}'),
        ("", '{"a":"ü"}'.encode()),
    ],
)
def test_a_charset_is_honoured(charset: str, body: bytes) -> None:
    said = f"application/json; charset={charset}" if charset else "application/json"
    with a_server(answer(body, content_type=said)) as server:
        assert ask(server.url).json() == {"a": "ü"}


@pytest.mark.parametrize(("charset", "words"), [("utf-8", "utf-8 that is none"), ("klingon", "nobody knows")])
def test_a_wrong_charset_is_an_error(charset: str, words: str) -> None:
    body = '{"a":"ü"}'.encode("latin-1")
    with a_server(answer(body, content_type=f"application/json; charset={charset}")) as server:
        fails(AdapterAnswerError, words, server.url)


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        ("500 Oh", AdapterUnavailable, "answered 500"),
        ("503 Oh", AdapterUnavailable, "answered 503"),
        ("400 Oh", AdapterAnswerError, "answered 400"),
        ("404 Oh", AdapterAnswerError, "answered 404"),
    ],
)
def test_a_status_that_was_not_expected_is_an_error(
    status: str, error: type[AdapterError], words: str
) -> None:
    with a_server(answer(b"{}", status)) as server:
        got = ask(server.url + SECRET_URL)
        with pytest.raises(error, match=words) as raised:
            got.expect()
        assert "secret" not in str(raised.value)
        assert got.expect(got.status) is got


@pytest.mark.parametrize("status", ["401 No", "403 No"])
def test_a_login_that_is_refused_is_denied(status: str) -> None:
    with a_server(answer(b"{}", status)) as server:
        fails(AdapterDenied, "does not accept our login", server.url + SECRET_URL)


@pytest.mark.parametrize(
    ("status", "said", "seconds"),
    [
        ("429 Slow", "7", 7.0),
        ("429 Slow", "", 1.0),
        ("503 Later", "30", 30.0),
        ("429 Slow", "999999", 3600.0),
    ],
)
def test_a_busy_server_says_for_how_long(status: str, said: str, seconds: float) -> None:
    with a_server(answer(b"{}", status, retry_after=said)) as server:
        busy = fails(AdapterBusy, "asked again in", server.url + SECRET_URL)
        assert isinstance(busy, AdapterBusy)
        assert busy.retry_after == seconds


def test_a_busy_server_is_left_alone_until_then() -> None:
    with a_server(answer(b"{}", "429 Slow", retry_after="60")) as server:

        async def twice() -> None:
            from twisted.internet import reactor

            running: Any = reactor
            client = HttpClient(running, hosts=[server.url])
            for _ in range(2):
                with pytest.raises(AdapterBusy):
                    await client.request("GET", server.url)
            await client.close()

        in_reactor(twice)
        assert len(server.requests) == 1


def test_a_redirect_loop_ends() -> None:
    with a_server(answer(b"", "302 Found", location="/again")) as server:
        fails(AdapterAnswerError, "redirects more than 3 times", server.url)
        assert len(server.requests) == 4


def test_a_redirect_to_another_host_is_not_followed() -> None:
    with a_server(answer()) as other:
        there = f"{other.url}/?secret"
        for status in ("301", "302", "303", "307", "308"):
            with a_server(answer(b"", f"{status} There", location=there)) as server:
                fails(
                    AdapterAnswerError,
                    "configure it as the address",
                    server.url,
                    headers=[("authorization", "secret")],
                )
        assert other.requests == []


@pytest.mark.parametrize(
    "location",
    ["ftp://127.0.0.1/", "file:///etc/passwd", "http://user:pass@127.0.0.1/", "http://[/", "//x", ""],
)
def test_a_redirect_to_what_is_no_address_is_an_error(location: str) -> None:
    with a_server(answer(b"", "302 Found", location=location)) as server:
        fails(AdapterAnswerError, "redirects to", server.url)


def test_a_redirect_within_the_host_is_followed_with_its_body() -> None:
    def script(connection: socket.socket, request: str) -> None:
        moved = answer(b"", "307 Moved", location="/new?x=1")
        connection.sendall(moved if request.startswith("POST /old") else answer(b'{"ok":true}'))

    with a_server(script) as server:
        assert ask(server.url + "/old", method="POST", json={"a": 1}).json() == {"ok": True}
        assert server.requests[1].startswith("POST /new?x=1 ")
        assert server.requests[1].endswith('{"a":1}')


def test_what_is_written_is_not_made_a_question_by_a_redirect() -> None:
    with a_server(answer(b"", "301 Moved", location="/new")) as server:
        fails(AdapterAnswerError, "redirects a POST", server.url, method="POST", json={})
        assert len(server.requests) == 1


def test_an_address_that_is_not_configured_is_never_asked() -> None:
    with a_server(answer()) as server:
        for url in (
            server.url,
            f"http://127.0.0.1:{server.port}@127.0.0.2/",
            f"http://localhost:{server.port}",
        ):
            fails(AdapterAnswerError, "configured|user name", url, hosts=("http://127.0.0.1:1",))
        assert server.connections == 0


@pytest.mark.parametrize(
    "url", ["ftp://crm.example", "crm.example", "http://", "https://a:b@crm.example", ""]
)
def test_an_origin_is_http_with_a_host(url: str) -> None:
    with pytest.raises(ValueError, match="an address"):
        origin_of(url)


def test_a_self_signed_certificate_is_refused_and_named(tmp_path: Path) -> None:
    alone = Authority("127.0.0.1").issue("127.0.0.1")
    pem = tmp_path / "server.pem"
    pem.write_text(alone, encoding="ascii")
    with a_server(answer(), certificate=str(pem)) as server:
        fails(AdapterUnavailable, "`ca_file: FILE` with that", server.url + SECRET_URL)
        assert server.requests == []


def test_a_certificate_of_a_trusted_authority_is_believed(tmp_path: Path) -> None:
    authority = Authority()
    pem, ca = tmp_path / "server.pem", tmp_path / "ca.pem"
    pem.write_text(authority.issue("127.0.0.1"), encoding="ascii")
    ca.write_text(authority.pem, encoding="ascii")
    with a_server(answer(b"[1]"), certificate=str(pem)) as server:
        assert ask(server.url, tls=TlsOptions.from_file(ca)).json() == [1]


def test_a_certificate_for_somebody_else_is_refused(tmp_path: Path) -> None:
    authority = Authority()
    pem = tmp_path / "server.pem"
    pem.write_text(authority.issue("crm.example"), encoding="ascii")
    with a_server(answer(), certificate=str(pem)) as server:
        tls = TlsOptions(authority.pem.encode())
        fails(AdapterUnavailable, r"is for crm\.example, not for 127\.0\.0\.1", server.url, tls=tls)


def test_a_server_without_tls_is_said_to_have_none() -> None:
    with a_server(answer(b"", "400 Bad Request")) as server:
        fails(AdapterUnavailable, "http:// instead of https://", server.url.replace("http:", "https:"))


def test_nobody_at_the_port_is_unavailable() -> None:
    with a_server(answer()) as server:
        url = server.url
    fails(AdapterUnavailable, "cannot be reached", url + SECRET_URL)


def test_a_server_that_closes_at_once_is_unavailable() -> None:
    with a_server(lambda connection, _: connection.close()) as server:
        fails(AdapterUnavailable, "broke off", server.url, method="POST")


def test_an_answer_that_stops_in_the_middle_is_unavailable() -> None:
    def half(connection: socket.socket, _request: str) -> None:
        connection.sendall(answer(b'{"a":1}', content_length="100"))
        connection.shutdown(socket.SHUT_WR)

    with a_server(half) as server:
        fails(AdapterUnavailable, "in the middle of its answer", server.url)


def test_an_answer_that_ends_with_its_half_of_the_connection_is_whole() -> None:
    def half(connection: socket.socket, _request: str) -> None:
        connection.sendall(answer(b'{"a":1}', content_length=""))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)

    with a_server(half) as server:
        assert ask(server.url).json() == {"a": 1}


@pytest.mark.parametrize(
    "nonsense", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n", b"\x00\x01" * 50_000]
)
def test_what_is_no_http_is_unavailable(nonsense: bytes) -> None:
    def script(connection: socket.socket, _request: str) -> None:
        connection.sendall(nonsense)
        connection.shutdown(socket.SHUT_WR)

    with a_server(script) as server:
        fails(AdapterUnavailable, "broke off", server.url, method="POST")


def test_a_question_is_sent_again_on_a_connection_that_was_closed_meanwhile_and_a_write_is_not() -> None:
    def once(connection: socket.socket, request: str) -> None:
        if len(server.requests) == 2:
            # As a server that closes an idle connection at the moment when the request is written.
            connection.close()
        else:
            connection.sendall(answer(b"[1]"))

    with a_server(once) as server:
        assert ask(server.url, times=2).json() == [1]
        assert len(server.requests) == 3
    with a_server(once) as server, pytest.raises(AdapterUnavailable):
        ask(server.url, method="POST", times=2)
    assert len(server.requests) == 2
    with a_server(once) as server:
        assert ask(server.url, method="POST", times=2, repeatable=True).json() == [1]


async def together(client: HttpClient, url: str, count: int) -> list[Deferred[Answer]]:
    return [Deferred.fromCoroutine(client.request("GET", url)) for _ in range(count)]


def test_no_more_are_asked_at_a_time_than_allowed() -> None:
    at_once: list[int] = []
    lock = threading.Lock()
    now = [0]

    def slow(connection: socket.socket, _request: str) -> None:
        with lock:
            now[0] += 1
            at_once.append(now[0])
        time.sleep(0.1)
        with lock:
            now[0] -= 1
        connection.sendall(answer())

    with a_server(slow) as server:

        async def many() -> None:
            from twisted.internet import reactor

            running: Any = reactor
            client = HttpClient(running, hosts=[server.url], limits=Limits(seconds=30, concurrent=2))
            for each in await together(client, server.url, 6):
                await each
            await client.close()

        in_reactor(many)
    assert max(at_once) == 2
    assert len(at_once) == 6


def test_no_more_are_asked_a_second_than_allowed() -> None:
    arrived: list[float] = []

    def script(connection: socket.socket, _request: str) -> None:
        arrived.append(time.monotonic())
        connection.sendall(answer())

    with a_server(script) as server:

        async def many() -> None:
            from twisted.internet import reactor

            running: Any = reactor
            limits = Limits(seconds=30, per_second=10, burst=3)
            client = HttpClient(running, hosts=[server.url], limits=limits)
            for each in await together(client, server.url, 7):
                await each
            await client.close()

        in_reactor(many)
    # Three at once, four more a tenth of a second apart.
    assert arrived[-1] - arrived[0] > 0.35


def test_who_gives_up_waiting_gives_their_turn_back() -> None:
    with a_server(answer()) as server:

        async def many() -> float:
            from twisted.internet import reactor

            running: Any = reactor
            client = HttpClient(running, hosts=[server.url], limits=Limits(seconds=30, per_second=2))
            await client.request("GET", server.url)
            for each in await together(client, server.url, 5):
                each.addErrback(lambda failure: failure.trap(CancelledError))
                each.cancel()
            started = running.seconds()
            await client.request("GET", server.url)
            await client.close()
            taken: float = running.seconds() - started
            return taken

        # Half a second for itself, and not three for all.
        assert in_reactor(many) < 2


def test_a_question_that_is_let_go_of_closes_its_connection_and_gives_its_turn_back() -> None:
    def script(connection: socket.socket, request: str) -> None:
        if "/hang" not in request:
            connection.sendall(answer())

    with a_server(script) as server:

        async def let_go() -> None:
            from twisted.internet import reactor
            from twisted.internet.task import deferLater

            running: Any = reactor
            client = HttpClient(running, hosts=[server.url], limits=Limits(seconds=30, concurrent=2))
            for _ in range(5):
                for each in await together(client, server.url + "/hang", 3):
                    running.callLater(0.05, each.cancel)
                    each.addErrback(lambda failure: failure.trap(CancelledError))
                await deferLater(running, 0.1)
            await client.request("GET", server.url)
            await client.close()

        in_reactor(let_go)
        eventually(lambda: len(server.closed) == server.connections, "every connection is closed")


def test_a_trace_shows_each_exchange_and_no_secret() -> None:
    trace = Trace()
    trace.hide("s3cr3t/+key")
    echoed = json.dumps({"token": "s3cr3t/+key", "name": "Ada"}).encode()
    with a_server(answer(echoed, set_cookie="id=4711")) as server:
        ask(
            server.url + "/s3cr3t%2F%2Bkey/find",
            query=[("key", "s3cr3t/+key"), ("number", "+493023125001")],
            headers=[("authorization", "Basic abc"), ("x-api", "s3cr3t/+key")],
            trace=trace,
        )
    (step,) = trace.steps
    assert isinstance(step, Exchange)
    shown = str(step)
    assert "s3cr3t" not in shown
    assert "Basic" not in shown
    assert "4711" not in shown
    assert (step.method, step.status) == ("GET", 200)
    assert "number=%2B493023125001" in step.url
    assert "Ada" in step.answer


def test_a_trace_hides_a_secret_in_base64_too() -> None:
    trace = Trace()
    trace.hide("open sesame")
    coded = base64.b64encode(b"cti:open sesame").decode()
    trace.exchange(Exchange("GET", f"http://crm.example/{coded}", (("x-login", coded),), "Sesamstrasse"))
    (step,) = trace.steps
    assert coded not in str(step)
    assert "Sesamstrasse" in str(step)


def test_a_trace_shows_what_failed() -> None:
    trace = Trace()
    with a_server(lambda *_: None) as server:
        fails(AdapterTimeout, "within", server.url, seconds=0.2, trace=trace)
    (step,) = trace.steps
    assert isinstance(step, Exchange)
    assert (step.status, bool(step.error)) == (0, True)
