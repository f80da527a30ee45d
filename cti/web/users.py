"""What makes a user, and what is shown of one, for the API and the command line alike."""

import re
import unicodedata
from collections.abc import Collection
from typing import Any, Final

from cti.calls.present import iso
from cti.store.records import UserRecord
from cti.web.sessions import USER_ROLES
from cti.web.tokens import AGENT
from routing.words import quoted, unknown

NAME_LIMIT: Final = 64

_NAME: Final = re.compile(r"\w[\w.@+-]*")


def user_name(text: str) -> str:
    """A name as it is kept: people write their own in capitals, too."""
    return unicodedata.normalize("NFKC", text.strip()).lower()


def user_json(user: UserRecord) -> dict[str, Any]:
    """A user without the password."""
    return {
        "name": user.name,
        "role": user.role,
        "agent": user.agent,
        "language": user.language,
        "disabled": user.disabled,
        "created": iso(user.created),
        "changed": iso(user.changed),
    }


def wrong_with_user(name: str, role: str, agent: str | None, agents: Collection[str]) -> str | None:
    """Why there cannot be such a user, and what would be right; None if there can."""
    if not _NAME.fullmatch(name) or len(name) > NAME_LIMIT:
        return f"a user's name has 1 to {NAME_LIMIT} letters, digits and . _ - + @, and begins with a letter or digit"
    if role not in USER_ROLES:
        return unknown("role", role, USER_ROLES)
    if role == AGENT and agent is None:
        return f"user {quoted(name)} has the role agent: whose calls are theirs? The id of an agent would be right"
    if agent is not None and agent not in agents:
        return unknown("agent", agent, agents)
    return None
