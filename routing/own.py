"""Conditions and actions of a company's own, as their authors write them.

Whatever they open or wait for, nobody here calls `find` or `choose`: whoever gathers the facts does so before the
decision, which only reads what was said.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from attrs import field, frozen

from routing.facts import Facts


class ICondition(Protocol):
    """A fact of a company's own, `own.NAME` in rules.

    With an attribute `words`, those are the only texts that it can be.
    """

    @property
    def kind(self) -> str:
        """Which tests rules may make of it: `presence`, `text`, `list`, `number` or `amount`."""

    def find(self, facts: Facts, /) -> object:
        """What the fact is for this call, None for nothing. Called in a thread, also in several at once.

        `presence`: True or False. `text`: up to 200 printable characters on one line. `list`: up to 100 such texts.
        `number`: whole. `amount`: whole or not. Whatever it raises counts as nothing said.
        """


class IAction(Protocol):
    """Where a call goes, by a company's own choice; `own: {NAME: ARGUMENT}` in rules."""

    def check(self, argument: Any, /) -> object:
        """Raise `ValueError`, with what would be right, for an argument that `choose` could do nothing with.

        Called when the file is read; `argument` is what stands there.
        """

    def choose(self, facts: Facts, argument: Any, /) -> Mapping[str, Any] | None:
        """Where to, in the words of a rule, such as `{"dial": {"group": "sales"}, "timeout": 15}`.

        None leaves the call to the next rule. Called in a thread, also in several at once.
        """


class OwnCodeError(ValueError):
    """A condition or action that is there, but cannot be used; the text says why."""


@frozen
class Own:
    """What is there, by name. Taking one may load it, and raises `OwnCodeError` for one that cannot be used."""

    conditions: Mapping[str, ICondition] = field(factory=dict)
    actions: Mapping[str, IAction] = field(factory=dict)


#: Where there is none.
NOTHING: Final = Own()
