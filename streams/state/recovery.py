"""How rows come back from the changelog: Faust's recovery, whose reader knows of transactions and hides no error.

Faust's own reader waits for the record just before a partition's end. Where a transaction's marker stands there, or an
aborted one, that record never comes. It also goes on after an error with a line on the log.
"""

from __future__ import annotations

import asyncio
from typing import Any

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from mode import Service

_LOOK_S = 0.1  # whether a recovery is at its end, where no record says so


class RowRecovery(Recovery):  # type: ignore[misc]
    """Applies the changelog's records to the tables that they belong to."""

    mundane_level = "debug"  # of "Starting..." and the like

    @Service.task  # type: ignore[untyped-decorator]
    async def _slurp_changelogs(self) -> None:  # Faust starts the task of this name
        queue = self.tables.changelog_queue
        while not self.should_stop:
            self.signal_recovery_end.clear()
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
        if tp in self.active_tps:
            offsets = self.active_offsets
        elif tp in self.standby_tps:
            offsets = self.standby_offsets
        else:
            return  # its partition left
        seen = offsets.get(tp)
        if seen is not None and offset <= seen:
            return
        table = self.tp_to_table[tp]
        offsets[tp] = offset
        buffer = self.buffers[table]
        buffer.append(event)
        if len(buffer) >= table.recovery_buffer_size:
            table.apply_changelog_batch(buffer)
            buffer.clear()

    def _pass_markers(self) -> None:
        """Count as read what holds no record."""
        if not self.in_recovery:
            return
        for tp, end in self.active_highwaters.items():
            applied = self.active_offsets[tp]
            if applied is not None and applied < end:
                read = self.app.consumer.changelog_read(tp, applied)
                if read is not None and read > end:
                    self.active_offsets[tp] = end


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
