"""TLS on the way to Asterisk's manager port: what to tell its administrator of `verified_tls`'s verdicts.

When to try, and when to give up, is left to `ami`.
"""

from typing import Final

from cti.verified_tls import TlsWords, VerifiedTls

_WORDS: Final = TlsWords(
    owner="Asterisk's",
    trust="`tls: {ca: FILE}`",
    renew="renew it, and have Asterisk read it by a restart or `module reload manager`",
    name="`tls: {name: …}` says whom it is for",
    plain="the port of `tlsbindaddr`, or no `tls`,",
)


class AmiTls(VerifiedTls):
    """Believes only Asterisk's certificate for `name`; see `VerifiedTls`."""

    def __init__(self, name: str, ca: bytes | None = None) -> None:
        super().__init__(name, ca, _WORDS)
