"""A server's certificate and its key as files: read, and checked to belong together.

What is made of them is `cti.web.tls`'s.
"""

from datetime import datetime
from pathlib import Path
from typing import Final

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_LARGEST: Final = 256 * 1024
_SHORTEST_RSA: Final = 2048


class CertificateUnusable(ValueError):
    """The text says what is wrong, and what would be right; `of_key`: with the key's file, not the certificate's."""

    def __init__(self, text: str, *, of_key: bool = False) -> None:
        super().__init__(text)
        self.of_key = of_key


@frozen
class Pair:
    """`chain`: the server's own certificate first, then those between it and whom its clients trust.

    `ends`: until when it is valid. One that has expired can be used as far as this module is concerned: a server that
    did not start for that would help nobody.
    """

    chain: tuple[x509.Certificate, ...]
    key: EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey = field(repr=False)

    @property
    def ends(self) -> datetime:
        return self.chain[0].not_valid_after_utc


def read_pair(certificate: Path, key: Path) -> Pair:
    """The pair in these two PEM files, which may be one. Raises `CertificateUnusable`. Reads, blocking."""
    pem, private_pem = _read(certificate, of_key=False), _read(key, of_key=True)
    try:
        chain = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise CertificateUnusable(
            "has no certificate in PEM; the server's own, then those above it, would be right"
        ) from error
    try:
        private = load_pem_private_key(private_pem, None)
    except TypeError as error:
        raise CertificateUnusable(
            "is locked with a passphrase; one without would be right", of_key=True
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateUnusable(
            "has no private key in PEM; the certificate's would be right", of_key=True
        ) from error
    if not isinstance(private, EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey):
        raise CertificateUnusable(
            "is of a kind that browsers do not take; EC or RSA would be right", of_key=True
        )
    if isinstance(private, RSAPrivateKey) and private.key_size < _SHORTEST_RSA:
        raise CertificateUnusable(
            f"is shorter than {_SHORTEST_RSA} bits; a longer one would be right", of_key=True
        )
    if chain[0].public_key() != private.public_key():
        raise CertificateUnusable(
            "is not the certificate's key; the one it was made with would be right", of_key=True
        )
    return Pair(tuple(chain), private)


def _read(path: Path, *, of_key: bool) -> bytes:
    try:
        with path.open("rb") as file:
            pem = file.read(_LARGEST + 1)
    except OSError as error:
        raise CertificateUnusable(
            f"cannot be read: {error.strerror}; a readable file would be right", of_key=of_key
        ) from error
    if len(pem) > _LARGEST:
        raise CertificateUnusable(f"has more than {_LARGEST} bytes; a PEM file would be right", of_key=of_key)
    return pem
