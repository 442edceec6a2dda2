"""Things to be done now and then beside a main job, each when its time has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Duty:
    """``act`` every ``every_ms`` after it was done last, ``rest_times`` as long as it took at least; ``last`` as the main
    job ends, too."""

    every_ms: int
    act: Callable[[], None]
    last: bool = True
    rest_times: int = 0
    due_ns: int = 0


@dataclass(slots=True)
class Duties:
    """Called often; does what is due. ``clock`` counts nanoseconds."""

    duties: Sequence[Duty]
    clock: Callable[[], int] = time.monotonic_ns
    _begun: bool = field(default=False)

    def __call__(self) -> None:
        """Do what is due, in order. The first call only begins to count."""
        for duty in self.duties:
            begun_ns = self.clock()
            if self._begun:
                if begun_ns < duty.due_ns:
                    continue
                duty.act()
            now_ns = self.clock()
            duty.due_ns = now_ns + max(duty.every_ms * 1_000_000, duty.rest_times * (now_ns - begun_ns))
        self._begun = True

    def finish(self) -> None:
        """The main job has ended: all of them once more, whenever they were done last."""
        for duty in self.duties:
            if duty.last:
                duty.act()
