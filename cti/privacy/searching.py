"""A process of its own that looks whether somebody shows in files: `python -m cti.privacy.searching`, asked by stdin.

Never in a process that has SQLite open: whoever closes a file takes all locks of its process off it (POSIX; "How To
Corrupt An SQLite Database File", 2.2), and then a checkpoint goes over what others write: measured, lines were lost.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import orjson

from cti.privacy.traces import Subject, Traces

#: Bytes of a file that are searched at once; and of each piece those that are read once more with the next.
_PIECE: Final = 4 * 1024 * 1024
_OVERLAP: Final = 512


def showing(paths: Iterable[Path], traces: Traces) -> dict[Path, str | None]:
    """In which of these files they show: None, or why one could not be searched. Blocks; raises `OSError`."""
    asked = {"subject": traces.subject.as_json(), "files": [str(path) for path in paths]}
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, input=orjson.dumps(asked), capture_output=True, check=False)
    if done.returncode != 0:
        raise OSError(f"the search of files ended with {done.returncode}")
    return {Path(path): why for path, why in orjson.loads(done.stdout).items()}


def _shows(path: str, traces: Traces) -> bool:
    with open(path, "rb") as file:
        before = b""
        while piece := file.read(_PIECE):
            if traces.in_bytes(before + piece):
                return True
            before = piece[-_OVERLAP:]
    return False


def main() -> None:
    asked = orjson.loads(sys.stdin.buffer.read())
    traces = Traces(Subject.from_json(asked["subject"]))
    found: dict[str, str | None] = {}
    for path in asked["files"]:
        try:
            if _shows(path, traces):
                found[path] = None
        except FileNotFoundError:
            # Gone, and so is what was in it.
            continue
        except OSError as error:
            found[path] = error.strerror
    sys.stdout.buffer.write(orjson.dumps(found))


if __name__ == "__main__":
    main()
