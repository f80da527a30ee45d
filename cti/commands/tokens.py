"""`cti token`: who may use the API. A token is shown once, when it is made; the store keeps only its digest."""

import re
import secrets
import time
from argparse import Namespace
from collections.abc import Iterable, Sequence
from typing import Final

from attrs import evolve

from cti.calls.present import iso
from cti.commands import CommandFailed, WrongUse
from cti.commands.configuration import configuration, reading, writing
from cti.commands.output import local, printable, write_json, write_table
from cti.commands.people import noted, people
from cti.store.records import TokenRecord
from cti.web.tokens import AGENT, ROLES, SOFTPHONE, mint_token
from routing.words import quoted, unknown

_DAY: Final = 86_400.0
_NAME_LIMIT: Final = 100
_EXTENSION: Final = re.compile(r"[A-Za-z0-9._+@-]{1,64}", re.ASCII)


def add_token(arguments: Namespace) -> int:
    settings = configuration(arguments)
    name, role, agent = arguments.name, arguments.role, arguments.agent
    if not name.strip() or not name.isprintable() or len(name) > _NAME_LIMIT:
        raise WrongUse(
            f"a token's name has 1 to {_NAME_LIMIT} printable characters; who uses it is a good one"
        )
    if role not in ROLES:
        raise WrongUse(unknown("role", role, ROLES))
    if role == AGENT and agent is None:
        raise WrongUse("a token with the role agent belongs to somebody: say --agent ID")
    scopes = _scopes(arguments.scope)
    _check_softphone(role, scopes, arguments.extension)
    now = time.time()
    token, digest = mint_token()
    with writing(settings) as store:
        agents = {each.id for each in people(store.read, settings)}
        if agent is not None and agent not in agents:
            raise CommandFailed(unknown("agent", agent, agents))
        if any(each.name == name for each in store.read.tokens() if _state(each, now) == "valid"):
            raise CommandFailed(
                f"there is a token {quoted(name)} already; revoke it first, or name this another"
            )
        unit = store.unit()
        expires = None if arguments.days is None else now + arguments.days * _DAY
        id, extension = secrets.token_hex(4), arguments.extension
        record = TokenRecord(id, name, role, digest, now, agent, expires, None, scopes, extension)
        unit.put_token(record)
        unit.add_audit(noted("token.added", name))
        store.commit_now(unit)
    print(token)
    return 0


def list_tokens(arguments: Namespace) -> int:
    settings = configuration(arguments)
    now = time.time()
    with reading(settings) as reader:
        tokens = [] if reader is None else list(reader.tokens())
    if arguments.format == "json":
        write_json({"tokens": [_json(token, now) for token in tokens]})
        return 0
    write_table(
        ("ID", "NAME", "ROLE", "AGENT", "SCOPES", "STATE", "CREATED", "EXPIRES"),
        [
            (
                token.id,
                token.name,
                token.role,
                token.agent,
                "all" if token.scopes is None else " ".join(token.scopes),
                _state(token, now),
                local(token.created),
                local(token.expires),
            )
            for token in tokens
        ],
    )
    return 0


def revoke_token(arguments: Namespace) -> int:
    settings = configuration(arguments)
    now = time.time()
    with writing(settings) as store:
        token = _named(arguments.token, store.read.tokens(), now)
        unit = store.unit()
        unit.put_token(evolve(token, revoked=now))
        unit.add_audit(noted("token.revoked", token.name))
        store.commit_now(unit)
    return 0


def _scopes(given: Sequence[str] | None) -> Sequence[str] | None:
    if not given:
        return None
    from cti.web.api import ROUTES  # Half a second, for those who ask for it.

    known = sorted({route.group for route in ROUTES if route.roles is not None})
    for each in given:
        if each not in known:
            raise WrongUse(unknown("scope", each, known))
    return sorted(set(given))


def _check_softphone(role: str, scopes: Sequence[str] | None, extension: str | None) -> None:
    """A softphone's token is good for its one extension, and for nothing else."""
    softphone = scopes is not None and SOFTPHONE in scopes
    if not softphone and extension is None:
        return
    if scopes != [SOFTPHONE] or extension is None or role != AGENT:
        raise WrongUse(
            "a softphone's token is made by --role agent --agent ID --scope softphone --extension EXTENSION,"
            " without other scopes"
        )
    if _EXTENSION.fullmatch(extension) is None:
        raise WrongUse("an extension has 1 to 64 letters, digits and . _ + - @, such as 21")


def _named(word: str, tokens: Iterable[TokenRecord], now: float) -> TokenRecord:
    """The token with this id, or else the valid one with this name. Raises `CommandFailed`."""
    listed = list(tokens)
    for token in listed:
        if token.id == word:
            if token.revoked is not None:
                raise CommandFailed(f"the token {token.id} was revoked on {local(token.revoked)}")
            return token
    for token in listed:
        if token.name == word and _state(token, now) == "valid":
            return token
    raise CommandFailed(f"there is no valid token {printable(quoted(word))}; `cti token list` shows them")


def _state(token: TokenRecord, now: float) -> str:
    if token.revoked is not None:
        return "revoked"
    return "expired" if token.expires is not None and token.expires <= now else "valid"


def _json(token: TokenRecord, now: float) -> dict[str, object]:
    def at(moment: float | None) -> str | None:
        return None if moment is None else iso(moment)

    return {
        "id": token.id,
        "name": token.name,
        "role": token.role,
        "agent": token.agent,
        "scopes": token.scopes,
        "extension": token.extension,
        "state": _state(token, now),
        "created": iso(token.created),
        "expires": at(token.expires),
        "revoked": at(token.revoked),
    }
