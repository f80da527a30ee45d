"""`cti dial`: what is dialled out of links and numbers, and what it asks the server for."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from cti.cli import main
from cti.commands import WrongUse
from cti.commands.dial import TOKEN_VARIABLE, target_of

MOBILE = "+4915228817386"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (f"tel:{MOBILE}", MOBILE),
        (f"TEL:{MOBILE};ext=12", MOBILE),
        ("tel:%2B49%20152%2028817386", "+49 152 28817386"),
        ("callto:0152-28817386", "0152-28817386"),
        (f"callto://{MOBILE}", MOBILE),
        (f"sip:{MOBILE}@sip.example;user=phone", MOBILE),
        ("sips:ben@sip.example?subject=x", "ben"),
        (" 0152 28817386 ", "0152 28817386"),
        ("group:sales", "group:sales"),
        ("200", "200"),
    ],
)
def test_what_is_dialled_of_a_link_or_number(text: str, target: str) -> None:
    assert target_of(text) == target


@pytest.mark.parametrize("text", ["", "tel:", "tel:;ext=1", "sip:@sip.example", "1" * 101, "tel:1%0d%0a2"])
def test_what_cannot_be_dialled_is_told_with_what_could(text: str) -> None:
    with pytest.raises(WrongUse, match=r"write a number such as \+4915228817386"):
        target_of(text)


class FakeServer:
    """A server that answers every POST as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, Any]] = []
        self.answer: tuple[int, Any] = (202, {"id": "c1", "to": MOBILE})
        self.headers: dict[str, str] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append((self.path, self.headers["Authorization"], body))
                status, content = server.answer
                text = json.dumps(content).encode()
                self.send_response(status)
                for name, value in server.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def do_GET(self) -> None:
                server.asked.append((self.path, self.headers["Authorization"], None))
                self.send_error(405)

            def log_message(self, *_: Any) -> None:
                """Nothing: the output is the command's."""

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.setenv(TOKEN_VARIABLE, "cti_secret")
    monkeypatch.delenv("CTI_CONFIG", raising=False)
    server = FakeServer()
    yield server
    server.close()


def test_a_link_becomes_a_call_of_the_tokens_agent(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dial", f"tel:{MOBILE}", "--url", f"{server.url}/"]) == 0
    assert server.asked == [("/api/v1/calls", "Bearer cti_secret", {"to": MOBILE})]
    assert f"pick it up, and {MOBILE} is called" in capsys.readouterr().err


def test_the_token_may_stand_in_a_file_and_the_agent_be_named(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text("cti_other\n")
    words = ["dial", "0152", "28817386", "--url", server.url, "--token-file", str(file)]
    assert main([*words, "--agent", "anna", "--format", "json"]) == 0
    assert server.asked == [("/api/v1/calls", "Bearer cti_other", {"to": "0152 28817386", "agent": "anna"})]
    assert json.loads(capsys.readouterr().out)["id"] == "c1"


def test_the_servers_address_is_that_of_the_configuration(server: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "cti.yaml"
    text = (Path(__file__).parents[2] / "config" / "small.yaml").read_text(encoding="utf-8")
    file.write_text(text.replace("127.0.0.1:8470", server.url[7:]), encoding="utf-8")
    assert main(["dial", "200", "-c", str(file)]) == 0
    assert server.asked[0][2] == {"to": "200"}


def test_a_refusal_is_told_in_the_servers_words(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = (422, {"title": "Unprocessable Entity", "detail": "this is a premium-rate number"})
    assert main(["dial", "0900 1234567", "--url", server.url]) == 1
    assert "this is a premium-rate number" in capsys.readouterr().err


def test_the_token_is_not_taken_to_where_a_redirect_points(server: FakeServer) -> None:
    elsewhere = FakeServer()
    server.answer, server.headers = (302, {}), {"Location": f"{elsewhere.url}/api/v1/calls"}
    assert main(["dial", "200", "--url", server.url]) == 1
    assert elsewhere.asked == []
    elsewhere.close()


def test_without_a_token_or_a_sensible_address_the_command_line_is_wrong(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dial", "200", "--url", "ftp://cti.example"]) == 2
    monkeypatch.delenv(TOKEN_VARIABLE)
    assert main(["dial", "200", "--url", server.url]) == 2
    assert "cti token add" in capsys.readouterr().err


def test_a_server_that_is_away_is_named(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.close()
    assert main(["dial", "200", "--url", server.url]) == 1
    assert f"{server.url}/api/v1/calls: no answer" in capsys.readouterr().err
