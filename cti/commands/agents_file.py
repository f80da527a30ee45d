"""What is said of agents, on the command line or in a YAML file in the shape of the configuration's `agents`.

What is done with it is left to `agents`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import yaml
from attrs import frozen

from cti.commands import CommandFailed
from cti.settings import AGENT_KEYS, MAX_CONCURRENCY, SEED_STATES, skills_of
from cti.store.records import AgentRecord
from cti.yaml_file import MAX_TEXT, NAME_IS, Place, YamlFile, is_name
from routing.facts import SKILL_LEVELS, is_phone
from routing.words import quoted, unknown

_EXAMPLE: Final = "{anna: {name: Anna, phones: [PJSIP/anna], groups: [sales]}}"


@frozen
class AgentEntry:
    """What somebody says of an agent; None is not said. `state` counts for who is new."""

    id: str
    name: str | None = None
    phones: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    crm: Mapping[str, str] | None = None
    state: str | None = None
    skills: Mapping[str, int] | None = None
    concurrency: int | None = None


def problems_of(entry: AgentEntry, adapters: Collection[str]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """All that is wrong with the values of an entry: by which keys it is found in a file, and a sentence."""
    if not is_name(entry.id):
        yield (), f"{quoted(entry.id)} cannot be an agent's id; {NAME_IS}"
    if entry.name is not None and not _is_line(entry.name):
        yield ("name",), f"a name of 1 to {MAX_TEXT} printable characters would be right"
    for index, phone in enumerate(entry.phones or ()):
        if not is_phone(phone):
            text = f"{quoted(phone)} is no phone; TECH/resource would be right, such as PJSIP/anna"
            yield ("phones", index), text
    for index, group in enumerate(entry.groups or ()):
        if not is_name(group):
            yield ("groups", index), f"{quoted(group)} is no group; {NAME_IS}"
    for adapter, user in (entry.crm or {}).items():
        if adapter not in adapters:
            yield ("crm", adapter), unknown("adapter", adapter, adapters)
        elif not _is_line(user):
            yield ("crm", adapter), f"a user id of 1 to {MAX_TEXT} printable characters would be right"
    for skill, level in (entry.skills or {}).items():
        if not is_name(skill):
            yield ("skills", skill), f"{quoted(skill)} is no skill; {NAME_IS}"
        elif level not in SKILL_LEVELS:
            lowest, highest = SKILL_LEVELS[0], SKILL_LEVELS[-1]
            text = (
                f"{level} is no level of the skill {skill}; {lowest} to {highest}, the best, would be right"
            )
            yield ("skills", skill), text
    if entry.concurrency is not None and not 1 <= entry.concurrency <= MAX_CONCURRENCY:
        text = f"{entry.concurrency} calls at once are out of range; 1 to {MAX_CONCURRENCY} would be right"
        yield ("concurrency",), text
    if entry.state is not None and entry.state not in SEED_STATES:
        yield ("state",), unknown("state", entry.state, SEED_STATES)


def read_agents(path: Path, adapters: Collection[str]) -> list[AgentEntry]:
    """The entries of a file. Raises `CommandFailed` with a line for each problem in it."""
    file = YamlFile(path)
    entries = []
    listed = file.section(file.open(), ("agents",)).need("agents", _EXAMPLE)
    for id, place in file.named(listed):
        before = len(file.problems)
        entry = _entry(file, id, place)
        if len(file.problems) == before:
            for keys, text in problems_of(entry, adapters):
                file.wrong_below(place, keys, text, of_key=False)
        entries.append(entry)
    if file.problems:
        raise CommandFailed("nothing was taken:\n" + "\n".join(map(str, sorted(set(file.problems)))))
    return entries


def as_yaml(agents: Iterable[AgentRecord]) -> str:
    """The agents as `read_agents` takes them, and the configuration, too."""
    listed = {
        agent.id: {
            "name": agent.name,
            "phones": list(agent.phones),
            "groups": list(agent.groups),
            "skills": dict(agent.skills),
            **({} if agent.concurrency == 1 else {"concurrency": agent.concurrency}),
            "crm": dict(agent.crm),
            "state": agent.wish,
        }
        for agent in agents
    }
    text: str = yaml.safe_dump(
        {"agents": listed}, allow_unicode=True, sort_keys=False, default_flow_style=None, width=1000
    )
    return text


def _entry(file: YamlFile, id: str, place: Place) -> AgentEntry:
    section = file.section(place, AGENT_KEYS)
    crm, skills, calls = section.get("crm"), section.get("skills"), section.get("concurrency")
    return AgentEntry(
        id,
        file.text(section.get("name"), one_line=True),
        _texts(file, section.get("phones"), "[PJSIP/anna]"),
        _texts(file, section.get("groups"), "[sales]"),
        None if crm is None else {name: file.text(user) or "" for name, user in file.named(crm)},
        file.text(section.get("state")),
        None if skills is None else skills_of(file, skills),
        None if calls is None else file.whole(calls, 1, 1, MAX_CONCURRENCY),
    )


def _texts(file: YamlFile, place: Place | None, example: str) -> tuple[str, ...] | None:
    if place is None:
        return None
    return tuple(file.text(each, one_line=True) or "" for each in file.items(place, example))


def _is_line(text: str) -> bool:
    return text.strip() != "" and len(text) <= MAX_TEXT and text.isprintable()
