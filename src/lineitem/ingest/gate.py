"""Sources that a switch pauses or limits: who reads a file waits before each batch, who reads many partitions watches them.

Nothing of a source is set aside: it is not read, or no faster.
"""

from __future__ import annotations

import time
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


@dataclass(slots=True)
class SourceWatch:
    """The switches of a namespace, looked up again every second. ``clock_ns`` tells when."""

    connection: Connection
    namespace_key: int
    clock: Clock
    clock_ns: Callable[[], int] = time.monotonic_ns
    _switches: list[throttle.Switch] = field(default_factory=list)
    _look_at_ns: int = 0

    def look(self) -> bool:
        """Look them up where that is due: whether it was."""
        if self.clock_ns() < self._look_at_ns:
            return False
        found = throttle.in_force(self.connection, self.namespace_key, self.clock.now_us())
        self._switches = [one for one in found if one.what is throttle.What.SOURCE]
        self._look_at_ns = self.clock_ns() + _LOOK_US * 1_000
        return True

    def again(self) -> None:
        """Look them up next time: there is another partition to apply them to."""
        self._look_at_ns = 0

    def of(self, partition: Partition) -> throttle.Switch | None:
        """The switch that covers a partition."""
        return throttle.of_source(self._switches, partition) if self._switches else None

    def allowed(self, partition: Partition, wanted: int) -> int:
        """How many of ``wanted`` records of a partition may be read now."""
        switch = self.of(partition)
        if switch is None:
            return wanted
        return throttle.allowed(self.connection, self.namespace_key, switch, wanted, self.clock.now_us())
