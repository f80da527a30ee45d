"""A PostgreSQL of its own for a test: begins with an empty cluster or a copy of one, ends with the test.

Whose data is in it is up to who starts it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from attrs import define, field

from lab.ports import LOOPBACK
from lab.processes import eventually, tail
from lab.tree import LabUnavailable

_START_SECONDS = 60.0
#: Tests lose nothing by a power failure.
_CAREFREE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_wal_size=256MB")


class PostgresFailed(RuntimeError):
    """A PostgreSQL did not start, or refused a statement; the message says why."""


@define
class Postgres:
    """One cluster below `directory`, reached by a socket in `socket`, and on 127.0.0.1 if it is given a `port`.

    The superuser is `postgres`; whoever reaches it is let in.

    @ivar template: a data directory to begin with, as another one of these left it when it was stopped.
    @ivar settings: more of its own, such as `ssl=on`.
    @ivar durable: what is committed outlives a loss of power, too; elsewhere that only costs time.
    """

    directory: Path
    template: Path | None = None
    port: int | None = None
    durable: bool = False
    settings: Sequence[str] = ()
    socket: Path = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log_file(self) -> Path:
        return self.directory / "log"

    def __enter__(self) -> Postgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Makes the cluster if there is none yet, starts it and waits until it answers. Raises PostgresFailed."""
        if not self.data.is_dir():
            self._furnish()
        # Not below `directory`: the path of a socket has at most 107 characters.
        self.socket = Path(tempfile.mkdtemp(prefix="cordboard-pg-", dir="/tmp"))
        settings = [
            f"listen_addresses={LOOPBACK if self.port else ''}",
            f"unix_socket_directories={self.socket}",
            *(() if self.durable else _CAREFREE),
            *self.settings,
        ]
        command = [str(_program("postgres")), "-D", str(self.data), "-p", str(self.port or 5432)]
        with open(self.log_file, "ab") as log:
            self._process = subprocess.Popen(
                as_nobody([*command, *(word for setting in settings for word in ("-c", setting))]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        try:
            eventually(self._answers, _START_SECONDS, what="PostgreSQL's first answer", pause=0.05)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends it in an orderly way; what is in it stays."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process = None
        shutil.rmtree(self.socket, ignore_errors=True)

    def kill(self) -> None:
        """kill -9: what it had in hand is left as it is, for the next start to repair."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            shutil.rmtree(self.socket, ignore_errors=True)

    def sql(self, statements: str, database: str = "postgres") -> str:
        """What psql prints, without headings, a row a line. Raises PostgresFailed."""
        command = [
            *(str(_program("psql")), "--no-psqlrc", "--tuples-only", "--no-align", "--quiet"),
            *("-v", "ON_ERROR_STOP=1", "-h", str(self.socket), "-p", str(self.port or 5432)),
            *("-U", "postgres", database),
        ]
        done = subprocess.run(command, input=statements, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise PostgresFailed(done.stderr.strip())
        return done.stdout.strip()

    def database(self, name: str, template: str = "template1") -> str:
        """The address of a new database."""
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def url(self, name: str) -> str:
        """The address of a database, where the cluster has a port."""
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/{name}"

    def _furnish(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.template is not None:
            subprocess.run(["cp", "-a", "--reflink=auto", self.template, self.data], check=True)
            return
        command = [
            *(str(_program("initdb")), "-D", str(self.data), "-U", "postgres", "--auth=trust"),
            *("--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"),
        ]
        done = subprocess.run(as_nobody(command), capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise PostgresFailed(f"initdb: {done.stderr.strip()}")

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise PostgresFailed(f"PostgreSQL ended at once\n{tail(self.log_file)}")
        try:
            return self.sql("select 1") == "1"
        except PostgresFailed:
            return False


def as_nobody(command: Sequence[str]) -> list[str]:
    """The command for one who refuses to run as root: in a user namespace of its own root is an ordinary user.

    The files stay root's outside of it, so that any directory will do. It ends with the thread that starts it.
    """
    dies_with_us = ["setpriv", "--pdeathsig", "INT"]
    if os.geteuid() != 0:
        return [*dies_with_us, *command]
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", *dies_with_us, *command]


def _program(name: str) -> Path:
    """Debian keeps the server's programs of each version in a directory of its own. Raises LabUnavailable."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda place: int(place.parts[4]))
    if not places:
        raise LabUnavailable("there is no PostgreSQL on this machine; run `apt-get install postgresql`")
    return places[-1]
