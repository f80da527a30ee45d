"""A laboratory for one test or one demo: Asterisks, phones and callers in one directory, all ended on leaving it.

    with Lab(directory) as lab:
        anna = lab.phone("anna", Answers(after_ms=500))
        pbx = lab.asterisk(extensions="[from-trunk]\\nexten => _X.,1,Dial(PJSIP/anna)", phones=[anna])
        result = lab.call(pbx, "493023125001", from_number="015228817386", talk_ms=300).wait()
        assert result.final == 200 and anna.invites[0].from_number == "015228817386"

What the parts can do is told in `lab.asterisk`, `lab.sipp` and `lab.scenarios`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from attrs import define, field

from lab.asterisk import AsteriskInstance
from lab.configuration import TRUNK_HEADER, PbxConfiguration, RegisteringPhone, StaticPhone
from lab.ports import PortBlock
from lab.processes import T, eventually
from lab.scenarios import Answers, Behaviour, Busy, ByNumber, Congested, Declines, Forwards, RingsForever
from lab.sipp import Call, Calls, Handset, Phone, place_calls
from lab.tree import AsteriskTree, LabUnavailable, ensure_asterisk, ensure_sipp

__all__ = [
    "Answers",
    "Busy",
    "ByNumber",
    "Call",
    "Calls",
    "Congested",
    "Declines",
    "Forwards",
    "Handset",
    "Lab",
    "LabUnavailable",
    "Phone",
    "RegisteringPhone",
    "RingsForever",
    "eventually",
]

CALLER = "015228817386"


@define
class Lab:
    """Starts everything below `directory`, and ends it, newest first, when the `with` block ends.

    What was written stays in the directory, for whoever wants to know what happened. The first use on a machine
    may fetch Asterisk and SIPp; LabUnavailable tells where that cannot be done.
    """

    directory: Path
    tree: AsteriskTree = field(factory=ensure_asterisk)
    _sipp: Path = field(factory=ensure_sipp, repr=False)
    _ports: PortBlock = field(factory=PortBlock.claim, init=False, repr=False)
    _started: ExitStack = field(factory=ExitStack, init=False, repr=False)
    _callers: int = field(default=0, init=False)

    def __enter__(self) -> Lab:
        self.directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._started.close()
        finally:
            self._ports.release()

    def asterisk(
        self,
        name: str = "asterisk",
        *,
        extensions: str = "",
        dialplan_files: Sequence[Path] = (),
        manager: str | None = None,
        manager_files: Sequence[Path] = (),
        phones: Sequence[Phone | StaticPhone | RegisteringPhone] = (),
        trunk: Phone | None = None,
        peers: Sequence[AsteriskInstance] = (),
        extra: Mapping[str, str] | None = None,
    ) -> AsteriskInstance:
        """A running Asterisk in `directory/name`; the parameters are those of `PbxConfiguration`.

        `trunk` is who answers when the dialplan dials `PJSIP/NUMBER@trunk`; with each of `peers`, which run already,
        it can call either way, as `PJSIP/NUMBER@peer-NAME`, by the `name` that the other was given here.
        """
        configuration = PbxConfiguration(
            extensions=extensions,
            dialplan_files=dialplan_files,
            manager=manager,
            manager_files=manager_files,
            phones=[phone.endpoint if isinstance(phone, Phone) else phone for phone in phones],
            trunk_port=None if trunk is None else trunk.port,
            extra=extra or {},
        )
        instance = AsteriskInstance(self.tree, self.directory / name, configuration, name)
        self._started.callback(instance.release)
        instance.start()
        for peer in peers:
            instance.join(peer)
        return instance

    def phone(self, name: str, behaviour: Behaviour | None = None) -> Phone:
        """A phone that listens already; it answers at once unless told otherwise."""
        phone = Phone(
            name, self.free_port(), behaviour or Answers(), self._sipp, self.directory / "phones", self._ports
        )
        self._started.callback(phone.stop)
        phone.start()
        return phone

    def call(
        self,
        instance: AsteriskInstance,
        number: str,
        *,
        from_number: str = CALLER,
        from_name: str | bytes = "",
        privacy: bool = False,
        headers: Mapping[str, str] | None = None,
        talk_ms: int | None = None,
        cancel_after_ms: int | None = None,
    ) -> Call:
        """Calls `number` from the trunk, and returns while it goes on.

        `talk_ms` after the answer the caller hangs up; None: it waits for Asterisk to do so, or for
        `Call.hang_up()`. `cancel_after_ms` after the INVITE it gives up unless answered. `privacy` withholds
        name and number (RFC 3323). A `from_name` in bytes goes out as it is, whatever its encoding.
        """
        return Call(
            self.calls(
                instance,
                number,
                count=1,
                # SIPp waits one period of its rate before the first call.
                rate=100,
                from_number=from_number,
                from_name=from_name,
                privacy=privacy,
                headers=headers,
                talk_ms=talk_ms,
                cancel_after_ms=cancel_after_ms,
            )
        )

    def calls(
        self,
        instance: AsteriskInstance,
        number: str,
        *,
        count: int,
        rate: float,
        from_number: str | Sequence[str] = CALLER,
        from_name: str | bytes = "",
        privacy: bool = False,
        headers: Mapping[str, str] | None = None,
        talk_ms: int | None = None,
        cancel_after_ms: int | None = None,
    ) -> Calls:
        """`count` such calls, `rate` a second; `from_number` may be a sequence, used in turn."""
        return self._place(
            "caller",
            instance,
            number,
            from_number=from_number,
            from_name=from_name,
            privacy=privacy,
            headers={TRUNK_HEADER[0]: TRUNK_HEADER[1], **(headers or {})},
            talk_ms=talk_ms,
            cancel_after_ms=cancel_after_ms,
            calls=count,
            rate=rate,
        )

    def dial(
        self,
        phone: Phone,
        instance: AsteriskInstance,
        number: str,
        *,
        headers: Mapping[str, str] | None = None,
        talk_ms: int | None = None,
        cancel_after_ms: int | None = None,
    ) -> Call:
        """Calls `number` from a phone, and returns while it goes on; the rest as told at `call`."""
        return Call(
            self._place(
                f"{phone.name}-dials",
                instance,
                number,
                # By which Asterisk knows the phone.
                from_number=phone.name,
                from_name="",
                privacy=False,
                headers=headers or {},
                talk_ms=talk_ms,
                cancel_after_ms=cancel_after_ms,
                calls=1,
                rate=100,
            )
        )

    def _place(self, who: str, instance: AsteriskInstance, number: str, **how: Any) -> Calls:
        """Calls that end with the lab at the latest; `how` are the further parameters of `place_calls`."""
        self._callers += 1
        calls = place_calls(
            instance,
            number,
            program=self._sipp,
            directory=self.directory / "callers",
            name=f"{who}-{self._callers}",
            ports=self._ports,
            **how,
        )
        self._started.callback(calls.stop)
        return calls

    def free_port(self) -> int:
        """A port of 127.0.0.1 that no other lab will use."""
        return self._ports.take()

    def eventually(self, predicate: Callable[[], T], timeout: float = 5.0, *, what: str = "it") -> T:
        """Asks until the answer is true, and returns it; raises TimeoutError after `timeout` seconds."""
        return eventually(predicate, timeout, what=what)
