"""What a CRM writes for an amount of money, as the number that it is; what may be two numbers is none."""

import math
import re
from typing import Any, Final

_MOST_DIGITS: Final = 15
#: 1234, 1234.5, 1234,50, 1.234,50 and 1,234.50. Not 1.234: nobody can say whether that is more than a thousand.
_NUMBER: Final = (
    r"[0-9]+(?:[.,][0-9]{1,2})?|[0-9]{1,3}(?:(?:\.[0-9]{3})+,[0-9]{1,2}|(?:,[0-9]{3})+\.[0-9]{1,2})"
)
_CURRENCY: Final = r"(?:[A-Z]{3}|[€$£¥])"
_AMOUNT: Final = re.compile(
    rf"(?:{_CURRENCY} ?)?([+\-\u2212]?)(?:{_CURRENCY} ?)?({_NUMBER})(?: ?{_CURRENCY})?"
)


def amount(written: Any) -> float | None:
    """`-120,50 EUR` is -120.5, whatever the currency; None for what is no amount."""
    if isinstance(written, bool):
        return None
    if isinstance(written, int | float):
        return float(written) if abs(written) < 10**_MOST_DIGITS and math.isfinite(written) else None
    if not isinstance(written, str):
        return None
    found = _AMOUNT.fullmatch(" ".join(written.split()))
    if found is None or len(found[2]) > _MOST_DIGITS:
        return None
    sign, digits = found.groups()
    *whole, fraction = re.split("[.,]", digits)
    value = float(f"{''.join(whole)}.{fraction}") if whole else float(fraction)
    return -value if sign in ("-", "\u2212") and value else value
