"""`make demo`, as somebody who tries the project sees it: the story of a call that went well, and of some that
did not. Broken ones are played on a copy of the project, of which a part is taken away."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lab.daemon import ROOT

PACKAGES = ("adapters", "asterisk-conf", "cti", "dialplan", "lab", "routing")


def a_copy_of_the_project(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def the_demo(root: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEMO_ONCE": "1", "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    # Where lines are broken is not to depend on who runs the tests.
    environment["COLUMNS"] = "120"
    return subprocess.run(
        [sys.executable, "-m", "lab.demo"],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


def in_this_order(story: str, *parts: str) -> None:
    """Fails with the first part that does not come after the one before."""
    at = 0
    for part in parts:
        found = re.compile(part).search(story, at)
        assert found is not None, f"{part!r} is missing after {story[:at][-200:]!r} in\n{story}"
        at = found.end()


def processes_with(directory: Path) -> list[str]:
    """The command lines of living processes that name the directory."""
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(directory) in line and str(os.getpid()) != process.parent.name:
            lines.append(line)
    return lines


def test_the_story_of_the_first_call_is_told_and_every_step_of_it_is_checked(tmp_path):
    root = a_copy_of_the_project(tmp_path / "project")

    done = the_demo(root)

    assert done.returncode == 0, done.stdout
    in_this_order(
        done.stdout,
        r"Asterisk +Asterisk \d+",
        r"cti check +OK: 1 service \(sales\)",
        r"14 added, 0 updated",
        r"API at http://127\.0\.0\.1:\d+",
        r"desktop +http://127\.0\.0\.1:\d+/ in a browser: user anna, password \S+",
        r"the trunk sends 015228817386",
        r"Call 1: .* calls 040 66969100",
        r"\+0\.000 s  asked",
        r"identified +Katja Brandt, Bootswerft Brandt & Söhne \(adapter directory: hit in",
        r"decided +rule “owner”: dial PJSIP/anna",
        r"because +owner: anna is the owner of the caller",
        r"reserved +Anna Lindner",
        r"card +written to the screen of Anna Lindner",
        r"│ Katja Brandt · Bootswerft Brandt & Söhne +│",
        r"│ Case S-2041: Bilge pump loses pressure when warm \(open\) +│",
        r"rings +the phone of Anna Lindner; it shows “Katja Brandt”, 015228817386",
        r"answered +by Anna Lindner",
        r"ended +answered, 3\.\d s of talk",
        r"Call 1 in the log  GET /api/v1/calls/",
        r'"outcome": "answered"',
        r'"webhook-signature": "v1,',
        r"✓ the card was on the screen of Anna Lindner",
        r"✓ the CRM was told, in order, once each, and the signatures hold",
        r"✓ Anna Lindner is ready for the next call",
    )
    assert "✗" not in done.stdout
    assert processes_with(root) == []


def test_without_the_dialplan_the_demo_fails_and_names_the_file(tmp_path):
    root = a_copy_of_the_project(tmp_path / "project")
    (root / "dialplan" / "cti.conf").unlink()

    done = the_demo(root)

    assert done.returncode == 1, done.stdout
    assert re.search(r"^demo: .*dialplan/cti\.conf: No such file or directory$", done.stdout, re.MULTILINE)
    assert "Traceback" not in done.stdout
    assert processes_with(root) == []


def test_a_wrong_configuration_fails_with_the_place_of_the_mistake(tmp_path):
    root = a_copy_of_the_project(tmp_path / "project")
    company = root / "lab" / "sample" / "company.yaml"
    company.write_text(company.read_text("utf-8").replace("{group: slovene}", "{group: slowene}"), "utf-8")

    done = the_demo(root)

    assert done.returncode == 1, done.stdout
    assert re.search(r"cti\.yaml:\d+:\d+: services\.sales\.rules.*slowene", done.stdout), done.stdout
    assert "Traceback" not in done.stdout
    assert processes_with(root) == []


def test_a_call_that_nobody_is_asked_about_or_rung_for_is_no_success(tmp_path):
    root = a_copy_of_the_project(tmp_path / "project")
    (root / "dialplan" / "cti.conf").write_text(
        "[cti-inbound]\nexten => _X!,1,Answer()\n same => n,Wait(2)\n same => n,Hangup()\n", encoding="utf-8"
    )

    done = the_demo(root)

    assert done.returncode == 1, done.stdout
    in_this_order(
        done.stdout,
        r"demo: the call did not come to its end in the log",
        r"on the event stream: nothing",
        r"what the caller heard from Asterisk: 100, .*200",
        r"phones that rang: none",
        r"What was written on the way is in var/demo/1",
    )
    assert processes_with(root) == []
