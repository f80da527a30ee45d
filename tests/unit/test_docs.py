"""The documents say what the code does: snippets load and run, tables are complete, links lead somewhere."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
import yaml
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from adapters.base import AdapterUnavailable, IAdapter, Party, load_adapter_kinds
from cti import settings
from cti.calls.webhook import signature, signing_key
from cti.cli import _parser
from cti.event_types import EVENT_TYPES
from cti.identify.identification import Outcome
from cti.identify.identifier import Identifier
from cti.metrics import Metrics
from cti.numbers import NumberPlan
from cti.web.api import ROUTES
from cti.web.call_control import PROBLEMS
from cti.web.tokens import ROLES
from routing.rules import FACTS, Service

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
        "identify": settings.Identify,
        "reservation": settings.Reservation,
        "call_control": settings.CallControl,
        "log": settings.Log,
    }
    missing = [
        f"{part}.{each.name}"
        for part, described in parts.items()
        for each in attrs.fields(described)
        if not (part.endswith(".NAME") and each.name == "name") and each.name not in ("id", "dialling")
        if f"| `{part}.{each.name}` |" not in page
    ]
    assert missing == []


def test_every_fact_of_rules_is_described_with_its_kind() -> None:
    page = text_of("docs/configuration.md")
    assert [name for name, fact in FACTS.items() if f"| `{name}` | {fact.kind} |" not in page] == []


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


def done(work: Any) -> Any:
    """What a coroutine gives that waits for nothing."""
    results: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(results.append)
    (result,) = results
    return result


def the_example_adapter(base: Path) -> Any:
    (example,) = blocks("docs/adapters.md", "python")
    names: dict[str, Any] = {}
    exec(example, names)
    kind = names["Phonebook"]
    return kind("book", kind.options_class(), base, NumberPlan("DE"))


def test_the_example_of_an_adapter_identifies_who_is_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "phonebook.txt").write_text("0152 / 288 17 386\tKatrin Öhlmann\n", encoding="utf-8")
    adapter = the_example_adapter(tmp_path)
    assert isinstance(adapter, IAdapter)
    done(adapter.start())
    plan = NumberPlan("DE")
    identifier = Identifier({"book": adapter}, Clock(), owners=lambda _adapter, _user: None, plan=plan)

    found = done(identifier.identify(plan.parse("0049 152 28817386")))
    nobody = done(identifier.identify(plan.parse("+44 20 7946 0018")))

    assert found.parties == (Party("book", "contact", "+4915228817386", "Katrin Öhlmann"),)
    assert [each.outcome for each in nobody.adapters] == [Outcome.MISS]
    assert done(adapter.health()).up
    done(adapter.stop())


def test_the_example_of_an_adapter_fails_by_name_without_its_file(tmp_path: Path) -> None:
    failure = done(the_example_adapter(tmp_path).start())
    assert failure.check(AdapterUnavailable)


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
