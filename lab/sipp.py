"""Phones and callers: SIPp on the scenarios of `lab.scenarios`, what its calls do on order, and what they saw.

The process is run by `lab.sipp_process`, Asterisk itself by `lab.asterisk`."""

from __future__ import annotations

import re
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from attrs import define, field, frozen

from lab import scenarios
from lab.asterisk import AsteriskInstance
from lab.configuration import StaticPhone
from lab.ports import LOOPBACK, PortBlock
from lab.processes import T, eventually, tail
from lab.scenarios import Behaviour
from lab.sipp_process import SippFailed, SippProcess
from lab.trace import CallResult, SipMessage, call_results, first_of_each

__all__ = ["Call", "Calls", "Handset", "Leg", "Phone", "SippFailed", "place_calls"]

ANONYMOUS = ("Anonymous", "anonymous", "anonymous.invalid")


class Handset(ABC):
    """What a person does with a call at one end of it.

    Each returns when Asterisk has agreed. All raise SippFailed if there is no such call or Asterisk refuses, and
    TimeoutError.
    """

    @property
    @abstractmethod
    def leg(self) -> Leg:
        """The call that is meant."""

    def hold(self, timeout: float = 5.0) -> None:
        """Holds the call, by a re-INVITE with `sendonly`."""
        self.leg.ask("hold", "INVITE", timeout)

    def retrieve(self, timeout: float = 5.0) -> None:
        """Takes it back from hold."""
        self.leg.ask("talk", "INVITE", timeout)

    def transfer(self, to: str, timeout: float = 5.0) -> None:
        """Passes the other side on to a number, without asking anybody there: a blind transfer.

        Hangs up as soon as it rings there, as most phones do.
        """
        leg = self.leg
        leg.refer(f"<sip:{to}@{LOOPBACK}:{leg.partner_port}>", timeout)

    def transfer_to(self, other: Handset, timeout: float = 5.0) -> None:
        """Joins the other side with that of another call of this phone: an attended transfer.

        If the other call only rings so far, the transfer is done without waiting for an answer.
        """
        leg, replaced = self.leg, other.leg
        address = f"sip:{replaced.number}@{LOOPBACK}:{leg.partner_port}"
        leg.refer(f"<{address}?Replaces={quote(replaced.replaces, safe='')}>", timeout)

    def press(self, keys: str) -> None:
        """Presses keys of `0123456789*#ABCD`, a fifth of a second for each (RFC 4733)."""
        self.leg.press(keys)

    @property
    def heard(self) -> str:
        """The keys that the other side has pressed so far."""
        return self.leg.keys_heard


@frozen
class Leg(Handset):
    """One end of one call, in the hands of a SIPp."""

    call_id: str
    _sipp: SippProcess

    @property
    def leg(self) -> Leg:
        return self

    @property
    def messages(self) -> list[SipMessage]:
        """What was sent and received in it, oldest first, without retransmissions."""
        return first_of_each(message for message in self._sipp.messages() if message.call_id == self.call_id)

    @property
    def number(self) -> str:
        """Whom this call reaches at the other side."""
        opening = self.messages[0]
        return opening.to_number if opening.sent else opening.from_number

    @property
    def partner_port(self) -> int:
        """Where Asterisk speaks SIP."""
        opening = self.messages[0]
        if opening.sent:
            return int(re.findall(r"@[^:@]+:(\d+)", opening.start_line)[0])
        return int(re.findall(r" [^: ]+:(\d+)", opening.header("Via") or "")[0])

    @property
    def replaces(self) -> str:
        """What names the call to Asterisk in Replaces (RFC 3891, 6.1: `to-tag` is the tag of who receives it)."""
        theirs = next(message for message in reversed(self.messages) if not message.sent)
        sender, receiver = theirs.header("From") or "", theirs.header("To") or ""
        if theirs.status is not None:
            sender, receiver = receiver, sender
        elif ";tag=" not in receiver:
            receiver = next((m.header("To") or "" for m in self.messages if m.sent and m.status), "")
        return f"{self.call_id};to-tag={_tag(sender)};from-tag={_tag(receiver)}"

    @property
    def is_answered(self) -> bool:
        """Whether the answer has been acknowledged."""
        return any(message.method == "ACK" for message in self.messages)

    @property
    def is_over(self) -> bool:
        """Whether one side has hung up, or the INVITE has been refused."""
        first = self.messages[0].cseq
        return any(m.method == "BYE" or (m.cseq == first and (m.status or 0) >= 300) for m in self.messages)

    def order(self, order: str, *effects: str, timeout: float = 5.0, target: str = "") -> SipMessage | None:
        """Has SIPp do something (see `order_message`), and returns the message that it then sends.

        None if the call ends before. @param effects: which message that may be: a method, or the status of a reply
        to the INVITE.
        """
        before = len(self._sent(effects))
        number = 0

        def effect() -> SipMessage | bool:
            nonlocal number
            if sent := self._sent(effects)[before:]:
                return sent[0]
            if self.is_over:
                return True
            if number == 0 or self._sipp.declined(number):
                number = self._sipp.order(self.messages[0], self.partner_port, order, target)
            return False

        sent = eventually(effect, timeout, what=f"{' or '.join(effects)} of {self._sipp.name}")
        return sent if isinstance(sent, SipMessage) else None

    def refer(self, to: str, timeout: float) -> None:
        """Has Asterisk call somebody else in our place, and hangs up as soon as that is under way.

        Raises SippFailed if it says that it does not work; the call then goes on.
        """
        told = len(self._progress())
        self.ask("refer", "REFER", timeout, to)

        def news() -> list[int]:
            return [status for status in self._progress()[told:] if status > 100]

        status = eventually(news, timeout, what="a word on the transfer")[0]
        if status >= 300:
            raise SippFailed(f"{self._sipp.name}: Asterisk could not transfer: {status}")
        # Asterisk leaves that to us.
        self.hang_up(timeout)

    def hang_up(self, timeout: float = 5.0) -> None:
        """Hangs up, or gives up, unless that has been done."""
        self.order("hang-up", "BYE", "CANCEL", timeout=timeout)

    def ask(self, order: str, method: str, timeout: float, target: str = "") -> None:
        """Has SIPp send a request, and waits until Asterisk has agreed."""
        self.wait_for_answer(timeout)
        request = self.order(order, method, timeout=timeout, target=target)
        if request is None:
            raise SippFailed(f"{self._sipp.name}: the call is over")
        number = request.cseq

        def final() -> list[int]:
            answers = [m.status or 0 for m in self.messages if not m.sent and m.cseq == number]
            return [status for status in answers if status >= 200]

        status = eventually(final, timeout, what=f"an answer to {method}")[0]
        if status >= 300:
            raise SippFailed(f"{self._sipp.name}: Asterisk answers {method} with {status}")

    def wait_for_answer(self, timeout: float = 5.0) -> None:
        """Waits until the answer has been acknowledged. Raises TimeoutError."""
        eventually(lambda: self.is_answered, timeout, what=f"a conversation of {self._sipp.name}")

    def press(self, keys: str) -> None:
        self._sipp.sound.press(keys, self._sound_ports()[-1])

    @property
    def keys_heard(self) -> str:
        ports = set(self._sound_ports())
        return "".join(key.key for key in self._sipp.sound.heard if key.port in ports)

    def _sent(self, effects: Collection[str]) -> list[SipMessage]:
        """Requests of those methods, or replies to an INVITE of those statuses."""
        sent = [message for message in self.messages if message.sent]
        return [m for m in sent if m.method in effects or (f"{m.status}" in effects and "INVITE" in m.cseq)]

    def _progress(self) -> list[int]:
        """What Asterisk has told about transfers: the statuses in the NOTIFYs of RFC 3515."""
        bodies = [m.body for m in self.messages if not m.sent and m.method == "NOTIFY"]
        return [int(status) for body in bodies for status in re.findall(r"^SIP/2.0 (\d{3})", body)]

    def _sound_ports(self) -> list[int]:
        """Where Asterisk wants to hear us, the latest last."""
        bodies = [message.body for message in self.messages if not message.sent]
        ports = [int(port) for body in bodies for port in re.findall(r"^m=audio (\d+)", body, re.MULTILINE)]
        if not ports:
            raise SippFailed(f"{self._sipp.name}: Asterisk has not said where it listens")
        return ports


def _tag(address: str) -> str:
    return next(iter(re.findall(r";tag=([^;\s]+)", address)), "")


@define
class Phone(Handset):
    """An agent's phone, `PJSIP/NAME` once its `endpoint` is in the configuration of an Asterisk.

    It keeps what it was sent through all changes of its behaviour. What it does with a call it does with the latest
    that it was sent; calls that it makes itself are made by `Lab.dial`.
    """

    name: str
    port: int
    behaviour: Behaviour
    _program: Path = field(repr=False)
    _directory: Path = field(repr=False)
    _ports: PortBlock = field(repr=False)
    _runs: list[SippProcess] = field(factory=list, init=False, repr=False)

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

    @property
    def legs(self) -> list[Leg]:
        """The calls that it was sent since it began to behave as it does, oldest first, ended ones too."""
        run = self._runs[-1]
        messages = first_of_each(run.messages())
        return [Leg(m.call_id, run) for m in messages if m.opens_a_call and not m.sent]

    @property
    def leg(self) -> Leg:
        """The latest of them. Raises SippFailed if there is none."""
        legs = self.legs
        if not legs:
            raise SippFailed(f"phone {self.name} has no call")
        return legs[-1]

    def answer(self) -> None:
        """Answers the latest call, of a phone that `Answers`. Raises SippFailed if there is none."""
        self.leg.order("answer", "200")

    def hang_up(self, timeout: float = 5.0) -> None:
        """Hangs up the latest call, as soon as its answer is acknowledged. Raises SippFailed, TimeoutError."""
        leg = self.leg
        leg.wait_for_answer(timeout)
        leg.hang_up(timeout)

    def start(self) -> None:
        """Starts listening; raises SippFailed when that does not work."""
        run = SippProcess(self._program, self._directory, f"{self.name}-{len(self._runs) + 1}", self._ports)
        self._runs.append(run)
        run.start(scenarios.phone(self.behaviour, run.sound_port), self.port)
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
    _sipp: SippProcess = field(repr=False)

    @property
    def legs(self) -> list[Leg]:
        """Our ends of the calls, in the order they were started."""
        return [Leg(result.call_id, self._sipp) for result in self.results]

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
                Leg(result.call_id, self._sipp).hang_up()

    def stop(self) -> None:
        """Ends the SIPp process; calls not yet over are dropped without a word."""
        self._sipp.stop()


@define
class Call(Handset):
    """One call: as `Calls`, for a single one."""

    _calls: Calls

    @property
    def leg(self) -> Leg:
        return _the_first(self._calls.legs)

    @property
    def result(self) -> CallResult:
        """What is known of it so far. Raises SippFailed before the INVITE is sent."""
        return _the_first(self._calls.results)

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


def _the_first(of_calls: Sequence[T]) -> T:
    if not of_calls:
        raise SippFailed("the call has not been made yet")
    return of_calls[0]


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
    """Starts `calls` calls to `number`, `rate` a second; the rest as told at `Lab.call`."""
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
    sipp = SippProcess(program, directory, name, ports)
    text = scenarios.caller(
        number,
        display=display,
        user=user,
        host=host,
        headers=headers,
        talk_ms=talk_ms,
        cancel_after_ms=cancel_after_ms,
        sound_port=sipp.sound_port,
    )
    sipp.start(text, ports.take(), f"{instance.host}:{instance.sip_port}", *more)
    return Calls(calls, sipp)
