"""A source that a switch pauses or limits: who reads it waits here before each batch. Nothing of it is set aside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

from lineitem.core.clock import Clock
from lineitem.ingest import throttle
from lineitem.ingest.intake import Partition
from lineitem.kit.db import Connection

_LOOK_US = 1_000_000
"""How often somebody who waits looks whether the switch still holds."""


def _pause(microseconds: int) -> None:
    Event().wait(microseconds / 1_000_000)


@dataclass(slots=True)
class SourceGate:
    """Called with a partition and how many records a batch of it has. ``say`` hears once why it waits."""

    connection: Connection
    clock: Clock
    say: Callable[[str], None]
    pause: Callable[[int], None] = field(default=_pause)
    _said: tuple[int, int | None] | None = None

    def __call__(self, partition: Partition, records: int) -> None:
        """Return once the batch may go on; a limited one goes whole, when those before have had their time."""
        while True:
            now_us = self.clock.now_us()
            key = partition.namespace_key
            switch = throttle.of_source(throttle.in_force(self.connection, key, now_us), partition)
            if switch is None:
                break
            wait_us = throttle.begin(self.connection, key, switch, records, now_us)
            if not wait_us:
                return
            self._tell(switch)
            self.pause(min(wait_us, _LOOK_US))
        if self._said is not None:
            self.say("The switch was lifted; going on.")
            self._said = None

    def _tell(self, switch: throttle.Switch) -> None:
        if (switch.number, switch.per_second) == self._said:
            return
        self._said = (switch.number, switch.per_second)
        if switch.per_second is None:
            self.say(f"Source {switch.name!r} is paused by switch {switch.number} (`lineitem throttle list`); waiting.")
        else:
            self.say(f"Source {switch.name!r} is limited to {switch.per_second}/s by switch {switch.number}.")
