"""A Pbx on a real Asterisk for a test that waits: reactor, AMI and mirror in a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.threads import blockingCallFromThread

from cti.asterisk.ami import AmiClient
from cti.asterisk.ami_parser import Event
from cti.asterisk.channels import AWAITED, MIRRORED, Channel, Channels
from cti.asterisk.pbx import Pbx
from lab.asterisk import AsteriskInstance
from lab.processes import eventually

_T = TypeVar("_T")


class Control:
    """`do` runs one of Pbx's methods and gives what it gives, or raises what it raises."""

    def __init__(self, pbx: AsteriskInstance, *, capable: Callable[[str], bool] | None = None) -> None:
        self._reactor: Any = EPollReactor()  # type: ignore[no-untyped-call]
        self.channels = Channels(self._reactor)
        self.events: list[Event] = []
        self._in_step = threading.Event()
        self.ami = AmiClient(
            self._reactor,
            pbx.host,
            pbx.ami_port,
            pbx.ami_username,
            pbx.ami_secret,
            on_event=self._on_event,
            on_up=self._on_up,
            on_down=lambda reason: self.channels.forget_all(),
            wanted=MIRRORED | AWAITED,
            jitter=lambda: 0.0,
        )
        self.pbx = Pbx("main", self.ami, self.channels, self._reactor, capable=capable)
        self._thread = threading.Thread(
            target=self._reactor.run, kwargs={"installSignalHandlers": False}, daemon=True
        )

    async def _on_up(self) -> None:
        listed = await self.ami.list_action("CoreShowChannels", complete="CoreShowChannelsComplete")
        self.channels.replace(listed)
        self._in_step.set()

    def _on_event(self, event: Event) -> None:
        self.events.append(event)
        self.channels.take(event)
        self.channels.tell()

    def __enter__(self) -> Control:
        self._thread.start()
        self.ask(self.ami.startService)
        assert self._in_step.wait(10), "no log-in at Asterisk's manager, or no list of its channels"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            blockingCallFromThread(self._reactor, self.ami.stopService)  # type: ignore[no-untyped-call]
        finally:
            self._reactor.callFromThread(self._reactor.stop)
            self._thread.join(10)

    def ask(self, question: Callable[[], _T]) -> _T:
        """Call it in the reactor's thread, where nothing changes meanwhile."""
        answer: _T = blockingCallFromThread(self._reactor, question)  # type: ignore[no-untyped-call]
        return answer

    def do(self, operation: str, *arguments: Any, **more: Any) -> Any:
        return self.start(operation, *arguments, **more)()

    def start(self, operation: str, *arguments: Any, **more: Any) -> Callable[[], Any]:
        """Begin an operation; what it returns waits for its end."""
        done = threading.Event()
        outcome: list[Any] = []

        def begin() -> None:
            def end(result: Any) -> None:
                outcome.append(result)
                done.set()

            Deferred.fromCoroutine(getattr(self.pbx, operation)(*arguments, **more)).addBoth(end)

        def wait() -> Any:
            assert done.wait(60), f"{operation} neither did its work nor failed"
            (result,) = outcome
            if hasattr(result, "raiseException"):
                result.raiseException()
            return result

        self._reactor.callFromThread(begin)
        return wait

    def phones(self, device: str) -> list[Channel]:
        """The channels of a device, oldest first."""
        return self.ask(lambda: self.channels.of_device(device))

    def phone(self, device: str, *, up: bool | None = None) -> str:
        """The uniqueid of a device's only channel, once it is there (and up, or rung by somebody)."""

        def there() -> str | None:
            found = self.phones(device)
            if len(found) != 1 or (up is not None and found[0].up != up):
                return None
            if up is False and found[0].state != "Ringing":
                return None
            return found[0].uniqueid

        uniqueid = eventually(there, 10, what=f"one channel of {device}")
        assert uniqueid is not None
        return uniqueid

    def together(self, *uniqueids: str) -> bool:
        """Whether these phones and lines, and no others, hear each other.

        Directly or through Local channels, which go away only once there is sound.
        """
        return self.ask(lambda: self._hear_each_other(uniqueids[0])) == set(uniqueids)

    def _hear_each_other(self, uniqueid: str) -> set[str]:
        found: set[str] = set()
        ahead = [uniqueid]
        while ahead:
            channel = self.channels.get(ahead.pop())
            if channel is not None and channel.uniqueid not in found:
                found.add(channel.uniqueid)
                ahead += [partner.uniqueid for partner in self.channels.partners(channel.uniqueid)]
                ahead += [channel.other_half] if channel.other_half else []
        names = {uniqueid: self.channels.get(uniqueid) for uniqueid in found}
        return {uniqueid for uniqueid, channel in names.items() if channel and channel.other_half is None}
