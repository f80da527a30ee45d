"""`cti adapter try`: an administrator sees each request, each answer, and what was made of it, and no secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.http import HttpOptions
from cti.settings import load_settings
from tests.crm.fakes.webhook import TOKEN, HomeMade

ROOT = Path(__file__).parents[2]
CONFIG = """\
region: DE
store: {{sqlite: cti.db}}
asterisks:
  main: {{ami: "127.0.0.1:1", username: cti, secret: s3cret}}
adapters:
  crm:
    kind: http
    preset: webhook
    url: "{url}"
    secrets: {{token: "{token}"}}
  directory: {{kind: directory}}
services:
  sales:
    numbers: ["+494066969100"]
    mode: observe
    fallback: old-context,s,1
    rules: [{{name: all, dial: owner}}]
"""


@pytest.fixture
def crm() -> Iterator[HomeMade]:
    fake = HomeMade()
    yield fake
    fake.close()


def tried(crm: HomeMade, base: Path, *arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    file = base / "cti.yaml"
    file.write_text(CONFIG.format(url=crm.url, token=token), encoding="utf-8")
    command = [sys.executable, "-m", "cti", "adapter", "try", *arguments, "-c", str(file)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, cwd=base, check=False
    )


def as_json(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def test_a_look_up_is_shown_with_each_request_answer_and_verdict(crm: HomeMade, tmp_path: Path) -> None:
    ada = crm.add("contact", "+49 1522 8817386", name="Ada Adler", tier="gold")
    done = tried(crm, tmp_path, "crm", "--number", "0152 28817386")
    assert done.returncode == 0, done.stderr
    assert f"> GET {crm.url}/lookup?number=%2B4915228817386" in done.stdout
    assert '"name": "Ada Adler"' in done.stdout
    assert f"contact {ada.id} (Ada Adler) kept: its numbers is +4915228817386" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    assert "authorization: …" in done.stdout.lower()


def test_a_record_that_has_not_the_number_is_dropped_and_said_to_be(crm: HomeMade, tmp_path: Path) -> None:
    ben = crm.add("contact", "+4930231250001", name="Ben")
    crm.instead = []
    crm.handle = lambda _request: type(crm)._parties(crm, [ben])  # type: ignore[method-assign]
    answer = as_json(tried(crm, tmp_path, "crm", "--number", "+49 152 28817386", "--format", "json"))
    assert answer["parties"] == []
    (note,) = [step["note"] for step in answer["steps"] if "note" in step]
    assert "dropped: none of its 1 numbers is +4915228817386" in note


def test_json_has_the_whole_exchange(crm: HomeMade, tmp_path: Path) -> None:
    ada = crm.add("contact", "015228817386", name="Ada Adler")
    for question in (
        ("--search", "adler"),
        ("--key", f"customer=K-{ada.id}"),
        ("--card", f"contact:{ada.id}"),
    ):
        answer = as_json(tried(crm, tmp_path, "crm", *question, "--format", "json"))
        assert [party["id"] for party in answer["parties"]] == [ada.id], question
        assert answer["steps"][0]["answer"]["status"] == 200
        assert answer["error"] is None
    assert TOKEN not in json.dumps(answer)


def test_a_login_that_is_refused_is_said_and_the_exit_code_is_1(crm: HomeMade, tmp_path: Path) -> None:
    done = tried(crm, tmp_path, "crm", "--number", "015228817386", token="wrong-token")
    assert done.returncode == 1
    assert "AdapterDenied" in done.stderr
    assert "< 401" in done.stdout
    assert "wrong-token" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["crm"], 2, "one of --number, --key, --search and --card"),
        (["nobody", "--number", "015228817386"], 2, "nobody"),
        (["crm", "--number", "12"], 1, "no public telephone number"),
        (["crm", "--card", "17"], 2, "TYPE:ID"),
        (["crm", "--key", "17"], 2, "KIND=VALUE"),
    ],
)
def test_what_is_asked_wrongly_is_said(
    crm: HomeMade, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    done = tried(crm, tmp_path, *arguments)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr


def test_an_adapter_without_http_can_be_tried_as_well(crm: HomeMade, tmp_path: Path) -> None:
    done = tried(crm, tmp_path, "directory", "--number", "015228817386")
    assert done.returncode == 0, done.stderr
    assert "nobody found" in done.stdout


def test_the_sample_with_presets_is_right() -> None:
    settings = load_settings(
        ROOT / "config" / "presets.yaml", adapter_kinds={"http": HttpOptions}, environ={}
    )
    assert {name: each.options.description.title for name, each in settings.adapters.items()} == {
        "crm": "Bitrix24",
        "desk": "Zammad",
    }
