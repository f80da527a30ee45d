"""The daemon as its users have it: a process with a configuration file, its API, its event stream, its log."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import yaml
from attrs import define, field, frozen

from lab.ports import LOOPBACK
from lab.processes import end, eventually, start, tail

ROOT = Path(__file__).resolve().parent.parent


class DaemonFailed(RuntimeError):
    """The daemon or one of its commands did not do what it should; the message has what it printed."""


@frozen
class StreamEvent:
    """One event as a reader of the stream got it; `at` is when, in epoch seconds."""

    id: int | None
    type: str
    data: Mapping[str, Any]
    at: float


class EventStream:
    """A reader of `GET /api/v1/events`, in a thread of its own; what came stands in `events`."""

    def __init__(self, port: int, token: str, last_id: int | None = None) -> None:
        self.events: list[StreamEvent] = []
        self.ended = False
        self._connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        if last_id is not None:
            headers["Last-Event-ID"] = str(last_id)
        self._connection.request("GET", "/api/v1/events", headers=headers)
        self._socket: socket.socket = self._connection.sock
        self._response = self._connection.getresponse()
        if self._response.status != 200:
            raise DaemonFailed(
                f"the event stream answered {self._response.status}: {self._response.read()!r}"
            )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def of(self, *types: str) -> list[StreamEvent]:
        """What came so far of these types."""
        return [event for event in list(self.events) if event.type in types]

    def wait_for(
        self, type: str, where: Callable[[StreamEvent], bool] | None = None, timeout: float = 10.0
    ) -> StreamEvent:
        """The first event of this type for which `where` holds. Raises TimeoutError."""

        def found() -> StreamEvent | None:
            return next((event for event in self.of(type) if where is None or where(event)), None)

        return eventually(found, timeout, what=f"{type} on the stream") or self.events[-1]

    def close(self) -> None:
        """Hang up on the server."""
        # The reader may be in the middle of a read, which only this ends at once.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._connection.close()

    def _read(self) -> None:
        fields: dict[str, str] = {}
        try:
            for raw in self._response:
                line = raw.decode().rstrip("\r\n")
                if line:
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
                elif "data" in fields:
                    id = int(fields["id"]) if fields.get("id") else None
                    data = json.loads(fields["data"])
                    self.events.append(StreamEvent(id, fields.get("event", ""), data, time.time()))
                    fields = {}
        except (OSError, ValueError, http.client.HTTPException, AttributeError):
            # The connection was closed, by either side: which one is what `ended` and the test know.
            pass
        finally:
            self.ended = True


@define
class Daemon:
    """`cti serve` in `directory`, on the settings given as the configuration file's content.

    @ivar command: what is run instead of `python -m cti`, for tests that look over the daemon's shoulder.
    @ivar environment: what is added to the environment, such as secrets.
    """

    directory: Path
    settings: Mapping[str, Any]
    http_port: int
    agi_port: int
    command: Sequence[str] = (sys.executable, "-m", "cti")
    environment: Mapping[str, str] = field(factory=dict)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _tokens: dict[tuple[str, str | None], str] = field(factory=dict, init=False, repr=False)

    @property
    def configuration(self) -> Path:
        return self.directory / "cti.yaml"

    @property
    def output(self) -> Path:
        """What the daemon logs, one JSON document a line."""
        return self.directory / "log.jsonl"

    @property
    def pid(self) -> int:
        """Raises DaemonFailed when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise DaemonFailed(f"the daemon does not run\n{tail(self.output)}")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def write_configuration(self) -> None:
        """Put the settings where the daemon and the commands read them."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.configuration.write_text(
            yaml.safe_dump(dict(self.settings), allow_unicode=True, sort_keys=False)
        )

    def start(self, timeout: float = 20.0, *, with_ami: bool = True) -> None:
        """Start and wait until calls may be sent; without AMI if that is away on purpose. Raises DaemonFailed."""
        self.write_configuration()
        self._process = start(
            [*self.command, "serve", "-c", self.configuration, "--log-format", "json"],
            output=self.output,
            environment=self._environment(),
            directory=self.directory,
        )
        try:
            eventually(lambda: self._ready_or_dead(with_ami), timeout, what="the daemon")
        except TimeoutError as error:
            raise DaemonFailed(f"{error}\n{tail(self.output)}") from error
        if self._process.poll() is not None:
            raise DaemonFailed(f"the daemon ended at once\n{tail(self.output)}")

    def stop(self) -> int:
        """Ask it to stop, wait, and return its exit status."""
        if self._process is None:
            return 0
        end(self._process, patience=15.0)
        return self._process.returncode

    def signal(self, number: int) -> None:
        """Send a signal; the freezing ones are SIGSTOP and SIGCONT."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def log(self) -> list[dict[str, Any]]:
        """All lines of the log so far, in order."""
        lines = self.output.read_text("utf-8", "replace").splitlines() if self.output.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]

    # The command line.

    def run(self, *arguments: str, status: int = 0, typed: str | None = None) -> str:
        """Run `cti …` on the same configuration, told `typed`; its standard output. Raises DaemonFailed."""
        done = subprocess.run(
            [sys.executable, "-m", "cti", *arguments, "-c", str(self.configuration)],
            capture_output=True,
            text=True,
            env=self._environment(),
            cwd=self.directory,
            timeout=60,
            check=False,
            input=typed,
        )
        if done.returncode != status:
            raise DaemonFailed(f"cti {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def token(self, role: str, agent: str | None = None) -> str:
        """A token of this role, made by `cti token add`."""
        if (role, agent) not in self._tokens:
            more = ["--agent", agent] if agent else []
            name = f"lab-{role}-{agent or 'all'}"
            self._tokens[role, agent] = self.run("token", "add", name, "--role", role, *more).strip()
        return self._tokens[role, agent]

    def add_user(self, name: str, role: str, password: str, agent: str | None = None) -> None:
        """Somebody who may log in, added by `cti user add`."""
        more = ["--agent", agent] if agent else []
        self.run("user", "add", name, "--role", role, *more, "--password-stdin", typed=f"{password}\n")

    # The API.

    def get(self, path: str, token: str | None = None, **query: str) -> Any:
        """The JSON answer of a GET, as admin unless a token is given. Raises HTTPError."""
        return self.request("GET", path + (f"?{urlencode(query)}" if query else ""), token=token)

    def request(
        self, method: str, path: str, body: Any = None, token: str | None = None, etag: str | None = None
    ) -> Any:
        """The JSON answer of a request, for the version `etag` of what it changes. Raises HTTPError."""
        request = Request(
            f"http://{LOOPBACK}:{self.http_port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {token or self.token('admin')}",
                "Content-Type": "application/json",
                **({} if etag is None else {"If-Match": etag}),
            },
        )
        with urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def calls(self, **query: str) -> list[dict[str, Any]]:
        """The call log, newest first."""
        answer: list[dict[str, Any]] = self.get("/api/v1/calls", **query)["calls"]
        return answer

    def call(self, id: str) -> dict[str, Any]:
        """One call with everything that belongs to it."""
        answer: dict[str, Any] = self.get(f"/api/v1/calls/{id}")
        return answer

    def the_call(self, *, ended: bool = True, timeout: float = 10.0, **query: str) -> dict[str, Any]:
        """The only call of the log, in full; waits until it is there, and is over unless told otherwise."""

        def there() -> list[dict[str, Any]]:
            calls = self.calls(**query)
            return calls if calls and (not ended or calls[0]["ended"]) else []

        calls = eventually(there, timeout, what="the call in the log")
        if len(calls) != 1:
            raise DaemonFailed(f"{len(calls)} calls are in the log, not one")
        return self.call(calls[0]["id"])

    def agents(self) -> dict[str, dict[str, Any]]:
        """All agents by id, as the API shows them."""
        return {agent["id"]: agent for agent in self.get("/api/v1/agents")["agents"]}

    def events(
        self, role: str = "admin", agent: str | None = None, last_id: int | None = None
    ) -> EventStream:
        """An event stream, read from now on."""
        return EventStream(self.http_port, self.token(role, agent), last_id)

    def metric(self, name: str, **labels: str) -> float:
        """One sample of `/metrics`; 0 where there is none yet."""
        with urlopen(f"http://{LOOPBACK}:{self.http_port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        for line in lines:
            sample, _, value = line.rpartition(" ")
            found, _, rest = sample.partition("{")
            if found == name and all(f'{key}="{word}"' in rest for key, word in labels.items()):
                return float(value)
        return 0.0

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {**os.environ, "PYTHONPATH": path, "LC_ALL": "C.UTF-8", **self.environment}

    def _ready_or_dead(self, with_ami: bool) -> bool:
        if self._process is None or self._process.poll() is not None:
            return True
        try:
            with urlopen(f"http://{LOOPBACK}:{self.http_port}/readyz", timeout=2) as answer:
                parts: dict[str, dict[str, Any]] = json.load(answer)["components"]
        except OSError:
            return False
        # It is ready without AMI; what the laboratory shows needs it.
        return all(part["ok"] for name, part in parts.items() if with_ami or not name.startswith("ami."))
