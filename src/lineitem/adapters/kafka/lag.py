"""How far the ledger is behind each partition a worker holds, and whether that worker has work: looked at once a second."""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from lineitem.observability.metrics import GATHERED, LAG, PAUSED, POSITION
from lineitem.observability.watch import BatchWatch

_EVERY_S = 1.0
_ANSWER_S = 1.0


class Lag:
    """Keeps ``watch`` informed; called from the thread that reads."""

    def __init__(self, consumer: Consumer, topic: str, watch: BatchWatch) -> None:
        self._consumer, self._topic, self._watch = consumer, topic, watch
        self._ends: dict[int, int] = {}
        self._shown: set[int] = set()
        self._next_s = 0.0

    def look(self, positions: Mapping[int, int], work: bool, gathered: int, paused: bool) -> None:
        """``positions``: of the ledger, by partition held; ``work``: whether anything is left to read or to write."""
        now = time.monotonic()
        if now < self._next_s and positions.keys() == self._shown:
            return
        self._next_s = now + _EVERY_S
        self._watch.progress.look(work)
        recorder = self._watch.recorder
        recorder.set(GATHERED, gathered)
        recorder.set(PAUSED, int(paused))
        for number in self._shown - positions.keys():
            for metric in (LAG, POSITION):
                recorder.drop(metric, self._topic, str(number))
            self._ends.pop(number, None)
        self._shown = set(positions)
        for number, position in positions.items():
            recorder.set(POSITION, position, self._topic, str(number))
            end = self._end(number, paused)
            if end is not None:
                recorder.set(LAG, max(0, end - position), self._topic, str(number))

    def _end(self, number: int, paused: bool) -> int | None:
        """The offset behind the last record, as the client knows it from fetching; while paused it fetches nothing and asks."""
        place = TopicPartition(self._topic, number)
        try:
            found = self._consumer.get_watermark_offsets(place, timeout=_ANSWER_S, cached=not paused)
        except KafkaException:
            found = None  # a broker that is away is said by the reader; the last known end goes on counting
        if found is not None and found[1] >= 0:
            self._ends[number] = int(found[1])
        return self._ends.get(number)
