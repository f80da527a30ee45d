"""The one YAML file as typed settings, or every error in it at once, each with its line and column.

What the file says is checked here; what is made of it is left to `cti.service`. The sections are read by
walking over YAML's nodes, because every error needs the place of its value, and because cattrs silently makes
50 of 50.9; cattrs reads only the options of adapters, whose classes are not known here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml
from attrs import field, frozen
from cattrs import BaseValidationError, ClassValidationError, Converter, IterableValidationError
from cattrs.errors import AttributeValidationNote, ForbiddenExtraKeysError, IterableValidationNote

from cti.numbers import NumberKind, NumberPlan
from routing.facts import is_phone
from routing.rules import MAX_TIMEOUT as MAX_RING_TIMEOUT
from routing.rules import RING_TIMEOUT, Mode, Rule, RulesError, Service, compile_rules, path_text
from routing.rules import Path as Keys
from routing.words import quoted, unknown

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_FILE: Final = 1024 * 1024
MAX_SECRET: Final = 4096
# Aliases are counted as often as they are used, so that a small file cannot stand for a huge one.
MAX_VALUES: Final = 200_000
MAX_NESTING: Final = 50
MAX_TEXT: Final = 500
# The dialplan waits 3 s for an answer and then goes on without us.
MAX_ANSWER_MS: Final = 2900

EVENTS: Final = (
    "call.offered",
    "call.queued",
    "call.routed",
    "call.ringing",
    "call.connected",
    "call.held",
    "call.retrieved",
    "call.transferred",
    "call.ended",
    "call.missed",
    "card.offered",
    "card.shown",
    "card.withdrawn",
    "agent.state",
)
SEED_STATES: Final = ("logged_out", "ready", "paused")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

_LOOPBACK: Final[tuple[Network, ...]] = (
    ipaddress.ip_network("127.0.0.0/8"),
    ipaddress.ip_network("::1/128"),
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NAME_IS: Final = "a name of up to 64 letters, digits and _.- would be right"
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL: Final = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{1,18}")
# What may stand in CTI_TARGET and AstDB; a priority may be a label.
_FALLBACK: Final = re.compile(
    r"[A-Za-z0-9_.-]{1,79},[A-Za-z0-9_.*#+-]{1,79},([1-9][0-9]{0,4}|[A-Za-z][A-Za-z0-9_-]{0,79})"
)

_TAG: Final = "tag:yaml.org,2002:"
_SCALARS: Final[Mapping[str, str]] = {
    "str": "a text",
    "int": "a number",
    "float": "a number",
    "bool": "a yes or no",
    "null": "empty",
    "timestamp": "a date",
}


class Secret:
    """A text that shows itself only to who asks for it by name."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@frozen
class Address:
    host: str
    port: int


@frozen
class StoreSettings:
    sqlite: Path


@frozen
class FastAgi:
    """`allow`: the networks that may connect. `max_in_flight`: requests at once; those beyond are shed."""

    listen: Address = Address("127.0.0.1", 4573)
    allow: tuple[Network, ...] = _LOOPBACK
    max_in_flight: int = 256


@frozen
class Http:
    """`behind_proxy`: a proxy in front keeps TLS. `metrics_allow`: who reads /metrics without a token."""

    listen: Address = Address("127.0.0.1", 8470)
    behind_proxy: bool = False
    metrics_allow: tuple[Network, ...] = _LOOPBACK


@frozen
class Asterisk:
    name: str
    ami: Address
    username: str
    secret: Secret


@frozen
class AdapterSettings:
    """`options`: an instance of the kind's `options_class`; not shown, since it may hold a password."""

    name: str
    kind: str
    options: Any = field(repr=False)


@frozen
class Agent:
    """A person to seed a fresh store with. `crm`: adapter → user id there; `state`: one of `SEED_STATES`."""

    id: str
    name: str
    phones: tuple[str, ...] = ()
    groups: frozenset[str] = frozenset()
    crm: Mapping[str, str] = field(factory=dict)
    state: str = "logged_out"


@frozen
class Webhook:
    name: str
    url: str
    secret: Secret
    events: tuple[str, ...]


@frozen
class Identify:
    """`budget_ms`: what all adapters together may take."""

    budget_ms: int = 800


@frozen
class Reservation:
    """`grace`: seconds that an agent stays held after the ringing should have ended."""

    grace: int = 15


@frozen
class Log:
    level: str = "info"


@frozen
class Settings:
    """The whole file. `base`: its directory, to which relative paths refer; `numbers`: number → service.

    `answer_ms`: what an answer to Asterisk may take in all.
    """

    path: Path
    base: Path
    region: str
    plan: NumberPlan
    store: StoreSettings
    fastagi: FastAgi
    http: Http
    asterisks: Mapping[str, Asterisk]
    adapters: Mapping[str, AdapterSettings]
    agents: Mapping[str, Agent]
    services: Mapping[str, Service]
    numbers: Mapping[str, Service]
    webhooks: Mapping[str, Webhook]
    identify: Identify
    answer_ms: int
    reservation: Reservation
    log: Log


@frozen(order=True)
class Problem:
    """One thing wrong in a file; `line` and `column` count from 1, `path` is empty for the whole file."""

    line: int
    column: int
    path: str
    text: str
    file: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}:"
        return f"{where} {self.path}: {self.text}" if self.path else f"{where} {self.text}"


class SettingsError(Exception):
    """A file that cannot be used; its text is one line for each problem, by line."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def load_settings(
    path: str | Path,
    *,
    adapter_kinds: Mapping[str, type[Any]],
    known_agents: Collection[str] = frozenset(),
    known_groups: Collection[str] = frozenset(),
    environ: Mapping[str, str],
) -> Settings:
    """The settings in the file at `path`. Raises `SettingsError` with everything that is wrong in it.

    `adapter_kinds`: kind → the attrs class of its options, asked only for kinds that the file uses.
    `known_agents`, `known_groups`: those of the store, whom rules may name besides those of the file.
    `environ`: where `{env: NAME}` looks. Reads the file and those of its secrets, blocking.
    """
    document = _Document(str(path), Path(path).absolute().parent)
    root = document.open(Path(path))
    if root is None:
        raise document.error()
    settings = _Reader(
        document, adapter_kinds, frozenset(known_agents), frozenset(known_groups), environ
    ).settings(Path(path), _Place(root, ()))
    if document.problems or settings is None:
        raise document.error()
    return settings


@frozen
class _Place:
    """A value in the file, and the keys that lead to it."""

    node: yaml.Node
    keys: Keys

    @property
    def name(self) -> str:
        return str(self.keys[-1])


class _Loader(yaml.SafeLoader):
    """Bounds the depth, which PyYAML leaves to Python's stack."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_NESTING:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(None, None, f"values are nested deeper than {MAX_NESTING}", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Document:
    """The file as a tree of nodes, and the problems found so far."""

    def __init__(self, file: str, base: Path) -> None:
        self.file = file
        self.base = base
        self.problems: list[Problem] = []

    def error(self) -> SettingsError:
        return SettingsError(tuple(sorted(set(self.problems))))

    def at(self, line: int, column: int, keys: Keys, text: str) -> None:
        self.problems.append(Problem(line + 1, column + 1, path_text(keys), text, self.file))

    def wrong(self, place: _Place, text: str) -> None:
        mark = place.node.start_mark
        self.at(mark.line, mark.column, place.keys, text)

    def wrong_below(self, root: _Place, keys: Keys, text: str, *, of_key: bool) -> None:
        """A problem at `keys` below the whole document `root`, or as near to it as the file goes."""
        node, mark = root.node, root.node.start_mark
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                found = next(((k, v) for k, v in node.value if _key(k) == key), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
                found = (node.value[key], node.value[key])
            else:
                found = None
            if found is None:
                break
            node = found[1]
            mark = (found[0] if of_key else node).start_mark
        self.at(mark.line, mark.column, keys, text)

    def open(self, path: Path) -> yaml.Node | None:
        """The root of the tree; None, with the problem noted, if there is none that could be looked into."""
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_FILE + 1)
        except OSError as error:
            self.at(0, 0, (), f"cannot be read: {error.strerror}; a readable YAML file would be right")
            return None
        if len(raw) > MAX_FILE:
            self.at(
                0, 0, (), f"is longer than {MAX_FILE} bytes; agents belong into the store (cti agents import)"
            )
            return None
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line, column = _position(raw[: error.start].decode("utf-8", "replace"))
            self.at(line, column, (), "is not UTF-8 here; a file saved as UTF-8 would be right")
            return None
        return self._compose(text)

    def _compose(self, text: str) -> yaml.Node | None:
        try:
            root = yaml.compose(text, Loader=_Loader)
        except yaml.reader.ReaderError as error:
            line, column = _position(text[: error.position])
            self.at(line, column, (), "has a character that may not stand in YAML; remove it")
            return None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            said = " ".join(part for part in (error.context, error.problem) if part)
            self.at(mark.line if mark else 0, mark.column if mark else 0, (), f"is not valid YAML: {said}")
            return None
        if root is None:
            self.at(0, 0, (), "is empty; the documentation has a small configuration to begin with")
            return None
        size, depth = _extent(root, {})
        if size > MAX_VALUES or depth > MAX_NESTING:
            most = f"{MAX_VALUES} values, {MAX_NESTING} deep"
            self.at(0, 0, (), f"stands for more than {most}; fewer or no aliases would be right")
            return None
        self._check_keys(_Place(root, ()), set())
        return root

    def _check_keys(self, place: _Place, seen: set[int]) -> None:
        """Duplicate keys (of which YAML libraries silently take the last) and tags, anywhere in the file."""
        node = place.node
        if id(node) in seen:
            return
        seen.add(id(node))
        tag = str(node.tag).removeprefix(_TAG)
        if tag not in _SCALARS and tag not in ("map", "seq", "merge"):
            self.wrong(place, f"has the tag {quoted(tag)}; a plain value would be right")
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._check_keys(_Place(item, (*place.keys, index)), seen)
        elif isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for key, value in node.value:
                name = _key(key)
                keys = (*place.keys, name)
                line = key.start_mark.line
                if not isinstance(key, yaml.ScalarNode):
                    self.wrong(_Place(key, keys), "is not a key; a word would be right")
                elif key.tag == f"{_TAG}merge":
                    self.wrong(
                        _Place(key, keys),
                        "merging is not done here; an alias for a whole value would be right",
                    )
                elif name in first:
                    self.wrong(_Place(key, keys), f"is there twice; line {first[name] + 1} has it already")
                first.setdefault(name, line)
                self._check_keys(_Place(value, keys), seen)


class _Section:
    """The known keys of a mapping, the others being problems; without any where there is no such mapping."""

    def __init__(self, document: _Document, place: _Place | None, known: Collection[str] | None) -> None:
        self._document = document
        self._place: _Place | None = None
        self.entries: dict[str, _Place] = {}
        if place is None:
            return
        node = place.node
        if not isinstance(node, yaml.MappingNode):
            shape = f"a mapping with {', '.join(known)}" if known else "a mapping of names"
            document.wrong(place, f"is {_what(node)}; {shape} would be right")
            return
        self._place = place
        for key, value in node.value:
            name = _key(key)
            if known is not None and name not in known and key.tag != f"{_TAG}merge":
                document.wrong(_Place(key, (*place.keys, name)), unknown("key", name, known))
            else:
                self.entries.setdefault(name, _Place(value, (*place.keys, name)))

    def get(self, key: str) -> _Place | None:
        return self.entries.get(key)

    def need(self, key: str, example: str) -> _Place | None:
        place = self.entries.get(key)
        if place is None and self._place is not None:
            missing = _Place(self._place.node, (*self._place.keys, key))
            self._document.wrong(missing, f"is missing; `{key}: {example}` would be right")
        return place


class _Reader:
    """Reads each section, going on after a problem with a value that stands for the wrong one."""

    def __init__(
        self,
        document: _Document,
        adapter_kinds: Mapping[str, type[Any]],
        known_agents: frozenset[str],
        known_groups: frozenset[str],
        environ: Mapping[str, str],
    ) -> None:
        self._document = document
        self._wrong = document.wrong
        self._adapter_kinds = adapter_kinds
        self._known_agents = known_agents
        self._known_groups = known_groups
        self._environ = environ

    def settings(self, path: Path, root: _Place) -> Settings | None:
        top = self._section(root, _TOP)
        plan = self._plan(top)
        store = self._store(top.need("store", "{sqlite: cti.db}"))
        fastagi = self._fastagi(top.get("fastagi"))
        http = self._http(top.get("http"))
        asterisks = self._asterisks(top)
        adapters = dict(self._adapters(top.get("adapters"), root))
        agents = self._agents(top, frozenset(adapters))
        services, numbers = self._services(top, root, plan, agents)
        webhooks = dict(self._webhooks(top.get("webhooks")))
        identify, answer_ms = self._times(top)
        reservation = self._section(top.get("reservation"), ("grace",))
        log = self._section(top.get("log"), ("level",))
        grace = self._whole(reservation.get("grace"), Reservation().grace, 1, 3600)
        level = self._choice(log.get("level"), Log().level, "level", LOG_LEVELS)
        if fastagi.listen == http.listen:
            place = top.get("http") or top.get("fastagi") or root
            self._wrong(
                place, f"listens on port {http.listen.port} as fastagi does; another port would be right"
            )
        if plan is None or store is None:
            return None
        return Settings(
            path=path,
            base=self._document.base,
            region=plan.region,
            plan=plan,
            store=store,
            fastagi=fastagi,
            http=http,
            asterisks=asterisks,
            adapters=adapters,
            agents=agents,
            services=services,
            numbers=numbers,
            webhooks=webhooks,
            identify=identify,
            answer_ms=answer_ms,
            reservation=Reservation(grace),
            log=Log(level),
        )

    def _plan(self, top: _Section) -> NumberPlan | None:
        region = top.need("region", "DE")
        digits = self._whole(top.get("internal_digits"), 5, 0, 8)
        name = self._text(region) if region is not None else None
        if region is None or name is None:
            return None
        try:
            return NumberPlan(name, digits)
        except ValueError as error:
            self._wrong(region, str(error))
            return None

    def _store(self, place: _Place | None) -> StoreSettings | None:
        section = self._section(place, ("sqlite", "postgresql"))
        if (later := section.get("postgresql")) is not None:
            self._wrong(later, "comes with a later version; `sqlite: cti.db` would be right")
            return None
        name = self._text(section.need("sqlite", "cti.db"))
        return None if name is None else StoreSettings(self._document.base / name)

    def _fastagi(self, place: _Place | None) -> FastAgi:
        section = self._section(place, ("listen", "allow", "max_in_flight"))
        listen = self._listen(section.get("listen"), FastAgi().listen)
        where = section.get("listen")
        if where is not None and not _is_loopback(listen.host) and section.get("allow") is None:
            self._wrong(
                where,
                f"{quoted(listen.host)} is reachable from elsewhere; `allow: [networks of your Asterisks]`"
                " beside it, or 127.0.0.1, would be right",
            )
        return FastAgi(
            listen,
            self._networks(section.get("allow")),
            self._whole(section.get("max_in_flight"), FastAgi().max_in_flight, 1, 10_000),
        )

    def _http(self, place: _Place | None) -> Http:
        section = self._section(place, ("listen", "behind_proxy", "metrics_allow"))
        listen = self._listen(section.get("listen"), Http().listen)
        where = section.get("listen")
        behind_proxy = self._yes_or_no(section.get("behind_proxy"), False)
        if where is not None and not _is_loopback(listen.host) and not behind_proxy:
            self._wrong(
                where,
                f"{quoted(listen.host)} is reachable from elsewhere without encryption; 127.0.0.1, or"
                " `behind_proxy: true` beside it once a proxy does TLS, would be right",
            )
        return Http(listen, behind_proxy, self._networks(section.get("metrics_allow")))

    def _asterisks(self, top: _Section) -> dict[str, Asterisk]:
        asterisks = {}
        for name, place in self._named(top.need("asterisks", "{main: {ami: …}}"), at_least_one=True):
            section = self._section(place, ("ami", "username", "secret"))
            asterisks[name] = Asterisk(
                name,
                self._connect(section.need("ami", '"127.0.0.1:5038"')),
                self._text(section.need("username", "cti"), one_line=True) or "",
                self._secret(section.need("secret", "{env: AMI_SECRET}")),
            )
        return asterisks

    def _adapters(self, place: _Place | None, root: _Place) -> Iterator[tuple[str, AdapterSettings]]:
        for name, each in self._named(place):
            section = self._section(each, None)
            kind_place = section.need("kind", "directory")
            kind = self._text(kind_place)
            options: Any = None
            if kind_place is not None and kind is not None:
                if kind in self._adapter_kinds:
                    options = self._options(each, section, self._adapter_kinds[kind], root)
                else:
                    self._wrong(kind_place, unknown("kind of adapter", kind, self._adapter_kinds))
            yield name, AdapterSettings(name, kind or "", options)

    def _options(self, each: _Place, section: _Section, options_class: type[Any], root: _Place) -> Any:
        before = len(self._document.problems)
        plain = {key: self._plain(place) for key, place in section.entries.items() if key != "kind"}
        if len(self._document.problems) > before:
            return None
        try:
            return _strict_converter(self._document.base).structure(plain, options_class)
        except BaseValidationError as error:
            for keys, text, of_key in _problems_of(error, each.keys):
                self._document.wrong_below(root, keys, text, of_key=of_key)
            return None

    def _agents(self, top: _Section, adapters: frozenset[str]) -> dict[str, Agent]:
        agents: dict[str, Agent] = {}
        users: dict[tuple[str, str], str] = {}
        for id_, place in self._named(top.get("agents")):
            section = self._section(place, ("name", "phones", "groups", "crm", "state"))
            crm: dict[str, str] = {}
            for adapter, user_place in self._named(section.get("crm")):
                user = self._text(user_place, one_line=True)
                if adapter not in adapters:
                    self._wrong(user_place, unknown("adapter", adapter, adapters))
                elif user is not None:
                    crm[adapter] = user
                    other = users.setdefault((adapter, user), id_)
                    if other != id_:
                        self._wrong(user_place, f"{quoted(user)} is the user of agent {other} already")
            agents[id_] = Agent(
                id_,
                self._text(section.get("name"), one_line=True) or id_,
                tuple(self._phones(section.get("phones"))),
                frozenset(self._group_names(section.get("groups"))),
                crm,
                self._choice(section.get("state"), "logged_out", "state", SEED_STATES),
            )
        return agents

    def _phones(self, place: _Place | None) -> Iterator[str]:
        for each in self._items(place, "[PJSIP/anna]"):
            phone = self._text(each)
            if phone is not None and not is_phone(phone):
                self._wrong(
                    each, f"{quoted(phone)} is no phone; TECH/resource would be right, such as PJSIP/anna"
                )
            elif phone is not None:
                yield phone

    def _group_names(self, place: _Place | None) -> Iterator[str]:
        for each in self._items(place, "[sales]"):
            group = self._text(each)
            if group is not None and not _NAME.fullmatch(group):
                self._wrong(each, f"{quoted(group)} is no group; {_NAME_IS}")
            elif group is not None:
                yield group

    def _services(
        self, top: _Section, root: _Place, plan: NumberPlan | None, agents: Mapping[str, Agent]
    ) -> tuple[dict[str, Service], dict[str, Service]]:
        known_agents = self._known_agents | agents.keys()
        known_groups = self._known_groups.union(*(agent.groups for agent in agents.values()))
        services: dict[str, Service] = {}
        of_number: dict[str, _Place] = {}
        needed = top.need("services", "{sales: {numbers: […], …}}")
        for name, place in self._named(needed, at_least_one=True):
            section = self._section(
                place, ("numbers", "mode", "instruction", "fallback", "rules", "ring_timeout")
            )
            rules_place = section.get("rules")
            rules: tuple[Rule, ...] = ()
            if rules_place is not None:
                before = len(self._document.problems)
                plain = self._plain(rules_place)
                if len(self._document.problems) == before:
                    try:
                        rules = compile_rules(
                            plain, agents=known_agents, groups=known_groups, path=rules_place.keys
                        )
                    except RulesError as error:
                        for problem in error.problems:
                            self._document.wrong_below(
                                root, problem.path, problem.text, of_key=problem.of_key
                            )
            services[name] = Service(
                name=name,
                numbers=tuple(self._numbers(section.need("numbers", '["+49…"]'), plan, of_number)),
                mode=Mode(self._choice(section.need("mode", "observe"), Mode.OBSERVE, "mode", tuple(Mode))),
                instruction=self._text(section.get("instruction")),
                fallback=self._fallback(section.need("fallback", "context,exten,prio")),
                rules=rules,
                ring_timeout=self._whole(section.get("ring_timeout"), RING_TIMEOUT, 1, MAX_RING_TIMEOUT),
            )
        return services, {number: service for service in services.values() for number in service.numbers}

    def _numbers(
        self, place: _Place | None, plan: NumberPlan | None, of_number: dict[str, _Place]
    ) -> Iterator[str]:
        for each in self._items(place, '["+49…"]', at_least_one=True):
            raw = self._text(each)
            if raw is None or plan is None:
                continue
            number = plan.parse(raw)
            if number.kind is NumberKind.E164 and number.e164 is not None:
                key = number.e164
            elif number.kind is NumberKind.INTERNAL:
                key = "".join(str(int(digit)) for digit in number.raw if digit.isdecimal())
            else:
                shape = (
                    f"+ and the country code, or up to {plan.internal_digits} digits of an internal number"
                )
                self._wrong(each, f"{quoted(raw)} is not a telephone number; {shape} would be right")
                continue
            first = of_number.setdefault(key, each)
            if first is not each:
                where = f"{path_text(first.keys)} (line {first.node.start_mark.line + 1})"
                self._wrong(
                    each, f"{quoted(raw)} belongs to {where} already; one service a number would be right"
                )
            else:
                yield key

    def _fallback(self, place: _Place | None) -> str:
        text = self._text(place)
        if place is None or text is None:
            return ""
        fallback = ",".join(part.strip() for part in text.split(","))
        if not _FALLBACK.fullmatch(fallback):
            self._wrong(
                place, f"{quoted(text)} is not `context,exten,prio`; `from-trunk,s,1` is such a place"
            )
        return fallback

    def _webhooks(self, place: _Place | None) -> Iterator[tuple[str, Webhook]]:
        for name, each in self._named(place):
            section = self._section(each, ("url", "secret", "events"))
            example = "[call.routed, call.ended]"
            events = self._items(section.need("events", example), example, at_least_one=True)
            yield (
                name,
                Webhook(
                    name,
                    self._url(section.need("url", '"https://crm.example/hook"')),
                    self._secret(section.need("secret", "{env: HOOK}")),
                    tuple(dict.fromkeys(self._choice(event, "", "event", EVENTS) for event in events)),
                ),
            )

    def _url(self, place: _Place | None) -> str:
        text = self._text(place, one_line=True)
        if place is None or text is None:
            return ""
        try:
            parts = urlsplit(text)
            whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            whole = False
        if not whole or " " in text:
            self._wrong(place, "is not a web address; http:// or https://, a host and a path would be right")
        elif parts.username is not None or parts.password is not None:
            self._wrong(
                place, "has a password in it, which would be in every log; one without would be right"
            )
        return text

    def _times(self, top: _Section) -> tuple[Identify, int]:
        section = self._section(top.get("identify"), ("budget_ms",))
        budget_place = section.get("budget_ms")
        budget = self._whole(budget_place, Identify().budget_ms, 10, MAX_ANSWER_MS)
        answer = self._whole(top.get("answer_ms"), 1500, 100, MAX_ANSWER_MS)
        if budget >= answer and (place := budget_place or top.get("answer_ms")) is not None:
            self._wrong(
                place,
                f"identifying may take {budget} ms of the {answer} ms (answer_ms) in which Asterisk is"
                " answered; less would be right",
            )
        return Identify(budget), answer

    # Shapes of values

    def _section(self, place: _Place | None, known: Collection[str] | None) -> _Section:
        return _Section(self._document, place, known)

    def _named(self, place: _Place | None, *, at_least_one: bool = False) -> Iterator[tuple[str, _Place]]:
        """The entries of a mapping whose keys are names that the administrator gave."""
        if at_least_one and place is not None and place.node.value == []:
            self._wrong(place, "is empty; at least one would be right")
        for name, each in self._section(place, None).entries.items():
            if _NAME.fullmatch(name):
                yield name, each
            else:
                self._wrong(each, f"{quoted(name)} cannot be a name; {_NAME_IS}")

    def _items(self, place: _Place | None, example: str, *, at_least_one: bool = False) -> list[_Place]:
        if place is None:
            return []
        if not isinstance(place.node, yaml.SequenceNode):
            self._wrong(place, f"is {_what(place.node)}; a list would be right, such as {example}")
            return []
        if at_least_one and not place.node.value:
            self._wrong(place, f"is empty; at least one would be right, such as {example}")
        return [_Place(node, (*place.keys, index)) for index, node in enumerate(place.node.value)]

    def _text(self, place: _Place | None, *, one_line: bool = False, secret: bool = False) -> str | None:
        if place is None:
            return None
        node = place.node
        if not _is_scalar(node, "str"):
            quotes = (
                f', in quotes: "{node.value}"' if isinstance(node, yaml.ScalarNode) and node.value else ""
            )
            self._wrong(place, f"is {_what(node)}; a text would be right{'' if secret else quotes}")
            return None
        text = str(node.value)
        if not text.strip() or len(text) > (MAX_SECRET if secret else MAX_TEXT):
            self._wrong(
                place, f"a text of 1 to {MAX_SECRET if secret else MAX_TEXT} characters would be right"
            )
            return None
        allowed = text if one_line or secret else text.replace("\n", "")
        if not allowed.isprintable():
            self._wrong(place, "has control characters; a text without them would be right")
            return None
        return text

    def _whole(self, place: _Place | None, default: int, low: int, high: int) -> int:
        if place is None:
            return default
        node = place.node
        if not _is_scalar(node, "int") or not _WHOLE.fullmatch(node.value):
            was = quoted(node.value) if isinstance(node, yaml.ScalarNode) and node.value else "this"
            self._wrong(place, f"{was} is not a whole number; {low} to {high} would be right")
        elif not low <= int(node.value) <= high:
            self._wrong(place, f"{node.value} is out of range; {low} to {high} would be right")
        else:
            return int(node.value)
        return default

    def _yes_or_no(self, place: _Place | None, default: bool) -> bool:
        if place is None:
            return default
        if not _is_scalar(place.node, "bool"):
            self._wrong(place, f"is {_what(place.node)}; `true` or `false` would be right")
            return default
        return _truth(place.node.value)

    def _choice(self, place: _Place | None, default: str, what: str, words: Collection[str]) -> str:
        text = self._text(place)
        if place is None or text is None:
            return default
        if text not in words:
            self._wrong(place, unknown(what, text, words))
            return default
        return text

    def _listen(self, place: _Place | None, default: Address) -> Address:
        address = self._address(place, f'"{default.host}:{default.port}"')
        if place is None or address is None:
            return default
        host = "127.0.0.1" if address.host == "localhost" else address.host
        try:
            ipaddress.ip_address(host)
        except ValueError:
            self._wrong(place, f"{quoted(host)} is a name; the address to listen on would be right")
            return default
        return Address(host, address.port)

    def _connect(self, place: _Place | None) -> Address:
        return self._address(place, '"127.0.0.1:5038"') or Address("", 0)

    def _address(self, place: _Place | None, example: str) -> Address | None:
        text = self._text(place)
        if place is None or text is None:
            return None
        host, colon, port = text.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        try:
            fits = ipaddress.ip_address(bare).version == 4 or host == f"[{bare}]"
        except ValueError:
            fits = bool(_HOST.fullmatch(host))
        if not colon or not fits:
            self._wrong(place, f"{quoted(text)} is not HOST:PORT; {example} would be right")
            return None
        if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            self._wrong(place, f"{quoted(port)} is not a port; 1 to 65535 would be right")
            return None
        return Address(bare, int(port))

    def _networks(self, place: _Place | None) -> tuple[Network, ...]:
        if place is None:
            return _LOOPBACK
        networks: list[Network] = []
        for each in self._items(place, '["127.0.0.0/8"]'):
            text = self._text(each)
            if text is None:
                continue
            try:
                networks.append(ipaddress.ip_network(text))
            except ValueError:
                try:
                    meant = f'"{ipaddress.ip_network(text, strict=False)}"'
                except ValueError:
                    meant = '"192.0.2.0/24"'
                self._wrong(each, f"{quoted(text)} is not a network; such as {meant} would be right")
        return tuple(networks)

    def _secret(self, place: _Place | None) -> Secret:
        nothing = Secret("")
        if place is None:
            return nothing
        if not isinstance(place.node, yaml.MappingNode):
            text = self._text(place, secret=True)
            return nothing if text is None else Secret(text)
        section = self._section(place, ("env", "file"))
        if len(place.node.value) != 1 or not section.entries:
            if len(section.entries) == len(place.node.value):
                self._wrong(
                    place, "`{env: NAME}`, `{file: PATH}` or the secret itself in quotes would be right"
                )
            return nothing
        ((source, where),) = section.entries.items()
        name = self._text(where, one_line=True)
        if name is None:
            return nothing
        if source == "env":
            value = self._environ.get(name)
            if value is None:
                self._wrong(
                    where, f"the environment has no variable {quoted(name)}; set it, or use {{file: PATH}}"
                )
                return nothing
        else:
            try:
                with (self._document.base / name).open("rb") as file:
                    value = file.read(MAX_SECRET + 3).decode("utf-8").removesuffix("\n").removesuffix("\r")
            except OSError as error:
                self._wrong(
                    where, f"{quoted(name)} cannot be read: {error.strerror}; a readable file would be right"
                )
                return nothing
            except UnicodeDecodeError:
                self._wrong(
                    where, f"{quoted(name)} is not UTF-8; a file with one line of text would be right"
                )
                return nothing
        if not value or len(value) > MAX_SECRET or not value.isprintable():
            self._wrong(
                where,
                f"{quoted(name)} holds no secret; one line of 1 to {MAX_SECRET} characters would be right",
            )
            return nothing
        return Secret(value)

    def _plain(self, place: _Place) -> Any:
        """A value as Python has it; None, with the problem noted, for what no two people read alike."""
        node = place.node
        if isinstance(node, yaml.MappingNode):
            return {_key(k): self._plain(_Place(v, (*place.keys, _key(k)))) for k, v in node.value}
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(_Place(each, (*place.keys, i))) for i, each in enumerate(node.value)]
        text = str(node.value)
        match str(node.tag).removeprefix(_TAG):
            case "null":
                self._wrong(place, "has no value; give one or leave the key out")
            case "bool":
                return _truth(text)
            case "int" if _WHOLE.fullmatch(text):
                return int(text)
            case "float" if _DECIMAL.fullmatch(text):
                return float(text)
            case "int" | "float":
                self._wrong(
                    place, f"{quoted(text)} is an unusual number; plain digits, or quotes, would be right"
                )
            case "timestamp":
                self._wrong(place, f"{quoted(text)} is a date; in quotes it would be a text")
            case _:
                return text
        return None


_TOP: Final = (
    "region",
    "internal_digits",
    "store",
    "fastagi",
    "http",
    "asterisks",
    "adapters",
    "agents",
    "services",
    "webhooks",
    "identify",
    "answer_ms",
    "reservation",
    "log",
)


def _position(before: str) -> tuple[int, int]:
    return before.count("\n"), len(before) - (before.rfind("\n") + 1)


def _extent(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values the node stands for and how deep, aliases written out; a circle is endless."""
    if (extent := known.get(id(node))) is not None:
        return extent
    known[id(node)] = (MAX_VALUES + 1, 1)
    inner = [_extent(each, known) for each in _values(node)]
    extent = 1 + sum(size for size, _ in inner), 1 + max((depth for _, depth in inner), default=0)
    known[id(node)] = extent
    return extent


def _values(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [value for _, value in node.value]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _key(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else "?"


def _is_scalar(node: yaml.Node, kind: str) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _TAG + kind


def _what(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return _SCALARS.get(str(node.tag).removeprefix(_TAG), "something else")


def _truth(text: str) -> bool:
    return text.lower() in ("true", "yes", "on")


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


def _strict_converter(base: Path) -> Converter:
    """Takes nothing for what it is not: cattrs alone makes 50 of 50.9, 1 of True and "7" of 7."""
    converter = Converter(forbid_extra_keys=True)

    def exactly(kinds: tuple[type, ...], right: str) -> Any:
        def structure(value: object, to: type[Any]) -> Any:
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise TypeError(f"{right} would be right")
            return to(value)

        return structure

    converter.register_structure_hook(str, exactly((str,), "a text, in quotes,"))
    converter.register_structure_hook(int, exactly((int,), "a whole number"))
    converter.register_structure_hook(float, exactly((int, float), "a number"))
    converter.register_structure_hook(bool, exactly((bool,), "`true` or `false`"))

    def a_path(value: object, _to: type[Any]) -> Path:
        if not isinstance(value, str):
            raise TypeError("a path, in quotes, would be right")
        return base / value

    converter.register_structure_hook(Path, a_path)
    return converter


def _problems_of(error: BaseException, keys: Keys) -> Iterator[tuple[Keys, str, bool]]:
    """What cattrs found, taken apart: where, what, and whether the key itself is wrong."""
    if isinstance(error, ClassValidationError | IterableValidationError):
        for each in error.exceptions:
            note = next(
                (
                    n
                    for n in getattr(each, "__notes__", ())
                    if isinstance(n, AttributeValidationNote | IterableValidationNote)
                ),
                None,
            )
            if isinstance(note, AttributeValidationNote):
                missing = isinstance(each, KeyError) and each.args == (note.name,)
                yield from (
                    [((*keys, note.name), "is missing", False)]
                    if missing
                    else _problems_of(each, (*keys, note.name))
                )
            elif isinstance(note, IterableValidationNote):
                yield from _problems_of(each, (*keys, note.index))
            else:
                yield from _problems_of(each, keys)
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [attribute.name for attribute in getattr(error.cl, "__attrs_attrs__", ())]
        for name in sorted(error.extra_fields):
            yield (*keys, name), unknown("option", name, known), True
    else:
        yield keys, " ".join(str(error).split()) or "is not a value that this option takes", False
