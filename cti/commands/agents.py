"""`cti agents`: the people who answer, in the store; a running server notices what is changed here by itself.

How they stand in a YAML file is told in `agents_file`.
"""

import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve

from cti.agents.roster import Roster
from cti.agents.states import Wish
from cti.calls.present import agent_json
from cti.commands import CommandFailed, WrongConfiguration, WrongUse
from cti.commands.agents_file import AgentEntry, as_yaml, problems_of, read_agents
from cti.commands.configuration import configuration, reading, settings_with, writing
from cti.commands.output import local, say, write_json, write_table
from cti.commands.people import noted, people, roster_of
from cti.settings import Settings, SettingsError
from cti.store.records import AgentRecord
from routing.words import quoted, unknown

People = dict[str, AgentRecord]


def list_agents(arguments: Namespace) -> int:
    settings = configuration(arguments)
    with reading(settings) as reader:
        roster = roster_of(reader, settings)
    views = roster.views()
    if arguments.format == "json":
        write_json(
            {"agents": [agent_json(view) | {"crm": dict(roster.record(view.id).crm)} for view in views]}
        )
        return 0
    write_table(
        ("ID", "NAME", "STATE", "REASON", "SINCE", "PHONES", "GROUPS", "SKILLS", "CRM"),
        [
            (
                view.id,
                view.name,
                view.state,
                view.reason,
                local(view.since),
                " ".join(view.phones),
                " ".join(view.groups),
                " ".join(f"{skill}={level}" for skill, level in view.skills.items()),
                " ".join(f"{name}={user}" for name, user in roster.record(view.id).crm.items()),
            )
            for view in views
        ],
    )
    return 0


def add_agent(arguments: Namespace) -> int:
    entry = AgentEntry(
        arguments.id,
        arguments.name or arguments.id,
        tuple(arguments.phone or ()),
        tuple(arguments.group or ()),
        _crm(arguments.crm or ()),
        arguments.state or Wish.LOGGED_OUT,
        _skills(arguments.skill or ()),
        arguments.concurrency,
    )

    def change(agents: People) -> None:
        if entry.id in agents:
            raise CommandFailed(f"there is an agent {quoted(entry.id)} already; `cti agents set` changes one")
        agents[entry.id] = _merged(entry, None)

    _check_and_change(arguments, entry, change)
    return 0


def set_agent(arguments: Namespace) -> int:
    crm = None if arguments.crm is None else _crm(arguments.crm)
    phones = None if arguments.phone is None else tuple(arguments.phone)
    groups = None if arguments.group is None else tuple(arguments.group)
    skills = None if arguments.skill is None else _skills(arguments.skill)
    state, reason = arguments.state, arguments.reason
    calls = arguments.concurrency
    entry = AgentEntry(arguments.id, arguments.name, phones, groups, crm, None, skills, calls)
    if (entry.name, phones, groups, crm, skills, calls, state) == (None,) * 7:
        raise WrongUse(
            "what is to be set? Say --state, --name, --phone, --group, --skill, --concurrency or --crm"
        )
    if reason is not None and state is None:
        raise WrongUse("--reason is the reason of a --state")

    def change(agents: People) -> None:
        known = _known(entry.id, agents)
        changed = _merged(entry, known)
        agents[entry.id] = changed if state is None else _wished(changed, Wish(state), reason)

    _check_and_change(arguments, entry, change)
    return 0


def remove_agent(arguments: Namespace) -> int:
    def change(agents: People) -> None:
        del agents[_known(arguments.id, agents).id]

    change_people(configuration(arguments), change)
    return 0


def import_agents(arguments: Namespace) -> int:
    file = arguments.file
    settings = configuration(arguments)
    entries = read_agents(Path("/dev/stdin" if file == "-" else file), settings.crms)
    counts = {"added": 0, "updated": 0, "unchanged": 0}

    def change(agents: People) -> None:
        for entry in entries:
            known = agents.get(entry.id)
            merged = _merged(entry, known)
            counts["added" if known is None else "unchanged" if known == merged else "updated"] += 1
            agents[entry.id] = merged

    change_people(settings, change)
    if arguments.format == "json":
        write_json(counts)
    else:
        print(", ".join(f"{count} {word}" for word, count in counts.items()))
    return 0


def export_agents(arguments: Namespace) -> int:
    settings = configuration(arguments)
    with reading(settings) as reader:
        agents = people(reader, settings)
    text = as_yaml(agents)
    if arguments.file == "-":
        sys.stdout.write(text)
        return 0
    try:
        # Who works here and at which phone is not everybody's business.
        with open(os.open(arguments.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as target:
            target.write(text.encode())
    except OSError as error:
        raise CommandFailed(f"{arguments.file} cannot be written: {error.strerror}") from error
    say(f"{len(agents)} agents written to {arguments.file}")
    return 0


def _check_and_change(arguments: Namespace, entry: AgentEntry, change: Callable[[People], None]) -> None:
    settings = configuration(arguments)
    wrong = [text for _, text in problems_of(entry, settings.crms)]
    if wrong:
        raise CommandFailed("; ".join(wrong))
    change_people(settings, change)


def change_people(settings: Settings, change: Callable[[People], None]) -> None:
    """Change the agents in the store, all at once or, where anything is wrong, not at all."""
    with writing(settings) as store:
        stored = {agent.id: agent for agent in store.read.agents()}
        before = {agent.id: agent for agent in people(store.read, settings)}
        after = dict(before)
        change(after)
        # Who is as they were comes first, so that the one who is changed is told of, not the other.
        shared = list(_shared(sorted(after.values(), key=lambda agent: before.get(agent.id) != agent)))
        if shared:
            raise CommandFailed("; ".join(shared))
        _keep_rules_valid(settings, before, after)
        unit = store.unit()
        for id, agent in after.items():
            # A fresh store is seeded here as the server would have done it, since it would not do so any more.
            if stored.get(id) != agent:
                unit.put_agent(agent)
                unit.add_audit(noted("agent.added" if id not in stored else "agent.changed", id))
        for id in stored.keys() - after.keys():
            unit.remove_agent(id)
            unit.add_audit(noted("agent.removed", id))
        store.commit_now(unit)


def _keep_rules_valid(settings: Settings, before: People, after: People) -> None:
    """Refuse what the server could not start with: a rule that names nobody known."""
    if before.keys() <= after.keys() and _groups(before) <= _groups(after):
        return
    try:
        settings_with(settings.path, after.values())
    except SettingsError as error:
        raise CommandFailed(f"the configuration still names who would be gone:\n{error}") from error
    except WrongConfiguration as error:
        raise CommandFailed(str(error)) from error


def _groups(agents: Mapping[str, AgentRecord]) -> set[str]:
    return {group for agent in agents.values() for group in agent.groups}


def _merged(entry: AgentEntry, known: AgentRecord | None) -> AgentRecord:
    """The agent as the entry has it; who is there already keeps their state, and what the entry leaves out."""
    if known is None:
        now = time.time()
        return AgentRecord(
            entry.id,
            entry.name or entry.id,
            list(entry.phones or ()),
            sorted(set(entry.groups or ())),
            dict(entry.crm or {}),
            str(entry.state or Wish.LOGGED_OUT),
            wish_since=now,
            idle_since=now,
            skills=dict(entry.skills or {}),
            concurrency=entry.concurrency or 1,
        )
    said: dict[str, Any] = {}
    if entry.name is not None:
        said["name"] = entry.name
    if entry.phones is not None:
        said["phones"] = list(entry.phones)
    if entry.groups is not None:
        said["groups"] = sorted(set(entry.groups))
    if entry.crm is not None:
        said["crm"] = dict(entry.crm)
    if entry.skills is not None:
        said["skills"] = dict(entry.skills)
    if entry.concurrency is not None:
        said["concurrency"] = entry.concurrency
    return evolve(known, **said)


def _wished(agent: AgentRecord, wish: Wish, reason: str | None) -> AgentRecord:
    roster = Roster(time.time, lambda _: None)
    roster.load([agent])
    return roster.wish(agent.id, wish, reason)


def _known(id: str, agents: People) -> AgentRecord:
    if id not in agents:
        raise CommandFailed(unknown("agent", id, agents))
    return agents[id]


def _shared(agents: Iterable[AgentRecord]) -> Iterable[str]:
    of_user: dict[tuple[str, str], str] = {}
    at_phone: dict[str, str] = {}
    for agent in agents:
        for phone in agent.phones:
            other = at_phone.setdefault(phone, agent.id)
            if other != agent.id:
                yield f"{agent.id}: {quoted(phone)} is the phone of agent {other} already"
        for adapter, user in agent.crm.items():
            other = of_user.setdefault((adapter, user), agent.id)
            if other != agent.id:
                yield f"{agent.id}: user {quoted(user)} of {adapter} is agent {other} already"


def _crm(given: Iterable[str]) -> dict[str, str]:
    crm: dict[str, str] = {}
    for each in given:
        adapter, equals, user = each.partition("=")
        if not equals:
            raise WrongUse(f"--crm {quoted(each)}: write ADAPTER=USER, such as directory=u1")
        if adapter in crm:
            raise WrongUse(f"--crm: {quoted(adapter)} is there more than once")
        crm[adapter] = user
    return crm


def _skills(given: Iterable[str]) -> dict[str, int]:
    skills: dict[str, int] = {}
    for each in given:
        skill, _, level = each.partition("=")
        if not (level.isascii() and level.isdecimal() and len(level) <= 9):
            raise WrongUse(f"--skill {quoted(each)}: write SKILL=LEVEL, such as german=5")
        if skill in skills:
            raise WrongUse(f"--skill: {quoted(skill)} is there more than once")
        skills[skill] = int(level)
    return skills
