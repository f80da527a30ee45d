"""Agents as YAML, in the shape of the configuration's `agents`: read with every problem's place, and written.

What is done with them is left to `agents`.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import yaml
from attrs import frozen

from cti.commands import CommandFailed
from cti.settings import MAX_FILE, MAX_TEXT, SEED_STATES
from cti.store.records import AgentRecord
from routing.facts import is_phone
from routing.words import quoted, unknown

_KEYS: Final = ("name", "phones", "groups", "crm", "state")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NAME_IS: Final = "up to 64 letters, digits and _.- would be right"
_MAX_LISTED: Final = 100


@frozen
class AgentEntry:
    """What somebody says of an agent; None is not said. `state` counts for who is new."""

    id: str
    name: str | None = None
    phones: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    crm: Mapping[str, str] | None = None
    state: str | None = None


def problems_of(entries: Iterable[AgentEntry], adapters: Collection[str]) -> Iterator[str]:
    """All that is wrong with these, as sentences."""
    for entry in entries:
        who = quoted(entry.id)
        if not _NAME.fullmatch(entry.id):
            yield f"{who} cannot be an agent's id; {_NAME_IS}"
        if entry.name is not None and not _is_line(entry.name):
            yield f"{who}: the name is not one line of 1 to {MAX_TEXT} printable characters"
        for phone in entry.phones or ():
            if not is_phone(phone):
                yield f"{who}: {quoted(phone)} is no phone; TECH/resource would be right, such as PJSIP/anna"
        for group in entry.groups or ():
            if not _NAME.fullmatch(group):
                yield f"{who}: {quoted(group)} cannot be a group's name; {_NAME_IS}"
        for adapter, user in (entry.crm or {}).items():
            if adapter not in adapters:
                yield f"{who}: {unknown('adapter', adapter, adapters)}"
            elif not _is_line(user):
                yield f"{who}: the user of {adapter} is not one line of 1 to {MAX_TEXT} printable characters"
        if entry.state is not None and entry.state not in SEED_STATES:
            yield f"{who}: {unknown('state', entry.state, SEED_STATES)}"


def as_yaml(agents: Iterable[AgentRecord]) -> str:
    """The agents as `read_agents` takes them, and the configuration, too."""
    listed = {
        agent.id: {
            "name": agent.name,
            "phones": list(agent.phones),
            "groups": list(agent.groups),
            "crm": dict(agent.crm),
            "state": agent.wish,
        }
        for agent in agents
    }
    text: str = yaml.safe_dump(
        {"agents": listed}, allow_unicode=True, sort_keys=False, default_flow_style=None, width=1000
    )
    return text


def read_agents(source: Path | BinaryIO) -> list[AgentEntry]:
    """The entries below `agents`. Raises `CommandFailed` with a line for each problem of the file's shape."""
    name = str(source) if isinstance(source, Path) else "standard input"
    try:
        if isinstance(source, Path):
            with source.open("rb") as stream:
                data = stream.read(MAX_FILE + 1)
        else:
            data = source.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise CommandFailed(f"{name} has more than {MAX_FILE} bytes")
        root = yaml.compose(data.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise CommandFailed(f"{name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{name} is not UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark is not None else name
        raise CommandFailed(f"{where}: is not YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise CommandFailed(f"{name} is not YAML that can be read") from error
    return _File(name).agents(root)


class _File:
    def __init__(self, name: str) -> None:
        self._name = name
        self._problems: list[str] = []

    def agents(self, root: yaml.Node | None) -> list[AgentEntry]:
        found: list[AgentEntry] = []
        if root is None:
            raise CommandFailed(
                f"{self._name} is empty; `agents: {{anna: {{phones: [PJSIP/anna]}}}}` would be right"
            )
        for _, agents in self._entries(root, ("agents",)):
            found += [self._agent(id, each) for id, each in self._entries(agents, None)]
        if self._problems:
            raise CommandFailed("\n".join(self._problems))
        return found

    def _agent(self, id: str, node: yaml.Node) -> AgentEntry:
        read: Mapping[str, Callable[[yaml.Node], Any]] = {
            "name": self._text,
            "phones": self._texts,
            "groups": self._texts,
            "crm": lambda crm: {adapter: self._text(user) for adapter, user in self._entries(crm, None)},
            "state": self._text,
        }
        return AgentEntry(id, **{key: read[key](value) for key, value in self._entries(node, _KEYS)})

    def _entries(self, node: yaml.Node, known: Collection[str] | None) -> Iterator[tuple[str, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, "a mapping would be right here")
            return
        seen: set[str] = set()
        for key_node, value in node.value:
            key = self._text(key_node)
            if key in seen:
                self._wrong(key_node, f"{quoted(key)} is there twice")
            elif known is not None and key not in known:
                self._wrong(key_node, unknown("key", key, known))
            else:
                seen.add(key)
                yield key, value

    def _texts(self, node: yaml.Node) -> tuple[str, ...]:
        if not isinstance(node, yaml.SequenceNode) or len(node.value) > _MAX_LISTED:
            self._wrong(node, f"a list of at most {_MAX_LISTED} would be right here")
            return ()
        return tuple(self._text(each) for each in node.value)

    def _text(self, node: yaml.Node) -> str:
        # A user id of digits is no number to us, in quotes or not.
        if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null":
            self._wrong(node, "a text would be right here")
            return ""
        return str(node.value)

    def _wrong(self, node: yaml.Node, text: str) -> None:
        mark = node.start_mark
        self._problems.append(f"{self._name}:{mark.line + 1}:{mark.column + 1}: {text}")


def _is_line(text: str) -> bool:
    return text.strip() != "" and len(text) <= MAX_TEXT and text.isprintable()
