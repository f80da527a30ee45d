"""The agents as a command finds them in the store, or as the configuration will make them in a fresh one.

And who typed the command, for the audit.
"""

import getpass
import os
import time
from collections.abc import Mapping, Sequence

from cti.agents.roster import Roster
from cti.settings import Settings
from cti.store.queries import Reader
from cti.store.records import AgentRecord, AuditRecord, Json


def people(reader: Reader | None, settings: Settings) -> Sequence[AgentRecord]:
    """The agents by id: those of the store; of the configuration, if the store has none yet."""
    stored = reader.agents() if reader is not None else ()
    if stored or not settings.agents:
        return stored
    from cti.service import seeds  # Half a second, which most commands can do without.

    return sorted(seeds(settings, time.time()), key=lambda agent: agent.id)


def phones_of(reader: Reader | None, settings: Settings) -> Mapping[str, Sequence[str]]:
    """The phones of each agent, of those that `people` gives."""
    stored = reader.agents() if reader is not None else ()
    if stored:
        return {agent.id: tuple(agent.phones) for agent in stored}
    return {agent.id: agent.phones for agent in settings.agents.values()}


def roster_of(reader: Reader | None, settings: Settings) -> Roster:
    """Who is there and in a call, as far as the store tells: of their phones only the server knows."""
    now = time.time()
    roster = Roster(lambda: now, lambda _: None)
    roster.load(people(reader, settings))
    for reservation in reader.reservations() if reader is not None else ():
        if reservation.expires > now:
            roster.restore(reservation)
    for wrap_up in reader.wrap_ups() if reader is not None else ():
        if wrap_up.until > now:
            roster.restore_wrap_up(wrap_up.agent, wrap_up.call, wrap_up.until)
    return roster


def noted(action: str, object: str | None, detail: Json | None = None) -> AuditRecord:
    """What is written down of a change by who typed this command, as the system knows them."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        who = str(os.getuid())
    return AuditRecord(time.time(), who, "command", action, object, detail)
