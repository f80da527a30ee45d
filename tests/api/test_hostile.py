"""Requests that no client of good will sends: they are refused or cut off, and nobody else notices."""

import socket
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from lab.ports import LOOPBACK
from tests.api.site import Site

HOST = b"Host: cordboard.example\r\n"


def send(site: Site, data: bytes, *, and_leave: bool = False) -> bytes:
    """Everything that comes back until the other side closes, or is silent; `and_leave` says that no more follows."""
    with socket.create_connection((LOOPBACK, site.daemon.http_port), timeout=5) as connection:
        connection.sendall(data)
        if and_leave:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except (ConnectionResetError, TimeoutError):
            pass
        return received


def statuses(received: bytes) -> list[int]:
    """Of all answers in what came back."""
    return [int(each[:3]) for each in received.split(b"HTTP/1.1 ")[1:]]


def is_well(site: Site) -> bool:
    return site.ask("GET", "/healthz").status == 200 and site.faults() == []


@pytest.mark.parametrize(
    "path",
    [
        b"/static/../api.py",
        b"/static/%2e%2e/api.py",
        b"/static/..%2fapi.py",
        b"/static/%2e%2e%2fapi.py",
        b"/static/..%5capi.py",
        b"/static//etc/passwd",
        b"/static/%2fetc%2fpasswd",
        b"/static/desk.css%00.png",
        b"/static/./desk.css",
        b"//api/v1/users",
        b"/api//v1/users",
        b"/api/v1/./users",
        b"/api/v1/calls/../users",
        b"/api/v1/calls/%2e%2e/users",
        b"/api/v1/users/",
        b"/API/v1/users",
        b"/api/v1/users;x=1",
        b"/%61pi/v1/users",
        b"/api/v1%2fusers",
        b"/" + b"a/" * 2000,
        b"/static/%ff%fe",
    ],
)
def test_no_trick_in_a_path_leads_anywhere(site: Site, path: bytes) -> None:
    received = send(site, b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert statuses(received) in ([404], [401], [414])
    assert b"root:" not in received
    assert b"import " not in received


@pytest.mark.parametrize(
    "head",
    [
        # Who counts by the one and who by the other would see two different requests.
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 5_0\r\n",
        b"Content-Length : 5\r\n",
        b"Content-Length: 5\xb2\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b" Content-Length: 5\r\n",
        b"X\x00Y: 1\r\n",
        b"X-Injected: a\x00b\rc\r\n",
    ],
)
def test_nobody_smuggles_a_request_behind_another(site: Site, head: bytes) -> None:
    hidden = b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    request = b"POST /api/v1/session HTTP/1.1\r\n" + HOST + head + b"\r\n" + b"0\r\n\r\n" + hidden
    found = statuses(send(site, request))
    # At most the one that was sent, and never the one that was hidden.
    assert 200 not in found, head
    assert len(found) <= 1 or all(status == 400 for status in found[1:])
    assert is_well(site)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ["Bearer {token}", "Bearer {token}"]}, 401),
        ({"Authorization": ["Bearer {token}"], "Idempotency-Key": ["a", "b"]}, 400),
        ({"Authorization": ["Bearer {token}"], "Content-Type": ["text/plain"]}, 415),
        ({"Authorization": ["Basic {token}"]}, 401),
        ({"Authorization": ["Bearer {token}\x0b"]}, 401),
        ({"Authorization": ["Bearer {token}"], "X-Forwarded-For": ["not an address", "1.2.3.4, x"]}, 409),
    ],
)
def test_doubled_and_odd_headers_are_refused_or_passed_over(
    site: Site, headers: Mapping[str, list[str]], status: int
) -> None:
    body = b'{"agent":"anna","to":"+4915228895456"}'
    given_headers = {"Content-Type": ["application/json"], "X-Forwarded-For": [site.an_address()], **headers}
    lines = "".join(
        f"{name}: {value.format(token=site.tokens['admin'])}\r\n"
        for name, values in given_headers.items()
        for value in values
    )
    head = b"POST /api/v1/calls HTTP/1.1\r\n" + HOST + lines.encode() + b"Connection: close\r\n"
    received = send(site, head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert statuses(received) == [status]


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Cookie",
        "Content-Type",
        "If-None-Match",
        "Idempotency-Key",
        "Origin",
        "X-Forwarded-Proto",
    ],
)
def test_a_header_that_is_not_utf_8_is_read_as_latin_1(site: Site, name: str) -> None:
    head = (
        b"GET /api/v1/agents HTTP/1.1\r\n"
        + HOST
        + name.encode()
        + b": \xfcber\xff\r\nConnection: close\r\n\r\n"
    )
    assert statuses(send(site, head)) == [401]
    assert is_well(site)


@pytest.mark.parametrize("size", [70_000, 900_000, 3_000_000])
def test_a_huge_body_is_refused(site: Site, size: int) -> None:
    head = (
        b"POST /api/v1/calls HTTP/1.1\r\n" + HOST
        + f"Authorization: Bearer {site.tokens['admin']}\r\n".encode()
        + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size
    )  # fmt: skip
    with socket.create_connection((LOOPBACK, site.daemon.http_port), timeout=30) as connection:
        connection.sendall(head)
        received = b""
        try:
            for _ in range(size // 10_000):
                connection.sendall(b"[" * 10_000)
            received = connection.recv(65536)
        except (BrokenPipeError, ConnectionResetError):
            # Cut off in the middle of it, as is right.
            pass
    assert statuses(received) in ([], [413])
    assert is_well(site)


@pytest.mark.parametrize(
    "body", [b"[" * 60_000, b'{"a":' * 10_000, b'"' + b"\\u0000" * 9000 + b'"', b"\xff\xfe", b"1e999"]
)
def test_a_body_that_would_hurt_a_parser_is_refused(site: Site, body: bytes) -> None:
    head = (
        f"POST /api/v1/explain HTTP/1.1\r\nAuthorization: Bearer {site.tokens['admin']}\r\n".encode() + HOST
    )
    head += b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert statuses(send(site, head + body)) in ([400], [422])
    assert is_well(site)


LINES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"Host: a", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Expect: 100-continue", b""]
    ),
    st.builds(lambda name, value: name + b": " + value, st.binary(max_size=12), st.binary(max_size=40)),
)


@given(
    method=st.one_of(
        st.sampled_from([b"GET", b"POST", b"PATCH", b"OPTIONS", b"PRI", b"CONNECT"]), st.binary(max_size=9)
    ),
    path=st.one_of(st.sampled_from([b"/", b"/api/v1/calls", b"*", b"http://a/b"]), st.binary(max_size=60)),
    version=st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b""]),
    lines=st.lists(LINES, max_size=6),
    body=st.binary(max_size=100),
)
@settings(
    max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
def test_no_request_at_all_is_a_fault_of_the_servers(
    site: Site, method: bytes, path: bytes, version: bytes, lines: list[bytes], body: bytes
) -> None:
    head = b"\r\n".join([b" ".join([method, path, version]), *lines, b"Connection: close"])
    received = send(site, head + b"\r\n\r\n" + body, and_leave=True)
    assert not [status for status in statuses(received) if status >= 500]


def test_after_all_that_the_server_is_well_and_has_seen_no_fault_of_its_own(site: Site) -> None:
    assert is_well(site)
