"""Whether who answered knew the caller: noted with the end of the call, while it can still be told.

Later nobody can: customers change hands, and old calls are deleted.
"""

from cti.calls.life import LiveCall
from cti.store.base import Unit


def note_acquaintance(unit: Unit, call: LiveCall) -> None:
    """Of an inbound call that is over: was the first agent who talked the owner, or who talked with them last?"""
    record = call.record
    if not call.over or record.direction != "inbound" or record.answered is None:
        return
    answered = [one for one in call.segments if one.answered is not None and one.agent is not None]
    if not answered:
        return
    first = min(answered, key=lambda one: (one.answered, one.number)).agent
    if first is None:
        return
    if first == (record.party or {}).get("owner"):
        unit.put_owner_answered(call.id)
    elif record.from_number is not None:
        unit.put_answered_by(call.id, first, record.from_number, record.started)
