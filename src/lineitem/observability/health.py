"""Whether a worker makes progress: it is ready while it has nothing to do, or while what it has to do moves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

_NS_PER_S = 1_000_000_000


class Verdict(NamedTuple):
    """``ready`` or not, and why in words."""

    ready: bool
    why: str


class Progress:
    """Ready from the first look on, unless for ``patience_s`` there has been work and no position has moved, or nobody looked.

    A worker that is up but stuck (a lane somebody holds, a database that does not answer, a batch that always fails) so shows;
    one without partitions, or with nothing to read, is as ready as one can be. ``clock`` counts nanoseconds.
    """

    def __init__(self, patience_s: float = 60, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._patience_ns, self._clock = int(patience_s * _NS_PER_S), clock
        self._looked_ns: int | None = None
        self._waiting_since_ns: int | None = None

    def look(self, work: bool) -> None:
        """Whether there is work now: records to be read, or gathered, or a batch that is being written."""
        now = self._looked_ns = self._clock()
        if not work:
            self._waiting_since_ns = None
        elif self._waiting_since_ns is None:
            self._waiting_since_ns = now

    def moved(self) -> None:
        """A position has moved."""
        if self._waiting_since_ns is not None:
            self._waiting_since_ns = self._clock()

    def verdict(self) -> Verdict:
        """As of now."""
        looked, since, now = self._looked_ns, self._waiting_since_ns, self._clock()
        if looked is None:
            return Verdict(False, "starting: it has not joined its group yet")
        if since is not None and now - since >= self._patience_ns:
            return Verdict(False, f"there is work, and no position has moved for {(now - since) // _NS_PER_S} s")
        if now - looked >= self._patience_ns:
            return Verdict(
                False, f"the reader has not come round for {(now - looked) // _NS_PER_S} s: is the broker away?"
            )
        return Verdict(True, "nothing to do" if since is None else "working")
