"""Ways into other systems: addresses with gaps for what is known of a call, checked once and filled often.

Pure. The host is the template's alone: what a CRM or a caller says goes into path and query only, encoded, and never
leads out of the path that it stands in.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final
from urllib.parse import quote, urlsplit

from attrs import field, frozen

MAX_TITLE: Final = 60
MAX_TEMPLATE: Final = 1000
MAX_ADDRESS: Final = 2048

#: What can stand in braces of a card's link, and what of it a role may be kept from seeing (`http.masking`).
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
class AddressTemplate:
    """An address with gaps in braces, of which `known` are those that there are.

    Raises `ValueError`, saying what would be right, for an address that could lead anywhere else.
    """

    url: str
    known: Collection[str]
    example: str

    def __attrs_post_init__(self) -> None:
        bare = _GAP.sub("", self.url)
        if (
            not _FIXED_HOST.match(self.url)
            or len(self.url) > MAX_TEMPLATE
            or not _ADDRESS.fullmatch(self.url)
        ):
            raise ValueError(f"is no address with a fixed host; such as {self.example} would be right")
        if "{" in bare or "}" in bare:
            raise ValueError(f"has a brace without its other; {self.example} would be right")
        for gap in self.gaps:
            if gap not in self.known:
                raise ValueError(f"has {{{gap[:40]}}}; known are {', '.join(self.known)}")

    @property
    def gaps(self) -> Sequence[str]:
        return _GAP.findall(self.url)

    def filled(self, values: Mapping[str, str | None], *, whole: bool = True) -> str | None:
        """The address, or None where a value would lead out of its place, or, of a `whole` one, is missing."""
        missing = False

        def encoded(gap: re.Match[str]) -> str:
            nonlocal missing
            value = values.get(gap[1]) or ""
            missing = missing or not value
            return quote(value, safe="")

        address = _GAP.sub(encoded, self.url)
        # Browsers take these for steps up, however they are written (URL Standard, "double-dot path segment").
        steps = (step.lower().replace("%2e", ".") for step in urlsplit(address).path.split("/"))
        if (missing and whole) or len(address) > MAX_ADDRESS or any(step in _DOTS for step in steps):
            return None
        return address


@frozen
class LinkTemplate:
    """One link on the cards of parties of this adapter and type; None: of all. Raises as `AddressTemplate`."""

    title: str
    url: str
    adapter: str | None = None
    type: str | None = None
    _address: AddressTemplate = field(init=False, repr=False, eq=False)

    @_address.default
    def _make_address(self) -> AddressTemplate:
        return AddressTemplate(self.url, GAPS, "https://erp.example/customer/{party.id}")

    @property
    def tells(self) -> tuple[str, ...]:
        """What of a customer stands in the address once it is filled, in the words of `http.masking`."""
        told = (GAPS[gap] for gap in self._address.gaps)
        return tuple(sorted({each for each in told if each is not None}))

    def filled(self, values: Mapping[str, str | None]) -> str | None:
        """The address, or None where a value is missing or would lead out of its place."""
        return self._address.filled(values)
