"""Reads records of a topic again that the ledger has read, or that lie before its position, without joining the group.

Partitions are assigned by hand and offsets are never stored in Kafka: neither the group's workers nor the tools that show
its lag notice. What lies beyond the ledger's position is the workers' and is left to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from lineitem.adapters.address import parse_address, read_settings
from lineitem.adapters.kafka.records import record_of
from lineitem.adapters.kafka.settings import OWN, PORT
from lineitem.adapters.kafka.topic import Broker, Topic
from lineitem.adapters.opening import check_known, made_anew
from lineitem.adapters.streams import AgainOrder
from lineitem.core.errors import InputError, Refused, UsageError
from lineitem.core.limits import RECORD_BYTES_MAX
from lineitem.ingest import intake, letters
from lineitem.ingest.events import BatchLimits, RawRecords
from lineitem.kit.db import Connection
from lineitem.reread import Ground, Stretch

_ANSWER_S = 10
_WAIT_S = 0.5
_US_PER_MS = 1000


def again(order: AgainOrder) -> KafkaAgain:
    """What an order names. Raises UsageError and InputError for what is wrong with it."""
    address = parse_address(order.url, "kafka", PORT)
    what = f"kafka {address.topic} {sorted(order.partitions)} from {order.since} until {order.until}"
    return KafkaAgain(order, read_settings(order.config, refused=OWN) if order.config else {}, what)


@dataclass(frozen=True, slots=True)
class KafkaAgain:
    """A topic's records up to the ledger's position. ``settings``: see ``address.read_settings``."""

    order: AgainOrder
    settings: dict[str, str] = field(default_factory=dict)
    what: str = ""

    def stretches(self, connection: Connection, namespace: str) -> list[Stretch]:
        """A stretch for each partition. Raises Refused for a topic the ledger has not read, or is another one now, and where
        records that were named are no longer there; EnvironmentProblem where the broker does not answer."""
        namespace_key = letters.namespace_key(connection, namespace)
        broker = Broker(parse_address(self.order.url, "kafka", PORT), self.settings)
        topic = broker.topic()
        check_known(connection, namespace_key, topic.what, topic.prefix, topic.id, None)
        numbers = sorted(set(self.order.partitions)) or list(range(topic.partitions))
        strange = [number for number in numbers if number >= topic.partitions]
        if strange:
            raise UsageError(
                f"topic {topic.name!r} has no partition {strange[0]}", do=f"It has {topic.partitions}, from 0 on."
            )
        found = []
        consumer = self._consumer(broker)
        try:
            for number in numbers:
                known = intake.known_stream(connection, namespace, namespace_key, topic.stream(number))
                if known is not None and known.next:
                    found.append(self._stretch(consumer, topic, number, known))
        except KafkaException as error:
            raise broker.problem(error) from error
        finally:
            consumer.close()
        if not found:
            raise Refused(
                f"the ledger has read nothing of topic {topic.name!r} yet",
                do="Start `lineitem worker`; it reads all of it.",
            )
        return [one for one in found if one.start < one.end]

    def _stretch(self, consumer: Consumer, topic: Topic, number: int, known: intake.Partition) -> Stretch:
        place = TopicPartition(topic.name, number)
        low, high = consumer.get_watermark_offsets(place, timeout=_ANSWER_S)
        start = low if self.order.since is None else self._offset(consumer, topic, number, self.order.since, high)
        if start < low:
            raise Refused(
                f"offsets {start} to {low - 1} are no longer on the broker",
                where=f"topic {topic.name!r}, partition {number}",
                do=f"Begin at what is there (--from {low}), or read the raw segments again: lineitem replay --segments",
            )
        end = known.next
        if self.order.until is not None:
            end = min(end, self._offset(consumer, topic, number, self.order.until, high))
        return Stretch(known.name, number, known.stream, known.format, dict(known.settings), start, min(end, high))

    def _offset(self, consumer: Consumer, topic: Topic, number: int, text: str, high: int) -> int:
        """An offset, or the first record at or behind an instant (by the time Kafka keeps of it)."""
        if text not in self.order.instants_us:
            return int(text)
        at = TopicPartition(topic.name, number, self.order.instants_us[text] // _US_PER_MS)
        (found,) = consumer.offsets_for_times([at], timeout=_ANSWER_S)
        return high if found.offset < 0 else int(found.offset)

    def _consumer(self, broker: Broker) -> Consumer:
        own = {
            "queued.max.messages.kbytes": 32 << 10,
            **broker.settings,
            "group.id": self.order.group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
        }
        try:
            made: Consumer = Consumer(own)
        except KafkaException as error:
            raise InputError(f"a setting of --config is wrong: {error.args[0].str()}", do="Correct it.") from error
        return made

    def read(self, ground: Ground, stretch: Stretch, start: int, limits: BatchLimits) -> Iterator[RawRecords]:
        """Batches of a partition; each is given once the topic is known to be the one it was when its records were read."""
        broker = Broker(parse_address(self.order.url, "kafka", PORT), self.settings)
        topic = broker.topic()
        if topic.stream(stretch.key) != stretch.stream:
            raise made_anew(topic.what, [stretch.stream.split("/")[-2]], topic.id)
        consumer = self._consumer(broker)
        try:
            consumer.assign([TopicPartition(topic.name, stretch.key, max(start, stretch.start))])
            pile = _Pile(start)
            for offset, record in _records(consumer, stretch.end):
                pile.add(offset, record)
                if pile.full(limits):
                    broker.check(topic, Event())
                    yield pile.take()
            if pile.records:
                broker.check(topic, Event())
                yield pile.take()
        except KafkaException as error:
            raise broker.problem(error) from error
        finally:
            consumer.close()


def _records(consumer: Consumer, end: int) -> Iterator[tuple[int, bytes]]:
    """Offset and raw record of every message before ``end``, or up to the partition's end. Raises KafkaException."""
    while True:
        message = consumer.poll(_WAIT_S)
        if message is None:
            continue
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                return
            if error.fatal() or not error.retriable():
                raise KafkaException(error)
            continue
        offset = int(message.offset() or 0)
        if offset >= end:
            return
        yield offset, record_of(message.value(), message.headers())  # type: ignore[arg-type] # values are bytes


@dataclass(slots=True)
class _Pile:
    """Records that make up the next batch, which begins at position ``start``."""

    start: int
    records: list[bytes] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    size: int = 0

    def add(self, position: int, record: bytes) -> None:
        """The next record; of one that is too long as much as says so."""
        self.records.append(record[: RECORD_BYTES_MAX + 1])
        self.positions.append(position)
        self.size += len(self.records[-1])

    def full(self, limits: BatchLimits) -> bool:
        """Whether it is a batch."""
        return len(self.records) >= limits.records or self.size >= limits.bytes

    def take(self) -> RawRecords:
        """All of them, up to behind the last one."""
        raw = RawRecords(
            pa.array(self.records, pa.binary()), np.array(self.positions, np.int64), self.start, self.positions[-1] + 1
        )
        self.start, self.records, self.positions, self.size = raw.end, [], [], 0
        return raw
