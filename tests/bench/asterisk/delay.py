"""What asking us adds to a call's delay: INVITE to answer, and INVITE to the phone's INVITE, on a real Asterisk.

Three dialplans in turns at each rate: one that only dials, one that asks `CURL()` for a constant first, and ours
with the daemon: look-up of the caller, five rules, hundreds of agents, a durable record, and the way back. Each
of the first two runs on an Asterisk that the daemon does not know, so that it costs them nothing.
"""

import json
import os
import random
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

from attrs import define, field, frozen

from lab.asterisk import AsteriskInstance
from lab.company import DESKTOP
from lab.configuration import PbxConfiguration, StaticPhone
from lab.daemon import ROOT, Daemon
from lab.ports import LOOPBACK, PortBlock, udp_listener_exists
from lab.processes import end, eventually, start, tail
from lab.tree import cache_directory, ensure_asterisk, ensure_sipp
from tests.bench.asterisk import sipp_scenarios
from tests.bench.inbound import settings_of
from tests.bench.people import directory_of
from tests.bench.processes import cpu_seconds, listens, whole_cpu_seconds

DIRECT: Final = "dials only"
CURL: Final = "asks CURL() for a constant"
OURS: Final = "asks cordboard"
VARIANTS: Final = (DIRECT, CURL, OURS)

_AGENTS: Final = 400
_PEOPLE: Final = 100_000
_WARM_UP: Final = 60
_PATIENCE: Final = 15
_P50_GOAL_MS: Final = 5.0
_P99_GOAL_MS: Final = 15.0

# A call that comes back to the first dialplans without having been dialled fails, and is seen. Ours has a fallback
# that rings somebody, as every company's should.
_EXTENSIONS: Final = """
[globals]
CTI_SERVER = 127.0.0.1:{agi_port}
CTI_PBX = main
CTI_FALLBACK = old-context,s,1

[from-trunk]
exten => _9XX!,1,Ringing()
 same => n,Dial(PJSIP/agent${{EXTEN:1}},20)
exten => _8XX!,1,Ringing()
 same => n,Set(WHAT=${{CURL(http://127.0.0.1:{web_port}/)}})
 same => n,GotoIf($["${{WHAT}}" != "dial"]?old-context,s,1)
 same => n,Dial(PJSIP/agent${{EXTEN:1}},20)
exten => 494066969100,1,Goto(cti-inbound,${{EXTEN}},1)

[old-context]
exten => s,1,GotoIf($["${{CTI_STARTED}}" = ""]?failed)
 same => n,Dial(PJSIP/agent${{RAND(10,99)}},20)
 same => n(failed),Congestion(1)
"""
# The lab's own writes each step of the dialplan down, for tests to read.
_LOGGER: Final = """
[general]
dateformat = %FT%T.%3q%z

[logfiles]
full => notice,warning,error
"""


@frozen
class Calls:
    """What became of the calls of one run: seconds of each from its INVITE, and CPU seconds of each process.

    `lasted`: seconds from the first INVITE to the last answer. `routed`: of how many we decided who rings.
    """

    offered: int
    routed: int
    lasted: float
    to_answer: Sequence[float]
    to_phone: Sequence[float]
    cpu: Mapping[str, float]


@define
class Runs:
    """All runs of one dialplan at one rate."""

    runs: list[Calls] = field(factory=list)

    @property
    def offered(self) -> int:
        return sum(run.offered for run in self.runs)

    @property
    def answered(self) -> int:
        return sum(len(run.to_answer) for run in self.runs)

    @property
    def routed(self) -> int:
        return sum(run.routed for run in self.runs)

    @property
    def carried(self) -> float:
        """Answered calls a second; below the rate that was offered where the cores are full."""
        return self.answered / sum(run.lasted for run in self.runs)

    @property
    def cores(self) -> float:
        """Of all processes, while calls came: CPU seconds a second."""
        return sum(sum(run.cpu.values()) for run in self.runs) / sum(run.lasted for run in self.runs)

    def to_answer_ms(self, share: float) -> float:
        return _quantile([value for run in self.runs for value in run.to_answer], share) * 1000

    def to_phone_ms(self, share: float) -> float:
        return _quantile([value for run in self.runs for value in run.to_phone], share) * 1000

    def cpu_ms(self, process: str) -> float:
        """CPU milliseconds a call."""
        return sum(run.cpu[process] for run in self.runs) / max(1, self.offered) * 1000


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


class Delay:
    """Two Asterisks, the daemon and a web server, for as long as it is open."""

    def __init__(self, work: Path, *, command: Sequence[str] | None = None, spared: bool = False) -> None:
        """`command`: what is run instead of `python -m cti`, such as the sampler. `spared`: Asterisk is spared what
        `asterisk-conf` names for many calls a second, which other programs may want.
        """
        work.mkdir()
        self._spared = spared
        self._work = work
        self._sipp = ensure_sipp()
        self._runs = 0
        self._random = random.Random(1)
        with ExitStack() as started:
            self._ports = PortBlock.claim()
            started.callback(self._ports.release)
            self._phone_port = self._ports.take()
            web_port, http_port, agi_port = (self._ports.take() for _ in range(3))
            web = start(
                [sys.executable, "-m", "tests.bench.asterisk.constant", str(web_port)],
                output=work / "web.log",
                environment={**os.environ, "PYTHONPATH": str(ROOT)},
                directory=work,
            )
            started.callback(end, web)
            eventually(lambda: listens(web_port), 10, what="the web server")
            extensions = _EXTENSIONS.format(agi_port=agi_port, web_port=web_port)
            self._asterisks = {
                DIRECT: self._asterisk(started, "without-us", extensions),
                OURS: self._asterisk(started, "with-us", extensions),
            }
            self._asterisks[CURL] = self._asterisks[DIRECT]
            ours = self._asterisks[OURS]
            settings = settings_of(
                directory_of(_PEOPLE, cache_directory()), http_port, agi_port, ours.ami_port, agents=_AGENTS
            )
            # With it, each phone is sent a link to the card.
            settings["http"]["url"] = DESKTOP
            self.daemon = Daemon(
                directory=work / "daemon",
                settings=settings,
                http_port=http_port,
                agi_port=agi_port,
                environment={"AMI_SECRET": ours.ami_secret},
                **({} if command is None else {"command": command}),
            )
            started.callback(self.daemon.stop)
            self.daemon.start()
            self._started = started.pop_all()

    def close(self) -> None:
        self._started.close()

    def _asterisk(self, started: ExitStack, name: str, extensions: str) -> AsteriskInstance:
        shipped = ROOT / "asterisk-conf"
        manager = (shipped / "manager.conf").read_text(encoding="utf-8")
        extra = {"logger.conf": _LOGGER}
        if self._spared:
            manager = manager.replace(";disabledevents", "disabledevents")
            extra["stasis.conf"] = (shipped / "stasis.conf").read_text(encoding="utf-8")
        configuration = PbxConfiguration(
            extensions=extensions,
            dialplan_files=[ROOT / "dialplan" / "cti.conf"],
            manager=manager,
            # One SIPp is all phones.
            phones=[StaticPhone(f"agent{number:02d}", self._phone_port) for number in range(_AGENTS)],
            extra=extra,
        )
        instance = AsteriskInstance(ensure_asterisk(), self._work / name, configuration, name)
        started.callback(instance.release)
        instance.start()
        return instance

    def measure(
        self, rates: Sequence[int], rounds: int, seconds: float, variants: Sequence[str] = VARIANTS
    ) -> dict[tuple[int, str], Runs]:
        """All dialplans at all rates in turns, `seconds` each in each round."""
        for variant in variants:
            self.run(variant, 20, _WARM_UP)
        results = {(rate, variant): Runs() for rate in rates for variant in variants}
        for _ in range(rounds):
            for rate in rates:
                for variant in variants:
                    results[rate, variant].runs.append(self.run(variant, rate, int(rate * seconds)))
        return results

    def run(self, variant: str, rate: int, calls: int) -> Calls:
        """`calls` calls, `rate` a second, through one dialplan. Raises RuntimeError if none is answered."""
        self._runs += 1
        pbx = self._asterisks[variant]
        place = self._work / f"run-{self._runs}"
        place.mkdir()
        processes = {"daemon": self.daemon.pid, "Asterisk": pbx.pid}
        before = {name: whole_cpu_seconds(pid) for name, pid in processes.items()}
        children = _children_cpu_seconds()
        phone = self._start(place, "phone", sipp_scenarios.phone(), self._phone_port)
        eventually(lambda: udp_listener_exists(self._phone_port), 10, what="the phones")
        (place / "numbers").write_text(self._numbers(variant, calls))
        caller = self._start(
            place,
            "caller",
            sipp_scenarios.caller(),
            self._ports.take(),
            *(f"{LOOPBACK}:{pbx.sip_port}", "-inf", place / "numbers"),
            *("-m", calls, "-l", calls, "-r", rate),
        )
        # What does not end in time is not counted as answered; phones leave when their calls are over.
        with suppress(TimeoutError):
            eventually(lambda: caller.poll() is not None, calls / rate + _PATIENCE, what="the callers")
        end(caller)
        phone.send_signal(signal.SIGUSR1)
        with suppress(TimeoutError):
            eventually(lambda: phone.poll() is not None, _PATIENCE, what="the phones")
        end(phone)
        cpu = {name: whole_cpu_seconds(pid) - before[name] for name, pid in processes.items()}
        cpu["SIPp"] = _children_cpu_seconds() - children
        sent, answered, to_answer = {}, 0.0, []
        for number, *times in _lines(place / "caller.log"):
            sent[number] = _seconds(times[:2])
            to_answer.append(_seconds(times[2:]) - sent[number])
            answered = max(answered, _seconds(times[2:]))
        invited = _lines(place / "phone.log")
        to_phone = [_seconds(times[:2]) - sent[number] for number, *times in invited if number in sent]
        routed = sum(line[-1] == "encoding=hex" for line in invited)
        if not to_answer:
            raise RuntimeError(f"no call was answered\n{tail(place / 'caller.output')}")
        # One run's leftovers are not to burden the next one.
        with suppress(TimeoutError):
            eventually(lambda: "0 active channels" in pbx.cli("core show channels count"), _PATIENCE)
        return Calls(calls, routed, answered - min(sent.values()), to_answer, to_phone, cpu)

    def _start(self, place: Path, name: str, scenario: str, port: int, *more: object) -> Any:
        (place / f"{name}.xml").write_text(scenario, encoding="utf-8")
        media, control, *_ = [self._ports.take() for _ in range(6)]
        return start(
            [
                *(self._sipp, "-sf", place / f"{name}.xml", "-i", LOOPBACK, "-p", str(port)),
                *("-mi", LOOPBACK, "-mp", str(media), "-ci", LOOPBACK, "-cp", str(control), "-nostdin"),
                *("-trace_logs", "-log_file", place / f"{name}.log"),
                *("-trace_err", "-error_file", place / f"{name}.errors"),
                *map(str, more),
            ],
            output=place / f"{name}.output",
            environment={**os.environ, "TERM": "dumb"},
            directory=place,
        )

    def _numbers(self, variant: str, calls: int) -> str:
        """SIPp's injection file: who calls, each once, and whom."""
        people = self._random.sample(range(_PEOPLE), calls)
        first = {DIRECT: "9", CURL: "8"}.get(variant)
        agents = islice(cycle(range(_AGENTS)), calls)
        lines = [
            f"010{person:07d};{'494066969100' if first is None else f'{first}{agent:02d}'}"
            for person, agent in zip(people, agents, strict=True)
        ]
        return "SEQUENTIAL\n" + "".join(f"{line}\n" for line in lines)


def _lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text("utf-8", "replace").splitlines() if line]


def _seconds(times: Sequence[str]) -> float:
    return float(times[0]) + float(times[1]) / 1e6


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(results: Mapping[tuple[int, str], Runs]) -> list[str]:
    """A Markdown table, and whether the goals are met."""
    head = (
        "| calls/s | dialplan | answered of offered | INVITE to 200, ms p50 / p99 | more than without us "
        "| INVITE to the phone's INVITE, ms p50 / p99 | more | CPU ms a call: daemon / Asterisk / SIPp "
        f"| carried a second | routed by us | busy of {len(os.sched_getaffinity(0))} cores |"
    )
    lines = [head, f"|{' --- |' * (head.count('|') - 1)}"]
    goals = []
    for (rate, variant), runs in results.items():
        base = results.get((rate, DIRECT), runs)
        answer = [runs.to_answer_ms(share) for share in (0.5, 0.99)]
        phone = [runs.to_phone_ms(share) for share in (0.5, 0.99)]
        more = [answer[0] - base.to_answer_ms(0.5), answer[1] - base.to_answer_ms(0.99)]
        more_phone = [phone[0] - base.to_phone_ms(0.5), phone[1] - base.to_phone_ms(0.99)]
        cpu = [runs.cpu_ms(process) for process in ("daemon", "Asterisk", "SIPp")]
        lines.append(
            f"| {rate} | {variant} | {runs.answered} of {runs.offered} | {_pair(answer)} "
            f"| {_pair(more) if variant != DIRECT else ''} | {_pair(phone)} "
            f"| {_pair(more_phone) if variant != DIRECT else ''} | {' / '.join(f'{ms:.1f}' for ms in cpu)} "
            f"| {runs.carried:.1f} | {f'{runs.routed / runs.offered:.0%}' if variant == OURS else ''} "
            f"| {runs.cores:.1f} |"
        )
        if variant == OURS:
            met = more[0] < _P50_GOAL_MS and more[1] < _P99_GOAL_MS and runs.answered == runs.offered
            goals.append(f"{rate} calls/s: {'met' if met else 'MISSED'} ({_pair(more)} more)")
    return [
        *lines,
        "",
        f"Goal p50 under {_P50_GOAL_MS:g} ms more, p99 under {_P99_GOAL_MS:g}: {'; '.join(goals)}",
    ]


def profile(work: Path, rate: int, calls: int, *, spared: bool = False) -> list[str]:
    """Where the CPU time of the daemon goes, in lines; sampled, in the reactor's thread."""
    result = work.with_suffix(".json")
    command = [sys.executable, "-m", "tests.bench.sampled", str(result)]
    with closing(Delay(work, command=command, spared=spared)) as laboratory:
        laboratory.run(OURS, rate, calls)
        pid = laboratory.daemon.pid
        os.kill(pid, signal.SIGUSR1)
        before = cpu_seconds(pid)
        laboratory.run(OURS, rate, calls)
        spent = {name: seconds - before.get(name, 0.0) for name, seconds in cpu_seconds(pid).items()}
        os.kill(pid, signal.SIGUSR2)
        eventually(result.exists, 10, what="the profile")
    each = 1e6 / calls
    found = json.loads(result.read_text())
    lines = [f"| {seconds * each:.0f} | {part} |" for part, seconds in _largest(found["parts"])]
    others = sum(seconds for name, seconds in spent.items() if name != "main")
    lines.append(f"| {others * each:.0f} | in the writing thread, beside it |")
    calling = [f"| {seconds * each:.0f} | {line} |" for line, seconds in _largest(found["lines"])[:25]]
    return ["| CPU µs a call | part |", "| --- | --- |", *lines, "| of which: | |", *calling]


def _largest(found: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(found.items(), key=lambda entry: -entry[1])


def _pair(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.1f}" for value in values)
