"""What went to a CRM and came back, and what was made of it, for an administrator to read; secrets hidden.

Who shows it is left to ``cti adapter try``; nothing is kept where nobody asked for it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote, quote_plus

from attrs import define, field, frozen

HIDDEN: Final = "…"
#: Characters of a body, and steps, that are kept.
BODY_LIMIT: Final = 20_000
STEPS_LIMIT: Final = 500

_SECRET_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "www-authenticate"}
)
# Shorter ones would hide half of an innocent text.
_SHORTEST_SECRET: Final = 4
_BASIC: Final = re.compile(r"[A-Za-z0-9+/]{8,}={0,2}")


@frozen
class Exchange:
    """One request and its answer; ``status`` is 0 and ``error`` says why where there was none."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: str
    status: int = 0
    answer_headers: tuple[tuple[str, str], ...] = ()
    answer: str = ""
    error: str = ""
    ms: float = 0.0


@define
class Trace:
    """Takes each exchange and each remark in order; ``steps`` gives them back without what is to be hidden."""

    _steps: list[Exchange | str] = field(factory=list)
    _secrets: set[str] = field(factory=set)

    def hide(self, *secrets: str) -> None:
        """Never show these, in none of the forms in which they travel; also in what is here already."""
        for secret in secrets:
            if len(secret) >= _SHORTEST_SECRET:
                self._secrets |= {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)}

    def exchange(self, exchange: Exchange) -> None:
        self._add(exchange)

    def note(self, text: str) -> None:
        """What was made of an answer, in one line."""
        self._add(text)

    @property
    def steps(self) -> Iterator[Exchange | str]:
        for step in self._steps:
            yield self._without_secrets(step)

    def as_json(self) -> list[dict[str, Any]]:
        return [_as_json(step) for step in self.steps]

    def _add(self, step: Exchange | str) -> None:
        if len(self._steps) < STEPS_LIMIT:
            self._steps.append(step)

    def _without_secrets(self, step: Exchange | str) -> Exchange | str:
        if isinstance(step, str):
            return self._hidden(step)
        return Exchange(
            method=step.method,
            url=self._hidden(step.url),
            headers=tuple(self._headers(step.headers)),
            body=self._hidden(step.body[:BODY_LIMIT]),
            status=step.status,
            answer_headers=tuple(self._headers(step.answer_headers)),
            answer=self._hidden(step.answer[:BODY_LIMIT]),
            error=self._hidden(step.error),
            ms=step.ms,
        )

    def _headers(self, headers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        for name, value in headers:
            yield name, HIDDEN if name.lower() in _SECRET_HEADERS else self._hidden(value)

    def _hidden(self, text: str) -> str:
        # The longest first: one secret may be the beginning of another.
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return _BASIC.sub(self._unless_secret, text)

    def _unless_secret(self, found: re.Match[str]) -> str:
        """A word that is a secret in base64 is hidden as well."""
        try:
            plain = base64.b64decode(found[0], validate=True).decode("utf-8", "replace")
        except binascii.Error:
            return found[0]
        return HIDDEN if any(secret in plain for secret in self._secrets) else found[0]


def _as_json(step: Exchange | str) -> dict[str, Any]:
    if isinstance(step, str):
        return {"note": step}
    return {
        "request": {
            "method": step.method,
            "url": step.url,
            "headers": dict(step.headers),
            "body": step.body,
        },
        "answer": {
            "status": step.status,
            "headers": dict(step.answer_headers),
            "body": step.answer,
            "error": step.error,
            "ms": step.ms,
        },
    }
