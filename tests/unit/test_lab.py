"""What the laboratory decides without starting anything: which Asterisk it takes, and what it installs."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.tree import LabUnavailable, ensure_asterisk, ensure_chromium


def a_cached_asterisk(cache: Path, name: str) -> Path:
    """A private copy, as far as it is looked at."""
    root = cache / name
    files = [".cordboard-tree", "usr/sbin/asterisk", "usr/share/asterisk/documentation/core-en_US.xml"]
    modules = ("chan_pjsip", "res_pjsip", "res_agi", "app_dial", "pbx_config")
    for file in (*files, *(f"usr/lib/any/asterisk/modules/{module}.so" for module in modules)):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


@pytest.mark.parametrize(("version", "copy"), [("16", "16-2"), ("22", "22-1")])
def test_the_version_that_is_asked_for_is_taken_from_the_cache(tmp_path, monkeypatch, version, copy):
    copies = {name: a_cached_asterisk(tmp_path, f"asterisk-{name}") for name in ("16-2", "22-1")}
    monkeypatch.setenv("CORDBOARD_CACHE", str(tmp_path))
    monkeypatch.setenv("ASTERISK", version)

    assert ensure_asterisk().root == copies[copy]


def test_a_version_that_nobody_has_is_refused_with_those_there_are(monkeypatch):
    monkeypatch.setenv("ASTERISK", "1.8")

    with pytest.raises(LabUnavailable, match="16 and 22"):
        ensure_asterisk()


def an_apt(directory: Path, does: str) -> Path:
    """An `apt-get` that notes what it is told, and `does` when it is told to install."""
    apt = directory / "apt-get"
    apt.write_text(f'#!/bin/sh\necho "$*" >>{directory}/told\n[ "$1" != install ] || {{ {does}; }}\n')
    apt.chmod(0o755)
    return directory


def test_a_browser_that_is_missing_is_installed_once_for_all_who_need_it(tmp_path, monkeypatch):
    browser = tmp_path / "chromium"
    takes_its_time = f"printf '#!/bin/sh\\n' >{browser}; /bin/sleep 0.3; /bin/chmod 755 {browser}"
    monkeypatch.setenv("PATH", str(an_apt(tmp_path, takes_its_time)))
    monkeypatch.setenv("CORDBOARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("os.geteuid", lambda: 0)

    with ThreadPoolExecutor() as threads:
        found = list(threads.map(lambda _: ensure_chromium(), range(3)))

    assert found == [browser] * 3
    told = (tmp_path / "told").read_text().splitlines()
    assert told == ["update", "install -y --no-install-recommends chromium"]


@pytest.mark.parametrize(
    ("user", "does", "what"),
    [
        (1000, "true", "only root can fetch it.*apt-get install .*chromium"),
        (
            0,
            "echo no such package; exit 100",
            "exit status 100: no such package; run `apt-get install chromium`",
        ),
        (0, "true", "chromium is installed, yet there is no program chromium"),
    ],
)
def test_a_browser_that_cannot_be_had_is_a_failure_that_says_what_to_do(
    tmp_path, monkeypatch, user, does, what
):
    monkeypatch.setenv("PATH", str(an_apt(tmp_path, does)))
    monkeypatch.setenv("CORDBOARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("os.geteuid", lambda: user)

    with pytest.raises(LabUnavailable, match=what):
        ensure_chromium()
