"""A real Tryton 8 with its party module on SQLite, copied from a template that is made once.

Who is in it is up to the tests: `call` is its own JSON-RPC, for whoever is not the adapter.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from attrs import define, field

from lab.crm.cache import kept, python_environment
from lab.ports import LOOPBACK
from lab.processes import end, eventually, start, tail
from lab.tree import run_logged

_VERSION = "8.0"
DATABASE = "crm"
#: Seconds for which what only reads is asked again: SQLite has one writer, and Tryton does not wait for it long.
_PATIENCE = 30.0
ADMIN = "admin"
#: Tryton refuses shorter and simpler ones.
PASSWORD = "a ne'er guessed word"
_CONFIGURATION = """\
[database]
uri = sqlite://
path = {directory}
[web]
listen = {host}:{port}
[session]
authentications = password
"""


def _installed() -> Path:
    return python_environment(
        f"tryton-{_VERSION}-1",
        f"trytond~={_VERSION}.0",
        f"trytond-party~={_VERSION}.0",
        "phonenumbers",
        "psycopg2-binary",
    )


def _program(name: str) -> list[str]:
    # The environment was renamed after it was made, so its scripts do not find their Python.
    bin = _installed() / "bin"
    return [str(bin / "python"), str(bin / name)]


def _template() -> Path:
    """A directory with a database in which the modules are activated."""

    def make(place: Path) -> None:
        configuration = place / "trytond.conf"
        configuration.write_text(_CONFIGURATION.format(directory=place, host=LOOPBACK, port=0))
        (place / f"{DATABASE}.sqlite").touch()
        secret = place / "password"
        secret.write_text(PASSWORD)
        log = place.with_suffix(".log")
        run_logged(
            [
                *("env", f"TRYTONPASSFILE={secret}", *_program("trytond-admin"), "-c", str(configuration)),
                *(
                    "-d",
                    DATABASE,
                    "-u",
                    "party",
                    "--activate-dependencies",
                    "--email",
                    "admin@company.example",
                ),
            ],
            log,
            600,
        )
        log.unlink()

    return kept(f"tryton-{_VERSION}-crm-1", make)


@define
class Tryton:
    """Runs below `directory`, from entering the `with` block to its end."""

    directory: Path
    port: int
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _session: str = field(default="", init=False)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def __enter__(self) -> Tryton:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Come up, also again, with what was there. Raises LabUnavailable, TimeoutError."""
        if not self.directory.is_dir() or not any(self.directory.glob("*.sqlite")):
            self.directory.mkdir(parents=True, exist_ok=True)
            shutil.copy(_template() / f"{DATABASE}.sqlite", self.directory)
        configuration = self.directory / "trytond.conf"
        configuration.write_text(
            _CONFIGURATION.format(directory=self.directory, host=LOOPBACK, port=self.port)
        )
        log = self.directory / "trytond.log"
        self._process = process = start(
            [*_program("trytond"), "-c", str(configuration), "-d", DATABASE],
            output=log,
            environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": os.devnull},
            directory=self.directory,
        )

        def listens() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"trytond ended by itself:\n{tail(log)}")
            with socket.socket() as probe:
                return probe.connect_ex((LOOPBACK, self.port)) == 0

        eventually(listens, 60, what="trytond's port")
        self._session = ""

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)
            self._process = None

    def call(self, method: str, *parameters: Any, user: str = ADMIN, password: str = PASSWORD) -> Any:
        """The result of a method such as `model.party.party.search`. Raises RuntimeError with Tryton's words."""
        if not self._session:
            id, token, *_ = self._post(
                "common.db.login", [user, {"password": password}, "en"], authorization=None
            )
            self._session = base64.b64encode(f"{user}:{id}:{token}".encode()).decode()
        return self._post(method, [*parameters, {}], authorization=f"Session {self._session}")

    def _post(self, method: str, parameters: list[Any], *, authorization: str | None) -> Any:
        request = urllib.request.Request(
            f"{self.url}/{DATABASE}/rpc/",
            data=json.dumps({"id": 0, "method": method, "params": parameters}).encode(),
            headers={"Content-Type": "application/json"}
            | ({"Authorization": authorization} if authorization else {}),
        )

        def answer() -> Any:
            try:
                with urllib.request.urlopen(request, timeout=60) as answered:
                    return json.load(answered)
            except urllib.error.HTTPError as error:
                if error.code < 500 or not method.endswith("read"):
                    raise
                return None

        said = eventually(answer, _PATIENCE, what=f"Tryton's answer to {method}", pause=0.2)
        if said.get("error"):
            raise RuntimeError(f"{method}: {said['error']}")
        return said["result"]
