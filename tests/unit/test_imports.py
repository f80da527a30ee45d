"""Imports point one way: each room names the only parts of the project that it may know.

Read from the source by ast, so that imports inside functions and under TYPE_CHECKING count as well.
"""

import ast
import configparser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[2]

LEAVES: Final = {"cti.dialling", "cti.logs", "cti.metrics", "cti.numbers", "cti.reactors", "cti.event_types"}
ALL: Final = {"cti", "routing", "adapters"}

# Room → what it may import from the project besides itself and the bare package `cti` (its version).
ROOMS: Final[Mapping[str, set[str]]] = {
    "routing": set(),
    "adapters": {"cti.numbers", "cti.secret", "cti.verified_tls", "cti.yaml_file", "routing.words"},
    "cti.numbers": set(),
    "cti.dialling": {"cti.numbers"},
    "cti.logs": {"cti.numbers"},
    "cti.metrics": set(),
    "cti.reactors": set(),
    "cti.steady_reactor": {"cti.logs"},
    "cti.event_types": set(),
    "cti.journal_text": {"routing.words"},
    "cti.links": set(),
    "cti.spooling": set(),
    "cti.reach": set(),
    "cti.own_code": {"routing.own"},
    "cti.secret": {"routing.words"},
    "cti.certificates": set(),
    "cti.verified_tls": set(),
    "cti.yaml_file": {"routing.problems", "routing.words"},
    "cti.hours": {"cti.yaml_file", "routing.clock", "routing.words"},
    "cti.settings": {
        "routing",
        "cti.agents.desks",
        "cti.asterisk.cdr",
        "cti.certificates",
        "cti.dialling",
        "cti.event_types",
        "cti.hours",
        "cti.identify.lists",
        "cti.identify.options",
        "cti.journal_text",
        "cti.links",
        "cti.numbers",
        "cti.reach",
        "cti.secret",
        "cti.spooling",
        "cti.store.address",
        "cti.yaml_file",
    },
    "cti.store.address": set(),
    # Pure parts of the room below.
    "cti.identify.lists": set(),
    "cti.identify.limits": set(),
    "cti.identify.options": set(),
    "cti.identify.cache": {"adapters", "cti.identify.options"},
    "cti.identify.policy": {"adapters", "cti.identify.identification", "cti.identify.options"},
    "cti.identify": {"adapters", "cti.logs", "cti.numbers", "cti.reactors"},
    "cti.asterisk": {"cti.verified_tls"} | LEAVES,
    "cti.store": {"cti.spooling"} | LEAVES,
    "cti.reports": {"cti.settings", "cti.store.counts"},
    "cti.index": {"adapters"} | LEAVES,
    "cti.phonebook": {"adapters", "cti.index", "cti.secret", "cti.settings"} | LEAVES,
    "cti.agents.desks": {"routing.facts"},
    "cti.agents": {"routing.facts", "cti.store.records", "cti.numbers"},
    "cti.calls": {
        "cti.asterisk",
        "cti.agents",
        "cti.hours",
        "cti.identify",
        "cti.journal_text",
        "cti.links",
        "cti.reach",
        "cti.secret",
        "routing",
        "adapters",
        "cti.store",
        "cti.settings",
    }
    | LEAVES,
    "cti.web": {
        "cti.calls",
        "cti.identify",
        "cti.agents",
        "cti.certificates",
        "cti.links",
        "cti.privacy",
        "cti.reports",
        "routing",
        "adapters",
        "cti.store",
        "cti.settings",
    }
    | LEAVES,
    "cti.privacy.traces": {"cti.numbers"},
    "cti.privacy": {"adapters", "cti.calls", "cti.index", "cti.secret", "cti.settings", "cti.store"} | LEAVES,
    # The entry points plug the rooms together.
    "cti.service": ALL,
    "cti.tap": ALL,
    "cti.cli": ALL,
    "cti.commands": ALL,
    "cti.__main__": {"cti.cli"},
}
OURS: Final = ("cti", "routing", "adapters", "lab", "tests")

# Rooms that are pure may not even name what does I/O, waits or knows the time.
PURE: Final = (
    "routing",
    "cti.numbers",
    "cti.dialling",
    "cti.links",
    "cti.reach",
    "cti.agents.desks",
    "cti.identify.lists",
    "cti.identify.limits",
    "cti.identify.options",
    "cti.identify.cache",
    "cti.identify.policy",
    "cti.privacy.traces",
)
IMPURE: Final = {
    "asyncio",
    "datetime",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "twisted",
}


def violations(root: Path) -> list[str]:
    """Every import below `root` that the tables do not allow, as `file:line: …`."""
    found: list[str] = []
    for package in ("cti", "routing", "adapters"):
        for file in sorted((root / package).rglob("*.py")):
            relative = file.relative_to(root)
            module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
            room = next((room for room in ROOMS if is_in(module, room)), None)
            if module == "cti":
                room = "cti"
            if room is None:
                found.append(f"{relative}:1: {module} is in no room; give it one in ROOMS")
                continue
            for line, name in imports(file, module):
                if not is_allowed(room, name):
                    found.append(f"{relative}:{line}: {room} may not know {name}")
    return found


def imports(file: Path, module: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that the file imports, `from x import y` as `x.y`."""
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def is_in(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def is_allowed(room: str, name: str) -> bool:
    top = name.partition(".")[0]
    if top not in OURS:
        return not (room in PURE and top in IMPURE)
    if is_in(name, room) and room != "cti":
        return True
    # The bare package holds its version and nothing else.
    return name in ("cti", "cti.__version__") or any(
        is_in(name, allowed) for allowed in ROOMS.get(room, set())
    )


def test_imports_point_one_way() -> None:
    assert violations(ROOT) == []


def a_tree(root: Path, files: Mapping[str, str]) -> Path:
    for package in (
        "cti",
        "cti/agents",
        "cti/asterisk",
        "cti/calls",
        "cti/store",
        "cti/web",
        "routing",
        "adapters",
    ):
        (root / package).mkdir(parents=True, exist_ok=True)
        (root / package / "__init__.py").touch()
    for module in ("numbers", "settings", "metrics", "logs", "service", "cli"):
        (root / "cti" / f"{module}.py").touch()
    for name, text in files.items():
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("file", "text", "line", "name"),
    [
        ("cti/asterisk/agi.py", "import cti.calls.inbound\n", 1, "cti.calls.inbound"),
        ("cti/asterisk/agi.py", "from cti import calls\n", 1, "cti.calls"),
        ("cti/asterisk/agi.py", "from cti.settings import Settings\n", 1, "cti.settings.Settings"),
        ("cti/asterisk/agi.py", "from .. import store\n", 1, "cti.store"),
        ("cti/asterisk/__init__.py", "from ..web import events\n", 1, "cti.web.events"),
        (
            "cti/asterisk/agi.py",
            "def f():\n    from cti.agents.roster import Roster\n",
            2,
            "cti.agents.roster.Roster",
        ),
        (
            "cti/calls/inbound.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cti.web.events import Stream\n",
            3,
            "cti.web.events.Stream",
        ),
        ("cti/calls/inbound.py", "from cti.service import make\n", 1, "cti.service.make"),
        ("cti/agents/roster.py", "from routing.decide import decide\n", 1, "routing.decide.decide"),
        ("cti/agents/roster.py", "from cti.store.sqlite import Store\n", 1, "cti.store.sqlite.Store"),
        ("cti/store/sqlite.py", "from routing.facts import Facts\n", 1, "routing.facts.Facts"),
        ("cti/web/api.py", "from cti.asterisk.ami import Ami\n", 1, "cti.asterisk.ami.Ami"),
        ("cti/metrics.py", "import cti.settings\n", 1, "cti.settings"),
        ("cti/settings.py", "import adapters\n", 1, "adapters"),
        ("cti/numbers.py", "from cti import logs\n", 1, "cti.logs"),
        ("cti/__init__.py", "from cti.service import make\n", 1, "cti.service.make"),
        ("adapters/odoo.py", "from cti.settings import Secret\n", 1, "cti.settings.Secret"),
        ("cti/secret.py", "from cti.settings import Settings\n", 1, "cti.settings.Settings"),
        ("cti/yaml_file.py", "from cti.secret import Secret\n", 1, "cti.secret.Secret"),
        ("adapters/odoo.py", "import routing.facts\n", 1, "routing.facts"),
        ("routing/decide.py", "from cti.numbers import NumberPlan\n", 1, "cti.numbers.NumberPlan"),
        ("routing/decide.py", "import time\n", 1, "time"),
        ("routing/decide.py", "from twisted.internet import reactor\n", 1, "twisted.internet.reactor"),
        ("cti/web/api.py", "import lab.asterisk\n", 1, "lab.asterisk"),
        ("cti/calls/inbound.py", "from tests.unit import test_imports\n", 1, "tests.unit.test_imports"),
    ],
)
def test_an_import_against_the_direction_is_found(
    tmp_path: Path, file: str, text: str, line: int, name: str
) -> None:
    (found,) = violations(a_tree(tmp_path, {file: text}))
    assert found.startswith(f"{file}:{line}: ")
    assert found.endswith(f" may not know {name}")


def test_imports_along_the_direction_are_no_violation(tmp_path: Path) -> None:
    files = {
        "cti/web/api.py": "import cti\nfrom cti import __version__\nfrom cti.calls import inbound\n",
        "cti/calls/inbound.py": "from . import tracker\nfrom routing.decide import decide\nimport adapters.base\n",
        "cti/calls/tracker.py": "from ..store.base import IStore\nfrom twisted.internet import defer\n",
        "cti/agents/roster.py": "from routing.facts import AgentFacts\nfrom cti.store.records import AgentRecord\n",
        "cti/service.py": "from cti.asterisk import agi\nfrom cti.web import api\nimport adapters.base\n",
        "adapters/directory.py": "from cti.numbers import Number\nfrom adapters.base import Party\nimport sqlite3\n",
        "adapters/odoo.py": "from cti.secret import Secret\n",
        "routing/decide.py": "from routing.facts import Facts\nimport json\n",
    }
    assert violations(a_tree(tmp_path, files)) == []


def test_a_module_outside_all_rooms_is_found(tmp_path: Path) -> None:
    (found,) = violations(a_tree(tmp_path, {"cti/helpers.py": ""}))
    assert "cti.helpers is in no room" in found


def test_every_package_is_installed() -> None:
    """An editable install finds them all the same, and only users would miss one."""
    listed = configparser.ConfigParser()
    listed.read(ROOT / "setup.cfg", encoding="utf-8")
    there = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for room in ("cti", "routing", "adapters")
        for file in (ROOT / room).rglob("__init__.py")
    }
    assert there <= set(listed["options"]["packages"].split())
