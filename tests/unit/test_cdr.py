"""Asterisk's own call records: what is read out of them, and what is not taken for one."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cti.asterisk import cdr
from cti.asterisk.cdr import CdrFile, CdrUnreadable, one_a_call, records_since

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def a_row(
    *,
    uniqueid: str = "1700000000.1",
    source: str = "201",
    destination: str = "03023125001",
    channel: str = "PJSIP/anna-00000001",
    dialled: str = "PJSIP/trunk-00000002",
    started: str = "2026-01-05 10:00:00",
    answered: str = '"2026-01-05 10:00:05"',
    ended: str = "2026-01-05 10:01:00",
    disposition: str = "ANSWERED",
    more: str = "",
) -> str:
    """One line as cdr/cdr_csv.c writes it: texts in quotes, times that never came empty."""
    return (
        f'"","{source}","{destination}","from-phones","""Anna"" <{source}>","{channel}","{dialled}","Dial",'
        f'"PJSIP/{destination}@trunk,30","{started}",{answered},"{ended}",60,55,"{disposition}",'
        f'"DOCUMENTATION","{uniqueid}"{more}\n'
    )


def a_file(directory: Path, *rows: str, zone: str = "UTC") -> CdrFile:
    path = directory / "Master.csv"
    path.write_bytes("".join(rows).encode("utf-8", "surrogateescape"))
    return CdrFile(path, ZoneInfo(zone))


def test_a_record_is_read_with_its_times(tmp_path):
    (record,) = records_since(a_file(tmp_path, a_row()), at("2026-01-05 10:00:30"))
    assert (record.uniqueid, record.channel, record.dialled) == (
        "1700000000.1",
        "PJSIP/anna-00000001",
        "PJSIP/trunk-00000002",
    )
    assert (record.source, record.destination, record.disposition) == ("201", "03023125001", "ANSWERED")
    assert (record.started, record.answered, record.ended) == (
        at("2026-01-05 10:00:00"),
        at("2026-01-05 10:00:05"),
        at("2026-01-05 10:01:00"),
    )


def test_times_are_those_of_the_configured_zone(tmp_path):
    (record,) = records_since(a_file(tmp_path, a_row(), zone="Europe/Berlin"), 0)
    assert record.started == at("2026-01-05 09:00:00")


def test_what_ended_before_is_left_out_and_nobody_answering_is_none(tmp_path):
    old = a_row(ended="2026-01-05 09:00:00")
    new = a_row(uniqueid="1700000000.9", answered="", disposition="NO ANSWER")
    (record,) = records_since(a_file(tmp_path, old, new), at("2026-01-05 10:00:00"))
    assert (record.uniqueid, record.answered) == ("1700000000.9", None)


@pytest.mark.parametrize(
    "damaged",
    [
        "not a record at all\n",
        '"half a record","and then the disk was full\n',
        a_row(started="yesterday"),
        a_row(uniqueid=""),
        a_row(source="x" * 3000),
        "\udcff\udcfe,\n",
        "\0\0\0\n",
    ],
)
def test_a_damaged_line_says_nothing_about_the_others(tmp_path, damaged):
    before, after = a_row(uniqueid="1.1"), a_row(uniqueid="1.2")
    found = records_since(a_file(tmp_path, before, damaged, after), 0)
    assert found[0].uniqueid == "1.1"
    # A quote that was never closed swallows what follows it, and no more can be said of that.
    assert "1.2" in {record.uniqueid for record in found} or "half" in damaged


def test_newer_columns_behind_the_uniqueid_are_passed_over(tmp_path):
    rows = a_row(more=',"user field","peer","1700000000.1",7')
    assert len(records_since(a_file(tmp_path, rows), 0)) == 1


def test_records_without_a_uniqueid_say_what_would_be_right(tmp_path):
    row = a_row().rpartition(',"1700000000.1"')[0] + "\n"
    with pytest.raises(CdrUnreadable, match="loguniqueid = yes"):
        records_since(a_file(tmp_path, row), 0)


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(CdrUnreadable, match=r"Master\.csv cannot be read \(No such file"):
        records_since(CdrFile(tmp_path / "Master.csv", BERLIN), 0)


def test_of_a_large_file_only_the_end_is_read_from_a_whole_line_on(tmp_path, monkeypatch):
    monkeypatch.setattr(cdr, "TAIL_BYTES", 1000)
    rows = [a_row(uniqueid=f"1.{index}") for index in range(100)]
    found = [record.uniqueid for record in records_since(a_file(tmp_path, *rows), 0)]
    assert 1 < len(found) < 10
    assert found == [f"1.{index}" for index in range(100 - len(found), 100)]


def test_of_several_records_for_one_channel_the_answered_one_counts(tmp_path):
    rows = [
        a_row(answered="", disposition="NO ANSWER", dialled="PJSIP/ben-00000001"),
        a_row(dialled="PJSIP/cora-00000002"),
        a_row(answered="", disposition="BUSY", dialled="PJSIP/dora-00000003"),
    ]
    calls = one_a_call(records_since(a_file(tmp_path, *rows), 0))
    assert [call.dialled for call in calls.values()] == ["PJSIP/cora-00000002"]
