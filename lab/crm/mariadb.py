"""A real MariaDB for tests, with an empty data directory of its own; begins and ends with the test.

Whose tables are in it is up to who starts it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from attrs import define, field

from lab.crm.cache import debian_packages
from lab.ports import LOOPBACK
from lab.processes import DIES_WITH_US, end, eventually, start, tail

_TREE = "mariadb-10.11-1"
_START_SECONDS = 60.0
#: Tests lose nothing by a power failure, and are many.
_CAREFREE = (
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-log-file-size=8M",
    "--innodb-buffer-pool-size=16M",
    "--innodb-doublewrite=0",
    "--innodb-fast-shutdown=2",
    "--skip-log-bin",
    "--character-set-server=utf8mb4",
    "--performance-schema=OFF",
)


class MariaDbFailed(RuntimeError):
    """A MariaDB did not start, or refused a statement; the message says why."""


def installed() -> Path:
    """The tree with the server and its clients, fetched first if need be. Raises LabUnavailable."""
    return debian_packages(_TREE, "mariadb-server", "mariadb-client")


@define
class MariaDb:
    """One server below `directory`, reached on `port` of 127.0.0.1, and by `root` through a socket."""

    directory: Path
    port: int
    options: tuple[str, ...] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _socket: Path = field(init=False, repr=False)

    def __enter__(self) -> MariaDb:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log_file(self) -> Path:
        return self.directory / "log"

    @property
    def pid(self) -> int:
        """Of the running server."""
        if self._process is None:
            raise MariaDbFailed("it does not run")
        return self._process.pid

    def start(self) -> None:
        """Makes the data directory if there is none, starts and waits for an answer. Raises MariaDbFailed."""
        if not (self.directory / "data").is_dir():
            self._furnish()
        # Not below `directory`: the path of a socket has at most 107 characters.
        self._socket = Path(tempfile.mkdtemp(prefix="cordboard-my-", dir="/tmp")) / "socket"
        self._process = start(
            [
                *(str(installed() / "usr/sbin/mariadbd"), "--no-defaults", *self._places()),
                *(f"--socket={self._socket}", f"--bind-address={LOOPBACK}", f"--port={self.port}"),
                *(f"--pid-file={self.directory / 'pid'}", *_CAREFREE, *self.options),
            ],
            output=self.log_file,
            environment=_environment(),
            directory=self.directory,
        )
        try:
            eventually(self._answers, _START_SECONDS, what="MariaDB's first answer", pause=0.05)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends it; what is in it stays."""
        if self._process is not None:
            end(self._process, patience=15)
            self._process = None
            shutil.rmtree(self._socket.parent, ignore_errors=True)

    def sql(self, statements: str, database: str = "") -> str:
        """What the client prints, a row a line, its columns apart by tabs. Raises MariaDbFailed."""
        done = subprocess.run(
            [
                *(*DIES_WITH_US, str(installed() / "usr/bin/mariadb"), "--no-defaults", "--batch", "--raw"),
                *("--skip-column-names", "--default-character-set=utf8mb4"),
                *(f"--socket={self._socket}", "--user=root", database),
            ],
            input=statements,
            capture_output=True,
            text=True,
            timeout=60,
            env=_environment(),
        )
        if done.returncode != 0:
            raise MariaDbFailed(done.stderr.strip())
        return done.stdout.strip()

    def _places(self) -> tuple[str, ...]:
        tree = installed()
        return (
            f"--basedir={tree / 'usr'}",
            f"--datadir={self.directory / 'data'}",
            f"--lc-messages-dir={tree / 'usr/share/mysql'}",
            f"--plugin-dir={tree / 'usr/lib/mysql/plugin'}",
            "--user=root",
        )

    def _furnish(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [
                *("sh", str(installed() / "usr/bin/mariadb-install-db"), "--no-defaults", *self._places()),
                *("--auth-root-authentication-method=normal", "--skip-name-resolve", "--skip-test-db"),
                *_CAREFREE,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            env=_environment(),
        )
        if done.returncode != 0:
            shutil.rmtree(self.directory / "data", ignore_errors=True)
            raise MariaDbFailed(f"mariadb-install-db: {(done.stdout + done.stderr).strip()[-2000:]}")

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise MariaDbFailed(f"MariaDB ended at once\n{tail(self.log_file)}")
        try:
            return self.sql("select 1") == "1"
        except MariaDbFailed:
            return False


def _environment() -> dict[str, str]:
    libraries = ":".join(map(str, sorted((installed() / "usr/lib").glob("*-linux-gnu"))))
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "LD_LIBRARY_PATH": libraries}
