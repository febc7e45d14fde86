"""How rows come back from the changelog: Faust's recovery, whose reader knows of transactions and hides no error.

Faust's own reader waits for the record just before a partition's end. Where a transaction's marker stands there, or an
aborted one, that record never comes. It also goes on after an error with a line on the log. And it takes whatever
comes: a record that was fetched before a rebalance, and handed on after the seek that follows it, would have all
between left out, and with them lists and rows, for good. Here each record says from where on nothing lies before it,
and where that is not what was applied last, the partition is read again from there.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from mode import Service

log = logging.getLogger(__name__)

_LOOK_S = 0.1  # whether a recovery is at its end, where no record says so
_LOOKS = 20  # without a record, though some were handed on, before they count as lost on the way


class RowRecovery(Recovery):  # type: ignore[misc]
    """Applies the changelog's records to the tables that they belong to."""

    mundane_level = "debug"  # of "Starting..." and the like

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waited: dict[Any, tuple[int, int]] = {}  # partition -> what was applied last, and looks since
        self._began = asyncio.Event()

    def _set_recovery_started(self) -> None:
        """As Faust's. What is left of an earlier recovery is not taken any more."""
        queue = self.tables.changelog_queue
        while not queue.empty():
            queue.get_nowait()
        super()._set_recovery_started()
        self._began.set()

    @Service.task  # type: ignore[untyped-decorator]
    async def _slurp_changelogs(self) -> None:  # Faust starts the task of this name
        queue = self.tables.changelog_queue
        while not self.should_stop:
            self.signal_recovery_end.clear()
            if not self.in_recovery:
                self._began.clear()
                await self.wait(self._began)
                continue
            try:
                self._take(await asyncio.wait_for(queue.get(), _LOOK_S))
                while not queue.empty():
                    self._take(queue.get_nowait())
            except TimeoutError:
                self._pass_markers()
            if self.in_recovery and not self.need_recovery():
                self.flush_buffers()
                self._set_recovery_ended()
                self.signal_recovery_end.set()

    def _take(self, event: Any) -> None:
        tp, offset = event.message.tp, event.message.offset
        if tp not in self.active_tps or not self.in_recovery:
            return  # its partition left, or is served: what is written then is stored by checkpoints
        offsets = self.active_offsets
        applied = offsets.get(tp)
        applied = -1 if applied is None else applied
        if offset <= applied:
            return
        if event.message.covered_from > applied + 1:
            self._read_again(tp, applied)
            return
        table = self.tp_to_table[tp]
        offsets[tp] = offset
        buffer = self.buffers[table]
        buffer.append(event)
        if len(buffer) >= table.recovery_buffer_size:
            table.apply_changelog_batch(buffer)
            buffer.clear()

    def _pass_markers(self) -> None:
        """Nothing has come for a while: count as read what holds no record, and find what was lost on the way."""
        if not self.in_recovery:
            return
        for tp, end in self.active_highwaters.items():
            applied, read = self.active_offsets[tp], self.app.consumer.changelog_read(tp)
            if applied is None or applied >= end:
                continue
            if read is not None and read.start <= applied + 1 and read.newest <= applied:
                if read.end > end:
                    self.active_offsets[tp] = end
            elif self._lost(tp, applied):
                self._read_again(tp, applied)

    def _lost(self, tp: Any, applied: int) -> bool:
        """Whether it has been so for long that more was read than has come, or nobody knows what was."""
        before, looks = self._waited.get(tp, (applied, 0))
        looks = looks + 1 if before == applied else 1
        self._waited[tp] = (applied, looks % _LOOKS)
        return looks >= _LOOKS

    def _read_again(self, tp: Any, applied: int) -> None:
        self.app.consumer.rewind(tp.topic, tp.partition, applied + 1)


class RowTables(TableManager):  # type: ignore[misc]
    """Faust's tables with that recovery."""

    mundane_level = "debug"  # of "Starting..." and the like

    _recovery: RowRecovery | None = None

    @property
    def recovery(self) -> RowRecovery:
        """The service, made when it is first asked for."""
        if self._recovery is None:
            self._recovery = RowRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
