"""A speed limit: so many things a second on average, for work that must leave room for others."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event


def _pause(nanoseconds: int) -> None:
    Event().wait(nanoseconds / 1_000_000_000)


@dataclass(slots=True)
class Pace:
    """At most ``per_second`` (None: any number). ``clock`` and ``pause`` count nanoseconds."""

    per_second: int | None = None
    clock: Callable[[], int] = time.monotonic_ns
    pause: Callable[[int], None] = _pause
    _free_at: int = field(default=0)

    def take(self, count: int) -> None:
        """Wait until ``count`` more may be begun: until those taken before have had their time."""
        if self.per_second is None:
            return
        now = self.clock()
        if self._free_at > now:
            self.pause(self._free_at - now)
            now = max(self.clock(), self._free_at)
        self._free_at = now + count * 1_000_000_000 // self.per_second
