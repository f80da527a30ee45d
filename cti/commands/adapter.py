"""`cti adapter try`: one question to one adapter, with all that went to the CRM and back, and what was made of it."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError

from adapters.base import AdapterContext, AdapterError, Capability, Party, PartyRef, load_adapter_kinds
from adapters.trace import Exchange, Trace
from cti.commands import CommandFailed, WrongUse
from cti.commands.configuration import configuration
from cti.commands.output import printable, say, write_json, write_pairs
from cti.commands.running import run
from cti.numbers import NumberKind
from cti.settings import Settings
from routing.words import unknown

_SECONDS: Final = 60.0
_SEARCHED: Final = 20
_NEEDS: Final = {
    "key": Capability.KEY,
    "search": Capability.SEARCH,
    "card": Capability.CARD,
}


def try_adapter(arguments: Namespace) -> int:
    settings = configuration(arguments)
    name = arguments.name
    if name not in settings.adapters:
        raise WrongUse(unknown("adapter", name, settings.adapters))
    question = _Question(settings, arguments)
    trace = Trace()
    error: str | None = None
    parties: Sequence[Party] = ()

    async def asked(reactor: Any) -> Sequence[Party]:
        options = settings.adapters[name]
        context = AdapterContext(settings.base, settings.plan, reactor, settings.own_numbers, trace)
        adapter = load_adapter_kinds()[options.kind](name, options.options, context)
        question.check(adapter.capabilities)
        try:
            await adapter.start()
            found = Deferred.fromCoroutine(question.ask(adapter)).addTimeout(_SECONDS, reactor)
            return await found
        finally:
            await adapter.stop()

    try:
        parties = run(asked)
    except AdapterError as failed:
        error = f"{type(failed).__name__}: {failed}"
    except TimeoutError:
        error = f"no answer within {_SECONDS:g} s"
    if arguments.format == "json":
        write_json(
            {
                "adapter": name,
                "question": question.as_json(),
                "steps": trace.as_json(),
                "parties": [party.as_json() for party in parties],
                "error": error,
            }
        )
    else:
        _show(trace, parties, arguments.card is not None)
        if error is not None:
            say(error)
    return 0 if error is None else 1


class _Question:
    """What is asked, one of `--number`, `--key`, `--search` and `--card`."""

    def __init__(self, settings: Settings, arguments: Namespace) -> None:
        given = {
            kind: getattr(arguments, kind)
            for kind in ("number", *_NEEDS)
            if getattr(arguments, kind) is not None
        }
        if len(given) != 1:
            raise WrongUse("one of --number, --key, --search and --card would be right")
        ((self.kind, self.text),) = given.items()
        self._name = arguments.name
        self._number = settings.plan.parse(self.text)
        self._first, _, self._rest = self.text.partition("=" if self.kind == "key" else ":")
        if self.kind == "number" and self._number.kind is not NumberKind.E164:
            raise CommandFailed(f'"{printable(self._number.raw)}" is no public telephone number')
        if self.kind == "key" and not self._rest:
            raise WrongUse("--key KIND=VALUE would be right, such as --key customer=4711")
        if self.kind == "card":
            try:
                self._ref = PartyRef(self._first, self._rest)
            except ValueError:
                raise WrongUse("--card TYPE:ID would be right, such as --card contact:17") from None

    def check(self, capabilities: frozenset[Capability]) -> None:
        needed = _NEEDS.get(self.kind)
        if needed is not None and needed not in capabilities:
            raise CommandFailed(
                f"the adapter {self._name} cannot do that ({needed}); it can {_list(capabilities)}"
            )

    async def ask(self, adapter: Any) -> Sequence[Party]:
        match self.kind:
            case "key":
                found = await adapter.by_key(self._first, self._rest)
            case "search":
                found = await adapter.search(self.text, _SEARCHED)
            case "card":
                party = await adapter.card(self._ref)
                found = [] if party is None else [party]
            case _:
                found = await adapter.identify(self._number)
        return list(found)

    def as_json(self) -> dict[str, Any]:
        return {self.kind: self._number.e164 if self.kind == "number" else self.text}


def _list(capabilities: frozenset[Capability]) -> str:
    return ", ".join(sorted(each.value for each in capabilities))


def _show(trace: Trace, parties: Sequence[Party], whole: bool) -> None:
    shown = False
    for step in trace.steps:
        shown = True
        if isinstance(step, Exchange):
            for line in _lines(step):
                print(printable(line).rstrip())
        else:
            print(f"  = {printable(step)}")
    if not shown:
        print("the adapter asked nobody by HTTP")
    print()
    if not parties:
        print("nobody found")
    for party in parties:
        write_pairs(
            (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            for name, value in party.as_json().items()
            if value not in (None, "", []) and (whole or not isinstance(value, list))
        )
        print()


def _lines(step: Exchange) -> Iterator[str]:
    yield f"> {step.method} {step.url}"
    yield from (f">   {name}: {value}" for name, value in step.headers)
    yield from (f">   {line}" for line in step.body.splitlines())
    if step.error:
        yield f"< {step.error} ({step.ms:g} ms)"
    else:
        yield f"< {step.status} ({step.ms:g} ms)"
        content = dict(step.answer_headers).get("content-type")
        if content is not None:
            yield f"<   content-type: {content}"
        yield from (f"<   {line}" for line in _readable(step.answer).splitlines())


def _readable(body: str) -> str:
    try:
        return json.dumps(json.loads(body), ensure_ascii=False, indent=2)
    except ValueError:
        return body
