"""Text on Asterisk's wires: what its bytes mean, and what may never be written to it.

Both protocols are line protocols without a declared character set. What a line means is left to their
parsers.
"""

import re

_LINE_ENDS = re.compile(r"\r\n|\r|\n")


def decode(data: bytes) -> str:
    """Text of `data`: UTF-8, else Latin-1.

    Asterisk passes on the bytes that a phone or a trunk sent, and old ones send Latin-1 names. Latin-1 gives
    every byte a character, so no name can fail here, and unlike surrogate escapes the result can be stored
    and sent on.
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def one_line(text: str) -> str:
    """`text` without what would end a line or a C string: each line end becomes a space, NUL goes."""
    return _LINE_ENDS.sub(" ", text).replace("\0", "")


def encode(text: str) -> bytes:
    """`text` on one line, in UTF-8; a lone surrogate, which has no encoding, becomes a question mark."""
    return one_line(text).encode(errors="replace")
