"""The phones at which anybody may sit who has none of their own there: which they are, told by their names."""

from fnmatch import fnmatchcase

from attrs import frozen

from routing.facts import is_phone


def is_desk_pattern(text: str) -> bool:
    """Whether `text` names a desk's phone, such as `PJSIP/desk-7`, or with `*` several, such as `PJSIP/desk-*`."""
    technology, _, name = text.partition("/")
    return "*" not in technology and not name.startswith("*") and _is_desk(text.replace("*", "0"))


def _is_desk(phone: str) -> bool:
    # What has an @ leads to somewhere else, and `PJSIP/*` would take lines to providers along.
    return "@" not in phone and is_phone(phone)


@frozen
class Desks:
    """The phones that these patterns name."""

    patterns: tuple[str, ...] = ()

    def __contains__(self, phone: str) -> bool:
        return _is_desk(phone) and any(fnmatchcase(phone, each) for each in self.patterns)
