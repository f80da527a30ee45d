"""Passwords of people: which are taken, and argon2id, one at a time in a thread of its own.

Who may try how often is `throttle`'s to say.
"""

import base64
import secrets
import unicodedata
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError
from twisted.internet.defer import Deferred

T = TypeVar("T")

SHORTEST: Final = 12
LONGEST: Final = 128
#: So many may wait for their turn; who comes then is asked to come again.
WAITING: Final = 64

# OWASP's for argon2id. One lane and one at a time: whatever comes in, it is one core's work and 19 MiB.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, type=Type.ID)

# Those of at least `SHORTEST` characters that stand highest on the lists of what people choose, without digits and
# signs at the end, and the beginnings of rows on keyboards.
_WORDS: Final = """
    password passwort kennwort qwertyuiop qwertzuiop qwerty qwertz asdfghjkl asdfghjklö yxcvbnm zxcvbnm
    iloveyou ichliebedich welcome willkommen administrator admin letmein changeme supervisor superman
    sunshine princess football baseball basketball internet computer whatever trustno starwars
    hallohallo schatz sommer winter herbst summer autumn spring fruehling frühling schalke borussia
    dortmund bayernmuenchen deutschland telefon telephone callcenter asterisk cordboard master dragon
    monkey michael jennifer charlie geheim secret topsecret privet geslo slovenija ljubljana parol
    йцукенгшщз пароль привет qazwsxedc qaywsxedc abcdefghij abcdefghijkl abcdefg aaaaaaaaaa testtest
    testtesttest passwordpassword mypassword meinpasswort newpassword neuespasswort
"""
_COMMONEST: Final = frozenset(_WORDS.split())
_SEQUENCES: Final = ("01234567890123456789", "98765432109876543210", "abcdefghijklmnopqrstuvwxyz")
_LETTERS_FOR: Final = str.maketrans("013457@$!", "oieastasi")


class Busy(Exception):
    """Too many passwords wait to be looked at."""


class InThread(Protocol):
    """Runs a function in a thread, one after the other."""

    def __call__(self, work: Callable[[], T], /) -> "Deferred[T]": ...


class Passwords:
    """Makes and compares what is kept of passwords, outside of the reactor."""

    def __init__(
        self,
        in_thread: InThread,
        hasher: PasswordHasher = _HASHER,
        waiting: int = WAITING,
    ) -> None:
        self._in_thread = in_thread
        self._hasher = hasher
        self._limit = waiting
        self._waiting = 0
        self._nobodys = _of_nobody(hasher)

    async def are_right(self, kept: str | None, password: str) -> bool:
        """Whether `password` is the one of which `kept` was kept; for None, nobody's, it takes as long.

        Raises `Busy`.
        """

        def compare() -> bool:
            return _matches(self._hasher, self._nobodys if kept is None else kept, password)

        return await self._work(compare) and kept is not None

    async def kept_of(self, password: str) -> str:
        """What is kept of a password. Raises `Busy`."""
        return await self._work(lambda: self._hasher.hash(_normal(password)))

    def outdated(self, kept: str) -> bool:
        """Whether it was made with other parameters than those of today."""
        return self._hasher.check_needs_rehash(kept)

    async def _work(self, work: Callable[[], T]) -> T:
        if self._waiting >= self._limit:
            raise Busy(f"{self._waiting} passwords wait to be looked at")
        self._waiting += 1
        try:
            return await self._in_thread(work)
        finally:
            self._waiting -= 1


def kept_of(password: str) -> str:
    """What is kept of a password, worked out here and now: for commands."""
    return _HASHER.hash(_normal(password))


def wrong_with(password: str, name: str) -> str | None:
    """Why this may not be the password of user `name`, and what would be right; None if it may.

    Raises nothing, reads nothing, and never shows the password.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        return f"a password has {SHORTEST} to {LONGEST} characters; three or four words make a good one"
    low = _normal(password).lower()
    if name.lower() in low and len(low) - len(name) < SHORTEST - 2:
        return "this password is hardly more than the name; one that nobody can guess from it would be right"
    if len(set(low)) < 4 or _is_sequence(low) or _is_common(low):
        return "this password is among those that are tried first; three or four words make a good one"
    return None


def _is_sequence(low: str) -> bool:
    return any(low in each for each in _SEQUENCES)


def _is_common(low: str) -> bool:
    word = low.strip("0123456789!?.,;:-_#*+ ")
    return not word or word in _COMMONEST or word.translate(_LETTERS_FOR) in _COMMONEST


def _normal(password: str) -> str:
    # The same key presses make different bytes on different systems.
    return unicodedata.normalize("NFKC", password)


def _matches(hasher: PasswordHasher, kept: str, password: str) -> bool:
    try:
        return hasher.verify(kept, _normal(password))
    except (VerificationError, InvalidHashError):
        return False


def _of_nobody(hasher: PasswordHasher) -> str:
    """What no password matches, and takes as long as any to find out."""

    def text(length: int) -> str:
        return base64.b64encode(secrets.token_bytes(length)).decode().rstrip("=")

    parameters = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${parameters}${text(hasher.salt_len)}${text(hasher.hash_len)}"
