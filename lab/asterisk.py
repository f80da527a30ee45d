"""Starts, asks and stops private Asterisks, several at once from one tree, each in a directory of its own.

What Asterisk is started comes from `lab.tree`, what it is told from `lab.configuration`; calls are made by
`lab.sipp`. `python -m lab.asterisk ensure` gets an Asterisk, `python -m lab.asterisk clean` removes it."""

from __future__ import annotations

import argparse
import math
import os
import re
import secrets
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time
import wave
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from attrs import define, evolve, field, frozen

from lab.configuration import Directories, PbxConfiguration, Ports, configuration_files
from lab.ports import LOOPBACK, PortBlock, udp_listener_exists
from lab.processes import DIES_WITH_US, end, eventually, start, tail
from lab.tree import AsteriskTree, LabUnavailable, ensure_asterisk, remove_cached_trees

__all__ = [
    "AsteriskFailed",
    "AsteriskInstance",
    "AsteriskTree",
    "LabUnavailable",
    "LogLine",
    "ensure_asterisk",
]

# Where every instance finds its own directory in its own mount namespace. The directory exists on any system.
_INSIDE = "/mnt"
_CLI_BYTES = 16 * 1024 * 1024
_LOG_LINE = re.compile(r"\[(?P<time>\d{4}-\d\d-\d\dT[^\]]+)\] (?P<level>[A-Z]+)\[\d+\](?P<rest>.*)")


class AsteriskFailed(RuntimeError):
    """An Asterisk did not start, or did not answer on its control socket; the message has its log's end."""


@frozen
class LogLine:
    """One line of the full log: `time` in seconds since the epoch, to the millisecond."""

    time: float
    level: str
    text: str


@define
class AsteriskInstance:
    """One private Asterisk. Everything it writes is below `directory`; it listens on 127.0.0.1 only.

    `stop()` ends it and keeps its AstDB and logs; `start()` goes on with them and with the same ports.
    """

    tree: AsteriskTree
    directory: Path
    configuration: PbxConfiguration
    name: str = "asterisk"
    ami_secret: str = field(factory=lambda: secrets.token_hex(16), repr=False)
    host: str = LOOPBACK
    _block: PortBlock = field(factory=PortBlock.claim, repr=False)
    ports: Ports = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @ports.default
    def _own_ports(self) -> Ports:
        sip, ami = self._block.take(), self._block.take()
        return Ports(sip=sip, ami=ami, rtp=self._block.rest())

    @property
    def sip_port(self) -> int:
        return self.ports.sip

    @property
    def ami_port(self) -> int:
        return self.ports.ami

    @property
    def ami_username(self) -> str:
        return self.configuration.ami_username

    @property
    def log_file(self) -> Path:
        """Everything from verbose 3 up, notices, warnings and errors; see `log()` for it in parts."""
        return self.directory / "log" / "full"

    @property
    def cdr_file(self) -> Path:
        """Asterisk's own call records, as CSV."""
        return self.directory / "log" / "cdr-csv" / "Master.csv"

    @property
    def output_file(self) -> Path:
        """What Asterisk and the commands that start it print."""
        return self.directory / "output"

    @property
    def pid(self) -> int:
        """The process id of Asterisk itself. Raises AsteriskFailed when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise AsteriskFailed(f"{self.name} does not run\n{tail(self.log_file)}")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 30.0) -> None:
        """Writes the configuration, starts Asterisk and waits until it is fully booted and listens.

        Raises AsteriskFailed, with nothing left running, when that takes more than `timeout` seconds, and
        LabUnavailable where the machine does not allow it at all.
        """
        if self.is_running:
            raise AsteriskFailed(f"{self.name} runs already, as process {self.pid}")
        self._make_directories()
        self.write_configuration()
        self._process = start(
            ["unshare", *self._namespaces(), "sh", "-euc", self._script()],
            output=self.output_file,
            environment={**os.environ, "LC_ALL": "C.UTF-8"},
            directory=self.directory,
        )
        try:
            self._wait_until_ready(time.monotonic() + timeout)
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout: float = 10.0) -> None:
        """Hangs up all calls and ends Asterisk, by signal if it does not listen; nothing if it is not running."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            try:
                self.cli("core stop now", timeout=timeout)
                process.wait(timeout)
            except (AsteriskFailed, subprocess.TimeoutExpired):
                end(process)
        process.wait()
        self._process = None

    def kill(self) -> None:
        """Ends Asterisk by SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stops the process in its tracks (SIGSTOP) until `thaw()`; its sockets stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, timeout: float = 30.0) -> None:
        """Stops and starts: all calls end, AstDB stays."""
        self.stop()
        self.start(timeout)

    def release(self) -> None:
        """Stops it for good and gives its ports back."""
        self.stop()
        self._block.release()

    def join(self, other: AsteriskInstance) -> None:
        """From now on each may dial the other, as `PJSIP/NUMBER@peer-NAME`; both run already."""
        for one, peer in ((self, other), (other, self)):
            peers = {**one.configuration.peers, peer.name: peer.sip_port}
            one.configuration = evolve(one.configuration, peers=peers)
            one.reload("res_pjsip.so")

    def reload(self, module: str = "") -> None:
        """Writes the configuration again, in case its files changed, and has Asterisk (or a module) read it."""
        self.write_configuration()
        self.cli(f"module reload {module}" if module else "core reload")

    def cli(self, command: str, timeout: float = 10.0) -> str:
        """What `asterisk -rx COMMAND` prints.

        Speaks to the control socket as Asterisk's own remote console does. Raises AsteriskFailed when there
        is no answer within `timeout` seconds.
        """
        _ = self.pid
        if "\n" in command or "\0" in command:
            raise ValueError(f"one command on one line, not {command!r}")
        try:
            answer = self._ask(f"cli quit after {command}\0".encode(), timeout)
        except OSError as error:
            raise AsteriskFailed(
                f"{self.name} does not answer {command!r}: {error!r}\n{tail(self.log_file)}"
            ) from error
        # Verbose messages for consoles come between the lines, each marked by a first byte above 0xF4.
        lines = [line for line in answer.split(b"\n") if not (line and line[0] > 0xF4)]
        return b"\n".join(lines).decode("utf-8", "replace").replace("\0", "")

    def ami(self, action: str, timeout: float = 10.0, **headers: str | Sequence[str]) -> dict[str, str]:
        """What the manager interface answers to one action, by header; a sequence is a header repeated.

        Raises AsteriskFailed if it does not answer in time; what it answers may be an error.
        """
        try:
            with socket.create_connection((self.host, self.ami_port), timeout) as connection:
                answers = connection.makefile("r", encoding="utf-8", errors="replace")
                answers.readline()
                login = {"Username": self.ami_username, "Secret": self.ami_secret, "Events": "off"}
                for name, fields in (("Login", login), (action, headers)):
                    connection.sendall(_ami_action(name, fields))
                    answer = dict(_ami_headers(answers))
                return answer
        except OSError as error:
            raise AsteriskFailed(f"{self.name} does not answer {action}: {error!r}") from error

    def channels(self) -> list[str]:
        """The names of all channels there are, such as `PJSIP/anna-00000001`."""
        lines = self.cli("core show channels concise").splitlines()
        return [line.partition("!")[0] for line in lines if "!" in line]

    def bridged(self) -> int:
        """How many channels hear another one, or wait in a bridge to do so."""
        rows = [
            line.split("!") for line in self.cli("core show channels concise").splitlines() if "!" in line
        ]
        # The last but one is the bridge's id, before the uniqueid.
        return sum(1 for row in rows if row[-2])

    def bridges(self) -> list[str]:
        """The ids of all bridges there are."""
        return [line.split()[0] for line in self.cli("bridge show all").splitlines()[1:] if line.strip()]

    def full_log(self) -> str:
        """The text of the full log so far, of all starts."""
        return self.log_file.read_text("utf-8", "replace") if self.log_file.is_file() else ""

    def log(self, pattern: str = "") -> list[LogLine]:
        """The lines of the full log in which the regular expression is found, with times to compare.

        A thread of Asterisk's writes them, so that the latest may come a moment late (`eventually` helps).
        What the dialplan did when: `pbx.log(r"Executing \\[100@from-trunk:3\\]")`.
        """
        wanted = re.compile(pattern)
        found = []
        for line in self.full_log().splitlines():
            if (match := _LOG_LINE.match(line)) and wanted.search(line):
                moment = datetime.fromisoformat(match["time"]).timestamp()
                found.append(LogLine(moment, match["level"], match["rest"].lstrip(": ").strip()))
        return found

    def write_configuration(self) -> None:
        """Writes all configuration files anew from the parameters and the included files."""
        if self.tree.is_system:
            directories = Directories(_INSIDE, str(self.tree.modules), str(self.tree.data))
        else:
            directories = Directories(
                _INSIDE, self.tree.inside(self.tree.modules), self.tree.inside(self.tree.data)
            )
        available = {path.stem for path in self.tree.modules.glob("*.so")}
        files = configuration_files(self.configuration, self.ports, directories, self.ami_secret, available)
        for name, text in files.items():
            self._write(self.directory / "etc" / name, text)

    def _make_directories(self) -> None:
        for name in ("etc", "lib", "run", "spool", "log/cdr-csv", "hold-music"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        _write_tone(self.directory / "hold-music" / "tone.wav")
        self._write(self.directory / "hosts", f"127.0.0.1 localhost {socket.gethostname()}\n")
        if self._user is not None:
            for path in (self.directory, *self.directory.rglob("*")):
                os.chown(path, *self._user)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, "utf-8")
        if self._user is not None:
            os.chown(path, *self._user)

    @property
    def _user(self) -> tuple[int, int] | None:
        """Whom Asterisk runs as; None for whoever we are.

        Never Asterisk's own `-U root`: that gives up root's rights, and cannot open its database.
        """
        return self.tree.user_ids() if os.geteuid() == 0 else None

    def _namespaces(self) -> list[str]:
        # Mounts made in a namespace of its own vanish with the process, however that ends.
        own_mounts = ["--mount", "--propagation", "private"]
        return own_mounts if os.geteuid() == 0 else ["--user", "--map-root-user", *own_mounts]

    def _script(self) -> str:
        """Mounts what belongs into the namespace, and becomes Asterisk, by exec only, so that the pid stays."""
        root = self.tree.root
        quoted = {
            "own": shlex.quote(str(self.directory.absolute())),
            "mnt": shlex.quote(f"{root}{_INSIDE}" if not self.tree.is_system else _INSIDE),
        }
        lines = [f"mount --bind {quoted['own']} {quoted['mnt']}"]
        if not self.tree.is_system:
            # Without the machine's name there, each INVITE waits for a DNS answer.
            lines.append(f"mount --bind {quoted['own']}/hosts {shlex.quote(str(root / 'etc/hosts'))}")
            lines += [f"mount --rbind /{name} {shlex.quote(str(root / name))}" for name in ("dev", "proc")]
        asterisk = self.tree.inside(self.tree.program)
        become = list(DIES_WITH_US)
        if self._user is not None:
            # Not by Asterisk's own -U: a change of user takes the parent-death signal away, and setpriv sets
            # it after the change.
            uid, gid = self._user
            become += ["--reuid", str(uid), "--regid", str(gid), "--clear-groups"]
        command = ["exec", "chroot", str(root), *become, asterisk, "-f", "-C", f"{_INSIDE}/etc/asterisk.conf"]
        lines.append(shlex.join(command))
        return "\n".join(lines)

    def _wait_until_ready(self, deadline: float) -> None:
        def patience() -> float:
            return max(0.1, deadline - time.monotonic())

        def the_control_socket_or_the_end() -> bool:
            return not self.is_running or self._answers()

        try:
            eventually(the_control_socket_or_the_end, patience(), what=f"the control socket of {self.name}")
            self.cli("core waitfullybooted", patience())
            # Bound while it boots, or never.
            eventually(
                lambda: udp_listener_exists(self.sip_port), 1.0, what=f"SIP on UDP port {self.sip_port}"
            )
            socket.create_connection((self.host, self.ami_port), patience()).close()
        except (AsteriskFailed, OSError) as error:
            if not self.log_file.is_file() and re.match(r"(unshare|mount): ", tail(self.output_file)):
                raise LabUnavailable(
                    "this machine lets us make no mount namespace; run as root, in a container with "
                    f"CAP_SYS_ADMIN ({tail(self.output_file, 1)})"
                ) from error
            raise AsteriskFailed(
                f"{self.name} did not start: {error}\n{tail(self.output_file)}\n{tail(self.log_file)}"
            ) from error

    def _answers(self) -> bool:
        try:
            self._ask(b"cli quit after core show version\0", 5.0)
        except OSError:
            return False
        return True

    def _ask(self, request: bytes, timeout: float) -> bytes:
        """One exchange on the control socket: a banner, our request, everything until Asterisk hangs up."""
        deadline = time.monotonic() + timeout
        # The address of a Unix socket has 107 bytes at most; test directories are longer: go by descriptor.
        run = os.open(self.directory / "run", os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(timeout)
                connection.connect(f"/proc/self/fd/{run}/asterisk.ctl")
                banner = connection.recv(4096)
                connection.sendall(request)
                answer = bytearray()
                while chunk := connection.recv(65536):
                    answer += chunk
                    if len(answer) > _CLI_BYTES:
                        raise OSError(f"more than {_CLI_BYTES} bytes of answer")
                    connection.settimeout(max(0.01, deadline - time.monotonic()))
        finally:
            os.close(run)
        if not banner:
            raise ConnectionError("the control socket closed at once")
        return bytes(answer)


def _ami_action(name: str, headers: Mapping[str, str | Sequence[str]]) -> bytes:
    lines = [f"Action: {name}"]
    for header, values in headers.items():
        lines += [f"{header}: {value}" for value in ([values] if isinstance(values, str) else values)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _ami_headers(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Those of the next message."""
    for line in lines:
        if not line.strip():
            return
        name, _, value = line.partition(":")
        yield name, value.strip()


def _write_tone(path: Path) -> None:
    """Two seconds of a soft tone: without a file to play there is no music class."""
    rate = 8000
    samples = (int(1500 * math.sin(2 * math.pi * 440 * index / rate)) for index in range(2 * rate))
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))


def main(arguments: Sequence[str] | None = None) -> int:
    """`ensure` prints where the Asterisk is, fetched first if need be; `clean` removes the private copy."""
    parser = argparse.ArgumentParser(prog="python -m lab.asterisk", description=main.__doc__)
    parser.add_argument("command", choices=["ensure", "clean"])
    command = parser.parse_args(arguments).command
    try:
        if command == "ensure":
            print(ensure_asterisk().program)
        else:
            for tree in remove_cached_trees():
                print(f"removed {tree}")
    except LabUnavailable as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
