"""Reads a topic's partitions in a consumer group, from where the ledger says, and hands their records to the desk.

The ledger's position is the only one that counts: it is read on assignment, moved with the batch, and a worker that lost a
partition without knowing moves nothing (its compare-and-set touches no row). Kafka's own offsets are written afterwards,
for tools that show lag, and never read to decide what to bill.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Event
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from lineitem.adapters.kafka.lag import Lag
from lineitem.adapters.kafka.records import record_of
from lineitem.adapters.kafka.topic import Broker, Topic
from lineitem.adapters.opening import Kept, first_to_read
from lineitem.core.errors import EnvironmentProblem, InputError, Refused
from lineitem.core.limits import RECORD_BYTES_MAX
from lineitem.ingest.gate import SourceWatch
from lineitem.ingest.intake import Partition
from lineitem.ingest.throttle import Switch
from lineitem.worker import Desk, Done

_ANSWER_S = 10
_FETCHED_KBYTES = 8 << 10
"""Messages that the client holds ahead, of all partitions in one queue: what a flood in one keeps the others waiting for."""
_POLLS = 20_000
"""Messages taken between two looks at the desk."""
_WAIT_S, _WAIT_BUSY_S = 0.1, 0.02
_STALLED_S = 5
"""How long a full desk is waited for before the partitions are paused and the broker is talked to in between."""
_SHARE_S = 0.2
"""How long, where some partitions have gathered less than their share: then the others are paused, and these read on.
Pausing throws away what the client has fetched; a desk that keeps up has room again before."""
_PATIENCE_S = 30
"""How long a partition that is taken away may keep its batch in work: far below ``max.poll.interval.ms``."""
_TRIES, _PAUSE_S = 20, 0.5
_KEPT = Kept("offset", "the broker", "on the broker", "retention.ms")
_BOUND_MIN = 100
"""Records of a limited partition that are gathered at least; else what its limit allows in two seconds."""
_OUT_OF_RANGE = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})
_TOPIC_GONE = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
_FORBIDDEN = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED})


@dataclass(frozen=True, slots=True)
class Asked:
    """How a worker is to read. ``skip_missing``: go on where the broker's records begin if those before are gone."""

    group: str
    until_idle: bool = False
    skip_missing: bool = False


class Reader:
    """One member of a group. ``open_``: the ledger's partition for a number, as it stands now; ``last_record``: what the ledger
    read last of one, None where that cannot be told; ``say``: a line for people."""

    def __init__(
        self,
        broker: Broker,
        topic: Topic,
        asked: Asked,
        desk: Desk,
        open_: Callable[[int], Partition],
        last_record: Callable[[Partition], bytes | None],
        watch: SourceWatch,
        say: Callable[[str], None],
    ) -> None:
        self._broker, self._topic, self._asked, self._desk = broker, topic, asked, desk
        self._open, self._last_record, self._watch, self._say = open_, last_record, watch, say
        self.reached: dict[int, int] = {}
        """Partition -> position of the ledger, for every one this worker ever had."""
        self._held: dict[int, Partition] = {}
        self._ends: dict[int, int] = {}  # partition -> the offset behind its last record, while nothing has come since
        self._reported: dict[int, int] = {}
        self._unproven: set[int] = set()  # partitions whose broker has not shown yet that it is the one that was read
        self._moved: set[int] = set()  # partitions that stand elsewhere than this worker thought
        self._last_said = ""
        self._switched: set[int] = set()  # partitions that a switch pauses
        self._paused: set[int] = set()  # those, and others the desk has no room for
        self._may_read = True
        self._assigned = False
        self._failure: BaseException | None = None
        self._stop = Event()
        self._full_since: float | None = None
        self._consumer = self._connect()
        self._lag = Lag(self._consumer, topic.name, desk.watch)

    def _connect(self) -> Consumer:
        own: dict[str, Any] = {
            "queued.max.messages.kbytes": _FETCHED_KBYTES,
            **self._broker.settings,
            "group.id": self._asked.group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky",
            "on_commit": self._on_commit,
        }
        try:
            made: Consumer = Consumer(own)
        except KafkaException as error:
            raise InputError(f"a setting of --config is wrong: {error.args[0].str()}", do="Correct it.") from error
        return made

    # --- the loop ----------------------------------------------------------------------------------------------------

    def run(self, stop: Event) -> None:
        """Read until ``stop`` or, where asked, until there is nothing left. A batch in work is finished, what was only
        gathered is left for the next worker."""
        self._stop = stop
        try:
            self._consumer.subscribe(
                [self._topic.name], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not stop.is_set():
                self._heed()
                self._make_room()
                self._poll()
                self._hand_over()
                self._look()
                if self._asked.until_idle and self._idle():
                    break
            self._desk.wait_for_all()
        except KafkaException as error:
            raise self._broker.problem(error) from error
        finally:
            self._failure = None
            self._consumer.close()  # gives the partitions back, which reports how far each has come

    def _heed(self) -> None:
        """Stop reading partitions that a switch pauses, read those again that none does any more, from where the ledger is."""
        if self._watch.look():
            for number, partition in self._held.items():
                switch = self._watch.of(partition)
                if switch is not None and switch.per_second is None:
                    self._switch_off(number, partition, switch)
                elif number not in self._switched:
                    self._desk.bound(partition.key, switch and max(2 * (switch.per_second or 0), _BOUND_MIN))
        for number in sorted(self._switched):
            switch = self._watch.of(self._held[number])
            if (switch is None or switch.per_second is not None) and self._desk.quiet(self._held[number].key):
                self._say(f"partition {number}: no longer paused")
                self._switched.discard(number)
                self._paused.discard(number)
                self._again(number)

    def _switch_off(self, number: int, partition: Partition, switch: Switch) -> None:
        if number in self._switched:
            return
        self._say(f"partition {number}: paused by switch {switch.number} (`lineitem throttle list`)")
        self._switched.add(number)
        self._ends.pop(number, None)  # what is gathered is given up: it is not in the ledger
        self._desk.leave(partition.key, 0)

    def _make_room(self) -> None:
        """Pause what is not to be read: by a switch, or because the desk has no room for it. Where that is all there is,
        wait for the desk before; where that takes long, pause and go on talking to the broker."""
        crowded = {number for number, one in self._held.items() if self._desk.over(one.key)}
        wanted = set(self._switched)
        if not self._desk.full:
            self._full_since = None
            wanted |= crowded  # their sources are limited
        else:
            now = time.monotonic()
            self._full_since = self._full_since or now
            others = self._held.keys() - crowded - self._switched
            if now - self._full_since >= (_SHARE_S if others else _STALLED_S):
                if not others and not crowded <= self._paused:
                    self._say("the ledger does not keep up: paused until it does")
                wanted |= crowded
            else:
                wanted |= crowded & self._paused
                self._desk.wait(_WAIT_S)
        self._pause(wanted)
        self._may_read = not self._desk.full or crowded <= self._paused

    def _pause(self, wanted: set[int]) -> None:
        """Of the partitions held, pause these and no others."""
        if more := wanted - self._paused:
            self._consumer.pause(self._places(more))
        if fewer := self._paused - wanted:
            self._consumer.resume(self._places(fewer))
        self._paused = wanted

    def _places(self, numbers: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic.name, number) for number in sorted(numbers)]

    def _poll(self) -> None:
        """Take what has come: one message at a time, for what came before a rebalance must not be taken for what comes after.

        An array of messages fetched at once may hold both.
        """
        if not self._may_read:
            return
        wait_s = _WAIT_BUSY_S if self._desk.busy else _WAIT_S
        for _ in range(_POLLS):
            message = self._consumer.poll(wait_s)
            wait_s = 0
            if self._failure is not None:
                raise self._failure
            if message is None:
                return
            error = message.error()
            if error is not None:
                self._event(message, error)
                continue
            if not self._take(message):
                return

    def _take(self, message: Message) -> bool:
        """Hand a record over: whether there is room for more of its partition."""
        number, offset = message.partition(), message.offset()
        partition = self._held.get(-1 if number is None else number)
        if partition is None or number is None or offset is None or number in self._switched:
            return True  # of a partition that was taken away, or that is read again from the ledger's position
        self._ends.pop(number, None)
        headers: Any = message.headers()  # its values are bytes, whatever the stubs say
        record = record_of(message.value(), headers)
        if number in self._unproven:
            self._unproven.discard(number)
            if offset == partition.next - 1:
                self._prove(number, partition, record)
                return True
        # Of the broker or of the producer, as the topic is set; -1 where there is none.
        received_ms = message.timestamp()[1]
        self._desk.add(partition.key, offset, record, received_ms)
        return not self._desk.over(partition.key)

    def _prove(self, number: int, partition: Partition, record: bytes) -> None:
        """The record before the position must be the one the ledger read there. Raises Refused where it is another.

        So shows a broker that lost its newest records and has received more than it lost since, under the same topic id.
        """
        known = self._last_record(partition)
        if known is None or record[: RECORD_BYTES_MAX + 1] == known:
            return
        where = f"topic {self._topic.name!r}, partition {number}"
        what = f"at offset {partition.next - 1} the broker has another record now than the ledger read there"
        if not self._asked.skip_missing:
            raise Refused(
                f"{what}: it has lost its newest records, and others have taken their places",
                where=where,
                do="Restore the broker's data. Or bring the events from the offsets that were taken in another way "
                "(`lineitem ingest` of a file: none counts twice), and say once that reading may go on: --skip-missing",
            )
        self._say(f"{where}: {what}; going on behind it, as told")

    def _hand_over(self) -> None:
        hurry = [self._held[number].key for number in self._ends] if self._asked.until_idle else ()
        done = self._desk.step(hurry)
        if done is not None:
            self._tell(done)
        while self._moved:
            self._again(self._moved.pop())
        for number in self._ends:
            self._report(number)

    def _tell(self, done: Done) -> None:
        number = next((at for at, partition in self._held.items() if partition.key == done.partition.key), None)
        if number is None:
            return  # it was taken away meanwhile: whoever has it now looks the position up
        if done.moved:
            self._say(f"partition {number}: another worker has read on; going on where it is")
            self._moved.add(number)
            return
        self.reached[number] = done.end
        self._report(number)

    def _idle(self) -> bool:
        """Whether there is nothing left to read: in this worker's partitions or, where it has none, in the topic."""
        if not self._assigned or self._desk.busy or self._desk.full:
            return False
        if self._held:
            return all(
                (number in self._ends or number in self._switched) and self._desk.quiet(one.key)
                for number, one in self._held.items()
            )
        return self._group_has_read_everything()

    def _group_has_read_everything(self) -> bool:
        every = [TopicPartition(self._topic.name, number) for number in range(self._topic.partitions)]
        for one in self._consumer.committed(every, timeout=_ANSWER_S):
            _, high = self._consumer.get_watermark_offsets(one, timeout=_ANSWER_S)
            if one.offset < high and high > 0:
                return False
        return True

    # --- rebalancing (called from inside ``poll`` and ``close``; an error must not pass through the C library) -----------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            if self._stop.is_set() or self._failure is not None:
                return
            if partitions:
                self._broker.check(self._topic, self._stop)
            for one in partitions:
                partition = self._open(one.partition)
                one.offset = self._start(consumer, partition, one)
                self._begin(one.partition, partition)
            consumer.incremental_assign(partitions)
            consumer.resume(partitions)  # one that was paused when it was lost is still
            self._assigned = True
            if partitions:
                self._say(f"reading partitions {_listed(self._held)}")
        except Exception as error:
            self._failure = error

    def _begin(self, number: int, partition: Partition) -> None:
        self._held[number] = partition
        self.reached[number] = partition.next
        self._ends.pop(number, None)
        self._reported.pop(number, None)
        self._desk.take(partition)
        switch = self._watch.of(partition)
        if switch is not None and switch.per_second is None:
            self._switch_off(number, partition, switch)
        self._watch.again()

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """The batch in work is finished before another worker gets its partition."""
        try:
            for one in partitions:
                if (partition := self._held.get(one.partition)) is not None:
                    if not self._desk.quiet(partition.key):
                        self._ends.pop(one.partition, None)  # what is gathered and given up here is not in the ledger
                    self._desk.leave(partition.key, _PATIENCE_S)
                    self._say(f"giving up partition {one.partition}")
            done = self._desk.finished()
            if done is not None:
                self._tell(done)
            ends = [TopicPartition(one.topic, one.partition, self._offset(one.partition)) for one in partitions]
            ends = [one for one in ends if one.offset > 0]
            if ends:
                consumer.commit(offsets=ends, asynchronous=False)
        except KafkaException as error:
            self._say_once(f"Kafka's offsets of the group were not stored ({error.args[0].str()}); the ledger's count")
        except Exception as error:
            self._failure = error
        finally:
            self._forget(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Another worker may have them already: nothing is waited for, a batch in work moves its position or does not."""
        for one in partitions:
            if (partition := self._held.get(one.partition)) is not None:
                self._desk.leave(partition.key, 0)
        self._say(f"lost partitions {_listed(one.partition for one in partitions)}: this worker was away too long")
        self._forget(consumer, partitions)

    def _forget(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        held = [one for one in partitions if self._held.pop(one.partition, None) is not None]
        for one in partitions:
            self._ends.pop(one.partition, None)
            for some in (self._moved, self._switched, self._paused, self._unproven):
                some.discard(one.partition)
        if held:
            consumer.incremental_unassign(held)

    def _again(self, number: int) -> None:
        """Go on from where the ledger is now."""
        partition = self._open(number)
        place = TopicPartition(self._topic.name, number)
        place.offset = self._start(self._consumer, partition, place)
        self._consumer.incremental_unassign([place])
        self._consumer.incremental_assign([place])
        self._paused.discard(number)
        self._consumer.resume([place])  # paused again in a moment where it still has to be
        self._begin(number, partition)

    # --- where to start, and what must not be passed over ----------------------------------------------------------------

    def _start(self, consumer: Consumer, partition: Partition, place: TopicPartition) -> int:
        """The offset to read from. Raises Refused where the broker does not have what the ledger needs next."""
        for _ in range(_TRIES):
            low, high = consumer.get_watermark_offsets(place, timeout=_ANSWER_S)
            if partition.next <= high or self._stop.wait(_PAUSE_S):
                break  # a broker that has just started may know less of its end for a moment
        start = first_to_read(
            f"{self._topic.what}, partition {place.partition}", _KEPT, partition.next, low, high,
            skip_missing=self._asked.skip_missing, say=self._say,
        )  # fmt: skip
        if start == low:
            return start
        self._unproven.add(place.partition)
        return partition.next - 1

    def _event(self, message: Message, error: KafkaError) -> None:
        """What comes instead of a message."""
        number, code = message.partition(), error.code()
        if code == KafkaError._PARTITION_EOF:
            if number in self._held and number not in self._switched and message.offset() is not None:
                self._ends[number] = int(message.offset() or 0)
        elif code in _OUT_OF_RANGE and number in self._held:
            self._broker.check(self._topic, self._stop)
            self._again(number)  # refuses, and says what is missing
        elif code in _TOPIC_GONE:
            self._broker.check(self._topic, self._stop)
        elif code in _FORBIDDEN or error.fatal():
            raise EnvironmentProblem(
                f"the broker refuses: {error.str()}",
                where=self._topic.name,
                do="The user of --config needs to read the topic and the group (and to describe the topic).",
            )
        else:
            self._say_once(f"Kafka: {error.str()}")

    def _say_once(self, text: str) -> None:
        """What the client repeats while something lasts is said once."""
        if text != self._last_said:
            self._last_said = text
            self._say(text)

    # --- for those that watch, and tools that show lag ---------------------------------------------------------------------

    def _look(self) -> None:
        """Tell how far each partition is, and whether there is work."""
        read = all(
            number in self._switched or (number in self._ends and self._desk.quiet(one.key))
            for number, one in self._held.items()
        )
        work = self._desk.committing or self._desk.gathered > 0 or not read
        if self._assigned:
            self._lag.look(
                {number: self._offset(number) for number in self._held}, work, self._desk.gathered, bool(self._paused)
            )

    def _offset(self, number: int) -> int:
        """How far a partition has been read: behind markers at its end, too, where all before them is in the ledger."""
        reached = self.reached.get(number, 0)
        partition = self._held.get(number)
        whole = partition is not None and self._desk.quiet(partition.key)
        return max(reached, self._ends.get(number, 0)) if whole else reached

    def _report(self, number: int) -> None:
        offset = self._offset(number)
        if offset and self._reported.get(number) != offset:
            self._reported[number] = offset
            self._consumer.commit(offsets=[TopicPartition(self._topic.name, number, offset)], asynchronous=True)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is not None:
            self._say_once(f"Kafka's offsets of the group were not stored ({error.str()}); the ledger's count")


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in sorted(numbers)) or "none"
