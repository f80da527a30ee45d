"""Finds parties by anything but the number of a call: by a key that only one has, by words, by which one it is.

Who may ask, how often, and what is written down of it is left to the web and to the dialplan's `identify`.
"""

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Final, cast

from attrs import evolve, frozen
from twisted.internet.defer import Deferred

from adapters.base import (
    Capability,
    IAdapter,
    ICardSource,
    IKeyed,
    ISearcher,
    KeyKind,
    Party,
    PartyRef,
)
from cti.calls.asking import Question, Reply, ask_all
from cti.identify.identification import AdapterOutcome, Identification, Outcome, Resolution
from cti.identify.identifier import Observe, Owners, owners_among
from cti.numbers import Number, NumberKind
from cti.reactors import Clock

#: Seconds that adapters may take: for a key a caller waits, who has just typed it; in a search only an agent.
KEY_SECONDS: Final = 2.0
SEARCH_SECONDS: Final = 4.0
#: Questions to one adapter at a time, besides those about the numbers of calls: what nobody waits for must not keep a
#: CRM from these.
AT_ONCE: Final = 8
MAX_KEY: Final = 128
MAX_WORDS: Final = 100
#: A search asks each adapter for no more kinds of key than so many.
KINDS_SEARCHED: Final = 5
#: How many parties that were found are kept in mind, and for how many seconds: what an adapter has said a moment ago
#: it need not be asked again.
KEPT: Final = 2000
KEPT_SECONDS: Final = 600.0

_OF_A_NUMBER: Final = ("number", "e164", "kind", "ignored")
_NOBODY: Final = Number("", NumberKind.UNAVAILABLE)
_UNSAID: Final = {
    Outcome.OPEN: "it fails again and again, and is left alone for a while",
    Outcome.SKIPPED: "it is asked enough already",
}
_WITHOUT_CONTROLS: Final = re.compile(r"[^\x00-\x1f\x7f]+")


class UnknownKey(Exception):
    """No adapter finds parties by keys of this kind; the text says by which they do."""


class NotAsked(Exception):
    """A party that could not be looked at; the text says why."""


@frozen
class Found:
    """What a search came to. `complete`: no adapter failed, and nothing was left out for being too much."""

    parties: Sequence[Party]
    replies: Sequence[Reply]
    owners: Mapping[tuple[str, str], str]
    complete: bool


class Finder:
    """Asks the adapters of this moment."""

    def __init__(
        self,
        *,
        adapters: Callable[[], Mapping[str, IAdapter]],
        identify: Callable[[Number], Coroutine[Any, Any, Identification]],
        owners: Owners,
        settle: Callable[[Number, Sequence[Party]], tuple[Resolution | None, tuple[Party, ...]]],
        sensitive: Callable[[], Collection[str]],
        is_open: Callable[[str], bool],
        clock: Clock,
        observe: Observe,
    ) -> None:
        """`settle`: which of several parties with one key it is taken for. `sensitive`: kinds of key that the
        configuration declares so, whatever their adapter says of them. `is_open`: whether an adapter fails so often
        that it is left alone.
        """
        self._adapters = adapters
        self._identify = identify
        self._owners = owners
        self._settle = settle
        self._sensitive = sensitive
        self._is_open = is_open
        self._clock = clock
        self._observe = observe
        self._running: Counter[str] = Counter()
        self._found: OrderedDict[tuple[str, str, str], tuple[float, Party]] = OrderedDict()

    @property
    def kinds(self) -> Mapping[str, KeyKind]:
        """The kinds of key by name; sensitive if any adapter, or the configuration, says so."""
        kinds: dict[str, KeyKind] = {}
        for adapter in self._keyed():
            for kind in adapter.keys:
                known = kinds.get(kind.name, kind)
                sensitive = known.sensitive or kind.sensitive or kind.name in self._sensitive()
                kinds[kind.name] = evolve(known, sensitive=sensitive)
        return kinds

    async def by_key(self, kind: str, value: str, number: Number) -> Identification:
        """Who has this key; `number` is what else is known of who asks. Raises `UnknownKey`, `ValueError`."""
        if kind not in self.kinds:
            known = ", ".join(self.kinds) or "none, as no adapter can"
            raise UnknownKey(f"parties are found by {known}")
        if not _WITHOUT_CONTROLS.fullmatch(value) or len(value) > MAX_KEY:
            raise ValueError(f"a key has 1 to {MAX_KEY} characters, none of them a control character")
        began = self._clock.seconds()
        replies = await self._ask(
            [
                Question(each.name, f"key:{kind}", _by_key(each, kind, value))
                for each in self._keyed()
                if any(its.name == kind for its in each.keys)
            ],
            KEY_SECONDS,
        )
        for reply in replies:
            self._observe(reply.adapter, reply.outcome, reply.ms / 1000)
        parties = [evolve(party, match="key") for reply in replies for party in reply.parties]
        self._keep(parties)
        resolution, ordered = self._settle(number, parties)
        return Identification(
            number,
            ordered,
            tuple(AdapterOutcome(each.adapter, each.outcome, each.ms, each.error) for each in replies),
            round(max(0.0, self._clock.seconds() - began) * 1000, 3),
            owners_among(parties, self._owners),
            resolution,
            at=self._clock.seconds(),
        )

    async def search(self, words: str, number: Number, limit: int) -> Found:
        """Parties by words, and by the same as a number or as a key that is not sensitive; the surest first."""
        keys = [
            Question(adapter.name, f"key:{kind.name}", _by_key(adapter, kind.name, words))
            for adapter, kind in self._open_keys()
        ]
        by_words = [
            Question(name, "words", _by_words(cast(ISearcher, adapter), words, limit))
            for name, adapter in self._adapters().items()
            if Capability.SEARCH in adapter.capabilities
        ]
        numbers: Deferred[list[Reply]] = Deferred.fromCoroutine(self._by_number(number))
        try:
            asked = await self._ask([*keys, *by_words], SEARCH_SECONDS)
            replies = [*asked[: len(keys)], *await numbers, *asked[len(keys) :]]
        finally:
            numbers.cancel()
        found: dict[tuple[str, str, str], Party] = {}
        for reply in replies:
            for party in reply.parties:
                match = {"words": "search", "number": party.match}.get(reply.by, "key")
                found.setdefault(_which(party), evolve(party, match=match))
        parties = list(found.values())
        self._keep(parties[:limit])
        failed = any(reply.outcome not in (Outcome.HIT, Outcome.MISS) for reply in replies)
        shown = parties[:limit]
        return Found(shown, replies, owners_among(shown, self._owners), not failed and len(parties) <= limit)

    async def party(self, adapter: str, type: str, id: str) -> Party | None:
        """This party as its adapter knows them now, else as it has just been found; None if there is none.

        Raises `NotAsked` where the adapter could not say, and `ValueError` for a type or id that cannot be.
        """
        ref = PartyRef(type, id)
        source = self._adapters().get(adapter)
        if source is None:
            return None
        known = self._kept(adapter, ref)
        if Capability.CARD not in source.capabilities:
            return known
        (reply,) = await self._ask(
            [Question(adapter, "card", _card(cast(ICardSource, source), ref))], SEARCH_SECONDS
        )
        if reply.outcome is Outcome.HIT:
            self._keep(reply.parties)
            return reply.parties[0]
        if reply.outcome is Outcome.MISS:
            self._found.pop((adapter, str(ref.type), ref.id), None)
            return None
        if known is None:
            raise NotAsked(reply.error or _UNSAID.get(reply.outcome, f"{adapter} did not say in time"))
        return known

    async def confirmed(self, adapter: str, type: str, id: str) -> Mapping[str, Any] | None:
        """The same, as the card and the API have it."""
        party = await self.party(adapter, type, id)
        return None if party is None else self.party_json(party)

    def has_cards(self, adapter: str) -> bool:
        """Whether this adapter can be asked for a party's whole card."""
        source = self._adapters().get(adapter)
        return source is not None and Capability.CARD in source.capabilities

    def party_json(self, party: Party) -> dict[str, Any]:
        """As the card and the API have it."""
        owners = owners_among([party], self._owners)
        return Identification(_NOBODY, (party,), owners=owners).party_json(party)

    # Inside.

    async def _ask(self, questions: Sequence[Question], seconds: float) -> list[Reply]:
        """What comes of these, as far as their adapters may be asked now; in their order."""
        replies: dict[int, Reply] = {}
        asked: dict[int, Question] = {}
        for number, question in enumerate(questions):
            why_not = self._why_not(question.adapter)
            if why_not is None:
                self._running[question.adapter] += 1
                asked[number] = question
            else:
                replies[number] = Reply(question.adapter, question.by, why_not, 0.0)
        try:
            answered = await ask_all(list(asked.values()), self._clock, seconds)
        finally:
            self._running -= Counter(question.adapter for question in asked.values())
        replies.update(zip(asked, answered, strict=True))
        return [replies[number] for number in range(len(questions))]

    def _why_not(self, adapter: str) -> Outcome | None:
        if self._is_open(adapter):
            return Outcome.OPEN
        return Outcome.SKIPPED if self._running[adapter] >= AT_ONCE else None

    def _keyed(self) -> list[IKeyed]:
        return [
            cast(IKeyed, adapter)
            for adapter in self._adapters().values()
            if Capability.KEY in adapter.capabilities
        ]

    async def _by_number(self, number: Number) -> list[Reply]:
        """What is known by the number, as of a call from it."""
        if number.e164 is None:
            return []
        known = await self._identify(number)
        return [
            Reply(
                each.adapter,
                "number",
                each.outcome,
                each.ms,
                [party for party in known.parties if party.adapter == each.adapter],
                each.error,
            )
            for each in known.adapters
        ]

    def _open_keys(self) -> list[tuple[IKeyed, KeyKind]]:
        sensitive = {kind.name for kind in self.kinds.values() if kind.sensitive}
        return [
            (adapter, kind)
            for adapter in self._keyed()
            for kind in [each for each in adapter.keys if each.name not in sensitive][:KINDS_SEARCHED]
        ]

    def _keep(self, parties: Collection[Party]) -> None:
        now = self._clock.seconds()
        for party in parties:
            self._found[_which(party)] = (now, party)
            self._found.move_to_end(_which(party))
        while len(self._found) > KEPT:
            self._found.popitem(last=False)

    def _kept(self, adapter: str, ref: PartyRef) -> Party | None:
        at, party = self._found.get((adapter, str(ref.type), ref.id), (0.0, None))
        return party if party is not None and self._clock.seconds() - at < KEPT_SECONDS else None


def key_json(kind: str, found: Identification) -> dict[str, Any]:
    """What a key came to, by its kind: the key itself is not repeated."""
    answer = found.as_json()
    return {"key": kind, **{name: answer[name] for name in answer if name not in _OF_A_NUMBER}}


def _which(party: Party) -> tuple[str, str, str]:
    return party.adapter, str(party.type), party.id


def _by_key(adapter: IKeyed, kind: str, value: str) -> Callable[[], Coroutine[Any, Any, object]]:
    async def ask() -> object:
        return await adapter.by_key(kind, value)

    return ask


def _by_words(adapter: ISearcher, words: str, limit: int) -> Callable[[], Coroutine[Any, Any, object]]:
    async def ask() -> object:
        return await adapter.search(words, limit)

    return ask


def _card(adapter: ICardSource, ref: PartyRef) -> Callable[[], Coroutine[Any, Any, object]]:
    async def ask() -> object:
        party: Any = await adapter.card(ref)
        return () if party is None else (party,)

    return ask
