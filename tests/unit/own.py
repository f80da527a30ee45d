"""A company's own conditions and actions as tests need them, and a clock that threads hand their results to."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any

from attrs import define, field, frozen
from twisted.internet.task import Clock

from routing.facts import Facts

#: Longer than any thread takes that does not hang; whoever waits so long has failed.
PATIENCE = 20


class ThreadedClock(Clock):
    """A clock that tests advance, and `take` what threads have handed over."""

    def __init__(self) -> None:
        super().__init__()
        self._handed: SimpleQueue[Callable[[], Any]] = SimpleQueue()

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._handed.put(partial(call, *arguments))

    def take(self, times: int = 1) -> None:
        """Wait for what threads hand over, and call it."""
        for _ in range(times):
            self._handed.get(timeout=PATIENCE)()


@define
class Finds:
    """A condition: what it says, or raises, is the test's to set; with `held`, it hangs until that is set."""

    kind: str = "number"
    says: Any = None
    words: tuple[str, ...] = ()
    held: Event | None = None
    asked: list[Facts] = field(factory=list)

    def find(self, facts: Facts) -> object:
        self.asked.append(facts)
        if self.held is not None:
            assert self.held.wait(PATIENCE)
        if isinstance(self.says, BaseException):
            raise self.says
        return self.says


@define
class Chooses:
    """An action whose argument is a number of metres."""

    says: Any = None
    asked: list[tuple[Facts, Any]] = field(factory=list)

    def check(self, argument: Any) -> None:
        if not isinstance(argument, int):
            raise ValueError("a number of metres would be right, such as 20")

    def choose(self, facts: Facts, argument: Any) -> Mapping[str, Any] | None:
        self.asked.append((facts, argument))
        if isinstance(self.says, BaseException):
            raise self.says
        answer: Mapping[str, Any] | None = self.says
        return answer


@frozen
class Careless:
    """An action that does not expect every argument."""

    def check(self, argument: Any) -> None:
        argument["metres"]

    def choose(self, _facts: Facts, _argument: Any) -> None:
        return None


# What entry points of tests name.
open_tickets = Finds(says=4)
colours = Finds("colour")
nearest = Chooses({"dial": {"agent": "anna"}, "timeout": 7})


def install(directory: Path, points: str) -> None:
    """As if a distribution with these entry points had been installed there."""
    information = directory / "acme_rules-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-rules\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(points)
