"""Asterisk's own call records, as `cdr_csv` writes them: what is left of calls that nobody else saw.

Which of them a log lacks, and what is made of them, is the business of `cti.calls.gaps`. The columns and their
quoting are those of cdr/cdr_csv.c, the same in Asterisk 16 and 22; `loguniqueid = yes` adds the one that tells
whose call it is.
"""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from attrs import frozen

#: Only the end of the file is read; an Asterisk writes some 200 bytes a call.
TAIL_BYTES: Final = 16 * 1024 * 1024
#: A field is what fits into Asterisk's 1,024 bytes; a longer one is no record of Asterisk's.
_LONGEST_FIELD: Final = 2048
_WITHOUT_UNIQUEID, _WITH_UNIQUEID = 16, 17


class CdrUnreadable(Exception):
    """The call records cannot be used; the text says why and what would be right."""


@frozen
class CdrFile:
    """Where an Asterisk's `cdr-csv/Master.csv` is, as this machine sees it, and the zone of its times.

    With `usegmtime = yes` in cdr.conf the zone is UTC, whatever the machine's is.
    """

    path: Path
    zone: ZoneInfo


@frozen
class CallDetailRecord:
    """One row. Times are epoch seconds, whole ones; `answered` is None where nobody did.

    `disposition` is Asterisk's word: `ANSWERED`, `NO ANSWER`, `BUSY`, `FAILED` or `CONGESTION`.
    """

    uniqueid: str
    channel: str
    dialled: str
    source: str
    destination: str
    started: float
    answered: float | None
    ended: float
    disposition: str


def records_since(file: CdrFile, since: float) -> list[CallDetailRecord]:
    """The records of calls that ended at `since` or later, as far as the file's end holds them.

    Blocks while it reads. Raises `CdrUnreadable`.
    """
    try:
        with open(file.path, "rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            opened.seek(max(0, size - TAIL_BYTES))
            if size > TAIL_BYTES:
                opened.readline()
            text = opened.read(TAIL_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise CdrUnreadable(
            f"{file.path} cannot be read ({error.strerror}); check its path and rights"
        ) from error
    # A record's times are whole seconds.
    return list(_records(text, file.zone, since - 1.0))


def _records(text: str, zone: ZoneInfo, since: float) -> Iterator[CallDetailRecord]:
    rows = csv.reader(io.StringIO(text.replace("\0", ""), newline=""))
    for row in _readable(rows):
        if len(row) == _WITHOUT_UNIQUEID:
            raise CdrUnreadable(
                "the call records do not say whose they are; `loguniqueid = yes` in [csv] of cdr.conf would be right"
            )
        record = _record(row, zone, since) if len(row) >= _WITH_UNIQUEID else None
        if record is not None:
            yield record


def _readable(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """The rows that are CSV at all: one that is not says nothing about the next."""
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            continue
        yield row


def _record(row: list[str], zone: ZoneInfo, since: float) -> CallDetailRecord | None:
    # Most rows of a large file are too old, and looked at no further.
    over = _seconds(row[11], zone)
    if over is None or over < since or any(len(field) > _LONGEST_FIELD for field in row):
        return None
    _, source, destination, _, _, channel, dialled, _, _, started, answered, ended, _, _, disposition, *_ = (
        row
    )
    began, over = _seconds(started, zone), _seconds(ended, zone)
    if began is None or over is None or not row[16]:
        return None
    return CallDetailRecord(
        uniqueid=row[16],
        channel=channel,
        dialled=dialled,
        source=source,
        destination=destination,
        started=began,
        answered=_seconds(answered, zone),
        ended=over,
        disposition=disposition,
    )


def _seconds(text: str, zone: ZoneInfo) -> float | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()
    except (ValueError, OverflowError):
        return None


def one_a_call(records: Iterable[CallDetailRecord]) -> Mapping[str, CallDetailRecord]:
    """The records by uniqueid: of several for one channel (a leg each), the answered one or the latest."""
    calls: dict[str, CallDetailRecord] = {}
    for record in records:
        known = calls.get(record.uniqueid)
        if known is None or known.answered is None:
            calls[record.uniqueid] = record
    return calls
