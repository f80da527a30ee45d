"""SIPp as phones and callers: runs the scenarios of `lab.scenarios` and tells, from SIPp's message trace,
what they saw. Asterisk itself is run by `lab.asterisk`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import define, field

from lab import scenarios
from lab.asterisk import AsteriskInstance
from lab.configuration import StaticPhone
from lab.ports import LOOPBACK, PortBlock, udp_listener_exists
from lab.processes import end, eventually, start, tail
from lab.scenarios import HOOK_METHOD, Behaviour, hook_message
from lab.trace import CallResult, SipMessage, call_results, first_of_each, read_trace

ANONYMOUS = ("Anonymous", "anonymous", "anonymous.invalid")


class SippFailed(RuntimeError):
    """SIPp did not start, or did not end; the message has what it printed."""


@define
class _Sipp:
    """One SIPp process and its files, all called `NAME.…` in `directory`."""

    program: Path
    directory: Path
    name: str
    ports: PortBlock = field(repr=False)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    port: int = field(default=0, init=False)
    _hook_moves: int = field(default=0, init=False, repr=False)

    @property
    def trace_file(self) -> Path:
        return self.directory / f"{self.name}.messages"

    @property
    def output_file(self) -> Path:
        return self.directory / f"{self.name}.output"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, scenario: str, port: int, *more: str | Path) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        scenario_file = self.directory / f"{self.name}.xml"
        # A caller's name may hold bytes that are no UTF-8, which str carries as surrogates.
        scenario_file.write_bytes(scenario.encode("utf-8", "surrogateescape"))
        self.port = port
        control_port = self.ports.take()
        # SIPp takes four from there on, for sound and video and their RTCP, whether wanted or not.
        media_port, *_ = [self.ports.take() for _ in range(4)]
        self.process = start(
            [
                *(self.program, "-sf", scenario_file, "-i", LOOPBACK, "-p", str(port)),
                *("-mi", LOOPBACK, "-mp", str(media_port), "-ci", LOOPBACK, "-cp", str(control_port)),
                *("-nostdin", "-aa", "-trace_msg", "-message_file", self.trace_file),
                *("-trace_err", "-error_file", self.directory / f"{self.name}.errors"),
                *more,
            ],
            output=self.output_file,
            # The trace has local times without a zone.
            environment={**os.environ, "TZ": "UTC", "TERM": "dumb"},
            directory=self.directory,
        )

    def messages(self) -> list[SipMessage]:
        """All messages so far, but for those by which we move the hook."""
        if not self.trace_file.is_file():
            return []
        trace = self.trace_file.read_bytes()
        return [message for message in read_trace(trace) if message.method != HOOK_METHOD]

    def move_hook(self, opening: SipMessage, partner_port: int) -> None:
        self._hook_moves += 1
        message = hook_message(opening, f"{LOOPBACK}:{self.port}", self._hook_moves)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(message, (LOOPBACK, self.port))
            # SIPp 3.6 sends what follows to its partner, 3.8 to whom it heard last: that is passed on.
            sender.settimeout(0.2)
            with suppress(TimeoutError):
                sender.sendto(sender.recv(65535), (LOOPBACK, partner_port))

    def wait_for_listener(self, port: int) -> None:
        try:
            eventually(
                lambda: not self.is_running or udp_listener_exists(port), 10, what=f"SIPp on UDP port {port}"
            )
        except TimeoutError as error:
            self.stop()
            raise SippFailed(f"{error}\n{tail(self.output_file)}") from error
        if not self.is_running:
            raise SippFailed(f"SIPp for {self.name} ended at once\n{tail(self.output_file)}")

    def stop(self) -> None:
        if self.process is not None:
            end(self.process)


@define
class Phone:
    """An agent's phone, `PJSIP/NAME` once its `endpoint` is in the configuration of an Asterisk.

    It keeps what it was sent through all changes of its behaviour.
    """

    name: str
    port: int
    behaviour: Behaviour
    _program: Path = field(repr=False)
    _directory: Path = field(repr=False)
    _ports: PortBlock = field(repr=False)
    _runs: list[_Sipp] = field(factory=list, init=False, repr=False)

    @property
    def endpoint(self) -> StaticPhone:
        """What Asterisk's configuration needs of it."""
        return StaticPhone(self.name, self.port)

    @property
    def invites(self) -> list[SipMessage]:
        """The INVITEs that opened calls to this phone, oldest first, without retransmissions."""
        return [message for message in self.messages if message.opens_a_call and not message.sent]

    @property
    def messages(self) -> list[SipMessage]:
        """All messages that the phone received or sent, oldest first, without retransmissions."""
        return first_of_each(message for run in self._runs for message in run.messages())

    def received(self, method: str) -> list[SipMessage]:
        """The requests of that method that reached it: `phone.received("CANCEL")`."""
        return [message for message in self.messages if not message.sent and message.method == method]

    def answer(self) -> None:
        """Answers the latest call, of a phone that `Answers`. Raises SippFailed if there is none."""
        self._move_hook(self._latest_invite())

    def hang_up(self, timeout: float = 5.0) -> None:
        """Hangs up the latest call, as soon as its answer is acknowledged. Raises SippFailed, TimeoutError."""
        invite = self._latest_invite()

        def talking() -> bool:
            return any(ack.call_id == invite.call_id for ack in self.received("ACK"))

        eventually(talking, timeout, what=f"a conversation at phone {self.name}")
        self._move_hook(invite)

    def _move_hook(self, invite: SipMessage) -> None:
        via = invite.header("Via") or ""
        self._runs[-1].move_hook(invite, int(re.findall(r":(\d+)", via)[0]))

    def _latest_invite(self) -> SipMessage:
        if not self.invites:
            raise SippFailed(f"phone {self.name} has no call")
        return self.invites[-1]

    def start(self) -> None:
        """Starts listening; raises SippFailed when that does not work."""
        run = _Sipp(self._program, self._directory, f"{self.name}-{len(self._runs) + 1}", self._ports)
        self._runs.append(run)
        run.start(scenarios.phone(self.behaviour), self.port)
        run.wait_for_listener(self.port)

    def behave(self, behaviour: Behaviour) -> None:
        """From now on behaves so; calls that it has are dropped without a word, as by a power cut."""
        self.stop()
        self.behaviour = behaviour
        self.start()

    def stop(self) -> None:
        """Goes off the network without a word; does nothing if it is off."""
        if self._runs:
            self._runs[-1].stop()


@define
class Calls:
    """Calls made by one SIPp process: `wait()` for their ends, or look at `results` meanwhile."""

    count: int
    _sipp: _Sipp = field(repr=False)
    _asterisk_port: int = field(repr=False)

    @property
    def results(self) -> list[CallResult]:
        """What is known of the calls so far, in the order they were started."""
        return call_results(self._sipp.messages())

    def wait(self, timeout: float = 30.0) -> list[CallResult]:
        """The results, once all calls are over. Raises SippFailed after `timeout` seconds."""
        process = self._sipp.process
        if process is not None:
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                seen = [result.codes for result in self.results]
                raise SippFailed(
                    f"{self._sipp.name}: not all of {self.count} calls are over after {timeout:.1f} s; "
                    f"statuses so far {seen}"
                ) from None
        results = self.results
        if len(results) != self.count:
            raise SippFailed(
                f"{self._sipp.name}: {len(results)} of {self.count} calls made\n"
                f"{tail(self._sipp.output_file)}"
            )
        return results

    def hang_up(self) -> None:
        """Hangs up the calls that are up, and cancels those not answered yet; `wait()` tells when it is done."""
        for result in self.results:
            if result.ended is None:
                self._sipp.move_hook(result.messages[0], self._asterisk_port)

    def stop(self) -> None:
        """Ends the SIPp process; calls not yet over are dropped without a word."""
        self._sipp.stop()


@define
class Call:
    """One call: as `Calls`, for a single one."""

    _calls: Calls

    @property
    def result(self) -> CallResult:
        """What is known of it so far. Raises SippFailed before the INVITE is sent."""
        results = self._calls.results
        if not results:
            raise SippFailed("the call has not been made yet")
        return results[0]

    def wait(self, timeout: float = 30.0) -> CallResult:
        """The result, once it is over. Raises SippFailed after `timeout` seconds."""
        return self._calls.wait(timeout)[0]

    def wait_for(self, code: int, timeout: float = 10.0) -> CallResult:
        """The result so far, as soon as that status has come (180, 200, …). Raises TimeoutError."""

        def seen() -> CallResult | None:
            results = self._calls.results
            return results[0] if results and code in results[0].codes else None

        result = eventually(seen, timeout, what=f"status {code}")
        assert result is not None
        return result

    def hang_up(self, timeout: float = 5.0) -> CallResult:
        """Hangs up, or cancels if not answered yet, and gives the result."""
        self._calls.hang_up()
        return self.wait(timeout)

    def stop(self) -> None:
        self._calls.stop()


def place_calls(
    instance: AsteriskInstance,
    number: str,
    *,
    program: Path,
    directory: Path,
    name: str,
    ports: PortBlock,
    from_number: str | Sequence[str],
    from_name: str | bytes,
    privacy: bool,
    headers: Mapping[str, str],
    talk_ms: int | None,
    cancel_after_ms: int | None,
    calls: int,
    rate: float,
) -> Calls:
    """Starts `calls` calls to `number` from the trunk, `rate` a second; the rest as told at `Lab.call`."""
    more: list[str | Path] = ["-m", str(calls), "-l", str(calls), "-r", str(rate)]
    display = from_name if isinstance(from_name, str) else from_name.decode("utf-8", "surrogateescape")
    user = from_number if isinstance(from_number, str) else None
    host = instance.host
    if privacy:
        display, user, host = ANONYMOUS
        headers = {"Privacy": "id", **headers}
    if user is None:
        directory.mkdir(parents=True, exist_ok=True)
        numbers = directory / f"{name}.numbers"
        numbers.write_text(scenarios.numbers_as_csv(from_number), "utf-8")
        more += ["-inf", numbers]
    sipp = _Sipp(program, directory, name, ports)
    text = scenarios.caller(
        number,
        display=display,
        user=user,
        host=host,
        headers=headers,
        talk_ms=talk_ms,
        cancel_after_ms=cancel_after_ms,
    )
    sipp.start(text, ports.take(), f"{instance.host}:{instance.sip_port}", *more)
    return Calls(calls, sipp, instance.sip_port)
