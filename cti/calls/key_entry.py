"""Who is calling, by a key that the caller types: answers the dialplan's `agi://HOST/identify`.

The digits are read here, over AGI, and not by the dialplan, in whose log they would stand. Whatever fails, the answer
is that nobody was found, and the dialplan goes on: the call is then routed by its number, as any other.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from typing import Any, Final

from cti.asterisk.fastagi import AgiCommandFailed, AgiHangup, AgiSession, AgiTimeout
from cti.calls.finder import Finder, UnknownKey
from cti.calls.inbound import brief_party, party_facts
from cti.calls.late_cards import LateCards
from cti.calls.life import LiveCall
from cti.calls.log import CallLog
from cti.calls.route_request import BadRouteRequest, KeyRequest, check_pbx
from cti.calls.services import Services
from cti.identify.identification import Identification
from cti.logs import get_logger
from cti.store.records import Key

log = get_logger("cti.calls.key_entry")

#: Callers who may type at once: each keeps a connection for as long as that takes, and those of calls to be routed
#: have to stay free.
MAX_READING: Final = 64
#: Keys that one channel may try: enough to mistype, too few to guess whose numbers there are.
MAX_TRIES: Final = 5
#: Seconds that each digit may take, and all of it. The dialplan's guard, which is there for a server that says
#: nothing, is put off by so much once we have said something.
DIGIT_SECONDS: Final = 5.0
TYPING_SECONDS: Final = 60
#: The guard while we look up what was typed.
GUARD_SECONDS: Final = 3
#: Channels that are remembered until their call is asked about: a caller is identified before they are routed.
_KEPT: Final = 10_000

_NOBODY: Final = [("CTI_IDENTIFIED", "0")]
_MAY_BE_CUT: Final = frozenset({"CTI_PARTY_NAME"})


class KeyEntry:
    """Identifies callers by keys, for the next question of the dialplan to route by."""

    def __init__(
        self,
        *,
        finder: Finder,
        calls: CallLog,
        services: Callable[[], Services],
        late_cards: LateCards,
        now: Callable[[], float],
        pbxes: Collection[str],
    ) -> None:
        self._finder = finder
        self._calls = calls
        self._services = services
        self._late_cards = late_cards
        self._now = now
        self._pbxes = pbxes
        self._reading = 0
        self._identified: OrderedDict[Key, Identification] = OrderedDict()
        self._tries: Counter[Key] = Counter()

    def identified(self, key: Key) -> Identification | None:
        """Who the caller of this channel said they are, before anything was asked about their call; told once."""
        self._tries.pop(key, None)
        return self._identified.pop(key, None)

    async def identify(self, session: AgiSession) -> None:
        """One question of the dialplan, answered."""
        try:
            request = KeyRequest.of(session.request)
            check_pbx(request.asked, self._pbxes)
        except BadRouteRequest as error:
            log.error("a request that this version's dialplan does not make", why=str(error))
            await self._answer(session, _NOBODY)
            return
        try:
            value = await self._value(session, request)
            found = await self._find(request, value) if value else None
        except (AgiHangup, AgiTimeout, AgiCommandFailed) as error:
            log.info("a caller typed no key", pbx=request.asked.pbx, kind=request.kind, why=str(error))
            return
        if found is None or not found.parties:
            await self._answer(session, _NOBODY)
            return
        call = self._take(request, found)
        party = found.party
        named = (
            []
            if party is None
            else [
                ("CTI_PARTY_NAME", party.name or party.company),
                ("CTI_PARTY_ID", f"{party.adapter}:{party.id}"),
            ]
        )
        await self._answer(
            session,
            [
                *([] if call is None else [("__CTI_CALL_ID", call.id)]),
                *named,
                ("CTI_IDENTIFIED", "1"),
            ],
        )

    async def fall_open(self, session: AgiSession) -> None:
        """Too many ask at once: nobody is identified, and the dialplan goes on."""
        await self._answer(session, _NOBODY)

    # The steps.

    async def _value(self, session: AgiSession, request: KeyRequest) -> str:
        """The key, as an argument or typed now; empty if there is none to look up."""
        kind = self._finder.kinds.get(request.kind)
        if kind is None:
            known = ", ".join(self._finder.kinds) or "none"
            log.error("no adapter finds parties by this kind of key", kind=request.kind, known=known)
            return ""
        if not self._may_try(request):
            log.warning("a caller tried too many keys", pbx=request.asked.pbx, kind=kind.name)
            return ""
        if request.value is not None and kind.sensitive:
            log.error(
                "a sensitive key came as an argument, and so stands in Asterisk's log: leave out value=, and it"
                " is read from the caller where nothing shows it",
                kind=kind.name,
            )
            return ""
        return await self._typed(session, request) if request.value is None else request.value

    def _may_try(self, request: KeyRequest) -> bool:
        key = request.asked.pbx, request.asked.uniqueid
        self._tries[key] += 1
        if len(self._tries) > _KEPT:
            del self._tries[next(iter(self._tries))]
        return self._tries[key] <= MAX_TRIES

    async def _typed(self, session: AgiSession, request: KeyRequest) -> str:
        if self._reading >= MAX_READING:
            log.warning("more callers type keys than may at once", most=MAX_READING)
            return ""
        self._reading += 1
        try:
            await session.command("ANSWER")
            await session.set_variable("TIMEOUT(absolute)", str(TYPING_SECONDS))
            typed = await session.read_digits(request.prompt, DIGIT_SECONDS, request.digits)
            await session.set_variable("TIMEOUT(absolute)", str(GUARD_SECONDS))
        finally:
            self._reading -= 1
        return typed

    async def _find(self, request: KeyRequest, value: str) -> Identification | None:
        asked = request.asked
        caller = self._services().plan.parse(
            None if asked.caller == "unknown" else asked.caller, presentation=asked.presentation
        )
        try:
            found = await self._finder.by_key(request.kind, value, caller)
        except (UnknownKey, ValueError) as error:
            log.warning("a key could not be looked up", kind=request.kind, why=str(error))
            return None
        log.info(
            "a caller was looked up by a key",
            pbx=asked.pbx,
            kind=request.kind,
            parties=len(found.parties),
            ms=found.ms,
            outcomes={each.adapter: str(each.outcome) for each in found.adapters},
        )
        return found

    def _take(self, request: KeyRequest, found: Identification) -> LiveCall | None:
        """From now on it is them who call; a call that nothing was asked about yet learns it then."""
        asked = request.asked
        key = asked.pbx, asked.uniqueid
        call = self._calls.of_channel(*key) or self._calls.get(asked.call or "")
        if call is None:
            self._identified[key] = found
            if len(self._identified) > _KEPT:
                self._identified.popitem(last=False)
            return None
        call.identification = found
        call.party = party_facts(found)
        call.record.party = brief_party(call.party)
        self._late_cards.show(call, [found.party_json(party) for party in found.parties], ["party"])
        self._late_cards.freshen(call)
        return call

    @staticmethod
    async def _answer(session: AgiSession, variables: Any) -> None:
        try:
            await session.set_variables(variables, may_cut=_MAY_BE_CUT)
        except (AgiHangup, AgiTimeout, AgiCommandFailed) as error:
            log.info("Asterisk did not take the answer", why=str(error))
