"""What real servers are installed from, kept in the cache: made once, whole or not at all, by one process at a time.

What is in it, and how it is started, is known to each server's own module.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lab.tree import (
    INSTALL_SECONDS,
    LabUnavailable,
    cache_directory,
    locked,
    require_debian_and_root,
    run_logged,
    say,
)


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The directory `name` of the cache; if there is none, `make` fills one, which then takes the name.

    Whatever is made has to bear being renamed. Raises LabUnavailable if it cannot be made.
    """
    place = cache_directory() / name
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with locked(place.with_name(f"{name}.lock")):
        if not place.is_dir():
            say(f"fetching {name} into {place.parent}, once")
            making = place.with_name(f"{name}.making")
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            try:
                make(making)
            except (OSError, subprocess.SubprocessError) as error:
                raise LabUnavailable(f"{name} cannot be fetched: {error}") from error
            making.rename(place)
    return place


def python_environment(name: str, *requirements: str, python: str = sys.executable) -> Path:
    """A virtual environment with these requirements; its programs are run by `bin/python -m`."""

    def make(place: Path) -> None:
        log = place.with_suffix(".log")
        run_logged([python, "-m", "venv", str(place)], log, INSTALL_SECONDS)
        run_logged(
            [str(place / "bin/python"), "-m", "pip", "install", "--no-input", *requirements],
            log,
            INSTALL_SECONDS,
        )
        log.unlink()

    return kept(name, make)


def debian_packages(name: str, *packages: str) -> Path:
    """A directory with what is in these Debian packages, and in those that they need and this machine has not.

    Extracted and not installed: no service starts, and nothing of the machine changes.
    """

    def make(place: Path) -> None:
        require_debian_and_root(f"the packages {', '.join(packages)}")
        log = place.with_suffix(".log")
        archives = place / "archives"
        archives.mkdir()
        # Apt's own user reads and writes there.
        archives.chmod(0o777)
        missing = _to_install(packages, log)
        # apt-get download writes into the working directory.
        run_logged(["env", "-C", str(archives), "apt-get", "download", *missing], log, INSTALL_SECONDS)
        for archive in sorted(archives.glob("*.deb")):
            run_logged(["dpkg-deb", "-x", str(archive), str(place)], log, INSTALL_SECONDS)
        shutil.rmtree(archives)
        log.unlink()

    return kept(name, make)


def _to_install(packages: tuple[str, ...], log: Path) -> list[str]:
    """What apt would install, the packages themselves also if they are here already."""
    simulate = ["apt-get", "install", "--simulate", "--reinstall", "--no-install-recommends", *packages]
    try:
        run_logged(simulate, log, INSTALL_SECONDS)
    except subprocess.SubprocessError:
        # A machine whose lists were never fetched knows no packages.
        with locked(cache_directory() / "apt.lock"):
            run_logged(["apt-get", "update"], log, INSTALL_SECONDS)
        run_logged(simulate, log, INSTALL_SECONDS)
    return re.findall(r"^Inst (\S+)", log.read_text("utf-8", "replace"), re.MULTILINE)
