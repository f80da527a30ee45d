"""What the laboratory decides without starting anything: which Asterisk it takes."""

from pathlib import Path

import pytest

from lab.tree import LabUnavailable, ensure_asterisk


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
