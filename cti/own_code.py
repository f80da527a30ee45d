"""Finds the conditions and actions of a company's own that are installed, by entry point.

To list them loads nothing: their code is loaded when a rule names it, and what is broken harms only who uses it.
"""

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from routing.own import Own, OwnCodeError

CONDITIONS: Final = "cordboard.conditions"
ACTIONS: Final = "cordboard.actions"


class _Installed(Mapping[str, Any]):
    """The objects that the entry points of one group name, each with these methods."""

    def __init__(self, group: str, *methods: str) -> None:
        self._points: dict[str, EntryPoint] = {point.name: point for point in entry_points(group=group)}
        self._methods = methods

    def __getitem__(self, name: str) -> Any:
        """Raises `OwnCodeError`, `KeyError` for a name that nobody has."""
        point = self._points[name]
        try:
            loaded = point.load()
        except Exception as error:
            raise OwnCodeError(f"{point.value} cannot be loaded: {type(error).__name__}: {error}") from error
        if isinstance(loaded, type):
            raise OwnCodeError(f"{point.value} is a class; an object made of it would be right")
        for method in self._methods:
            if not callable(getattr(loaded, method, None)):
                raise OwnCodeError(f"{point.value} has no method `{method}`")
        return loaded

    def __contains__(self, name: object) -> bool:
        return name in self._points

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)


def load_own() -> Own:
    """What is installed on this machine."""
    return Own(_Installed(CONDITIONS, "find"), _Installed(ACTIONS, "check", "choose"))
