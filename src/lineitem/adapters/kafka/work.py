"""One worker on a Kafka topic: looks the topic up, sees that it is the one the ledger knows, and reads."""

from __future__ import annotations

from lineitem.adapters.address import parse_address, read_settings
from lineitem.adapters.kafka.consumer import Asked, Reader
from lineitem.adapters.kafka.settings import OWN, PORT
from lineitem.adapters.kafka.topic import Broker
from lineitem.adapters.opening import check_known, open_partition, source_name
from lineitem.adapters.streams import Around, StreamOrder, Worked
from lineitem.core.errors import IntegrityError, UsageError
from lineitem.ingest import segments
from lineitem.ingest.gate import SourceWatch
from lineitem.ingest.intake import Partition
from lineitem.ledger import read
from lineitem.worker import Desk


def work(order: StreamOrder, around: Around) -> Worked:
    """Read ``kafka://host/topic`` as a member of a group. Raises UsageError, InputError, Refused, EnvironmentProblem."""
    address = parse_address(order.url, "kafka", PORT)
    if order.group is None:
        raise UsageError("--group is missing", do="Name the consumer group: its workers share the topic's partitions.")
    source = source_name(order, f"kafka:{address.topic}")
    namespace_key = around.pipeline.snapshot().namespace_key
    broker = Broker(address, read_settings(order.config, refused=OWN) if order.config else {})
    topic = broker.topic()
    check_known(around.connection, namespace_key, topic.what, topic.prefix, topic.id, order.topic_id)

    def open_(number: int) -> Partition:
        return open_partition(around, namespace_key, topic.what, topic.stream(number), source)

    def last_record(partition: Partition) -> bytes | None:
        found = read.last_segment(around.connection, partition.lane, partition.key)
        if found is None or found[2] != partition.next:
            return None  # another worker has read on: whatever this one brings moves no position
        try:
            stored = segments.read(around.pipeline.segments, found[0], found[1])
        except IntegrityError as error:  # for `verify --deep` to judge; reading does not depend on it
            around.say(f"{error}: whether the broker still has what was read before cannot be compared")
            return None
        return bytes(stored.raw.records[-1].as_py())

    watch = SourceWatch(around.connection, namespace_key, around.pipeline.clock)
    desk = Desk(
        around.pipeline, order.limits, certain=lambda: broker.check(topic, around.stop), chores=around.chores,
        allowed=watch.allowed, watch=around.watch,
    )  # fmt: skip
    try:
        reader = Reader(
            broker,
            topic,
            Asked(order.group, order.until_idle, order.skip_missing),
            desk,
            open_,
            last_record,
            watch,
            around.say,
        )
        around.say(f"{topic.what} (id {topic.id}, {topic.partitions} partitions), group {order.group!r}")
        reader.run(around.stop)
    finally:
        desk.close()
    about = {"topic": topic.name, "topic_id": topic.id, "group": order.group}
    positions = {str(number): at for number, at in sorted(reader.reached.items())}
    return Worked(desk.summary, about, positions, around.watch.time_to_ledger_ms())
