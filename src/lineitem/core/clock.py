"""Clocks and ids are passed in, never reached for."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the current time comes from."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01T00:00:00Z."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        return time.time_ns() // 1000


class FixedClock:
    """A clock that stands still until told; for tests and for rebuilding what was seen."""

    def __init__(self, now_us: int) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        """The instant it was set to."""
        return self._now_us

    def advance(self, us: int) -> None:
        """Move forward by ``us`` microseconds."""
        self._now_us += us
