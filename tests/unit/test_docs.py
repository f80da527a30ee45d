"""The documents say what the code does: snippets load and run, tables are complete, links lead somewhere."""

import importlib.util
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
import yaml

from adapters.base import Capability, IAdapter, load_adapter_kinds
from adapters.conformance import INTERFACES
from cti import settings
from cti.calls.webhook import signature, signing_key
from cti.cli import _parser
from cti.event_types import EVENT_TYPES
from cti.metrics import Metrics
from cti.reports.report import MEASURES
from cti.web.api import ROUTES
from cti.web.call_control import PROBLEMS
from cti.web.tokens import ROLES
from routing.conditions import FACTS, OWN_KINDS
from routing.rules import Service

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("asterisk-conf/*.md")])
MACHINE_PATHS = ("/etc/cordboard/", "/var/lib/cordboard/")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def snippets(language: str) -> list[Any]:
    """Every fenced block in that language, of all pages."""
    return [
        pytest.param(block, id=f"{name}-{number}")
        for name in (page.relative_to(ROOT).as_posix() for page in PAGES)
        for number, block in enumerate(blocks(name, language), start=1)
    ]


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(name), re.MULTILINE | re.DOTALL)


def in_code(name: str) -> set[str]:
    """Everything that stands in backticks on a page, and each word of it."""
    found = set(re.findall(r"`([^`\n]+)`", text_of(name)))
    return found | {word for each in found for word in each.split()}


def script_of_states() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_states", ROOT / "docs" / "make_states.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pictures_of_the_states_are_those_of_the_tables() -> None:
    made = script_of_states().page()
    assert text_of("docs/states.md") == made, "out of date: run python docs/make_states.py"


@pytest.mark.parametrize("snippet", snippets("yaml"))
def test_a_snippet_of_a_configuration_loads(snippet: str, tmp_path: Path) -> None:
    sample: dict[str, Any] = yaml.safe_load(text_of("config/small.yaml"))
    for path in MACHINE_PATHS:
        snippet = snippet.replace(path, f"{tmp_path}/")
    for name in {"ami.secret", *re.findall(r"\{file: ([\w.-]+)\}", snippet)}:
        (tmp_path / name).write_text("sesame\n", encoding="utf-8")
    said: dict[str, Any] = yaml.safe_load(snippet)
    # What else the configuration says of the sample's directory still has to be right.
    adapters = {**sample["adapters"], **said.get("adapters", {})}
    file = tmp_path / "cti.yaml"
    file.write_text(yaml.safe_dump({**sample, **said, "adapters": adapters}), encoding="utf-8")
    kinds = load_adapter_kinds()

    loaded = settings.load_settings(
        file,
        adapter_kinds={name: kinds[name].options_class for name in kinds},
        environ=dict.fromkeys({"AMI_SECRET", "HOOK", *re.findall(r"\{env: (\w+)\}", snippet)}, "sesame"),
    )

    assert loaded.services


def test_every_key_of_the_configuration_is_described() -> None:
    page = text_of("docs/configuration.md")
    top = {each.name for each in attrs.fields(settings.Settings)} - {
        "path",
        "base",
        "plan",
        "numbers",
        "advice",
    }
    assert [key for key in sorted(top) if not re.search(rf"^\| `{key}[`.]", page, re.MULTILINE)] == []
    parts = {
        "fastagi": settings.FastAgi,
        "http": settings.Http,
        "asterisks.NAME": settings.Asterisk,
        "agents.ID": settings.Agent,
        "services.NAME": Service,
        "webhooks.NAME": settings.Webhook,
        "outbox": settings.OutboxSettings,
        "identify": settings.Identify,
        "reservation": settings.Reservation,
        "call_control": settings.CallControl,
        "reports": settings.ReportSettings,
        "log": settings.Log,
    }
    # What is written otherwise than it is kept.
    written = {"secrets": "secret", "reach": "allow", "wanted": "services`, `.directions`, `.adapters"}
    missing = [
        f"{part}.{each.name}"
        for part, described in parts.items()
        for each in attrs.fields(described)
        if not (part.endswith(".NAME") and each.name == "name") and each.name not in ("id", "dialling")
        if f"| `{part}.{written.get(each.name, each.name)}` |" not in page
    ]
    assert missing == []


def test_every_fact_of_rules_is_described_with_its_kind() -> None:
    page = text_of("docs/configuration.md")
    assert [name for name, fact in FACTS.items() if f"| `{name}` | {fact.kind} |" not in page] == []


def test_every_measure_of_reports_is_defined() -> None:
    page = text_of("docs/reports.md")
    words = {"{levels}": "its own, or `reports.service_level`", "{short}": "`reports.short`"}
    for measure in chain.from_iterable(MEASURES.values()):
        meant = measure.definition
        for word, told in words.items():
            meant = meant.replace(word, told)
        assert f"| `{measure.name}` | {measure.unit} | {meant} |" in page


def test_every_kind_of_problem_is_described_and_no_other() -> None:
    page = text_of("docs/api.md")
    described = set(re.findall(r"^\| `([a-z-]+)` \| \d{3}", page.partition("## Problems")[2], re.MULTILINE))
    raised = {
        kind
        for file in (ROOT / "cti/web").glob("*.py")
        for kind in re.findall(r'kind="([a-z-]+)"', file.read_text())
    }
    assert described == raised | {kind for _, kind in PROBLEMS.values()}


def test_every_path_role_and_metric_is_described() -> None:
    words = in_code("docs/api.md")
    paths = {f"{route.method} {route.path}" for route in ROUTES}
    found = {each.partition("?")[0] for each in words}
    assert paths - found == set()
    assert set(ROLES) - words == set()
    metrics = Metrics().registry.collect()
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics
        if family.name.startswith("cti_")
    }
    assert names - words == set()
    assert {word for word in words if word.startswith("cti_")} - names == set()


def test_the_events_that_are_sent_are_described_and_the_others_named() -> None:
    name = r"(?:call|card|agent|audit)\.[a-z]+"
    described = set(re.findall(rf"^\| `({name})` \|", text_of("docs/api.md"), re.MULTILINE))
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "cti" / "calls").glob("*.py")]
    assert described == set(re.findall(f'"({name})"', "".join(sources)))
    assert set(EVENT_TYPES) - in_code("docs/api.md") == set()


def test_the_example_of_a_receiver_takes_what_we_sign_and_nothing_else() -> None:
    (example,) = blocks("docs/api.md", "python")
    names: dict[str, Any] = {}
    exec(example, names)
    is_genuine = names["is_genuine"]
    body, now = b'{"seq":42}', 1_772_356_500
    for secret in ("sesame", "whsec_QSBzZWNyZXQgb2YgdGhpcyBkb2N1bWVudA=="):
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(now),
            "webhook-signature": signature(signing_key(secret), "msg_1", now, body),
        }
        assert is_genuine(secret, headers, body, now + 10)
        assert not is_genuine(secret, headers, body + b" ", now + 10)
        assert not is_genuine(secret, headers | {"webhook-id": "msg_2"}, body, now + 10)
        assert not is_genuine(secret, headers, body, now + 301)
        assert not is_genuine("another", headers, body, now + 10)


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The worked example of docs/adapters.md in a directory, each file as printed, and installed below it."""
    base = tmp_path_factory.mktemp("acme")
    adapter, suite = blocks("docs/adapters.md", "python")
    (project,) = blocks("docs/adapters.md", "toml")
    (shop,) = blocks("docs/adapters.md", "sql")
    (kind,) = blocks("docs/adapters.md", "yml")
    for name, text in (("acme_crm.py", adapter), ("test_acme_crm.py", suite), ("pyproject.toml", project)):
        (base / name).write_text(text, encoding="utf-8")
    with closing(sqlite3.connect(base / "shop.db")) as connection:
        connection.executescript(shop)
    sample: dict[str, Any] = yaml.safe_load(text_of("config/small.yaml"))
    for agent in sample.get("agents", {}).values():
        agent.pop("crm", None)
    (base / "cti.yaml").write_text(yaml.safe_dump(sample | yaml.safe_load(kind)), encoding="utf-8")
    install(base, "acme_crm.py")
    return base


def install(base: Path, module: str) -> None:
    """What `pip install .` has done by setuptools, without a server to fetch a newer one from."""
    (base / "installed").mkdir()
    build = ("egg_info", "--egg-base", "installed", "build_py", "--build-lib", "installed")
    run(base, "-c", "from setuptools import setup; setup()", *build)
    for name in (module, "pyproject.toml"):
        (base / name).unlink()


def run(base: Path, *command: str, code: int = 0) -> str:
    """What it says, which with another `code` than 0 is why not."""
    environ = {
        "PYTHONPATH": f"{base / 'installed'}:{ROOT}",
        "AMI_SECRET": "sesame",
        "HOOK": "sesame",
        "ACME_SHOP": str(base / "shop.db"),
    }
    done = subprocess.run(
        [sys.executable, *command],
        cwd=base,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


def test_the_worked_example_of_an_adapter_identifies_who_calls(acme: Path) -> None:
    check, identify = (
        shlex.split(line)[1:]
        for line in "".join(blocks("docs/adapters.md", "sh")).splitlines()
        if line.startswith(("cti check", "cti identify"))
    )
    run(acme, "-m", "cti", *check)
    found = json.loads(run(acme, "-m", "cti", *identify, "--format", "json"))
    assert [(each["adapter"], each["name"], each["owner_user"]) for each in found["parties"]] == [
        ("shop", "Katja Brandt", "u1")
    ]


def test_the_worked_example_of_an_adapter_passes_the_suite(acme: Path) -> None:
    said = run(acme, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "test_acme_crm.py")
    passed = re.search(r"^(\d+) passed in", said, re.MULTILINE)
    assert passed is not None, said
    assert int(passed[1]) > 20


@pytest.fixture(scope="module")
def acme_rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The worked example of docs/extending.md in a directory, each file as printed, and installed below it."""
    base = tmp_path_factory.mktemp("acme-rules")
    rules, suite = blocks("docs/extending.md", "python")
    (project,) = blocks("docs/extending.md", "toml")
    (shop,) = blocks("docs/extending.md", "sql")
    (company,) = blocks("docs/extending.md", "yml")
    for name, text in (
        ("acme_rules.py", rules),
        ("test_acme_rules.py", suite),
        ("pyproject.toml", project),
        ("contacts.csv", "id,type,name,numbers\n1001,contact,Katja Brandt,0152 28817386\n"),
    ):
        (base / name).write_text(text, encoding="utf-8")
    with closing(sqlite3.connect(base / "shop.db")) as connection:
        connection.executescript(shop)
    sample: dict[str, Any] = yaml.safe_load(text_of("config/small.yaml"))
    (base / "cti.yaml").write_text(yaml.safe_dump(sample | yaml.safe_load(company)), encoding="utf-8")
    install(base, "acme_rules.py")
    run(base, "-m", "cti", "contacts", "import", "contacts.csv", "-c", "cti.yaml")
    return base


def test_the_worked_example_of_own_conditions_and_actions_decides_calls(acme_rules: Path) -> None:
    check, explain = (
        shlex.split(line)[1:]
        for line in "".join(blocks("docs/extending.md", "sh")).splitlines()
        if line.startswith(("cti check", "cti explain"))
    )
    run(acme_rules, "-m", "cti", *check)
    near = json.loads(run(acme_rules, "-m", "cti", *explain, "--format", "json"))
    known = [word.replace("040 66969123", "0152 28817386") for word in explain]
    waits = json.loads(run(acme_rules, "-m", "cti", *known, "--format", "json"))
    assert [(each["decision"]["rule"], each["decision"]["agents"]) for each in (near, waits)] == [
        ("branch", ["ben"]),
        ("open orders", ["anna"]),
    ]
    assert near["decision"]["timeout"] == 15
    assert near["own"]["sales/branch"]["value"] == {"dial": {"group": "hamburg"}, "timeout": 15}
    assert waits["own"]["open_orders"]["value"] == 2
    assert "own code  open_orders: 2" in run(acme_rules, "-m", "cti", *known)


def test_the_worked_example_of_own_conditions_and_actions_passes_its_tests(acme_rules: Path) -> None:
    said = run(
        acme_rules, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "test_acme_rules.py"
    )
    assert re.search(r"^3 passed in", said, re.MULTILINE), said


def test_an_argument_that_an_own_action_refuses_is_a_problem_with_its_line(acme_rules: Path) -> None:
    text = (acme_rules / "cti.yaml").read_text(encoding="utf-8")
    (acme_rules / "wrong.yaml").write_text(text.replace("branch: 15", "branch: 3600"), encoding="utf-8")
    line = text.partition("branch: 15")[0].count("\n") + 1
    said = run(acme_rules, "-m", "cti", "check", "-c", "wrong.yaml", code=2)
    assert re.search(
        rf"^wrong.yaml:{line}:\d+: services.sales.rules\[1\].own.branch: seconds to ring would be right",
        said,
        re.MULTILINE,
    ), said


def test_every_kind_of_an_own_condition_is_described() -> None:
    page = text_of("docs/extending.md")
    assert [kind for kind in OWN_KINDS if f"| `{kind}` | " not in page] == []


def test_every_capability_is_described_with_its_method() -> None:
    page = text_of("docs/adapters.md")
    assert [each.value for each in Capability if f"| `{each.value}` |" not in page] == []
    for capability, interface in INTERFACES.items():
        own = {name for name in vars(interface) if not name.startswith("_")} - set(vars(IAdapter))
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{capability.value}` |")]
        assert [name for name in own if f"`{name}" not in row] == []


def commands() -> Iterator[Any]:
    """Every `cti …` that a page tells a person to type."""
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        for block in blocks(name, "sh"):
            for line in block.splitlines():
                for part in re.findall(r"(?:^|\s|\()cti (.+?)(?=\)$|&&|[<|]|$)", line):
                    yield pytest.param(shlex.split(part), id=f"{name}: cti {part.strip()}")


@pytest.mark.parametrize("arguments", list(commands()))
def test_a_command_that_a_page_names_is_one(arguments: list[str]) -> None:
    assert callable(_parser().parse_args(arguments).run)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (heading and heading not in headings(file)):
            broken.append(target)
    assert broken == []


def headings(page: Path) -> set[str]:
    """The anchors of a page, made as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
