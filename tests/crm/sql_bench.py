"""A CRM's database as the bench of the conformance suite: what all of them have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import evolve

from adapters.base import IAdapter, ListedParty, PartyRef, PartyType
from adapters.sql import SqlAdapter
from adapters.sql_options import SqlOptions
from adapters.trial import Bench, a_context
from cti.secret import Secret
from cti.settings import load_settings

ROOT = Path(__file__).parents[2]
SCHEMAS = Path(__file__).parent / "schemas"
PAGE = 6


def the_sample(name: str) -> SqlOptions:
    """The options of the only adapter in a sample of `config`."""
    settings = load_settings(
        ROOT / "config" / name,
        adapter_kinds={"sql": SqlOptions},
        environ={"CRM_PASSWORD": "reads and writes"},
    )
    (adapter,) = settings.adapters.values()
    assert isinstance(adapter.options, SqlOptions)
    return adapter.options


class SqlBench(Bench):
    """`sql` runs statements as the database's owner; `options` are the sample's, at this server."""

    numbers_as_typed = (
        "+49 152 28817386",
        "0152 / 288 17 386",
        "0152-28817386 (mobile)",
        "+49 (40) 66969-0",
        "0044 20 7946 0123",
        "0049 40 / 66 96 91 23",
    )
    finds_stems = False
    page = PAGE
    breakable = True

    def __init__(self, options: SqlOptions, sql: Callable[[str], str], base: Path) -> None:
        self.options = evolve(options, page=PAGE)
        self.sql = sql
        self.base = base

    def make(self) -> IAdapter:
        return SqlAdapter("crm", self.options, a_context(self.base))

    def key_of(self, ref: PartyRef) -> tuple[str, str]:
        return "customer", f"K-{'C' if ref.type is PartyType.ORGANISATION else 'P'}{ref.id}"


def quoted(text: str | None) -> str:
    """A literal of standard SQL; the benches' servers are told that a backslash is only that."""
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"


def number(party: ListedParty, at: int) -> str:
    return quoted(party.numbers[at].raw if at < len(party.numbers) else None)


def with_secret(options: SqlOptions, **changes: Any) -> SqlOptions:
    if "password" in changes:
        changes["password"] = Secret(changes["password"])
    return evolve(options, **changes)
