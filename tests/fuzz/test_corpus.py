"""Every input that the fuzzer has once found worth keeping, tried again; and inputs that hypothesis makes."""

from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st

from tests.fuzz.invariants import TARGETS

CORPUS = [(path.parent.name, path) for path in sorted((Path(__file__).parent / "corpus").glob("*/*"))]

_HOW = st.integers(0, 255).map(lambda how: bytes([how]))


def made_of(*words: bytes) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(words) | st.binary(max_size=5), max_size=20).map(b"".join)


_AGI = made_of(
    *(b"200 result=1", b" (", b")\n", b") endpos=7\n", b"\n", b"HANGUP\n", b"100 Trying\n", b"520-x\n"),
    *(b"520 End\n", b"510 no\n", b"agi_network: yes\n", b"agi_arg_1: v=1\n", b"\n\n", b"x", b"\xfc", b"\0"),
    *(b'"', b"\\", b" "),
)
_AMI = made_of(
    *(
        b"Event: Hangup\r\n",
        b"Event: X\r\n",
        b"Response: Success\r\n",
        b"ActionID: cti-1\r\n",
        b"\r\n",
        b"\r",
    ),
    *(b"ChanVariable: A=1\r\n", b"Timestamp: 17.5\r\n", b"A: b\r\n", b"\n", b"x" * 40, b"\xfc", b"\0", b"|"),
    b"Asterisk Call Manager/9\r\n",
)


def test_there_is_a_corpus_for_each_parser() -> None:
    assert {target for target, _ in CORPUS} == set(TARGETS)


@pytest.mark.parametrize(("target", "path"), CORPUS, ids=[f"{target}-{path.name}" for target, path in CORPUS])
def test_no_parser_fails_at_what_was_once_worth_keeping(target: str, path: Path) -> None:
    data = path.read_bytes()
    TARGETS[target](data)
    # In every size of pieces.
    for how in range(data[0] % 4, 28, 4):
        TARGETS[target](bytes([how]) + data[1:])


@given(_HOW, _AGI)
@example(b"\x01", b"200 result=1 (a)\n200 result=1 (b)\n")
def test_agi_in_pieces_is_agi_whole_and_what_we_write_is_one_command(how: bytes, stream: bytes) -> None:
    TARGETS["agi"](how + stream)


@given(_HOW, _AMI)
def test_ami_in_pieces_is_ami_whole_and_what_we_write_is_one_action(how: bytes, stream: bytes) -> None:
    TARGETS["ami"](how + stream)
