"""Which service a dialled number belongs to, and the fallback that Asterisk keeps for it.

The dialplan looks the fallback up in AstDB by the number *as the trunk sends it*, which nobody configured. So each
number is written there in every form in which trunks send numbers, and a form that is seen on a call and was
not among them is added.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cti.asterisk.ami import AmiActionFailed, AmiClient, AmiDisconnected, AmiOverloaded, AmiTimeout
from cti.calls.history import asks_for_history
from cti.calls.own import Question, questions
from cti.links import LinkTemplate
from cti.numbers import Number, NumberPlan, spellings
from routing.rules import Service

#: What an AMI action may fail with.
AMI_ERRORS: Final = (AmiActionFailed, AmiDisconnected, AmiOverloaded, AmiTimeout)

_FAMILY: Final = "cti/fallback"


class Services:
    """The services of the configuration, by the numbers that reach them.

    `links`: the ways into other systems that cards have.
    """

    def __init__(
        self, services: Iterable[Service], plan: NumberPlan, links: Sequence[LinkTemplate] = ()
    ) -> None:
        self.plan = plan
        self.links = links
        self._by_name: dict[str, Service] = {}
        self._by_number: dict[str, Service] = {}
        self._spellings: dict[str, str] = {}
        for service in services:
            self._by_name[service.name] = service
            for written in service.numbers:
                self._by_number[written] = service
                # An internal number has one form only.
                forms = spellings(written, plan.region) if written.startswith("+") else (written,)
                for spelling in forms:
                    self._spellings[spelling] = service.fallback
        self._ask_for_history = {
            name for name, service in self._by_name.items() if asks_for_history(service, self._by_name)
        }
        self._own = {name: questions(service, self._by_name) for name, service in self._by_name.items()}

    def of(self, did: str) -> tuple[Service | None, Number]:
        """The service that a dialled number, as the trunk sent it, reaches; None if it is nobody's."""
        number = self.plan.parse(did)
        return self._by_number.get(number.e164 or number.raw) or self._by_number.get(number.raw), number

    def named(self, name: str) -> Service | None:
        return self._by_name.get(name)

    def ask_for_history(self, service: Service) -> bool:
        """Whether its rules want to know what the log has of the caller."""
        return service.name in self._ask_for_history

    def own_questions(self, service: Service) -> Sequence[Question]:
        """What its rules want to know of the company's own code."""
        return self._own.get(service.name, ())

    @property
    def all(self) -> Mapping[str, Service]:
        """By name."""
        return self._by_name

    @property
    def titles(self) -> Mapping[str, str]:
        """What each service is called where people read it."""
        return {name: service.title or name for name, service in self._by_name.items()}

    @property
    def fallbacks(self) -> Mapping[str, str]:
        """What AstDB should have: each form of each number → the fallback of its service."""
        return self._spellings

    @staticmethod
    async def held_fallbacks(ami: AmiClient) -> dict[str, str]:
        """What AstDB has. Raises what an AMI action may raise."""
        entries = await ami.list_action("DBGetTree", complete="DBGetTreeComplete", Family=_FAMILY)
        return {
            entry.get("Key").rpartition("/")[2]: entry.get("Val")
            for entry in entries
            if entry.name == "DBGetTreeResponse"
        }

    async def write_fallbacks(self, ami: AmiClient) -> None:
        """Bring AstDB in line: what is missing or different is written, what belongs to no service is deleted."""
        held = await self.held_fallbacks(ami)
        wanted = dict(self._spellings)
        for did in held:
            service, _ = self.of(did)
            if service is not None:
                wanted[did] = service.fallback
        for did in held.keys() - wanted.keys():
            await ami.action("DBDel", Family=_FAMILY, Key=did)
        for did, fallback in wanted.items():
            if held.get(did) != fallback:
                await ami.action("DBPut", Family=_FAMILY, Key=did, Val=fallback)

    def knows(self, did: str) -> bool:
        """Whether AstDB has a fallback for this form of a number, or it is no number of ours."""
        return not did or did in self._spellings

    async def learn(self, did: str, service: Service, ami: AmiClient) -> None:
        """A call came in by a form of the service's number that AstDB does not know yet.

        Raises what an AMI action may raise; the next call by this form tries again then.
        """
        self._spellings[did] = service.fallback
        try:
            await ami.action("DBPut", Family=_FAMILY, Key=did, Val=service.fallback)
        except AMI_ERRORS:
            self._spellings.pop(did, None)
            raise
