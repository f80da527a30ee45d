"""Times in which an Asterisk was not heard: what it did meanwhile is made up for, or the gap is reported.

A call that passed our dialplan left its end in AstDB, and `tracker` collects it. One that did not, such as a call
made at a phone, is known from AMI only: if it began and ended while nobody listened, all that is left is
Asterisk's own record of it (CDR). Where those can be read, each such call gets a record out of it; where not, the
log says from when to when it may lack calls.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from cti.asterisk.cdr import CallDetailRecord, CdrFile, CdrUnreadable, one_a_call, records_since
from cti.calls.log import CallLog
from cti.logs import get_logger
from cti.store.base import StoreError
from cti.store.records import GapRecord, HeardRecord

log = get_logger("cti.calls.gaps")

#: Asterisk writes a record a moment after the call; and its clock may differ by so many seconds.
_MARGIN: Final = 2.0
#: A longer list is cut: nobody reads what was missed in a year, and it would be written at once.
_MOST: Final = 10_000

_NO_CDR: Final = "no call records are configured for it (asterisks: NAME: cdr)"


class Gaps:
    """Sees to it that what was missed is made up for or reported."""

    def __init__(
        self,
        calls: CallLog,
        files: Mapping[str, CdrFile],
        *,
        make_up: Callable[[str, CallDetailRecord], Awaitable[None]],
        in_thread: Callable[[Callable[[], Any]], Awaitable[Any]],
        measure: Callable[[str, float], None],
    ) -> None:
        """`files`: by Asterisk, where its call records are. `make_up(pbx, record)` logs a call out of its record.

        `in_thread` runs what blocks outside of the reactor. `measure(pbx, seconds)` is told of each gap that
        could not be closed.
        """
        self._calls = calls
        self._files = files
        self._make_up = make_up
        self._in_thread = in_thread
        self._measure = measure

    async def heard(self, pbx: str, at: float) -> None:
        """Everything that this Asterisk said until then has been heard. Raises `StoreError`."""
        unit = self._calls.unit()
        unit.put_heard(HeardRecord(pbx, at))
        await self._calls.commit(unit)

    async def close(self, pbx: str, lost: float, until: float) -> None:
        """Make up for what went by between `lost` (or when it was last heard, if nobody ran then) and `until`.

        To be called after a resync, which brings what still lives and what AstDB knows. Raises `StoreError`.
        """
        since = self._calls.store.heard(pbx)
        if since is None:
            # The first time ever: what was before us is nobody's gap.
            await self.heard(pbx, until)
            return
        since = min(since, lost)
        recovered: int | None = None
        why: str | None = None
        try:
            recovered = await self._recover(pbx, since, until)
        except CdrUnreadable as error:
            why = str(error)
            self._measure(pbx, until - since)
            log.warning(
                "calls may be missing from the log: those that did not pass our dialplan while nobody listened",
                pbx=pbx,
                seconds=round(until - since, 1),
                why=why,
            )
        else:
            log.info(
                "the gap in AMI is closed", pbx=pbx, seconds=round(until - since, 1), recovered=recovered
            )
        unit = self._calls.unit()
        unit.put_gap(GapRecord(pbx, since, until, recovered, why))
        unit.put_heard(HeardRecord(pbx, until))
        await self._calls.commit(unit)

    async def _recover(self, pbx: str, since: float, until: float) -> int:
        file = self._files.get(pbx)
        if file is None:
            raise CdrUnreadable(_NO_CDR)
        found = one_a_call(await self._in_thread(lambda: records_since(file, since - _MARGIN)))
        recovered = 0
        for record in list(found.values())[-_MOST:]:
            if self._is_a_leg(record) or record.started > until or self._knows(pbx, record):
                continue
            try:
                await self._make_up(pbx, record)
            except StoreError as error:
                raise CdrUnreadable(f"the store did not take a call out of them: {error}") from error
            recovered += 1
        return recovered

    def _knows(self, pbx: str, record: CallDetailRecord) -> bool:
        return (
            self._calls.of_channel(pbx, record.uniqueid) is not None
            or self._calls.store.call_by_channel(pbx, record.uniqueid) is not None
        )

    @staticmethod
    def _is_a_leg(record: CallDetailRecord) -> bool:
        """Whether it is half of a Local channel or nothing that was dialled: no call of anybody's."""
        return record.channel.startswith("Local/") or not record.dialled
