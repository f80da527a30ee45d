"""TLS to a server that has to prove who it is: whom to believe, and in words why a handshake failed.

When to try, and when to give up, is left to who connects.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, Final

from attrs import frozen
from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, CertificateOptions, platformTrust, trustRootFromCertificates
from zope.interface import implementer  # type: ignore[import-untyped]

# Twisted has no types for these.
_certificate: Final[Any] = Certificate
_the_systems: Final[Any] = platformTrust
_these: Final[Any] = trustRootFromCertificates

_NO_TLS: Final = ("wrong version number", "packet length too long", "record layer failure", "http request")


@frozen
class TlsWords:
    """How to tell an administrator what would be right here.

    ``owner``: whose certificate it is; ``trust``: the setting that has it trusted; ``renew``: what to do about
    an expired one; ``name``: what to do about one for another name; ``plain``: about a peer that speaks no TLS.
    """

    owner: str
    trust: str
    renew: str
    name: str
    plain: str


@implementer(IOpenSSLClientConnectionCreator)
class VerifiedTls:
    """Believes only a certificate that is for ``name`` (a host or an address), and signed by an authority.

    ``ca``: PEM of the authorities, or of the one certificate itself; None: those that the system trusts.
    Raises ValueError if there is none in it.
    """

    def __init__(self, name: str, ca: bytes | None, words: TlsWords) -> None:
        self._name = name
        self._words = words
        try:
            self._is_address = bool(ip_address(name))
        except ValueError:
            self._is_address = False
        trusted = _the_systems() if ca is None else _these(_certificates(ca))
        self._context = CertificateOptions(trustRoot=trusted).getContext()
        store = self._context.get_cert_store()
        if ca is not None and store is not None:
            # So that the server's own certificate may stand there, too, whoever has signed it.
            store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
        self._flaw: str | None = None

    def clientConnectionForTLS(self, _protocol: object) -> SSL.Connection:
        """The beginning of one handshake (``IOpenSSLClientConnectionCreator``)."""
        self._flaw = None
        connection = SSL.Connection(self._context, None)
        if not self._is_address:
            # An address may not be named there (RFC 6066).
            connection.set_tlsext_host_name(self._name.encode("idna"))
        # Ours in place of Twisted's, because OpenSSL tells nobody else what is wrong with a certificate.
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._judge)
        return connection

    def explain(self, error: BaseException | None) -> str | None:
        """Why the connection was lost with ``error``; None if it was not TLS that gave up."""
        if self._flaw is not None:
            return f"TLS: {self._words.owner} certificate {self._flaw}"
        if not isinstance(error, SSL.Error):
            return None
        # A list of library, function and reason of each; empty where the connection was just cut.
        said = [
            str(each[-1])
            for each in (error.args[0] if error.args and isinstance(error.args[0], list) else ())
        ]
        if any(reason in _NO_TLS for reason in said):
            return f"TLS: what answers speaks none; {self._words.plain} would be right"
        return f"TLS: {', '.join(said) or 'the connection was cut'}"

    def _judge(
        self, _connection: SSL.Connection, certificate: X509, error: int, depth: int, good: int
    ) -> bool:
        if not good:
            self._flaw = self._wrong(error)
            return False
        if depth > 0:
            return True
        own = certificate.to_cryptography()
        try:
            if self._is_address:
                verify_certificate_ip_address(own, self._name)
            else:
                verify_certificate_hostname(own, self._name)
        except (VerificationError, CertificateError):
            names = ", ".join(_names(own)) or "nobody, having no subjectAltName"
            self._flaw = f"is for {names}, not for {self._name}: {self._words.name}"
            return False
        return True

    def _wrong(self, error: int) -> str:
        """What OpenSSL's X509_V_ERR_… means, of those that an administrator meets."""
        match error:
            case 9:
                return "is not valid yet: compare the clocks of both machines"
            case 10:
                return f"has expired: {self._words.renew}"
            case 18:
                return (
                    "is signed by nobody but itself:"
                    f" {self._words.trust} with that certificate in FILE would trust it"
                )
            case 19 | 20 | 21:
                return (
                    "is signed by an authority that is not trusted here:"
                    f" {self._words.trust} with that one's in FILE would do"
                )
        return f"is not accepted by OpenSSL (error {error})"


def _certificates(pem: bytes) -> list[Any]:
    """Raises ValueError if there is none, or one that cannot be read."""
    return [_certificate(X509.from_cryptography(each)) for each in x509.load_pem_x509_certificates(pem)]


def _names(certificate: x509.Certificate) -> Iterator[str]:
    """For whom it is, a few of them at most, without what would move a terminal's cursor."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return
    for name in list(names)[:5]:
        text = str(name.value)[:100]
        yield text if text.isprintable() else "…"
