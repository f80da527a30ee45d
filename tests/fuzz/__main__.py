"""Coverage-guided fuzzing of both parsers, side by side, by atheris (libFuzzer); for `make fuzz`.

    python -m tests.fuzz SECONDS
    python -m tests.fuzz agi|ami [FILE or DIRECTORY or -libfuzzer_option]…

The second form is libFuzzer's own command line; with a file it runs that input only. New inputs go to var/fuzz.
Those worth keeping are taken into the corpus by

    python -m tests.fuzz ami -merge=1 tests/fuzz/corpus/ami var/fuzz/ami
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).parent
TARGETS = ("agi", "ami")


def fuzz(target: str, arguments: list[str]) -> NoReturn:
    """libFuzzer ends the process: with 0 if it found nothing."""
    import atheris

    with atheris.instrument_imports(include=["cti.asterisk"]):
        from tests.fuzz import invariants

    atheris.Setup([sys.argv[0], *arguments], invariants.TARGETS[target])
    atheris.Fuzz()
    raise AssertionError("libFuzzer came back")


def both(seconds: int, work: Path) -> int:
    """Fuzz both parsers for that long, and print the figures; the exit status."""
    running = {}
    for target in TARGETS:
        found = work / target
        found.mkdir(parents=True, exist_ok=True)
        with open(work / f"{target}.log", "wb") as log:
            running[target] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.fuzz", target, found, HERE / "corpus" / target),
                    *(f"-max_total_time={seconds}", f"-dict={HERE / target}.words", "-max_len=512"),
                    *("-timeout=10", "-rss_limit_mb=1024", f"-artifact_prefix={work / target}-"),
                    "-print_final_stats=1",
                ],
                stdout=log,
                stderr=log,
            )
    return max(tell(target, process.wait(), work / f"{target}.log") for target, process in running.items())


def tell(target: str, status: int, log: Path) -> int:
    text = log.read_text("utf-8", "replace")
    executions = (
        re.findall(r"number_of_executed_units:\s*(\d+)", text) or re.findall(r"#(\d+)\t", text) or "?"
    )
    edges, features, kept = (re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", text) or ["???"])[-1]
    outcome = "nothing found" if status == 0 else f"FAILED, see {log}"
    print(
        f"{target}: {executions[-1]} executions, {edges} edges, {features} features, {kept} inputs: {outcome}"
    )
    return int(status != 0)


if __name__ == "__main__":
    if sys.argv[1] in TARGETS:
        fuzz(sys.argv[1], sys.argv[2:])
    sys.exit(both(int(sys.argv[1]), Path("var/fuzz")))
