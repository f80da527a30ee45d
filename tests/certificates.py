"""Certificates for tests: an authority of their own, and what it has signed, good and bad."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from attrs import define, field
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@define
class Authority:
    """Signs certificates; `pem` is what its clients trust."""

    name: str = "an authority"
    _key: ec.EllipticCurvePrivateKey = field(factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    _certificate: x509.Certificate = field(init=False)

    @_certificate.default
    def _self_signed(self) -> x509.Certificate:
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        return (
            self._sign(self.name, self._key, 0, 3650)
            .add_extension(constraints, True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        return self._certificate.public_bytes(Encoding.PEM).decode()

    def issue(self, *names: str, from_days: int = -1, to_days: int = 1) -> str:
        """Certificate and key in one PEM, for hosts and addresses, valid between days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives: list[x509.GeneralName] = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        builder = self._sign(names[0], key, from_days, to_days)
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
        certificate = builder.sign(self._key, hashes.SHA256())
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        return certificate.public_bytes(Encoding.PEM).decode() + secret.decode()

    def _sign(
        self, name: str, key: ec.EllipticCurvePrivateKey, from_days: int, to_days: int
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=from_days, hours=-1))
            .not_valid_after(now + timedelta(days=to_days))
        )
