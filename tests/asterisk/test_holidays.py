"""A public holiday on a real Asterisk: the server's clock says Christmas, and callers hear that."""

import sys
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from lab.company import AnAgent, Company
from tests.asterisk.test_waiting import ended
from tests.faults.nursery import CLOCK_FILE, Clock

BERLIN = ZoneInfo("Europe/Berlin")
#: `cti` by the clock of a file; before anything has looked at the right one.
_FIRST = "from tests.faults.nursery import take_the_clock; take_the_clock()"
BY_THAT_CLOCK = (sys.executable, "-c", f"import sys; {_FIRST}; from cti.cli import main; sys.exit(main())")


def test_on_a_public_holiday_callers_hear_that_and_two_days_before_they_are_put_through(
    tmp_path: Path,
) -> None:
    clock = Clock(tmp_path / "clock")
    hours = {
        "time_zone": "Europe/Berlin",
        "week": {"mon-sun": "00:00-24:00"},
        "holidays": {"country": "DE", "region": "HE"},
    }
    rules = [
        {"name": "holiday", "when": {"hours": "holiday"}, "announce": "beep"},
        {"name": "open", "dial": {"group": "sales"}},
    ]
    with Company(
        tmp_path / "company",
        [AnAgent("anna")],
        service={"rules": rules, "hours": "office"},
        settings={"hours": {"office": hours}},
        command=BY_THAT_CLOCK,
        environment={CLOCK_FILE: str(clock.file)},
    ) as company:
        year = datetime.now(BERLIN).year
        for count, (day, outcome, rule) in enumerate(
            [(23, "answered", "open"), (25, "self_service", "holiday")], 1
        ):
            clock.set(datetime(year + 1, 12, day, 12, tzinfo=BERLIN).timestamp() - time.time())
            company.start()
            company.call(from_number="+493023125101", talk_ms=300).wait()
            record = ended(company, count)[-1]
            assert (record["outcome"], record["rule"]) == (outcome, rule)
            assert record["started"].startswith(f"{year + 1}-12-{day}T11:")
            company.daemon.stop()
