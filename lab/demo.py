"""`make demo`: starts the office of `lab.office`, makes a real call to it, and tells what happens.

Keeps running until Ctrl-C, or, with DEMO_ONCE=1 in the environment, ends after that call: 0 if all was as it
should be, 1 if any step failed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from adapters.base import AdapterError
from lab.asterisk import AsteriskFailed
from lab.daemon import ROOT, DaemonFailed, StreamEvent
from lab.laboratory import Call, LabUnavailable
from lab.narrator import Narrator
from lab.office import CALLERS, DID, NUMBER, PHONES, SAMPLE, SOFTPHONE, Office
from lab.page import Page
from lab.ports import LOOPBACK, NoFreePort
from lab.processes import eventually
from lab.sipp import SippFailed
from lab.trace import SipMessage
from lab.webhooks import Notification

#: Who calls first, as the trunk sends the number, and what the CRM says of the number.
FIRST_CALLER, FIRST_NAME, OWNER = "015228817386", "Katja Brandt", "anna"
TALK_MS = 3000

# Seconds: for the whole of the first call, for the server to hear of its end, and for the webhooks.
_CALL_PATIENCE = 40.0
_END_PATIENCE = 5.0
_WEBHOOK_PATIENCE = 10.0
# How late our own reading of the stream may be on a busy machine, before the card counts as late.
_CARD_SLACK = 0.1
_CLOCKS = 1.5


class StepFailed(Exception):
    """A step of the demo did not do what it should; the text says what was seen."""


@frozen
class FirstCall:
    """Everything that was seen of the first call; None for what did not come."""

    routed: StreamEvent | None
    card: StreamEvent | None
    invites: dict[str, list[SipMessage]]
    record: dict[str, Any]
    talked: float
    notifications: list[Notification]
    free_again: bool


def main() -> int:
    """Run the demo; its exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    page = Page.on(sys.stdout)
    once = os.environ.get("DEMO_ONCE", "") not in ("", "0")
    try:
        with _a_directory() as directory:
            return _run(page, directory, once)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads any more; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(page: Page, directory: Path, once: bool) -> int:
    try:
        with Office(directory) as office:
            _open(page, office)
            narrator = Narrator(page, office)
            checks = _first_call(page, office, narrator)
            page.heading("Checked")
            for held, text in checks:
                page.verdict(held, text)
            if not all(held for held, _ in checks):
                raise StepFailed("not everything was as it should be")
            if once:
                return 0
            _look_around(page, office)
            _go_on(page, office, narrator)
            return 0
    except LabUnavailable as error:
        page.trouble(str(error))
    except (AdapterError, AsteriskFailed, DaemonFailed, NoFreePort, SippFailed, StepFailed) as error:
        page.trouble(str(error))
        _say_where_it_stands(page, directory)
    except BrokenPipeError:
        raise
    except OSError as error:
        page.trouble(
            f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        )
        _say_where_it_stands(page, directory)
    except subprocess.SubprocessError as error:
        page.trouble(str(error))
        _say_where_it_stands(page, directory)
    return 1


def _open(page: Page, office: Office) -> None:
    """Start everything, and say what and where."""
    page.heading(
        "Cordboard", "a real call, answered by the right person, with the customer's card before it rings"
    )
    page.line()
    office.start_asterisk()
    version = re.match(r"Asterisk [\w.]+", office.pbx.cli("core show version"))
    where = (
        "this machine's own"
        if office.lab.tree.is_system
        else f"a private copy in {_short(office.lab.tree.root)}"
    )
    page.fact(
        "Asterisk",
        f"{version[0] if version else 'Asterisk'}, {where}; SIP at {LOOPBACK}:{office.pbx.sip_port}",
    )
    office.start_receiver()
    page.fact("cti check", _said(office.configure()))
    page.fact(
        "cti contacts", f"{_said(office.fill_directory())}: people in four languages, from {_short(SAMPLE)}"
    )
    office.start_daemon(OWNER)
    phones = ", ".join(f"{office.names.get(name, name)} (PJSIP/{name})" for name in PHONES)
    page.fact("phones", f"{phones}; each picks up after a few seconds")
    page.fact(
        "cti serve", f"Cordboard: FastAGI at {LOOPBACK}:{office.daemon.agi_port}, API at {_address(office)}"
    )
    page.fact("desktop", f"{_address(office)}/ in a browser: user {OWNER}, password {office.password}")
    page.fact("webhook", f"a receiver in the place of a CRM, at {office.receiver.url}")
    page.fact("files", f"all in {_short(office.directory)}")


def _first_call(page: Page, office: Office, narrator: Narrator) -> list[tuple[bool, str]]:
    """Make the call, tell it, and look at every step of it. Raises StepFailed when it does not get that far."""
    page.line()
    page.fact(
        "now", f"{FIRST_NAME}, a customer of {office.names[OWNER]}'s, calls; the trunk sends {FIRST_CALLER}"
    )
    call = office.lab.call(office.pbx, DID, from_number=FIRST_CALLER, talk_ms=TALK_MS)
    _follow(office, narrator, call)
    record = office.daemon.the_call(timeout=1)

    def all_told() -> bool:
        narrator.listen()
        return len(office.receiver.notifications) >= 2 and narrator.is_done

    _within(_WEBHOOK_PATIENCE, all_told)
    free_again = _within(_END_PATIENCE, lambda: office.ready(OWNER))
    narrator.listen()
    notifications = list(office.receiver.notifications)
    if notifications:
        page.heading(
            "What the CRM was told", f"POST {office.receiver.url}, {len(notifications)} times; the first:"
        )
        page.document(dict(notifications[0].headers))
        page.document(dict(notifications[0].body))
    result = call.result
    talked = 0.0 if result.answered is None or result.ended is None else result.ended - result.answered
    return _checks(
        office,
        FirstCall(
            routed=narrator.first("call.routed"),
            card=next(iter(office.screen.of("card.offered")), None),
            invites={name: phone.invites for name, phone in office.phones.items()},
            record=record,
            talked=talked,
            notifications=notifications,
            free_again=free_again,
        ),
    )


def _follow(office: Office, narrator: Narrator, call: Call) -> None:
    """Tell the call until its end is in the log. Raises StepFailed if it never gets there."""
    deadline = time.monotonic() + _CALL_PATIENCE
    over: float | None = None
    while narrator.first("call.ended") is None:
        narrator.listen()
        _still_running(office)
        now = time.monotonic()
        if over is None and _is_over(call):
            over = now
        if now > deadline or (over is not None and now > over + _END_PATIENCE):
            raise StepFailed(_what_is_missing(office, narrator, call))
        time.sleep(0.02)


def _is_over(call: Call) -> bool:
    try:
        return call.result.ended is not None
    except SippFailed:
        return False


def _what_is_missing(office: Office, narrator: Narrator, call: Call) -> str:
    seen = ", ".join(dict.fromkeys(event.type for event in narrator.events)) or "nothing"
    try:
        codes = ", ".join(map(str, call.result.codes)) or "nothing"
    except SippFailed:
        codes = "nothing, the call was not even made"
    rang = ", ".join(name for name, phone in office.phones.items() if phone.invites) or "none"
    said = [line.text for line in office.pbx.log() if line.level in ("WARNING", "ERROR")][-5:]
    lines = [
        "the call did not come to its end in the log",
        f"on the event stream: {seen}",
        f"what the caller heard from Asterisk: {codes}",
        f"phones that rang: {rang}",
        *(f"Asterisk: {line}" for line in said),
    ]
    return "\n".join(lines)


def _checks(office: Office, seen: FirstCall) -> list[tuple[bool, str]]:
    """Every step, whether it was right, and what to say of it."""
    name = office.names[OWNER]
    record = seen.record
    rang = [phone for phone, invites in seen.invites.items() for _ in invites]
    shown = seen.invites[OWNER][0] if seen.invites[OWNER] else None
    shown_name = "it was not rung" if shown is None else shown.from_name or "no name"
    routed = seen.routed.data if seen.routed is not None else {}
    moments = [record[key] for key in ("started", "ringing", "answered", "ended")]
    in_order = None not in moments and moments == sorted(moments)
    told = [notification.type for notification in seen.notifications]
    genuine = all(notification.genuine for notification in seen.notifications)
    return [
        (
            routed.get("rule") == "owner" and routed.get("agents") == [OWNER],
            f"the call was routed to {name}, whose customer the caller is",
        ),
        (rang == [OWNER], f"that phone rang, and no other (rang: {', '.join(rang) or 'none'})"),
        _card_check(name, seen.card, shown),
        (
            shown is not None and (shown.from_name, shown.from_number) == (FIRST_NAME, FIRST_CALLER),
            f"the phone showed what the CRM calls the caller ({shown_name})",
        ),
        (
            record["outcome"] == "answered" and record["agent"] == OWNER and in_order,
            f"the log has one call, {record['outcome']}, with the times of all its steps",
        ),
        (
            record["talk"] is not None and abs(record["talk"] - seen.talked) < _CLOCKS,
            f"its times are the caller's own: {record['talk']} s of talk, {seen.talked:.3f} s on the wire",
        ),
        (
            told == ["call.routed", "call.ended"] and genuine,
            f"the CRM was told, in order, once each, and the signatures hold ({', '.join(told) or 'nothing'})",
        ),
        (seen.free_again, f"{name} is ready for the next call"),
    ]


def _card_check(name: str, card: StreamEvent | None, shown: SipMessage | None) -> tuple[bool, str]:
    if card is None or shown is None:
        return False, f"the card did not reach {name}" if card is None else "the phone was not rung"
    ahead = shown.time - card.at
    order = "before" if ahead > 0 else "after"
    text = f"the card was on the screen of {name} {abs(ahead) * 1000:.0f} ms {order} the phone was rung"
    return ahead > -_CARD_SLACK, text


def _look_around(page: Page, office: Office) -> None:
    """Where everything is, for who wants to try it."""
    api, admin = _address(office), office.daemon.token("admin")
    configuration = _short(office.daemon.configuration)
    page.heading("Look around", "all of it listens on this machine only")
    page.fact("API", f"described at {api}/openapi.json; the token of an administrator:")
    page.command(f"curl -H 'Authorization: Bearer {admin}' {api}/api/v1/calls")
    page.fact("events", "everything as it happens:")
    page.command(f"curl -N -H 'Authorization: Bearer {admin}' {api}/api/v1/events")
    page.fact("desktop", f"{office.names[OWNER]}'s: user {OWNER}, password {office.password}")
    page.command(f"{api}/")
    page.fact("commands", "as an administrator types them, such as")
    page.command(f"{_cti()} calls -c {configuration}")
    page.command(f"{_cti()} explain --from '0172 997 31 85' --to '040 66969100' -c {configuration}")
    page.command(f"{_cti()} agents set {OWNER} --state paused -c {configuration}")
    page.fact("Asterisk", "its own command line (leave it by Ctrl-C):")
    page.command(office.console())

    page.heading("Call in yourself", "this page tells each call")
    page.fact(
        "softphone", f"it is {office.names[SOFTPHONE]}'s phone: customers of his ring it. Register it as"
    )
    server, password = f"{LOOPBACK}:{office.pbx.sip_port}", office.softphone.password
    page.command(f"user {SOFTPHONE}   password {password}   server {server} (UDP)")
    page.fact("", f"and call the company: {NUMBER}, or as somebody else:")
    for caller in CALLERS:
        page.fact("", f"{caller.digit}  {caller.who}")
    page.fact(
        "no phone?",
        f"SIPp calls as each of them; here as the first, whose card {office.names[OWNER]}'s desktop shows,"
        " and as the fourth:",
    )
    scenarios = office.write_callers(TALK_MS)
    for digit in "14":
        page.command(f"sipp -sf {_short(scenarios[digit])} -m 1 -i {LOOPBACK} {server}")
    page.line()
    page.line("  Ctrl-C ends everything.")


def _go_on(page: Page, office: Office, narrator: Narrator) -> None:
    """Tell further calls until somebody ends it. Raises StepFailed if something ends by itself."""
    try:
        while True:
            narrator.listen()
            _still_running(office)
            time.sleep(0.1)
    except KeyboardInterrupt:
        page.line()
        page.line("  Everything is being stopped.")


def _still_running(office: Office) -> None:
    if not office.daemon.is_running:
        raise StepFailed(f"Cordboard has ended; its last words are in {_short(office.daemon.output)}")
    if not office.pbx.is_running:
        raise StepFailed(f"Asterisk has ended; its last words are in {_short(office.pbx.log_file)}")
    if office.stream.ended:
        raise StepFailed("the event stream has ended")


def _within(seconds: float, predicate: Any) -> bool:
    try:
        return bool(eventually(predicate, seconds))
    except TimeoutError:
        return False


@contextmanager
def _a_directory() -> Iterator[Path]:
    """`var/demo/1`, or the next number that no running demo has; what an earlier demo left there is removed."""
    base = ROOT / "var" / "demo"
    base.mkdir(parents=True, exist_ok=True)
    for number in range(1, 100):
        with open(base / f"{number}.lock", "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(base / str(number), ignore_errors=True)
            (base / str(number)).mkdir()
            yield base / str(number)
            return
    sys.exit(f"demo: 99 demos are running in {base}; end some of them")


def _say_where_it_stands(page: Page, directory: Path) -> None:
    page.line(f"      What was written on the way is in {_short(directory)}.")


def _address(office: Office) -> str:
    return f"http://{LOOPBACK}:{office.daemon.http_port}"


def _cti() -> str:
    """The command as it can be typed here."""
    installed = Path(sys.executable).parent / "cti"
    return _short(installed) if installed.exists() else f"{_short(Path(sys.executable))} -m cti"


def _short(path: Path) -> str:
    """As somebody would type it in the directory where the demo was started."""
    for base, name in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return f"{name}{path.relative_to(base)}"
    return str(path)


def _said(text: str) -> str:
    """The last line of what a command printed, without the name of our own file."""
    return (text.splitlines() or ["done"])[-1].rpartition("cti.yaml: ")[2]


if __name__ == "__main__":
    sys.exit(main())
