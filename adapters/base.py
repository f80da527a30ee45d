"""The interface between Cordboard and a CRM: what an adapter is, answers, how it fails, where it is found.

Knows no CRM, and nothing of calls or agents: mapping a CRM's users to agents is left to who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from attrs import field, frozen

# Who writes an adapter finds all of it here.
from adapters.party import (
    ID_LIMIT,
    NAME_LIMIT,
    NOTES_LIMIT,
    NUMBERS_LIMIT,
    WORD_LIMIT,
    Appointment as Appointment,
    Case as Case,
    LastContact as LastContact,
    Link as Link,
    Party as Party,
    PartyRef as PartyRef,
    PartyType as PartyType,
    Task as Task,
    at_most,
    bounded_line,
    bounded_lines,
    identifier_of,
    moment_of,
    optional_line,
    optional_url,
)
from adapters.trace import Trace
from cti.numbers import Number, NumberPlan

#: Where a distribution says which kinds of adapter it brings.
ENTRY_POINT_GROUP = "cordboard.adapters"


class AdapterError(Exception):
    """An adapter could not do what it was asked.

    The text goes to the log and to the administrator: no personal data, no number, no secret in it.
    """


class AdapterTimeout(AdapterError):
    """The CRM did not answer in time."""


class AdapterUnavailable(AdapterError):
    """The CRM cannot be reached, or refuses to work."""


class AdapterBusy(AdapterUnavailable):
    """The CRM wants to be left alone for ``retry_after`` seconds."""

    def __init__(self, text: str, retry_after: float) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class AdapterDenied(AdapterUnavailable):
    """The CRM knows us not, or does not allow this: what is configured as our login has to be looked at."""


class AdapterAnswerError(AdapterError):
    """The CRM answered, and not what its documentation promises."""


class AdapterKindError(AdapterError):
    """A kind of adapter that is not installed, or whose code cannot be loaded."""


class Capability(StrEnum):
    """What an adapter can do; each is optional, and nobody asks an adapter for what it does not name here."""

    IDENTIFY = "identify"
    #: Contacts can be read from and written to a file by ``cti contacts``.
    CONTACT_FILE = "contact_file"
    #: A party that is not there can be added from the agents' desktop; see ``ICreator``.
    CREATE = "create"
    #: All that is known of one party, fresh; see ``ICardSource``.
    CARD = "card"
    #: Parties by words of their name, company and the like; see ``ISearcher``.
    SEARCH = "search"
    #: A party by a key that only one has: a customer or contract number; see ``IKeyed``.
    KEY = "key"
    #: Everybody, a page at a time, for the phone index; see ``ILister``.
    LIST = "list"
    #: What is different since the list was read; see ``IChanging``.
    CHANGES = "changes"
    #: The CRM's users, so that they can be mapped to agents; see ``IUserSource``.
    USERS = "users"
    #: One record for each call; see ``IJournal``.
    JOURNAL = "journal"
    #: A note on a party; see ``INoteTaker``.
    NOTE = "note"
    #: A task with an owner and a due date; see ``ITaskMaster``.
    TASK = "task"
    #: A number as the CRM holds it can be replaced by a cleaner form; see ``INumberWriter``.
    NUMBERS = "numbers"
    #: It answers from a file of this machine, in microseconds: no cache and no index goes before it.
    LOCAL = "local"


@frozen
class AdapterHealth:
    """Whether an adapter could answer now, and in one sentence why not."""

    up: bool
    detail: str = ""


@runtime_checkable
class IAdapter(Protocol):
    """One configured connection to one CRM."""

    @property
    def name(self) -> str:
        """Its name in the configuration; the ``adapter`` of every party it answers with."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do; the same for as long as it lives."""

    async def start(self) -> None:
        """Get ready; called once before anything else. Raises ``AdapterError`` if that can't be."""

    async def stop(self) -> None:
        """Give everything back; called once, also after a ``start`` that failed."""

    async def identify(self, number: Number) -> Sequence[Party]:
        """Who has this number, whose ``e164`` is set; nobody is an empty sequence, never an error.

        Only parties that really have the number, at most some dozens. May be cancelled at each ``await``, and
        then lets go of what it holds. Must not block. Raises ``AdapterError``.
        """

    async def health(self) -> AdapterHealth:
        """Whether it could answer now. Cheap: asked every few seconds."""


@frozen
class NewParty:
    """Somebody who is to be taken in; ``number`` is E.164. Raises ``ValueError`` without a name."""

    type: PartyType = field(converter=PartyType)
    number: str
    name: str = bounded_line(NAME_LIMIT)
    company: str = bounded_line(NAME_LIMIT)
    notes: str = bounded_lines(NOTES_LIMIT)

    def __attrs_post_init__(self) -> None:
        if not self.name:
            raise ValueError("a party has a name")


@runtime_checkable
class ICreator(IAdapter, Protocol):
    """An adapter with ``Capability.CREATE``."""

    async def create(self, party: NewParty) -> Party:
        """Add a party who has this number; returns once ``identify`` finds it. Raises ``AdapterError``."""


class ICardSource(IAdapter, Protocol):
    """An adapter with ``Capability.CARD``."""

    async def card(self, party: PartyRef) -> Party | None:
        """All that is known of them now; ``None`` if they are gone. Raises ``AdapterError``.

        Cancelled as ``identify`` is.
        """


@runtime_checkable
class ISearcher(IAdapter, Protocol):
    """An adapter with ``Capability.SEARCH``."""

    async def search(self, words: str, limit: int) -> Sequence[Party]:
        """Parties whose name, company, e-mail and the like have all these words, the best first, at most ``limit``.

        What it has no words for (``%``, ``*``, quotes) is text like any other. Raises ``AdapterError``.
        """


@frozen
class KeyKind:
    """A kind of key that parties have: ``name`` as in requests (``customer``), ``title`` as people call it.

    ``sensitive`` ones (card numbers) reach no log, no event and no trace.
    """

    name: str
    title: str
    sensitive: bool = False


@runtime_checkable
class IKeyed(IAdapter, Protocol):
    """An adapter with ``Capability.KEY``."""

    @property
    def keys(self) -> Sequence[KeyKind]:
        """The kinds of key that it can find a party by."""

    async def by_key(self, kind: str, value: str) -> Sequence[Party]:
        """Who has this key, compared whole, never in part; ``match`` is ``key``. Raises ``AdapterError``."""


@frozen
class ListedNumber:
    """A number as the CRM holds it. ``field`` says where it stands there, for ``INumberWriter``."""

    raw: str
    field: str = ""


@frozen
class ListedParty:
    """A party with all their numbers; ``region``: the country (ISO 3166, two letters) to read them in, if known."""

    party: Party
    numbers: tuple[ListedNumber, ...] = at_most(NUMBERS_LIMIT)
    region: str | None = None


@frozen
class ListPage:
    """A page of everybody. ``after``: what to ask for the next page with, ``None`` at the last.

    ``mark``: from where ``IChanging.changes`` goes on, so that nothing is missed that happened while the list was
    read: it stands on the first page, and was taken before anybody was read.
    """

    parties: Sequence[ListedParty]
    after: str | None = None
    mark: str | None = None


@frozen
class ChangePage:
    """What is different since a mark: parties as they are now, and who is ``gone``. ``mark``: where to go on.

    ``more``: there are more already. A party may come twice, and unchanged: that does no harm.
    """

    parties: Sequence[ListedParty]
    gone: Sequence[PartyRef]
    mark: str
    more: bool = False


@runtime_checkable
class ILister(IAdapter, Protocol):
    """An adapter with ``Capability.LIST``."""

    async def list(self, after: str | None) -> ListPage:
        """The page after ``after``, the first with ``None``; some hundred parties each. Raises ``AdapterError``."""


@runtime_checkable
class IChanging(ILister, Protocol):
    """An adapter with ``Capability.CHANGES``."""

    async def changes(self, mark: str) -> ChangePage:
        """What is different since ``mark``. Raises ``AdapterError``, ``MarkLost`` if that cannot be told any more."""


class MarkLost(AdapterError):
    """Changes since this mark are not known any more; the list has to be read again."""


@frozen
class CrmUser:
    """A user of the CRM: ``id`` as in ``Party.owner``; ``extension``: their phone's number, as the CRM has it."""

    id: str = field(converter=identifier_of)
    name: str = bounded_line(NAME_LIMIT)
    login: str = bounded_line(NAME_LIMIT)
    extension: str = bounded_line(WORD_LIMIT)
    active: bool = True


@runtime_checkable
class IUserSource(IAdapter, Protocol):
    """An adapter with ``Capability.USERS``."""

    async def users(self) -> Sequence[CrmUser]:
        """The users who may own parties, at most some thousand. Raises ``AdapterError``."""


@frozen
class Written:
    """What was written into a CRM, for the call's record: which kind of record, its id there, and its address."""

    type: str = field(converter=identifier_of)
    id: str = field(converter=identifier_of)
    url: str | None = optional_url()


class JournalState(StrEnum):
    """How far the call is that a journal entry tells of."""

    RINGING = "ringing"
    CONNECTED = "connected"
    ENDED = "ended"
    MISSED = "missed"


@frozen
class JournalEntry:
    """A call as the CRM is to have it, whole: each entry replaces what was written of the call before.

    ``key`` is the call's id, and the key by which a repeated write is told from a new one. ``party``: whose it is;
    ``was``: whose it was said to be before, if that was somebody else. ``number`` is the other side's, E.164 or
    empty; ``user`` the CRM's user who talked or should have. Seconds in ``duration`` (all of it) and
    ``talk``. ``subject`` and ``text`` are ready for people to read; ``disposition`` is how it came out, in the
    company's words; ``recording`` an address.
    """

    key: str
    state: JournalState
    direction: str
    started: datetime
    ended: datetime | None = None
    party: PartyRef | None = None
    was: PartyRef | None = None
    number: str = ""
    user: str | None = None
    duration: float = 0.0
    talk: float = 0.0
    subject: str = bounded_line(NAME_LIMIT)
    text: str = bounded_lines(NOTES_LIMIT)
    disposition: str = bounded_line(NAME_LIMIT)
    recording: str | None = optional_url()


@runtime_checkable
class IJournal(IAdapter, Protocol):
    """An adapter with ``Capability.JOURNAL``."""

    @property
    def journals_early(self) -> bool:
        """Whether it takes a call that is not over yet; else it is told of each call only at its end."""

    @property
    def journals_changes(self) -> bool:
        """Whether it takes notes and the like that come after the end; else it is told of each call once."""

    @property
    def journals_by_key(self) -> bool:
        """Whether the CRM itself makes a record of the same key only once, however close the requests for it are.

        Else what an earlier try made can only be searched for, and only once that try is certainly over: its
        ``journal`` is not called again before.
        """

    @property
    def journals_unknown(self) -> bool:
        """Whether it takes calls without a party."""

    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        """Write the call, or bring up to date what was ``written`` of it before; answers all that is there now.

        With ``entry.was`` the call becomes another party's. Called again with the same entry until it returns, also
        when an earlier answer was lost: by ``entry.key`` it finds what an earlier try made, and makes nothing twice.
        Raises ``AdapterError``.
        """

    async def withdraw(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        """The call was with none of the CRM's parties after all: remove what was ``written``; answers what stays.

        Also what an earlier try made whose answer was lost, and nothing if it is gone. Raises ``AdapterError``.
        """


@runtime_checkable
class INoteTaker(IAdapter, Protocol):
    """An adapter with ``Capability.NOTE``."""

    async def note(self, party: PartyRef, text: str) -> Written:
        """Put a note on the party. Raises ``AdapterError``."""


@frozen
class NewTask:
    """What is to be done: ``due`` with its zone; ``owner`` the CRM's user who is to do it."""

    title: str = bounded_line(NAME_LIMIT)
    due: datetime | None = field(default=None, converter=moment_of)
    owner: str | None = optional_line(ID_LIMIT)
    text: str = bounded_lines(NOTES_LIMIT)


@runtime_checkable
class ITaskMaster(IAdapter, Protocol):
    """An adapter with ``Capability.TASK``."""

    async def add_task(self, party: PartyRef, task: NewTask) -> Written:
        """Give somebody a task about the party. Raises ``AdapterError``."""


@runtime_checkable
class INumberWriter(ILister, Protocol):
    """An adapter with ``Capability.NUMBERS``."""

    async def write_number(self, party: PartyRef, old: ListedNumber, new: str) -> None:
        """Replace a number where it stands, if it still is ``old``; else ``NumberChanged``."""


class NumberChanged(AdapterError):
    """The number that was to be replaced is another one by now, and was left alone."""


class AdapterReactor(Protocol):
    """What of Twisted's reactor adapters use (IReactorTime): `seconds` is Unix time with a real one.

    A type of our own, because Twisted's zope interfaces say nothing to a type checker without a plug-in.
    """

    def seconds(self) -> float: ...

    def callLater(self, delay: float, call: Callable[..., Any], /, *args: Any) -> Any: ...


@frozen
class AdapterContext:
    """What an adapter has of the server around it.

    ``base``: the directory of the configuration file, to which relative paths refer. ``plan``: how numbers are
    read and written here. ``reactor``: the one for everything that waits. ``own``: our numbers, E.164, which are
    nobody's whom a CRM could know. ``trace``: who wants to see what goes to the CRM and back, if anybody.
    """

    base: Path
    plan: NumberPlan
    reactor: AdapterReactor
    own: frozenset[str] = frozenset()
    trace: Trace | None = None


class IAdapterKind(Protocol):
    """What an entry point of the group ``cordboard.adapters`` names: a class whose instances are adapters."""

    #: An attrs class: the options of this kind in the configuration, beside ``kind``. What has a default may
    #: be left out; a password is a field of the type ``cti.secret.Secret``.
    options_class: ClassVar[type[Any]]

    def __call__(self, name: str, options: Any, context: AdapterContext) -> IAdapter:
        """An adapter with an instance of ``options_class``; opens nothing yet."""


class _AdapterKinds(Mapping[str, IAdapterKind]):
    """Each kind's code is loaded when it is first asked for: one that is broken harms only who uses it."""

    def __init__(self, points: Mapping[str, EntryPoint]) -> None:
        self._points = points

    def __getitem__(self, kind: str) -> IAdapterKind:
        point = self._points[kind]
        try:
            loaded = point.load()
        except (ImportError, AttributeError, SyntaxError) as error:
            raise AdapterKindError(
                f"adapters of kind {kind!r} cannot be loaded ({point.value}): {error}"
            ) from error
        if not callable(loaded) or not hasattr(getattr(loaded, "options_class", None), "__attrs_attrs__"):
            raise AdapterKindError(
                f"adapters of kind {kind!r} cannot be used: {point.value} has no attrs class as options_class"
            )
        kind_class: IAdapterKind = loaded
        return kind_class

    def __contains__(self, kind: object) -> bool:
        return kind in self._points

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)


def load_adapter_kinds() -> Mapping[str, IAdapterKind]:
    """The kinds of adapter that are installed, by the name that stands as ``kind`` in the configuration.

    To list the names loads nothing. Taking a kind loads its code, and raises ``AdapterKindError`` if it is
    broken, ``KeyError`` if there is none of that name.
    """
    return _AdapterKinds({point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)})
