"""What a worker does beside reading: signs, lets go on what waited, tries dead letters again, flushes, looks after canaries."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Protocol

from lineitem.core.clock import Clock
from lineitem.core.errors import LineitemError
from lineitem.flow import Pipeline
from lineitem.kit.duties import Duties, Duty
from lineitem.ledger.canary import Checked
from lineitem.ledger.flush import flush
from lineitem.ledger.post import summarize_ranges
from lineitem.release import Releaser
from lineitem.replay import Replayed

_RELEASE_MS = 1_000
_SIGN_MS = 10_000
"""The ledger is signed where something was written and so long has passed: what is cut off since shows only then."""
_MINUTE_MS = 60_000
_REST_TIMES = 10
"""Looking after canaries rates their usage again: it takes a tenth of a worker's time at most."""


class Ledger(Protocol):
    """What the chores need of the ledger as a whole; ``app.App`` has it."""

    clock: Clock

    def checkpoint(self) -> None:
        """Sign it as it stands."""
        ...

    def retry_letters(self, namespace: str, *, pipeline: Pipeline | None = None) -> Replayed | None:
        """Try those dead letters again that are due."""
        ...

    def canary_check(self, namespace: str) -> list[Checked]:
        """Check running canaries."""
        ...


class Chores:
    """Called after each batch of a worker and every second without one, in the thread that commits.

    Signing must succeed. The others cost nobody the batches before them: where one cannot be finished, ``say`` hears it,
    and it is tried again when it is due next.
    """

    def __init__(self, ledger: Ledger, pipeline: Pipeline, say: Callable[[str], None], *, retry: bool) -> None:
        self._ledger, self._pipeline, self._say = ledger, pipeline, say
        self._releaser = Releaser(pipeline)
        tried = [
            Duty(_RELEASE_MS, partial(self._try, "records that waited could not go on", self._release), last=False),
            Duty(_MINUTE_MS, partial(self._try, "dead letters could not be tried again", self._retry)),
        ]
        self._duties = Duties(
            [
                *(tried if retry else []),
                Duty(_MINUTE_MS, self._flush),
                Duty(
                    _MINUTE_MS, partial(self._try, "canaries were not checked", self._canaries), rest_times=_REST_TIMES
                ),
                Duty(_SIGN_MS, self._sign, last=False),
            ]
        )
        self._retries = retry

    def __call__(self) -> None:
        """Do what is due."""
        self._duties()

    def finish(self, *, told_to_stop: bool) -> None:
        """The worker has ended: everything once more, unless somebody waits for it to stop; and sign."""
        if not told_to_stop:
            if self._retries:
                self._try("records that waited could not go on", self._release_all)
            self._duties.finish()
        self._sign()

    def _try(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except LineitemError as error:
            self._say(f"{what}: {error}")

    def _release(self) -> None:
        self._releaser.step()

    def _release_all(self) -> None:
        done = self._releaser.all()
        if done.batches:
            self._say(f"Records that waited for a switch: {done.counts.received} went on.")

    def _retry(self) -> None:
        done = self._ledger.retry_letters(self._pipeline.namespace, pipeline=self._pipeline)
        if done is not None and done.tried:
            failed = done.summary.counts.dead_lettered
            self._say(f"Dead letters tried again: {done.tried - failed} replayed, {failed} still open.")

    def _flush(self) -> None:
        flush(self._pipeline.writer, self._pipeline.snapshot(), self._ledger.clock.now_us(), self._pipeline.rater)

    def _canaries(self) -> None:
        for one in self._ledger.canary_check(self._pipeline.namespace):
            if one.fresh and one.stopped:
                self._say(f"canary {one.canary} stopped itself: {'; '.join(one.breaches)}")

    def _sign(self) -> None:
        summarize_ranges(self._pipeline.writer)
        self._ledger.checkpoint()
        gc.collect()  # a process that moves batches does not look for cycles by itself
