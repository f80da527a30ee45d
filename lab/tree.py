"""Finds an Asterisk to run: the system's, else a private copy, built once by debootstrap in a cache directory.

$ASTERISK names the version of a private copy that is wanted instead. Running it is the business of `lab.asterisk`."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

_MARKER = ".cordboard-tree"
_DEFAULT_VERSION = "22"
_BUILD_SECONDS = 900
INSTALL_SECONDS = 600

_ESSENTIAL_MODULES = ("chan_pjsip", "res_pjsip", "res_agi", "app_dial", "pbx_config")


class LabUnavailable(RuntimeError):
    """Asterisk, SIPp or Chromium cannot be had on this machine; the message says what to install or to do."""


@frozen
class _Release:
    """How a private copy of one version is made: `suites` are (suite, debootstrap's script), the preferred first.

    `tree` is part of the directory's name: raise it when what belongs into a tree changes; older ones are replaced.
    """

    suites: Sequence[tuple[str, str]]
    packages: str
    tree: str


# Debian 12 has no Asterisk, 11 and forky have one. The debootstrap of an older Debian does not know newer suites by
# name; the script for sid serves them all. Debian 11 has app_voicemail in a package of its own.
_RELEASES = {
    "16": _Release(
        (("bullseye", "bullseye"),), "asterisk,asterisk-core-sounds-en-gsm,asterisk-voicemail", tree="2"
    ),
    "22": _Release((("forky", "sid"), ("sid", "sid")), "asterisk,asterisk-core-sounds-en-gsm", tree="1"),
}


@frozen
class AsteriskTree:
    """Where an Asterisk is installed: `root` is `/` for the system's own, else a directory to chroot into."""

    root: Path

    @property
    def is_system(self) -> bool:
        return self.root == Path("/")

    @property
    def program(self) -> Path:
        """The asterisk binary, as seen from outside. Raises LabUnavailable."""
        for place in ("usr/sbin/asterisk", "usr/bin/asterisk", "usr/local/sbin/asterisk", "sbin/asterisk"):
            if (self.root / place).is_file():
                return self.root / place
        if self.is_system and (found := shutil.which("asterisk")):
            return Path(found)
        raise LabUnavailable(f"there is no asterisk program below {self.root}")

    @property
    def modules(self) -> Path:
        """The directory of Asterisk's loadable modules, as seen from outside. Raises LabUnavailable."""
        return self._directory_with(
            "pbx_config.so",
            ("usr/lib/*/asterisk/modules", "usr/lib*/asterisk/modules", "usr/local/lib/asterisk/modules"),
        )

    @property
    def data(self) -> Path:
        """The directory of the sounds and the XML documentation, without which modules decline to load."""
        return self._directory_with(
            "documentation/core-en_US.xml",
            (
                "usr/share/asterisk",
                "var/lib/asterisk",
                "usr/local/share/asterisk",
                "usr/local/var/lib/asterisk",
            ),
        )

    def inside(self, path: Path) -> str:
        """What a path below the tree is called by a process that has the tree as its root."""
        return "/" + str(path.relative_to(self.root))

    def user_ids(self) -> tuple[int, int] | None:
        """(uid, gid) of the tree's user `asterisk`, None if it has no such user."""
        for line in (self.root / "etc/passwd").read_text("utf-8", "replace").splitlines():
            fields = line.split(":")
            if fields[0] == "asterisk" and len(fields) >= 4:
                return int(fields[2]), int(fields[3])
        return None

    def check(self) -> AsteriskTree:
        """Itself, if it has what the lab needs; raises LabUnavailable otherwise."""
        missing = [name for name in _ESSENTIAL_MODULES if not (self.modules / f"{name}.so").is_file()]
        if missing:
            raise LabUnavailable(
                f"the Asterisk of {self.root} lacks the modules {', '.join(missing)}; "
                "install the package with chan_pjsip"
            )
        _ = self.program, self.data
        return self

    def _directory_with(self, landmark: str, patterns: Sequence[str]) -> Path:
        for pattern in patterns:
            for directory in sorted(self.root.glob(pattern)):
                if (directory / landmark).is_file():
                    return directory
        raise LabUnavailable(
            f"the Asterisk of {self.root} has no directory with {landmark}; reinstall its package"
        )


def cache_directory() -> Path:
    """`$CORDBOARD_CACHE`, else `$XDG_CACHE_HOME/cordboard`, else `~/.cache/cordboard`."""
    if own := os.environ.get("CORDBOARD_CACHE"):
        return Path(own).absolute()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).absolute() / "cordboard"
    return Path.home() / ".cache" / "cordboard"


def wanted_version() -> str:
    """The version that $ASTERISK asks for, `16` or `22`; empty: whatever is there. Raises LabUnavailable."""
    version = os.environ.get("ASTERISK", "")
    if version and version not in _RELEASES:
        raise LabUnavailable(f"ASTERISK={version}: the lab can fetch {' and '.join(_RELEASES)}")
    return version


def ensure_asterisk() -> AsteriskTree:
    """The system's Asterisk if there is one, else the private copy, built first if need be (two minutes).

    If $ASTERISK names a version, always the private copy of that one. Says on stderr when it builds or installs.
    Raises LabUnavailable. Two callers at once build one copy.
    """
    version = wanted_version()
    if not version and (shutil.which("asterisk") or Path("/usr/sbin/asterisk").is_file()):
        return AsteriskTree(Path("/")).check()
    version = version or _DEFAULT_VERSION
    cache = cache_directory()
    tree = cache / f"asterisk-{version}-{_RELEASES[version].tree}"
    if (tree / _MARKER).is_file():
        return AsteriskTree(tree).check()
    require_debian_and_root(f"Asterisk {version}, which is not on this machine,")
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "asterisk.lock"):
        if not (tree / _MARKER).is_file():
            _build(tree, version)
    return AsteriskTree(tree).check()


def ensure_sipp() -> Path:
    """The path of SIPp, installed by apt if it is missing. Raises LabUnavailable."""
    return _ensure_program("sipp", "sip-tester")


def ensure_chromium() -> Path:
    """The path of Debian's Chromium, installed by apt if it is missing. Raises LabUnavailable."""
    return _ensure_program("chromium", "chromium")


def remove_cached_trees() -> list[Path]:
    """Removes every private copy of Asterisk from the cache; returns what was removed."""
    cache = cache_directory()
    if not cache.is_dir():
        return []
    with locked(cache / "asterisk.lock"):
        return _remove_trees(cache)


def _remove_trees(cache: Path, version: str = "*") -> list[Path]:
    trees = [path for path in sorted(cache.glob(f"asterisk-{version}")) if path.is_dir()]
    for tree in trees:
        # The marker first: whatever interrupts the removal, nobody takes the rest for a whole tree.
        (tree / _MARKER).unlink(missing_ok=True)
        shutil.rmtree(tree)
    return trees


def _build(tree: Path, version: str) -> None:
    release = _RELEASES[version]
    debootstrap = _ensure_program("debootstrap", "debootstrap")
    _remove_trees(tree.parent, f"{version}-*")
    mirrors = debian_mirrors()
    failures = []
    for suite, script in release.suites:
        for mirror in mirrors:
            say(f"building Asterisk {version} (Debian {suite}) in {tree}, once; this takes a minute or two")
            building = tree.with_name(f"{tree.name}.building")
            log = tree.parent / "debootstrap.log"
            command = [
                *("setpriv", "--pdeathsig", "KILL"),
                # What debootstrap mounts in the tree is gone with it, even if it is killed.
                *("unshare", "--mount", "--propagation", "private"),
                *(str(debootstrap), "--variant=minbase", f"--include={release.packages}"),
                *(suite, str(building), mirror, script),
            ]
            try:
                run_logged(command, log, _BUILD_SECONDS)
            except subprocess.SubprocessError as error:
                failures.append(f"{suite}: {error}")
                shutil.rmtree(building, ignore_errors=True)
                continue
            _finish(building, release)
            building.rename(tree)
            log.unlink()
            return
    raise LabUnavailable(
        "debootstrap could not build a private Asterisk. Is the Debian mirror of this machine's apt "
        f"reachable? Or install asterisk yourself. ({'; '.join(failures)})"
    )


def _finish(building: Path, release: _Release) -> None:
    """Leaves out what only the installation needed, and marks the tree as whole."""
    for waste in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(building / waste)
    # A mount point for each instance's own file, with the machine's name in it.
    (building / "etc/hosts").touch()
    (building / _MARKER).write_text(f"{release.tree}\n")


def debian_mirrors() -> list[str]:
    """The addresses of Debian's own archive in this machine's apt configuration, the preferred first."""
    try:
        lines = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(SITE)|$(ORIGIN)|$(LABEL)"],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        raise LabUnavailable(
            f"apt-get does not name its mirror ({error}); install asterisk yourself"
        ) from error
    entries = [line.split("|") for line in lines if line.count("|") == 2]
    # Without downloaded lists apt knows no origin, and then its first source is the best guess.
    sites = [site for site, origin, label in entries if origin == "Debian" and label == "Debian"] or [
        site for site, _, _ in entries[:1]
    ]
    if not sites:
        raise LabUnavailable(
            "apt has no source; put a Debian mirror into /etc/apt, or install asterisk yourself"
        )
    return list(dict.fromkeys(sites))


def _ensure_program(program: str, package: str) -> Path:
    log = cache_directory() / "apt.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # Looked for under the lock, too: while somebody installs it the program is there before what it needs.
    with locked(log.parent / "apt.lock"):
        if found := _find_program(program):
            return found
        require_debian_and_root(f"the program {program} (package {package})")
        say(f"installing {package}")
        for command in (
            ["apt-get", "update"],
            ["apt-get", "install", "-y", "--no-install-recommends", package],
        ):
            try:
                run_logged(command, log, INSTALL_SECONDS)
            except subprocess.SubprocessError as error:
                raise LabUnavailable(
                    f"could not install {package}: {error}; run `apt-get install {package}` yourself"
                ) from error
        log.unlink()
        if found := _find_program(program):
            return found
    raise LabUnavailable(f"{package} is installed, yet there is no program {program} in the PATH")


def _find_program(program: str) -> Path | None:
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return Path(found) if found else None


def require_debian_and_root(what: str) -> None:
    if shutil.which("apt-get") is None:
        raise LabUnavailable(
            f"{what} is needed and can only be fetched on Debian. Install asterisk (16 or later, with "
            "chan_pjsip), SIPp and Chromium with this system's package manager"
        )
    if os.geteuid() != 0:
        raise LabUnavailable(
            f"{what} is needed and only root can fetch it. Run this once as root, or ask for "
            "`apt-get install asterisk sip-tester chromium`"
        )


def run_logged(command: Sequence[str], log: Path, seconds: float) -> None:
    """Runs a command with its output in `log`; raises SubprocessError, whose text has the output's end."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    with open(log, "wb") as sink:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environment,
            process_group=0,
        )
        try:
            status = process.wait(seconds)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise subprocess.SubprocessError(f"not finished after {seconds:.0f} s; see {log}") from None
            raise
    if status != 0:
        end = " / ".join(log.read_text("utf-8", "replace").splitlines()[-4:])
        raise subprocess.SubprocessError(f"exit status {status}: {end}")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with open(path, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)
