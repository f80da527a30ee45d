"""How Asterisk takes apart what we send, written from its sources: the judge of what we write."""


def agi_words(line: bytes) -> list[bytes]:
    """The words of a command line, by `parse_args` in res/res_agi.c; it reads up to the first newline."""
    line, newline, rest = line.partition(b"\n")
    assert newline, "a line without end is never run"
    assert not rest, "Asterisk reads what follows as a second command"
    words: list[bytearray] = []
    quoted = escaped = False
    between = True
    for byte in line.partition(b"\0")[0]:
        character = bytes([byte])
        if character == b'"' and not escaped:
            quoted = not quoted
            if quoted and between:
                words.append(bytearray())
                between = False
        elif character in b" \t" and not quoted and not escaped:
            between = True
        elif character == b"\\" and not escaped:
            escaped = True
        else:
            if between:
                words.append(bytearray())
                between = False
            words[-1] += character
            escaped = False
    return [bytes(word) for word in words]


def ami_fields(data: bytes) -> list[tuple[bytes, bytes]]:
    """The headers of an action, by `get_input` and `astman_get_header` in main/manager.c.

    A line ends at CR LF, or at a lone LF; 1,024 bytes at most; a blank line ends the action, and what follows is
    the next one. What stands before a value and is less than a printable character is skipped.
    """
    fields = []
    rest = data
    while True:
        line, end, rest = rest.partition(b"\n")
        assert end, "an action without its blank line is never run"
        line = line.removesuffix(b"\r")
        assert len(line) < 1023, "Asterisk drops an action with such a line"
        if not line:
            break
        assert b"\r" not in line
        name, colon, value = line.partition(b":")
        assert colon, "a line that is no header"
        fields.append((name, value.lstrip(bytes(range(1, 33)))))
    assert not rest, "Asterisk reads what follows as a second action"
    return fields
