"""What a role does not get to see of a customer, taken out of everything on its way to somebody of that role.

Done where answers and events leave, and so for whatever a handler puts into them. What a handler itself does with
what it knows, such as dialling a number that is not shown, is not touched; nor are webhooks, which have no role.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

import orjson

#: What of a party can be hidden, and the keys that hold it.
PARTY_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "name": ("name",),
    "company": ("company", "organisation"),
    "url": ("url",),
    "owner": ("owner", "owner_user"),
    "tier": ("tier",),
    "language": ("language",),
    "tags": ("tags",),
    "cases": ("cases",),
    "last_contacts": ("last_contacts",),
    "notes": ("notes", "written_notes"),
    "appointments": ("appointments",),
    "tasks": ("tasks",),
    "balance": ("balance", "dunning"),
    "links": ("links",),
}
#: The customer's telephone number, wherever it stands.
NUMBER: Final = "number"

_HERE: Final = ("number", "numbers", "e164", "display", "raw", "target")
_FROM: Final = ("from", "from_raw")
_TO: Final = ("to", "to_raw")
#: A call says which of its numbers is the customer's; what does not say it may be either.
_ENDS: Final[Mapping[object, tuple[str, ...]]] = {"inbound": _FROM, "outbound": _TO, "internal": ()}
#: Of these, who reads them knows that there may be none; the others are always texts.
_MAY_BE_NULL: Final = (
    "from",
    "to",
    "e164",
    "url",
    "owner",
    "owner_user",
    "tier",
    "language",
    "organisation",
    "balance",
    "dunning",
)
#: What was decided from: values of all fields, some of them inside of sentences.
_GROUNDS: Final = ("facts", "own", "trace", "steps")
#: Says, beside the rule that decided, whose owner an agent is.
_OF_OWNER: Final = ("reason",)


class Masking:
    """`hidden`: role → what it does not see: of `PARTY_FIELDS`, and `NUMBER`."""

    def __init__(self, hidden: Mapping[str, Collection[str]] | None = None) -> None:
        self._party = {
            role: frozenset(key for field in fields for key in PARTY_FIELDS.get(field, ()))
            for role, fields in (hidden or {}).items()
            if fields
        }
        self._numbers = {role for role, fields in (hidden or {}).items() if NUMBER in fields}
        self._fields = {role: frozenset(fields) for role, fields in (hidden or {}).items()}

    def hides(self, role: str) -> bool:
        """Whether there is anything that this role does not see."""
        return role in self._party

    def masked(self, role: str, body: bytes) -> bytes:
        """A JSON document as this role sees it."""
        if not self.hides(role):
            return body
        return orjson.dumps(self._seen(orjson.loads(body), role))

    def _seen(self, value: Any, role: str) -> Any:
        if isinstance(value, list):
            # A link tells, in its address, what it passes on.
            return [
                self._seen(each, role)
                for each in value
                if not (isinstance(each, dict) and self._fields[role].intersection(each.get("with") or ()))
            ]
        if not isinstance(value, dict):
            return value
        party, numbers = self._party[role], role in self._numbers
        gone = {
            *_GROUNDS,
            *(party if "adapter" in value and "id" in value else ()),
            *(_OF_OWNER if "rule" in value and "owner" in party else ()),
        }
        of_numbers = {*_HERE, *_ENDS.get(value.get("direction"), (*_FROM, *_TO))} if numbers else set()
        return {
            key: _nothing(key, each)
            if key in gone or (key in of_numbers and not _has_keys(each))
            else self._seen(each, role)
            for key, each in value.items()
        }


def _has_keys(value: Any) -> bool:
    """Whether keys below say what each is: `display: {from: …}`, a list of numbers with their forms."""
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(each, dict) for each in value)
    )


def _nothing(key: str, value: Any) -> Any:
    """Nothing, of the kind that stands there; what counts something (a segment's `number`) stays."""
    if isinstance(value, str):
        return None if key in _MAY_BE_NULL else ""
    return type(value)() if isinstance(value, list | dict) else value
