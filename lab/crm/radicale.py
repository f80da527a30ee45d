"""A real Radicale: the CardDAV server of small companies, with one user and empty address books.

What is written into it, and what an adapter makes of that, is up to the tests.
"""

from __future__ import annotations

import socket
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

from attrs import define, field

from lab.crm.cache import python_environment
from lab.ports import LOOPBACK
from lab.processes import end, eventually, start, tail

_VERSION = "3.9.0"
_CONFIGURATION = """\
[server]
hosts = {host}:{port}

[auth]
type = htpasswd
htpasswd_filename = {users}
htpasswd_encryption = plain
delay = 0

[storage]
filesystem_folder = {data}

[web]
type = none
"""


@define
class Radicale:
    """Runs below `directory`, from entering the `with` block to its end."""

    directory: Path
    port: int
    user: str = "crm"
    password: str = "a ne'er guessed word"
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def home(self) -> str:
        """Where the user's address books are."""
        return f"{self.url}/{self.user}/"

    def __enter__(self) -> Radicale:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Come up, also again, with what was there. Raises LabUnavailable, TimeoutError."""
        environment = python_environment(f"radicale-{_VERSION}", f"radicale=={_VERSION}")
        self.directory.mkdir(parents=True, exist_ok=True)
        users = self.directory / "users"
        users.write_text(f"{self.user}:{self.password}\n")
        configuration = self.directory / "radicale.conf"
        configuration.write_text(
            _CONFIGURATION.format(host=LOOPBACK, port=self.port, users=users, data=self.directory / "data")
        )
        log = self.directory / "radicale.log"
        self._process = process = start(
            [environment / "bin/python", "-m", "radicale", "--config", configuration],
            output=log,
            environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            directory=self.directory,
        )

        def listens() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"radicale ended by itself:\n{tail(log)}")
            with socket.socket() as probe:
                return probe.connect_ex((LOOPBACK, self.port)) == 0

        eventually(listens, 60, what="radicale's port")

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)
            self._process = None

    def make_book(self, name: str) -> str:
        """A new, empty address book; its address."""
        self.request(
            "MKCOL",
            f"/{self.user}/{name}/",
            '<?xml version="1.0"?><mkcol xmlns="DAV:" xmlns:c="urn:ietf:params:xml:ns:carddav"><set><prop>'
            "<resourcetype><collection/><c:addressbook/></resourcetype>"
            f"<displayname>{name}</displayname></prop></set></mkcol>",
        )
        return f"{self.home}{name}/"

    def put(self, path: str, card: str) -> None:
        """Write a card as another program would."""
        self.request("PUT", path, card, "text/vcard; charset=utf-8")

    def delete(self, path: str) -> None:
        self.request("DELETE", path)

    def get(self, path: str) -> str | None:
        """A card as it stands there; None if there is none."""
        try:
            return self.request("GET", path)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def request(self, method: str, path: str, body: str = "", kind: str = "application/xml") -> str:
        """One request of the user's; raises HTTPError."""
        secret = b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(
            f"{self.url}{path}",
            data=body.encode() or None,
            method=method,
            headers={"Authorization": f"Basic {secret}", "Content-Type": kind},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text: str = answer.read().decode()
            return text
