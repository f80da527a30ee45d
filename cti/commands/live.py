"""`cti check --live`: compares running Asterisks with what the configuration and the shipped files need of them,
and tries whether each CRM answers.

Asks over AMI, as the server's own user and with no other rights; changes nothing. What it needs is read out of
the shipped files by `cti.asterisk.needs`.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from adapters.base import AdapterError, IAdapter
from cti.asterisk.ami import AmiActionFailed, AmiClient
from cti.asterisk.ami_tls import AmiTls
from cti.asterisk.needs import (
    ACTIONS,
    CALL_CONTROL,
    CALL_CONTROL_READS,
    OPTIONAL,
    VERSION_CONTEXT,
    Category,
    Dialplan,
    passes_filters,
    read_categories,
    read_dialplan,
    words,
)
from cti.asterisk.versions import SUPPORTED, Differences, differences
from cti.calls.services import AMI_ERRORS, Services
from cti.calls.tracker import WANTED
from cti.commands.running import run
from cti.commands.shipped import DIALPLAN, MANAGER, text_of
from cti.service import make_adapters
from cti.settings import Asterisk, Settings
from routing.problems import Path as Keys

_CONNECT_SECONDS: Final = 5.0
_LOGIN_SECONDS: Final = 5.0
_BOOT_SECONDS: Final = 5.0

_SAID_FIRST: Final = {"wrong": "", "advice": "advice: ", "unseen": "cannot be seen: "}

Kind = Literal["wrong", "advice", "unseen"]


@frozen
class Finding:
    """Something to change; or to know (`advice`); or that nobody can see from here (`unseen`).

    `keys`: where in the YAML file it belongs to; `where`: the file or part of Asterisk's.
    """

    kind: Kind
    keys: Keys
    where: str
    text: str

    @property
    def said(self) -> str:
        """With the place in Asterisk, for a line of its own."""
        return f"{self.where}: {_SAID_FIRST[self.kind]}{self.text}"


@define
class Report:
    """What was found at one Asterisk; what could not be asked there is None, or left out of `fallbacks`.

    `endpoints`: the names that its PJSIP knows; `fallbacks`: service → whether its dialplan has that place.
    """

    pbx: str
    version: str | None = None
    findings: list[Finding] = field(factory=list)
    endpoints: frozenset[str] | None = None
    fallbacks: dict[str, bool] = field(factory=dict)


@frozen
class Needs:
    """What the shipped files ask for."""

    general: Category
    user: Category
    dialplan: Dialplan

    @classmethod
    def shipped(cls) -> "Needs":
        """Raises `CommandFailed`, `OSError`."""
        manager = read_categories(text_of(MANAGER))
        return cls(manager["general"], manager["cti"], read_dialplan(text_of(DIALPLAN)))


def look_around(
    settings: Settings, asterisks: Sequence[Asterisk], phones: Mapping[str, Sequence[str]]
) -> tuple[Sequence[Report], Sequence[Finding]]:
    """Look at each Asterisk, and try each CRM. `phones`: agent → theirs. Raises `CommandFailed`, `OSError`."""

    async def all_of_them(reactor: Any) -> tuple[Sequence[Report], Sequence[Finding]]:
        looks = [Deferred.fromCoroutine(_look_at(each, settings, phones, reactor)) for each in asterisks]
        tries = [
            Deferred.fromCoroutine(_try_adapter(name, adapter))
            for name, adapter in make_adapters(settings, reactor).items()
            # Its file is made by who needs it first, and here nothing is changed.
            if settings.adapters[name].kind != "directory"
        ]
        return [await look for look in looks], [finding for each in tries for finding in await each]

    reports, of_adapters = run(all_of_them)
    findings = [finding for report in reports for finding in report.findings]
    return reports, [*findings, *of_all(reports, settings, phones), *of_adapters]


async def _try_adapter(name: str, adapter: IAdapter) -> Sequence[Finding]:
    """Whether the adapter starts and could answer; if not, why, in its own words."""
    try:
        await adapter.start()
        health = await adapter.health()
        wrong = "" if health.up else health.detail
    except AdapterError as error:
        wrong = str(error)
    finally:
        await adapter.stop()
    return [Finding("wrong", ("adapters", name), "the CRM", wrong)] if wrong else []


async def _look_at(
    asterisk: Asterisk, settings: Settings, phones: Mapping[str, Sequence[str]], reactor: Any
) -> Report:
    """Log in to one Asterisk and look around. Raises `CommandFailed`, `OSError`."""
    report = Report(asterisk.name)
    needs = Needs.shipped()
    first: Deferred[str | None] = Deferred()
    trouble: list[str] = []

    def troubled(what: str) -> None:
        trouble.append(what)
        if not first.called:
            first.callback(what)

    client = AmiClient(
        reactor,
        asterisk.ami.host,
        asterisk.ami.port,
        asterisk.username,
        asterisk.secret.reveal(),
        on_event=lambda _: None,
        on_up=lambda: first.callback(None),
        on_trouble=troubled,
        wanted=frozenset(),
        jitter=lambda: 0.0,
        login=asterisk.login,
        tls=None if asterisk.tls is None else AmiTls(asterisk.tls.name, asterisk.tls.ca),
        connect_timeout=_CONNECT_SECONDS,
        login_timeout=_LOGIN_SECONDS,
        boot_timeout=_BOOT_SECONDS,
    )
    client.startService()
    try:
        refusal = await first
        if refusal is None:
            await _Look(client, asterisk, settings, phones, needs, report).around()
        else:
            report.findings.append(_not_in(asterisk, needs, refusal))
    except AMI_ERRORS as error:
        why = trouble[0] if trouble else str(error)
        report.findings.append(
            Finding("wrong", _keys(asterisk, "ami"), "manager.conf", f"the look around was cut short: {why}")
        )
    finally:
        stopped = client.stopService()
        if stopped is not None:
            await stopped
    return report


def _keys(asterisk: Asterisk, *more: str) -> Keys:
    return ("asterisks", asterisk.name, *more)


def _not_in(asterisk: Asterisk, needs: Needs, refusal: str) -> Finding:
    """What to change, by how the log-in failed."""
    at = f"{asterisk.ami.host}:{asterisk.ami.port}"
    read = needs.user.last("read")
    if refusal.startswith("not connected"):
        return Finding(
            "wrong",
            _keys(asterisk, "ami"),
            "manager.conf",
            f"{at} cannot be reached ({refusal.partition(': ')[2]}): `enabled = yes`, `bindaddr` and `port` in"
            " [general], a running Asterisk, and no firewall between would be right",
        )
    if "refused: authentication" in refusal:
        return Finding(
            "wrong",
            _keys(asterisk, "secret"),
            "manager.conf",
            f"{at} refuses the log-in: [{asterisk.username}] with this `secret`, and a `permit` for this"
            " machine, would be right; `manager reload` takes changes over",
        )
    if "FullyBooted" in refusal:
        return Finding(
            "wrong",
            _keys(asterisk),
            "manager.conf",
            f"Asterisk does not say that it has booted: it is still starting, or [{asterisk.username}] lacks"
            f" a right; `read = {read}` would be right",
        )
    if "Login Already In Use" in refusal:
        return Finding(
            "wrong",
            _keys(asterisk),
            "manager.conf",
            f"[{asterisk.username}] is logged in already, and may be only once, so that the server, too, is kept"
            " out for as long as a connection of before is not noticed to be dead; `allowmultiplelogin = yes`"
            " would be right",
        )
    key = "tls" if asterisk.tls is not None and "TLS: " in refusal else "ami"
    return Finding("wrong", _keys(asterisk, key), "manager.conf", f"{at}: {refusal}")


@define
class _Look:
    """One look around a running Asterisk; each method looks at one thing and notes what it finds."""

    _client: AmiClient
    _asterisk: Asterisk
    _settings: Settings
    _phones: Mapping[str, Sequence[str]]
    _needs: Needs
    _report: Report
    _allowed: Collection[str] = frozenset()
    _differences: Differences = field(factory=lambda: differences(""))

    async def around(self) -> None:
        """Raises AmiDisconnected; what is refused or does not come is noted."""
        steps: Iterable[tuple[str, Callable[[], Awaitable[None]]]] = (
            ("the rights of the user", self._rights),
            ("the version", self._version),
            ("the modules", self._modules),
            ("manager.conf", self._manager),
            ("the dialplan", self._dialplan),
            ("the globals", self._globals),
            ("the fallbacks", self._fallbacks),
            ("AstDB", self._astdb),
            ("the phones", self._endpoints),
        )
        for what, step in steps:
            try:
                await step()
            except AmiActionFailed as error:
                self._unseen("manager.conf", f"{what}: Asterisk says {error.message[:100]!r}")

    # Notes.

    def _wrong(self, where: str, text: str, *keys: str | int) -> None:
        self._note("wrong", where, text, keys)

    def _unseen(self, where: str, text: str, *keys: str | int) -> None:
        self._note("unseen", where, text, keys)

    def _note(self, kind: Kind, where: str, text: str, keys: Keys) -> None:
        self._report.findings.append(Finding(kind, keys or _keys(self._asterisk), where, text))

    # Looks.

    async def _rights(self) -> None:
        # Needs no right, and lists what the user may do, and nothing else.
        self._allowed = frozenset((await self._client.action("ListCommands")).headers)
        missing = [name for name, module in ACTIONS.items() if module is None and name not in self._allowed]
        if missing:
            self._wrong(
                "manager.conf",
                f"[{self._asterisk.username}] may not do {', '.join(missing)};"
                f" `write = {self._needs.user.last('write')}` would be right",
            )
        missing = [
            name for name, module in CALL_CONTROL.items() if module is None and name not in self._allowed
        ]
        if missing:
            self._advise_call_control(f"may not do {', '.join(missing)}", "write")

    def _advise_call_control(self, what: str, key: str) -> None:
        self._note(
            "advice",
            "manager.conf",
            f"[{self._asterisk.username}] {what}: without it no call control;"
            f" `{key} = {self._needs.user.last(key)}` would allow it",
            (),
        )

    async def _version(self) -> None:
        if "CoreSettings" not in self._allowed:
            self._unseen("Asterisk", "which version it is")
            return
        version = (await self._client.action("CoreSettings")).get("AsteriskVersion")
        self._report.version = version[:100]
        self._differences = differences(version)
        if not self._differences.supported:
            self._wrong("Asterisk", f"is version {version[:100]!r}; {SUPPORTED}, would be right")

    async def _modules(self) -> None:
        voicemail = any(service.has_mailbox for service in self._settings.services.values())
        used: dict[str, str] = {
            module: f"dialplan/cti.conf uses {', '.join(names)}"
            for module, names in self._needs.dialplan.modules_for(voicemail=voicemail).items()
        }
        asked_for = {**CALL_CONTROL, **ACTIONS}
        used |= {module: f"the server asks for {name}" for name, module in asked_for.items() if module}
        if any(phone.startswith("PJSIP/") for phones in self._phones.values() for phone in phones):
            used["chan_pjsip"] = "agents have PJSIP phones"
        if "ModuleCheck" not in self._allowed:
            self._unseen("modules.conf", f"whether these are loaded: {', '.join(used)}")
            return
        for module, why in used.items():
            try:
                await self._client.action("ModuleCheck", Module=module)
            except AmiActionFailed:
                only_for = OPTIONAL.get(module)
                if only_for is not None:
                    self._note(
                        "advice", "modules.conf", f"{module} is not loaded: without it no {only_for}", ()
                    )
                    continue
                self._wrong(
                    "modules.conf",
                    f"{module} is not loaded, and {why}; `load = {module}.so`, or `autoload = yes` without a"
                    " `noload` of it, would be right",
                )
        for action, bringing in ACTIONS.items():
            if bringing is not None and action not in self._allowed and not self._has_noted(bringing):
                self._wrong(
                    "manager.conf",
                    f"[{self._asterisk.username}] may not do {action};"
                    f" `write = {self._needs.user.last('write')}` would be right",
                )

    def _has_noted(self, module: str) -> bool:
        return any(finding.text.startswith(f"{module} ") for finding in self._report.findings)

    async def _manager(self) -> None:
        if "GetConfig" not in self._allowed:
            self._unseen("manager.conf", "`read`, `channelvars`, `timestampevents` and `eventfilter`")
            return
        general = await self._category("general")
        user = await self._category(self._asterisk.username)
        name = self._asterisk.username
        if general is None or user is None:
            self._unseen("manager.conf", f"[{name}] and [general] are not both in this file")
            return
        needed = words(self._needs.user.last("read"))
        had = words(user.last("read"))
        unread = frozenset() if "all" in had else needed - had
        if unread - CALL_CONTROL_READS:
            self._wrong(
                "manager.conf",
                f"[{name}] `read` lacks {', '.join(sorted(unread))}:"
                f" `read = {self._needs.user.last('read')}` would be right",
            )
        elif unread:
            self._advise_call_control(f"`read` lacks {', '.join(sorted(unread))}", "read")
        if (general.last("timestampevents") or "").lower() not in ("yes", "true", "y", "t", "1", "on"):
            self._wrong(
                "manager.conf",
                "[general] without times, a backlog of events falsifies durations:"
                " `timestampevents = yes` would be right",
            )
        had = words(general.last("channelvars"))
        lacking = sorted(words(self._needs.general.last("channelvars")) - had)
        if lacking:
            all_of_them = ",".join([*sorted(had), *lacking]).upper()
            self._wrong(
                "manager.conf",
                f"[general] events do not say which call a channel belongs to:"
                f" `channelvars = {all_of_them}` would be right",
            )
        self._filters(general, user)

    async def _category(self, name: str) -> Category | None:
        answer = await self._client.action("GetConfig", Filename="manager.conf", Category=name)
        lines = [
            value.partition("=")
            for header, value in answer.headers.items()
            # Asterisk takes the first of several categories of one name.
            if header.startswith("Line-000000-")
        ]
        settings = tuple((key.strip(), value.strip()) for key, _, value in lines)
        return Category(name, settings) if answer.get("Category-000000") == name else None

    def _filters(self, general: Category, user: Category) -> None:
        filters = [value for key, value in user.settings if key.lower() == "eventfilter"]
        with_criteria = [key for key, _ in user.settings if key.lower().startswith("eventfilter(")]
        if with_criteria and self._differences.filter_criteria:
            self._unseen("manager.conf", f"what [{user.name}] `{with_criteria[0]}` lets through")
            return
        disabled = words(general.last("disabledevents"))
        passing = {event: passes_filters(event, filters) for event in sorted(WANTED)}
        held = [event for event, passes in passing.items() if passes is False or event.lower() in disabled]
        shipped = [value for key, value in self._needs.user.settings if key.lower() == "eventfilter"]
        if held:
            including = " and ".join(
                f"`eventfilter = {each}`" for each in shipped if not each.startswith("!")
            )
            self._wrong(
                "manager.conf",
                f"[{user.name}] `eventfilter`, or [general] `disabledevents`, holds back {', '.join(held)};"
                f" {including} would be right",
            )
        for each in shipped:
            if each.startswith("!") and each not in filters:
                self._wrong(
                    "manager.conf",
                    f"[{user.name}] passes on what a caller writes into events, by line ends in their number;"
                    f" `eventfilter = {each}` beside the other would be right",
                )
        if None in passing.values():
            self._unseen("manager.conf", f"what [{user.name}] `eventfilter` lets through")

    async def _dialplan(self) -> None:
        if "ShowDialPlan" not in self._allowed:
            self._unseen("extensions.conf", "whether dialplan/cti.conf is loaded")
            return
        missing = [name for name in self._needs.dialplan.contexts if await self._context(name) is None]
        contexts = set(self._needs.dialplan.contexts) - {VERSION_CONTEXT}
        if contexts <= set(missing):
            self._wrong(
                "extensions.conf",
                'dialplan/cti.conf is not loaded; the file beside it, `#include "cti.conf"`, and'
                " `dialplan reload` would be right",
            )
            return
        loaded = ",".join(await self._context(VERSION_CONTEXT) or ())
        ours = self._needs.dialplan.version
        if missing or loaded != ours:
            lacks = f"it lacks {', '.join(missing)}" if missing else f"it is state {loaded}, ours is {ours}"
            self._wrong(
                "extensions.conf",
                f"another dialplan/cti.conf is loaded than that of this version ({lacks}); a copy of"
                " ours, and `dialplan reload`, would be right",
            )

    async def _context(self, name: str) -> Sequence[str] | None:
        """The extensions of a context of the dialplan, each once; None if there is none of that name."""
        try:
            entries = await self._client.list_action(
                "ShowDialPlan", complete="ShowDialPlanComplete", Context=name
            )
        except AmiActionFailed:
            return None
        return tuple(dict.fromkeys(entry.get("Extension") for entry in entries if entry.get("Extension")))

    async def _globals(self) -> None:
        if "Getvar" not in self._allowed:
            self._unseen("extensions.conf", "CTI_SERVER, CTI_PBX, CTI_OUTBOUND and CTI_FALLBACK in [globals]")
            return
        name = await self._value("CTI_PBX") or "main"
        if name != self._asterisk.name:
            self._wrong(
                "extensions.conf",
                f"[globals] CTI_PBX is {name[:64]!r}, so that its calls would be taken for those of another"
                f" Asterisk; `CTI_PBX = {self._asterisk.name}` would be right",
            )
        server = await self._value("CTI_SERVER") or "127.0.0.1:4573"
        listen = self._settings.fastagi.listen
        self._unseen(
            "extensions.conf",
            f"whether [globals] CTI_SERVER = {server[:100]} leads from that Asterisk to us, who listen at"
            f" {listen.host}:{listen.port}; a call does show it",
        )
        await self._way_out()

    async def _way_out(self) -> None:
        context = await self._value("CTI_OUTBOUND")
        if not context:
            self._note(
                "advice",
                "extensions.conf",
                "[globals] CTI_OUTBOUND is not set: calls made at phones do not pass cti-outbound, and call control"
                " can call no number; `CTI_OUTBOUND =` your context that dials out would allow it",
                (),
            )
        elif await self._context(context) is None and "ShowDialPlan" in self._allowed:
            self._wrong(
                "extensions.conf",
                f"[globals] CTI_OUTBOUND = {context[:80]} does not exist, so that whatever passes cti-outbound ends"
                " in congestion; a context of this dialplan would be right",
            )

    async def _fallbacks(self) -> None:
        if "Getvar" not in self._allowed or self._has_noted("func_dialplan"):
            self._unseen("extensions.conf", "whether the fallbacks exist")
            return
        last = await self._value("CTI_FALLBACK")
        if not last:
            self._wrong(
                "extensions.conf",
                "[globals] CTI_FALLBACK is not set: a call for which nothing is known would end in congestion;"
                " `CTI_FALLBACK = context,exten,prio` would be right",
            )
        elif not await self._exists(last):
            self._wrong(
                "extensions.conf",
                f"[globals] CTI_FALLBACK = {last[:200]} does not exist; a context,exten,prio of this dialplan"
                " would be right",
            )
        for service in self._settings.services.values():
            self._report.fallbacks[service.name] = await self._exists(service.fallback)

    async def _exists(self, place: str) -> bool:
        # By the very function with which our dialplan looks before it jumps.
        return place.count(",") == 2 and await self._value(f"DIALPLAN_EXISTS({place})") == "1"

    async def _value(self, variable: str) -> str:
        """A global variable, or what a function says; empty if there is none."""
        return (await self._client.action("Getvar", Variable=variable)).get("Value")

    async def _astdb(self) -> None:
        if "DBGetTree" not in self._allowed:
            self._unseen("AstDB", "which fallbacks it has")
            return
        held = await Services.held_fallbacks(self._client)
        wanted = Services(self._settings.services.values(), self._settings.plan).fallbacks
        if not held:
            self._unseen(
                "AstDB", "which fallbacks it will have: the server writes them when it first connects"
            )
            return
        other = [did for did, fallback in wanted.items() if held.get(did) != fallback]
        if other:
            self._wrong(
                "AstDB",
                f"{len(other)} of {len(wanted)} forms of the numbers have another fallback than the"
                " configuration, or none; starting or reloading the server would be right, which writes them",
            )

    async def _endpoints(self) -> None:
        if "PJSIPShowEndpoints" not in self._allowed:
            self._unseen("pjsip.conf", "whether it knows the agents' phones")
            return
        try:
            entries = await self._client.list_action("PJSIPShowEndpoints", complete="EndpointListComplete")
        except AmiActionFailed:
            # Its way to say that there is none.
            entries = []
        self._report.endpoints = frozenset(entry.get("ObjectName") for entry in entries)


def of_all(
    reports: Sequence[Report], settings: Settings, phones: Mapping[str, Sequence[str]]
) -> Iterator[Finding]:
    """What only all Asterisks together show: a phone or a fallback may be at one of them, and not at another."""
    for name, service in settings.services.items():
        there = {report.pbx: report.fallbacks[name] for report in reports if name in report.fallbacks}
        lacking = [pbx for pbx, has_it in there.items() if not has_it]
        if not lacking:
            continue
        yield Finding(
            "wrong" if lacking == list(settings.asterisks) else "unseen",
            ("services", name, "fallback"),
            "extensions.conf",
            f"{service.fallback} does not exist in the dialplan of {', '.join(lacking)}; a context,exten,prio"
            " of it would be right, wherever calls for this service come in",
        )
    asked = {report.pbx: report.endpoints for report in reports if report.endpoints is not None}
    known = frozenset[str]().union(*asked.values())
    for agent, theirs in phones.items():
        for phone in theirs:
            technology, _, resource = phone.partition("/")
            # A number on a trunk is dialled as PJSIP/NUMBER@TRUNK.
            endpoint = resource.rpartition("@")[2]
            if technology != "PJSIP":
                yield Finding(
                    "unseen", ("agents", agent, "phones"), "Asterisk", f"whether {phone} is a phone there"
                )
            elif endpoint not in known and asked:
                yield Finding(
                    "wrong" if len(asked) == len(settings.asterisks) else "unseen",
                    ("agents", agent, "phones"),
                    "pjsip.conf",
                    f"{', '.join(asked)} has no endpoint {endpoint}, and cannot ring"
                    f" {phone}; a section [{endpoint}] with `type = endpoint` would be right",
                )
