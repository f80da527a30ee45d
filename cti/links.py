"""Ways from a card into other systems: addresses with gaps for what the card knows, checked once and filled often.

Pure. The host is the template's alone: what a CRM says goes into path and query only, encoded, and never leads out of
the path that it stands in.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlsplit

from attrs import frozen

MAX_TITLE: Final = 60
MAX_TEMPLATE: Final = 1000
MAX_ADDRESS: Final = 2048

#: What can stand in braces, and what of it a role may be kept from seeing (`http.masking`).
GAPS: Final[Mapping[str, str | None]] = {
    "number": "number",
    "call": None,
    "party.adapter": None,
    "party.type": None,
    "party.id": None,
    "party.name": "name",
    "party.company": "company",
    "party.organisation": "company",
    "party.owner": "owner",
    "party.tier": "tier",
    "party.language": "language",
}

_GAP: Final = re.compile(r"\{([^{}]*)\}")
_FIXED_HOST: Final = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+[/?#]", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&()*+,;=%{}-]+")
_DOTS: Final = ("..", ".")


@frozen
class LinkTemplate:
    """One link on the cards of parties of this adapter and type; None: of all.

    Raises `ValueError`, saying what would be right, for an address that could lead anywhere else.
    """

    title: str
    url: str
    adapter: str | None = None
    type: str | None = None

    def __attrs_post_init__(self) -> None:
        bare = _GAP.sub("", self.url)
        if (
            not _FIXED_HOST.match(self.url)
            or len(self.url) > MAX_TEMPLATE
            or not _ADDRESS.fullmatch(self.url)
        ):
            raise ValueError(
                "is no address with a fixed host; such as https://erp.example/customer/{party.id} would be right"
            )
        if "{" in bare or "}" in bare:
            raise ValueError("has a brace without its other; {party.id} would be right")
        for gap in _GAP.findall(self.url):
            if gap not in GAPS:
                raise ValueError(f"has {{{gap[:40]}}}; known are {', '.join(GAPS)}")

    @property
    def tells(self) -> tuple[str, ...]:
        """What of a customer stands in the address once it is filled, in the words of `http.masking`."""
        told = (GAPS[gap] for gap in _GAP.findall(self.url))
        return tuple(sorted({each for each in told if each is not None}))

    def filled(self, values: Mapping[str, str | None]) -> str | None:
        """The address, or None where a value is missing or would lead out of its place."""
        missing = False

        def encoded(gap: re.Match[str]) -> str:
            nonlocal missing
            value = values.get(gap[1]) or ""
            missing = missing or not value
            return quote(value, safe="")

        address = _GAP.sub(encoded, self.url)
        # Browsers take these for steps up, however they are written (URL Standard, "double-dot path segment").
        steps = (step.lower().replace("%2e", ".") for step in urlsplit(address).path.split("/"))
        if missing or len(address) > MAX_ADDRESS or any(step in _DOTS for step in steps):
            return None
        return address
