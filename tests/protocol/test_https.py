"""TLS of the web: a real server, real sockets, certificates that come and go while it runs."""

import io
import json
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from cti.certificates import CertificateUnusable, read_pair
from cti.web.tls import ServerTls
from tests.certificates import Authority
from tests.unit.test_cli import Company, Server, company

__all__ = ("company",)

PASSWORD = "correct horse battery"


def serial(pem: str) -> int:
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


class Tls:
    """Speaks to a server whose certificate it verifies."""

    def __init__(self, authority: Authority, port: int) -> None:
        self.authority = authority
        self.port = port

    @contextmanager
    def connected(self, version: ssl.TLSVersion | None = None) -> Iterator[ssl.SSLSocket]:
        context = ssl.create_default_context(cadata=self.authority.pem)
        if version is not None:
            if version < ssl.TLSVersion.TLSv1_2:
                context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            yield connection

    def serial(self) -> int:
        with self.connected() as connection:
            return x509.load_der_x509_certificate(connection.getpeercert(True) or b"").serial_number

    def ask(self, method: str, path: str, json_body: Any = None, **headers: str) -> bytes:
        body = b"" if json_body is None else json.dumps(json_body).encode()
        fields = {"Host": f"127.0.0.1:{self.port}", "Connection": "close", "Content-Type": "application/json"}
        fields |= {"Content-Length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        with self.connected() as connection:
            connection.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
            return b"".join(iter(lambda: connection.recv(65536), b""))


class HttpsServer(Server):
    """A `Server` whose web speaks TLS."""

    def __init__(self, company: Company, authority: Authority) -> None:
        super().__init__(company)
        self.tls = Tls(authority, self.http)
        self.certificate, self.key = company.directory / "tls.crt", company.directory / "tls.key"
        listen = f'{{listen: "127.0.0.1:{self.http}"'
        company.change(f"{listen}}}", f"{listen}, tls: {{certificate: tls.crt, key: tls.key}}}}")

    def put(self, pem: str) -> int:
        """Certificate and key, each in its file; the certificate's number."""
        at = pem.index("-----BEGIN EC PRIVATE KEY")
        self.key.write_text(pem[at:], encoding="utf-8")
        self.certificate.write_text(pem[:at], encoding="utf-8")
        return serial(pem)

    def get(self, path: str, token: str | None = None, body: Any = None) -> tuple[int, Any]:
        try:
            return int(self.tls.ask("GET", path)[9:12]), None
        except OSError:
            return 0, None


def test_the_web_speaks_tls_and_takes_new_certificates_without_losing_anybody(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority()
    server = HttpsServer(company, authority)
    first = server.put(authority.issue("127.0.0.1"))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    company.run("user", "add", "anna", "--role", "agent", "--agent", "anna", "--password-stdin")
    with server.running() as process:
        assert server.tls.serial() == first

        # Versions, and who does not speak it at all.
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with server.tls.connected(version) as connection:
                assert connection.version() in ("TLSv1.2", "TLSv1.3")
        with pytest.raises((ssl.SSLError, OSError)), server.tls.connected(ssl.TLSVersion.TLSv1_1):
            pass
        with socket.create_connection(("127.0.0.1", server.http), timeout=10) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"HTTP/" not in plain.recv(1000)

        # A log-in: cookies that go over TLS only.
        answer = server.tls.ask("POST", "/api/v1/session", {"username": "anna", "password": PASSWORD})
        head, _, body = answer.partition(b"\r\n\r\n")
        cookies = [line for line in head.decode().split("\r\n") if line.startswith("Set-Cookie: ")]
        assert [cookie.partition("cordboard")[0] for cookie in cookies] == [
            "Set-Cookie: __Host-",
            "Set-Cookie: __Secure-",
        ]
        assert all(cookie.endswith("; HttpOnly; SameSite=Strict; Secure") for cookie in cookies)
        assert b"\r\nStrict-Transport-Security: max-age=31536000\r\n" in head
        session = cookies[0].removeprefix("Set-Cookie: ").partition(";")[0]

        with server.tls.connected() as stream:
            stream.sendall(
                f"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:{server.http}\r\nCookie: {session}\r\n\r\n".encode()
            )
            assert stream.recv(65536).startswith(b"HTTP/1.1 200 ")

            # Renewed: taken by itself, and the stream goes on.
            second = server.put(authority.issue("127.0.0.1"))
            server.until(lambda: server.tls.serial() == second)
            origin = f"https://127.0.0.1:{server.http}"
            csrf = json.loads(body)["csrf"]
            paused = server.tls.ask(
                "PATCH",
                "/api/v1/agents/anna",
                {"state": "paused"},
                **{"Cookie": session, "X-CSRF-Token": csrf, "Origin": origin},
            )
            assert paused.startswith(b"HTTP/1.1 200 ")
            seen = b""
            while b"agent.state" not in seen:
                seen += stream.recv(65536)

        # Broken: the old one stays, and the log says so.
        refused = "the new certificate is not used, the old one is"
        before = server.logged(refused)
        server.certificate.write_text("not a certificate", encoding="utf-8")
        server.until(lambda: server.logged(refused) > before)
        assert server.tls.serial() == second
        process.send_signal(signal.SIGHUP)
        server.until(lambda: server.logged("the old configuration stays in force") == 1)
        assert server.tls.serial() == second

        # Mended, and asked for.
        third = server.put(authority.issue("127.0.0.1"))
        process.send_signal(signal.SIGHUP)
        server.until(lambda: server.tls.serial() == third)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
    assert all("exception" not in line for line in server.lines())
    assert PASSWORD not in server.log.read_text(encoding="utf-8")


def test_a_certificate_that_has_expired_does_not_replace_one_that_has_not(tmp_path: Path) -> None:
    authority = Authority()
    file = tmp_path / "both.pem"
    file.write_text(authority.issue("cti.example"), encoding="utf-8")
    tls = ServerTls(file, file)
    used = tls._context
    tls.refresh()
    assert tls._context is used
    file.write_text(authority.issue("cti.example", from_days=-9, to_days=-2), encoding="utf-8")
    tls.refresh()
    assert tls._context is used
    file.write_text(authority.issue("cti.example"), encoding="utf-8")
    tls.refresh()
    assert tls._context is not used


def test_a_certificate_that_has_expired_keeps_no_server_from_starting(tmp_path: Path) -> None:
    file = tmp_path / "both.pem"
    file.write_text(Authority().issue("cti.example", from_days=-9, to_days=-2), encoding="utf-8")
    ServerTls(file, file)


def test_what_cannot_be_used_is_named_with_the_file_that_is_wrong(tmp_path: Path) -> None:
    good, other, empty = tmp_path / "good.pem", tmp_path / "other.pem", tmp_path / "empty.pem"
    authority = Authority()
    good.write_text(authority.issue("cti.example"), encoding="utf-8")
    other.write_text(authority.issue("cti.example"), encoding="utf-8")
    empty.write_text("nothing", encoding="utf-8")
    assert read_pair(good, good).chain
    for certificate, key, of_key, why in (
        (empty, good, False, "no certificate in PEM"),
        (tmp_path / "gone", good, False, "cannot be read"),
        (good, tmp_path / "gone", True, "cannot be read"),
        (good, empty, True, "no private key in PEM"),
        (good, other, True, "is not the certificate's key"),
    ):
        with pytest.raises(CertificateUnusable, match=why) as caught:
            read_pair(certificate, key)
        assert caught.value.of_key is of_key
