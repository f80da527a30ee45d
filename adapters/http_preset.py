"""A CRM described as data: the YAML file of a preset as values, each problem with its line and column.

What is done with a description is left to ``http``; what its expressions mean is ``http_words``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from attrs import evolve, field, frozen

from adapters.base import KeyKind, PartyType
from adapters.http_client import Limits
from adapters.http_words import Expression, Template, WordsError
from cti.yaml_file import ListNode, MappingNode, Place, ScalarNode, Section, YamlFile
from routing.words import quoted, unknown

METHODS: Final = ("get", "post", "put", "patch", "delete")
#: How a number may be given to a CRM; see ``docs/crm/http.md``.
VARIANTS: Final = (
    "e164",
    "digits",
    "zeros",
    "national",
    "spaced",
    "spaced_national",
    "significant",
    "switchboard",
)

_STEP: Final = (
    *METHODS,
    "at",
    "query",
    "headers",
    "json",
    "form",
    "when",
    "each",
    "until_found",
    "none",
    "take",
    "as",
)
_FIELDS: Final = (
    "id",
    "name",
    "company",
    "owner",
    "tier",
    "language",
    "tags",
    "notes",
    "organisation",
    "balance",
    "dunning",
    "region",
    "texts",
)
_SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "cases": ("id", "title", "status", "opened", "url"),
    "last_contacts": ("at", "kind", "user", "summary"),
    "appointments": ("id", "at", "title", "user", "url"),
    "tasks": ("id", "title", "due", "user", "url"),
    "links": ("title", "url"),
}
_ERRORS: Final = ("denied", "busy", "failed", "none")
_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_LONGEST: Final = 4000

_T = TypeVar("_T", Expression, Template)

#: What a body is made of: texts with expressions, and what holds them.
Shape = Template | Mapping[str, Any] | Sequence[Any] | bool | int | float


class PresetError(ValueError):
    """A description that cannot be used; the text has every problem as FILE:LINE:COLUMN."""


@frozen
class Step:
    """One request, and what is taken from its answer under the name ``as_``.

    ``at``: another server than the CRM's own address, one of the description's ``hosts``.
    """

    method: str
    url: Template
    at: Template | None = None
    query: tuple[tuple[str, Shape], ...] = ()
    headers: tuple[tuple[str, Template], ...] = ()
    json: Shape | None = None
    form: tuple[tuple[str, Shape], ...] | None = None
    when: Expression | None = None
    each: Expression | None = None
    until_found: bool = False
    none: frozenset[int] = frozenset()
    take: Expression | None = None
    as_: str = "answer"


@frozen
class Listing:
    """A section of the card: which values are its entries, and what of each goes where."""

    each: Expression
    fields: Mapping[str, Expression | Template]


@frozen
class Record:
    """How a record of the CRM becomes a party."""

    type: PartyType
    fields: Mapping[str, Expression]
    numbers: Mapping[str, Expression]
    url: Template | None = None
    sections: Mapping[str, Listing] = field(factory=dict)


@frozen
class Finding:
    """Steps, and which values they have led to are records of which type. ``after``: of the next page."""

    steps: tuple[Step, ...]
    parties: Mapping[PartyType, Expression]
    after: Expression | None = None


@frozen
class Keyed:
    """A kind of key, and how who has it is found; ``value`` is the key of a record, to be compared."""

    kind: KeyKind
    finding: Finding
    value: Expression


@frozen
class Writing:
    """How something is written: by ``create``, or, where ``find`` or an earlier time gave its id, by ``update``.

    ``remove``: how it is taken back; ``moves``: ``update`` makes it another party's. ``by_key``: the CRM itself makes
    one record of a key; ``unknown``: it takes calls without a party. ``needs``: the setting without which it cannot
    be.
    """

    type: str
    create: tuple[Step, ...]
    id: Expression
    url: Template | None = None
    find: tuple[Step, ...] = ()
    found: Expression | None = None
    update: tuple[Step, ...] = ()
    remove: tuple[Step, ...] = ()
    moves: bool = False
    early: bool = False
    by_key: bool = False
    unknown: bool = False
    needs: str | None = None


@frozen
class Users:
    """The CRM's users: steps, the values that are users, and what of each goes where."""

    steps: tuple[Step, ...]
    each: Expression
    fields: Mapping[str, Expression]


@frozen
class Login:
    """Steps that lead to a token, and how it is sent with each request; ``seconds`` for which it is good."""

    steps: tuple[Step, ...]
    token: Expression
    seconds: Expression | None = None


@frozen
class Auth:
    """What is sent with each request to prove who we are."""

    headers: tuple[tuple[str, Template], ...] = ()
    query: tuple[tuple[str, Template], ...] = ()
    basic: tuple[Template, Template] | None = None
    login: Login | None = None


@frozen
class Setting:
    """Something that the administrator has to give, or may; ``default`` is None where they have to."""

    about: str
    secret: bool = False
    default: str | None = None


@frozen
class Description:
    """A CRM described as data; two are the same if their files are."""

    digest: str
    title: str = field(eq=False)
    settings: Mapping[str, Setting] = field(eq=False)
    hosts: tuple[Template, ...] = field(eq=False)
    auth: Auth = field(eq=False)
    headers: tuple[tuple[str, Template], ...] = field(eq=False)
    limits: Limits = field(eq=False)
    zone: ZoneInfo = field(eq=False)
    maps: Mapping[str, Mapping[str, Any]] = field(eq=False)
    variants: tuple[str, ...] = field(eq=False)
    errors: tuple[tuple[Expression, str], ...] = field(eq=False)
    records: Mapping[PartyType, Record] = field(eq=False)
    identify: Finding = field(eq=False)
    card: Finding | None = field(eq=False)
    search: Finding | None = field(eq=False)
    create: Finding | None = field(eq=False)
    list: Finding | None = field(eq=False)
    keys: tuple[Keyed, ...] = field(eq=False)
    users: Users | None = field(eq=False)
    journal: Writing | None = field(eq=False)
    note: Writing | None = field(eq=False)
    task: Writing | None = field(eq=False)


def preset_names() -> list[str]:
    """The CRMs whose description is part of Cordboard."""
    found = (each.name for each in files("adapters").joinpath("presets").iterdir())
    return sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


def preset_path(name: str) -> Path:
    """Where the description of that name is. Raises ``PresetError`` if there is none."""
    known = preset_names()
    if name not in known:
        raise PresetError(unknown("preset", name, known))
    return Path(str(files("adapters").joinpath("presets", f"{name}.yaml")))


def read_description(path: Path) -> Description:
    """Reads the file, blocking. Raises ``PresetError``."""
    file = YamlFile(path)
    place = file.open()
    description = None if place is None else _Reader(file).description(place)
    if file.problems or description is None:
        raise PresetError("; ".join(str(problem) for problem in sorted(file.problems)))
    return evolve(description, digest=hashlib.sha256(path.read_bytes()).hexdigest())


_TOP: Final = (
    "title",
    "settings",
    "hosts",
    "auth",
    "headers",
    "limits",
    "zone",
    "maps",
    "numbers",
    "errors",
    "parties",
    "identify",
    "card",
    "search",
    "create",
    "list",
    "keys",
    "users",
    "journal",
    "note",
    "task",
)


class _Reader:
    """Reads the parts of a description, and notes what is wrong in the file."""

    def __init__(self, file: YamlFile) -> None:
        self._file = file

    def description(self, place: Place) -> Description | None:
        file = self._file
        top = file.section(place, _TOP)
        records = self._records(
            top.need("parties", "{contact: {id: id, name: name, numbers: {phone: phone}}}")
        )
        identify = self._finding(top.need("identify", "{steps: […], parties: {contact: answer}}"), records)
        title = file.text(top.need("title", "the CRM's name"), one_line=True)
        read: dict[str, Any] = {
            name: self._finding(top.get(name), records, pages=name == "list")
            for name in ("card", "search", "create", "list")
        }
        writings: dict[str, Any] = {
            name: self._writing(top.get(name), name) for name in ("journal", "note", "task")
        }
        settings = dict(self._settings(top.get("settings")))
        common: dict[str, Any] = {
            "hosts": tuple(self._each(top.get("hosts"), Template)),
            "auth": self._auth(top.get("auth")),
            "headers": self._pairs(top.get("headers")),
            "limits": self._limits(top.get("limits")),
            "zone": self._zone(top.get("zone")),
            "maps": self._maps(top.get("maps")),
            "variants": tuple(self._variants(top.get("numbers"))),
            "errors": tuple(self._errors(top.get("errors"))),
        }
        keys, users = tuple(self._keys(top.get("keys"), records)), self._users(top.get("users"))
        if file.problems or identify is None or title is None:
            return None
        return Description(
            digest="",
            title=title,
            settings=settings,
            records=records,
            identify=identify,
            keys=keys,
            users=users,
            **common,
            **read,
            **writings,
        )

    # What the administrator gives, and how the CRM is reached.

    def _settings(self, place: Place | None) -> Iterator[tuple[str, Setting]]:
        for name, each in self._words(place):
            section = self._file.section(each, ("about", "secret", "default"))
            about = self._file.text(section.need("about", "what it is, and where it is found"))
            secret = self._file.yes_or_no(section.get("secret"), False)
            default = section.get("default")
            given = None
            if default is not None:
                is_empty = isinstance(default.node, ScalarNode) and not default.node.text
                given = "" if is_empty else self._file.text(default, one_line=True)
            yield name, Setting(about or "", secret, given)

    def _auth(self, place: Place | None) -> Auth:
        section = self._file.section(place, ("headers", "query", "basic", "login"))
        basic = None
        if (at := section.get("basic")) is not None:
            both = self._file.section(at, ("username", "password"))
            username = self._words_of(both.need("username", '"{values.username}"'), Template)
            password = self._words_of(both.need("password", '"{secret.password}"'), Template)
            basic = None if username is None or password is None else (username, password)
        return Auth(
            self._pairs(section.get("headers")),
            self._pairs(section.get("query")),
            basic,
            self._login(section.get("login")),
        )

    def _login(self, place: Place | None) -> Login | None:
        if place is None:
            return None
        section = self._file.section(place, ("steps", "token", "seconds"))
        token = self._words_of(section.need("token", "answer.access_token"), Expression)
        steps = self._steps(section.need("steps", "[{post: /token, form: {…}}]"))
        seconds = self._words_of(section.get("seconds"), Expression)
        return None if token is None else Login(steps, token, seconds)

    def _limits(self, place: Place | None) -> Limits:
        known = ("seconds", "megabytes", "concurrent", "per_second", "burst")
        section = self._file.section(place, known)
        whole = {
            name: self._file.whole(section.get(name), default, low, high)
            for name, default, low, high in (
                ("seconds", 5, 1, 60),
                ("megabytes", 2, 1, 50),
                ("concurrent", 8, 1, 100),
                ("per_second", 0, 0, 1000),
                ("burst", 1, 1, 1000),
            )
        }
        return Limits(
            seconds=whole["seconds"],
            body=whole["megabytes"] * 1_000_000,
            concurrent=whole["concurrent"],
            per_second=whole["per_second"] or None,
            burst=whole["burst"],
        )

    def _zone(self, place: Place | None) -> ZoneInfo:
        name = self._file.text(place) if place is not None else None
        if place is not None and name is not None:
            try:
                return ZoneInfo(name)
            except (ValueError, OSError, KeyError):
                self._file.wrong(
                    place, f"{quoted(name)} is no time zone; UTC or Europe/Berlin would be right"
                )
        return ZoneInfo("UTC")

    def _maps(self, place: Place | None) -> dict[str, dict[str, Any]]:
        return {
            name: {
                word: self._file.plain(value)
                for word, value in self._file.section(each, None).entries.items()
            }
            for name, each in self._words(place)
        }

    def _variants(self, place: Place | None) -> Iterator[str]:
        if place is None:
            yield "e164"
        for each in self._file.items(place, "[e164, national]", at_least_one=True):
            yield self._file.choice(each, "e164", "form of a number", VARIANTS)

    def _errors(self, place: Place | None) -> Iterator[tuple[Expression, str]]:
        for each in self._file.items(place, "{when: error, is: failed}"):
            section = self._file.section(each, ("when", "is"))
            when = self._words_of(section.need("when", "error"), Expression)
            kind = self._file.choice(section.need("is", "failed"), "failed", "kind of error", _ERRORS)
            if when is not None:
                yield when, kind

    # Records.

    def _records(self, place: Place | None) -> dict[PartyType, Record]:
        types = tuple(each.value for each in PartyType)
        found = {}
        for name, each in self._file.section(place, types).entries.items():
            section = self._file.section(each, (*_FIELDS, "url", "numbers", *_SECTIONS))
            section.need("id", "id")
            section.need("name", "name")
            numbers = section.need("numbers", "{phone: phone}")
            found[PartyType(name)] = Record(
                PartyType(name),
                dict(self._expressions(section, _FIELDS)),
                dict(self._expressions(self._file.section(numbers, None))),
                self._words_of(section.get("url"), Template),
                dict(self._sections(section)),
            )
        return found

    def _sections(self, section: Section) -> Iterator[tuple[str, Listing]]:
        for name, fields in _SECTIONS.items():
            place = section.get(name)
            if place is None:
                continue
            entries = self._file.section(place, ("each", *fields))
            each = self._words_of(entries.need("each", "here.tickets"), Expression)
            taken: dict[str, Expression | Template] = {}
            for field_name in fields:
                kind: type[Any] = Template if field_name == "url" else Expression
                value = self._words_of(entries.get(field_name), kind)
                if value is not None:
                    taken[field_name] = value
            if each is not None:
                yield name, Listing(each, taken)

    def _users(self, place: Place | None) -> Users | None:
        if place is None:
            return None
        fields = ("id", "name", "login", "extension", "active")
        section = self._file.section(place, ("steps", "each", *fields))
        each = self._words_of(section.need("each", "answer"), Expression)
        section.need("id", "id")
        steps = self._steps(section.need("steps", "[{get: /users}]"))
        return None if each is None else Users(steps, each, dict(self._expressions(section, fields)))

    # What is asked and written.

    def _finding(
        self, place: Place | None, records: Collection[PartyType], *, pages: bool = False
    ) -> Finding | None:
        if place is None:
            return None
        section = self._file.section(place, ("steps", "parties", *(("after",) if pages else ())))
        return self._found_by(section, records)

    def _found_by(self, section: Section, records: Collection[PartyType]) -> Finding:
        steps = self._steps(section.need("steps", "[{get: /contacts, query: {…}}]"))
        place = section.need("parties", "{contact: answer}")
        known = [each.value for each in records]
        parties = self._expressions(self._file.section(place, known))
        return Finding(
            steps,
            {PartyType(name): each for name, each in parties},
            self._words_of(section.get("after"), Expression),
        )

    def _keys(self, place: Place | None, records: Collection[PartyType]) -> Iterator[Keyed]:
        for name, each in self._words(place):
            section = self._file.section(each, ("title", "sensitive", "steps", "parties", "value"))
            title = self._file.text(section.need("title", "customer number"), one_line=True) or name
            sensitive = self._file.yes_or_no(section.get("sensitive"), False)
            value = self._words_of(section.need("value", "customer_number"), Expression)
            finding = self._found_by(section, records)
            if value is not None:
                yield Keyed(KeyKind(name, title, sensitive), finding, value)

    def _writing(self, place: Place | None, what: str) -> Writing | None:
        if place is None:
            return None
        known = ["type", "create", "id", "url", "needs"]
        if what == "journal":
            known += ["find", "found", "update", "remove", "moves", "early", "by_key", "unknown"]
        section = self._file.section(place, known)
        id_ = self._words_of(section.need("id", "answer.id"), Expression)
        create = self._steps(section.need("create", "[{post: /calls, json: {…}}]"))
        if id_ is None:
            return None
        find = section.get("find")
        found = self._words_of(
            section.need("found", "answer[0].id") if find is not None else section.get("found"), Expression
        )
        return Writing(
            type=self._file.text(section.need("type", "Call"), one_line=True) or "",
            create=create,
            id=id_,
            url=self._words_of(section.get("url"), Template),
            find=self._steps(find),
            found=found,
            update=self._steps(section.get("update")),
            remove=self._steps(section.get("remove")),
            moves=self._file.yes_or_no(section.get("moves"), False),
            early=self._file.yes_or_no(section.get("early"), False),
            by_key=self._file.yes_or_no(section.get("by_key"), False),
            unknown=self._file.yes_or_no(section.get("unknown"), False),
            needs=self._file.text(section.get("needs"), one_line=True),
        )

    def _steps(self, place: Place | None) -> tuple[Step, ...]:
        steps = (self._step(each) for each in self._file.items(place, "{get: /contacts}"))
        return tuple(step for step in steps if step is not None)

    def _step(self, place: Place) -> Step | None:
        file = self._file
        section = file.section(place, _STEP)
        methods = [method for method in METHODS if method in section.entries]
        if len(methods) != 1:
            if isinstance(place.node, MappingNode):
                file.wrong(place, f"is no request; one of {', '.join(METHODS)} with its path would be right")
            return None
        url = self._url(section.entries[methods[0]])
        if "json" in section.entries and "form" in section.entries:
            file.wrong(section.entries["form"], "stands beside json; one of them would be right")
        json, form, as_ = section.get("json"), section.get("form"), section.get("as")
        name = "answer" if as_ is None else file.text(as_) or "answer"
        if as_ is not None and not _WORD.fullmatch(name):
            file.wrong(as_, f"{quoted(name)} is no name; small letters, digits and _ would be right")
        return (
            None
            if url is None
            else Step(
                method=methods[0].upper(),
                url=url,
                at=self._words_of(section.get("at"), Template),
                query=self._shapes(section.get("query")),
                headers=self._pairs(section.get("headers")),
                json=None if json is None else self._shape(json),
                form=None if form is None else self._shapes(form),
                when=self._words_of(section.get("when"), Expression),
                each=self._words_of(section.get("each"), Expression),
                until_found=file.yes_or_no(section.get("until_found"), False),
                none=frozenset(
                    file.whole(each, 404, 400, 599) for each in file.items(section.get("none"), "404")
                ),
                take=self._words_of(section.get("take"), Expression),
                as_=name,
            )
        )

    def _url(self, place: Place) -> Template | None:
        url = self._words_of(place, Template)
        if url is None:
            return None
        if not url.source.startswith("/"):
            self._file.wrong(
                place, "is no path; one that begins with / would be right, and `at` for another server"
            )
            return None
        return url

    # Words.

    def _words_of(self, place: Place | None, kind: type[_T]) -> _T | None:
        if place is None:
            return None
        node = place.node
        if not isinstance(node, ScalarNode) or node.tag not in ("str", "int", "float", "bool"):
            self._file.wrong(place, f"is {node.what}; a text would be right")
            return None
        if len(node.text) > _LONGEST:
            self._file.wrong(place, f"is too long; at most {_LONGEST} characters would be right")
            return None
        try:
            return kind(node.text)
        except WordsError as error:
            self._file.wrong(place, str(error))
            return None

    def _each(self, place: Place | None, kind: type[_T]) -> Iterator[_T]:
        for each in self._file.items(place, '"https://login.example"'):
            if (words := self._words_of(each, kind)) is not None:
                yield words

    def _expressions(
        self, section: Section, names: Collection[str] | None = None
    ) -> Iterator[tuple[str, Expression]]:
        for name, place in section.entries.items():
            if names is None or name in names:
                expression = self._words_of(place, Expression)
                if expression is not None:
                    yield name, expression

    def _words(self, place: Place | None) -> Iterator[tuple[str, Place]]:
        """Entries whose keys are names that expressions use."""
        for name, each in self._file.section(place, None).entries.items():
            if _WORD.fullmatch(name):
                yield name, each
            else:
                self._file.wrong(
                    each, f"{quoted(name)} cannot be a name here; small letters, digits and _ would be right"
                )

    def _pairs(self, place: Place | None) -> tuple[tuple[str, Template], ...]:
        found = (
            (name, self._words_of(each, Template))
            for name, each in self._file.section(place, None).entries.items()
        )
        return tuple((name, words) for name, words in found if words is not None)

    def _shapes(self, place: Place | None) -> tuple[tuple[str, Shape], ...]:
        return tuple(
            (name, self._shape(each)) for name, each in self._file.section(place, None).entries.items()
        )

    def _shape(self, place: Place) -> Shape:
        node = place.node
        if isinstance(node, MappingNode):
            return {name: self._shape(each) for name, each in self._file.section(place, None).entries.items()}
        if isinstance(node, ListNode):
            return [self._shape(Place(each, (*place.keys, at))) for at, each in enumerate(node.items)]
        if node.tag == "str":
            return self._words_of(place, Template) or ""
        plain: Shape = self._file.plain(place)
        return plain
