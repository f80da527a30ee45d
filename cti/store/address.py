"""The address of a PostgreSQL database: what is one, and how it is shown. Opens nothing.

Stricter than libpq, whose complaints quote what it did not understand, and that may be a piece of a password.
"""

import re
from typing import Final

_TEXT: Final = r"(?:[^:@/?#&=%\s]|%[0-9A-Fa-f]{2})*"
_HOST: Final = r"(?:\[[0-9A-Fa-f:.]+\]|(?:[\w.-]|%[0-9A-Fa-f]{2})*)(?::\d{1,5})?"
_VALUE: Final = r"(?:[^@?#&=%\s]|%[0-9A-Fa-f]{2})*"
_ADDRESS: Final = re.compile(
    rf"(?P<scheme>postgres(?:ql)?)://(?:(?P<user>{_TEXT})(?::{_TEXT})?@)?(?P<hosts>{_HOST}(?:,{_HOST})*)"
    rf"(?P<database>/{_TEXT})?(?:\?[a-z_]+={_VALUE}(?:&[a-z_]+={_VALUE})*)?"
)
MAX_ADDRESS: Final = 1000

#: What is said of one that is none.
NO_ADDRESS: Final = (
    "is no address of a database; such as postgresql://cti@127.0.0.1/cti would be right, or {env: NAME} for one with"
    " a password, in which % / @ : ? # & = are written as %25 %2F %40 %3A %3F %23 %26 %3D"
)


def is_address(text: str) -> bool:
    return len(text) <= MAX_ADDRESS and _ADDRESS.fullmatch(text) is not None


def without_password(url: str) -> str:
    """The address as it may be shown: no password, and no options, of which one may be a password."""
    parts = _ADDRESS.fullmatch(url)
    if parts is None:
        return "named in `store`"
    user = parts["user"]
    return f"{parts['scheme']}://{f'{user}@' if user else ''}{parts['hosts']}{parts['database'] or ''}"
