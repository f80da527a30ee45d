"""TLS for whoever connects to us: the certificate of this moment, taken anew when its files have changed.

What makes a certificate usable is `cti.certificates`' to say.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from OpenSSL import SSL
from OpenSSL.crypto import X509, PKey
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions, TLSVersion
from zope.interface import implementer  # type: ignore[import-untyped]

from cti.certificates import CertificateUnusable, Pair, read_pair
from cti.logs import get_logger

#: Twisted has no types for these.
_options: Final[Any] = CertificateOptions
_versions: Final[Any] = TLSVersion

_log = get_logger(__name__)

#: What tells a file from another, and from itself when it was changed.
_Seen = tuple[tuple[int, int, int] | None, ...]


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """TLS 1.2 and later with a certificate. Raises `CertificateUnusable` if there is none that can be used.

    Connections that are open keep the one that they began with.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._seen = self._look()
        pair = read_pair(certificate, key)
        if _has_expired(pair):
            _log.error("the certificate has expired: browsers refuse it", file=str(certificate))
        self._context = _context(pair)

    def serverConnectionForTLS(self, _protocol: object) -> SSL.Connection:
        """The beginning of one handshake (`IOpenSSLServerConnectionCreator`)."""
        return SSL.Connection(self._context, None)

    def refresh(self, *, asked: bool = False) -> None:
        """Take the certificate anew if its files have changed, or if somebody `asked`; blocks, for the files.

        Files that cannot be used change nothing, and the log says so, once for each state of them.
        """
        seen = self._look()
        if seen == self._seen and not asked:
            return
        self._seen = seen
        try:
            pair = read_pair(*self._files)
        except CertificateUnusable as error:
            file = self._files[1 if error.of_key else 0]
            _log.error("the new certificate is not used, the old one is", file=str(file), why=str(error))
            return
        if _has_expired(pair):
            _log.error(
                "the new certificate is not used, the old one is", file=str(self._files[0]), why="has expired"
            )
            return
        self._context = _context(pair)
        _log.info("a certificate was taken over", file=str(self._files[0]), until=pair.ends.isoformat())

    def _look(self) -> _Seen:
        return tuple(_state_of(file) for file in self._files)


def _has_expired(pair: Pair) -> bool:
    return pair.ends <= datetime.now(UTC)


def _state_of(file: Path) -> tuple[int, int, int] | None:
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size


def _context(pair: Pair) -> SSL.Context:
    certificates = [X509.from_cryptography(each) for each in pair.chain]
    options = _options(
        privateKey=PKey.from_cryptography_key(pair.key),
        certificate=certificates[0],
        extraCertChain=certificates[1:],
        raiseMinimumTo=_versions.TLSv1_2,
    )
    context: SSL.Context = options.getContext()
    return context
