"""Requests that may be sent again and are carried out once: what an `Idempotency-Key` promises.

A key is written down before its request is carried out, the answer before it is sent. So whoever lost an answer, to
the network or to a restart of ours, gets it by the same key, and if we stopped half-way, is told that nobody knows.
Which rows take a key stands in the route table.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from attrs import evolve
from twisted.internet.defer import Deferred, TimeoutError as DeferredTimeout

from cti.logs import get_logger
from cti.reactors import Clock
from cti.store.base import StoreError
from cti.store.records import AskedOnce
from cti.web.problems import Problem
from cti.web.routing_table import Answer, Asked
from cti.web.services import IAnswers

#: A key is kept for so long, and of each who asks only so many of the newest.
KEPT_SECONDS: Final = 24 * 3600.0
KEPT_KEYS: Final = 10_000
#: An answer that cannot be written down within this is sent all the same: what was asked for is done.
_WRITTEN_WITHIN: Final = 3.0
_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")
#: Refused before anything was done: the same key may be tried again.
_UNDONE: Final = frozenset({502, 503})
_log = get_logger(__name__)


class Once:
    """Carries requests with a key out, each once."""

    def __init__(self, store: IAnswers, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._running: dict[tuple[str, str], str] = {}

    async def answer(
        self, asked: Asked, key: str, carry_out: Callable[[], Awaitable[Answer | None]]
    ) -> Answer | None:
        """What `carry_out` answers, or answered when this was asked before. Raises `Problem`."""
        who = asked.identity.token
        digest = _digest(asked)
        if (who, key) in self._running:
            _same_request(self._running[who, key], digest)
            raise Problem(
                409,
                "the request with this Idempotency-Key is being carried out; ask again for its answer",
                kind="still-running",
                headers={"Retry-After": "1"},
            )
        now = self._clock.seconds()
        before = self._store.asked_once(who, key)
        if before is not None and now - before.at < KEPT_SECONDS:
            return _again(before, digest)
        self._running[who, key] = digest
        try:
            return await self._carried_out(AskedOnce(who, key, digest, now), carry_out)
        finally:
            del self._running[who, key]

    def forget(self) -> "Deferred[Any]":
        """Remove what is older than is promised."""
        unit = self._store.unit()
        unit.forget_asked_once(self._clock.seconds() - KEPT_SECONDS)
        return self._store.commit(unit)

    async def _carried_out(
        self, record: AskedOnce, carry_out: Callable[[], Awaitable[Answer | None]]
    ) -> Answer | None:
        await self._write(record)
        try:
            answer = await carry_out()
        except Problem as problem:
            if problem.status < 500 or problem.status in _UNDONE:
                await self._settle(record, None)
            # After any other, and whatever else is raised, nobody knows: the key stays without an answer.
            raise
        if answer is not None:
            await self._settle(record, answer)
        return answer

    async def _settle(self, record: AskedOnce, answer: Answer | None) -> None:
        """Write the answer down; None frees the key."""
        try:
            await self._write(record if answer is None else _answered(record, answer), free=answer is None)
        except (StoreError, DeferredTimeout) as error:
            _log.error("an answer could not be kept for its Idempotency-Key", why=str(error))

    async def _write(self, record: AskedOnce, *, free: bool = False) -> None:
        unit = self._store.unit()
        if free:
            unit.remove_asked_once(record.who, record.key)
        else:
            unit.put_asked_once(record)
            unit.trim_asked_once(record.who, KEPT_KEYS)
        # Whoever waits gives up; the writing goes on.
        await self._store.commit(unit).addTimeout(_WRITTEN_WITHIN, self._clock)  # type: ignore[arg-type]


def key_of(fields: Sequence[str]) -> str | None:
    """The key in the header fields, None if there are none. Raises `Problem` 400."""
    if not fields:
        return None
    if len(fields) > 1 or _KEY.fullmatch(fields[0]) is None:
        raise Problem(400, "Idempotency-Key is 1 to 255 printable ASCII characters, once; a UUID is right")
    return fields[0]


def _digest(asked: Asked) -> str:
    request = asked.http
    head = b"%b %b\n" % (request.method, request.uri)
    return hashlib.sha256(head + request.body()).hexdigest()


def _same_request(before: str, digest: str) -> None:
    if before != digest:
        raise Problem(
            422,
            "this Idempotency-Key was sent with another request; each needs one of its own",
            kind="key-reused",
        )


def _again(before: AskedOnce, digest: str) -> Answer:
    _same_request(before.digest, digest)
    if before.status is None or before.body is None or before.media_type is None:
        raise Problem(
            409,
            "this was asked before and it is not known whether it was done: look, and then ask with another key",
            kind="outcome-unknown",
        )
    headers = {**(before.headers or {}), "Idempotency-Replayed": "true"}
    return Answer(before.body.encode(), before.status, before.media_type, headers)


def _answered(record: AskedOnce, answer: Answer) -> AskedOnce:
    headers = dict(answer.headers) if answer.etag is None else {**answer.headers, "ETag": answer.etag}
    return evolve(
        record,
        status=answer.status,
        media_type=answer.content_type,
        headers=headers,
        body=answer.body.decode(),
    )
