"""Who calls and is unknown is taken into a CRM from the desktop, so that they are known at the next call."""

from collections.abc import Callable, Mapping

from attrs import evolve, frozen

from adapters.base import Capability, IAdapter, ICreator, NewParty, Party
from cti.calls.control import Asker, CallUnknown
from cti.calls.life import LiveCall
from cti.calls.log import CallLog
from cti.calls.one_at_a_time import OneAtATime
from cti.calls.services import Services
from cti.calls.writing_up import WritingUp
from cti.calls.written import Written, may_write, other_number
from cti.numbers import Number


class NoCreator(Exception):
    """No adapter of this name, or none at all, takes new parties; the text says which do."""


@frozen
class Created:
    """The party, and whether it is new: who was there already by this number is not made twice."""

    party: Party
    new: bool


class Parties:
    """Creates parties in the adapters that can."""

    def __init__(
        self,
        *,
        adapters: Callable[[], Mapping[str, IAdapter]],
        calls: CallLog,
        writing_up: WritingUp,
        written: Written,
        services: Callable[[], Services],
        forget: Callable[[str, str], None],
    ) -> None:
        """`forget(adapter, number)`: what this adapter said of the number before counts no more."""
        self._adapters = adapters
        self._calls = calls
        self._writing_up = writing_up
        self._written = written
        self._services = services
        self._forget = forget
        self._alone = OneAtATime()

    async def create(
        self, asker: Asker, wanted: NewParty, number: Number, adapter: str | None, call: str | None
    ) -> Created:
        """Take them in, and say of `call`, if given, that it was them; where its service wants it, without a word.

        Raises `NoCreator`, `ValueError` for a number that is not the call's, `CallUnknown` for a call that the asker
        may not write of, `AdapterError`, `StoreError`.
        """
        about = None if call is None else await self._call(asker, call)
        if about is not None and asker.own_only and wanted.number != other_number(about.record):
            # Whoever a call is given to, its agent gets to read the history of.
            raise ValueError("number: with `call`, the number of its other side would be right")
        service = None if about is None else self._services().named(about.record.service or "")
        if adapter is None and service is not None and service.quick_create is not None:
            adapter = service.quick_create.adapter
        created = await self._known_or_new(wanted, number, adapter, any_type=False)
        if about is not None:
            await self._put_on(about, created.party)
        return created

    async def known_or_new(self, wanted: NewParty, number: Number, adapter: str) -> Party:
        """Whoever has the number there, of whatever type, else this party. Raises `NoCreator`, `AdapterError`."""
        return (await self._known_or_new(wanted, number, adapter, any_type=True)).party

    async def _known_or_new(
        self, wanted: NewParty, number: Number, adapter: str | None, *, any_type: bool
    ) -> Created:
        creator = self._creator(adapter)
        # Two browsers at the same moment, or one that asks again, make one party.
        async with self._alone(f"{creator.name} {wanted.number}"):
            known = [each for each in await creator.identify(number) if any_type or each.type == wanted.type]
            if known:
                return Created(known[0], False)
            created = Created(await creator.create(wanted), True)
        # That nobody knew the number is not true any more.
        self._forget(creator.name, wanted.number)
        return created

    def _creator(self, name: str | None) -> ICreator:
        able = {
            each.name: each
            for each in self._adapters().values()
            if Capability.CREATE in each.capabilities and isinstance(each, ICreator)
        }
        if name is None and able:
            return next(iter(able.values()))
        if name is None or name not in able:
            raise NoCreator(f"adapter: {', '.join(able) or 'none'} can take new parties")
        return able[name]

    async def _call(self, asker: Asker, id: str) -> LiveCall:
        call = self._calls.get(id) or self._writing_up.call(id)
        if call is None:
            detail = await self._calls.store.call(id)
            call = None if detail is None else LiveCall.restored(detail)
        if call is None or (asker.own_only and not may_write(call.record, call.segments, asker.agent)):
            raise CallUnknown("call: there is no such call, or you did not talk in it")
        return call

    async def _put_on(self, call: LiveCall, party: Party) -> None:
        whole = party.as_json()
        if call.card is not None:
            # Whoever gets the call next sees them, too.
            call.card = {**call.card, "parties": [whole]}
            for agent, card in call.cards.items():
                call.cards[agent] = evolve(card, body=call.card)
        await self._written.take_party(call, whole, list(call.cards.values()))
