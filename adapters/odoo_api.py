"""Calls methods of Odoo's models over either of its interfaces: JSON-2 (19 and later) or JSON-RPC (before).

Which models there are, and what is asked of them, is left to ``odoo``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from attrs import define, field, frozen

from adapters.base import AdapterAnswerError, AdapterDenied, AdapterUnavailable
from adapters.http_client import Answer, HttpClient

#: The first version that has JSON-2, the last that is sure to have JSON-RPC.
JSON2_SINCE: Final = 19
#: Kinds of error that say nothing of what was asked: the same may work a little later.
_PASSING: Final = ("psycopg2.", "builtins.MemoryError", "odoo.exceptions.ConcurrencyError")
_NO_RIGHTS: Final = frozenset({"AccessDenied", "AccessError"})


class OdooRefused(AdapterAnswerError):
    """Odoo ran the method, and it failed; ``kind`` is the name of its exception, such as ``MissingError``."""

    def __init__(self, model: str, method: str, kind: str) -> None:
        # Not Odoo's own text, which quotes the record.
        super().__init__(f"Odoo refused {model}.{method}: {kind}")
        self.kind = kind


@frozen
class OdooLogin:
    """``url`` without a slash at its end; ``login`` is needed by JSON-RPC only; ``key`` is an API key."""

    url: str
    database: str | None
    login: str | None
    key: str = field(repr=False)


class OdooApi(Protocol):
    """One of the two interfaces."""

    async def call(
        self, model: str, method: str, ids: Sequence[int] = (), *, reads: bool = False, **arguments: Any
    ) -> Any:
        """What the method answers for these records. ``reads``: it changes nothing, and may be asked for twice.

        Raises ``AdapterError``.
        """


@define
class Json2:
    """``POST /json/2/MODEL/METHOD`` with a bearer (Odoo's documentation, "External JSON-2 API")."""

    _client: HttpClient
    _login: OdooLogin

    async def call(
        self, model: str, method: str, ids: Sequence[int] = (), *, reads: bool = False, **arguments: Any
    ) -> Any:
        headers = [("authorization", f"bearer {self._login.key}")]
        if self._login.database is not None:
            headers.append(("x-odoo-database", self._login.database))
        if ids:
            arguments["ids"] = list(ids)
        answer = await self._client.request(
            "POST",
            f"{self._login.url}/json/2/{model}/{method}",
            headers=headers,
            json=arguments,
            repeatable=reads,
        )
        if answer.status == 200:
            return answer.json()
        raise _refusal(answer, model, method)


@define
class JsonRpc:
    """``execute_kw`` of the service ``object`` (Odoo's documentation, "External RPC API")."""

    _client: HttpClient
    _login: OdooLogin
    _uid: int | None = field(default=None, init=False)

    async def call(
        self, model: str, method: str, ids: Sequence[int] = (), *, reads: bool = False, **arguments: Any
    ) -> Any:
        if self._uid is None:
            self._uid = await self._log_in()
        parameters = (self._login.database, self._uid, self._login.key, model, method)
        positional = [list(ids)] if ids else []
        if method == "create":
            # The one method whose records Odoo looks for in their place, and not by their name.
            positional.append(arguments.pop("vals_list"))
        try:
            return await _rpc(
                self._client, self._login.url, "object", "execute_kw", *parameters, positional, arguments
            )
        except _RpcError as error:
            if error.passing:
                raise AdapterUnavailable(f"Odoo could not do {model}.{method} now") from None
            if error.kind in _NO_RIGHTS:
                raise AdapterDenied(
                    f"Odoo does not allow {model}.{method} with this login: {error.kind}"
                ) from None
            raise OdooRefused(model, method, error.kind) from None

    async def _log_in(self) -> int:
        login = self._login
        try:
            uid = await _rpc(
                *(self._client, login.url, "common", "authenticate"),
                *(login.database, login.login, login.key, {}),
            )
        except _RpcError as error:
            raise AdapterUnavailable(f"Odoo did not log us in: {error.kind}; is `database` right?") from None
        if not isinstance(uid, int) or isinstance(uid, bool):
            raise AdapterDenied("Odoo does not accept our login: `login` and `key` have to be of one user")
        return uid


async def open_api(client: HttpClient, login: OdooLogin, wanted: str | None) -> OdooApi:
    """The interface that is ``wanted``, ``json2`` or ``jsonrpc``, else the one that this Odoo prefers.

    Raises ``AdapterError``.
    """
    if wanted == "json2" or (wanted is None and await _version(client, login.url) >= JSON2_SINCE):
        return Json2(client, login)
    if login.login is None or login.database is None:
        raise AdapterUnavailable("an Odoo before 19 needs `login` and `database` beside the key")
    return JsonRpc(client, login)


async def _version(client: HttpClient, url: str) -> int:
    """The major version. Whoever has no JSON-RPC any more is at least the first that has JSON-2."""
    try:
        told = await _rpc(client, url, "common", "version")
    except _RpcError as error:
        raise AdapterUnavailable(f"Odoo does not tell its version: {error.kind}") from None
    if told is None:
        return JSON2_SINCE
    first = (told.get("server_version_info") or [0])[0] if isinstance(told, dict) else 0
    # Hosted ones between two releases are "saas~18".
    digits = "".join(character for character in str(first) if character.isdecimal())
    return int(digits or 0)


class _RpcError(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.kind = _kind(name)
        self.passing = name.startswith(_PASSING)


async def _rpc(client: HttpClient, url: str, service: str, method: str, *arguments: Any) -> Any:
    """The result, ``None`` where there is no JSON-RPC. Raises ``_RpcError``, ``AdapterError``."""
    answer = await client.request(
        "POST",
        f"{url}/jsonrpc",
        json={
            "jsonrpc": "2.0",
            "id": 1,
            "method": "call",
            "params": {"service": service, "method": method, "args": list(arguments)},
        },
    )
    if answer.status == 404 and method == "version":
        return None
    told = answer.expect(200).json()
    if not isinstance(told, dict):
        raise AdapterAnswerError("Odoo's JSON-RPC answered what is none")
    if error := told.get("error"):
        data = error.get("data") if isinstance(error, dict) else None
        raise _RpcError(
            str((data if isinstance(data, dict) else {}).get("name") or "an error without a name")
        )
    return told.get("result")


def _refusal(answer: Answer, model: str, method: str) -> Exception:
    """What an answer means that is not 200: Odoo names its exception in the body."""
    try:
        told = answer.json()
    except AdapterAnswerError:
        told = None
    name = str(told.get("name") or "") if isinstance(told, Mapping) else ""
    if not name:
        if answer.status >= 500:
            return AdapterUnavailable(f"Odoo answered {answer.status}")
        return AdapterAnswerError(f"Odoo answered {answer.status}: is `url` the address of an Odoo?")
    if name.startswith(_PASSING):
        return AdapterUnavailable(f"Odoo could not do {model}.{method} now")
    return OdooRefused(model, method, _kind(name))


def _kind(name: str) -> str:
    return "".join(c for c in name.rpartition(".")[2] if c.isalnum())[:60] or "Error"
