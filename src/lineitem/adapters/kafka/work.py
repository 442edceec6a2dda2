"""One worker on a Kafka topic: looks the topic up, sees that it is the one the ledger knows, and reads."""

from __future__ import annotations

from lineitem.adapters.address import parse_address, read_settings
from lineitem.adapters.kafka.consumer import Asked, Reader
from lineitem.adapters.kafka.settings import OWN, PORT
from lineitem.adapters.kafka.topic import Broker
from lineitem.adapters.opening import check_known, open_partition, source_name
from lineitem.adapters.streams import Around, StreamOrder, Worked
from lineitem.core.errors import UsageError
from lineitem.ingest.intake import Partition
from lineitem.worker import Desk


def work(order: StreamOrder, around: Around) -> Worked:
    """Read ``kafka://host/topic`` as a member of a group. Raises UsageError, InputError, Refused, EnvironmentProblem."""
    address = parse_address(order.url, "kafka", PORT)
    if order.group is None:
        raise UsageError("--group is missing", do="Name the consumer group: its workers share the topic's partitions.")
    source = source_name(order, f"kafka:{address.topic}")
    namespace_key = around.pipeline.snapshot().namespace_key
    broker = Broker(address, read_settings(order.config, OWN) if order.config else {})
    topic = broker.topic()
    check_known(around, namespace_key, topic.what, topic.prefix, topic.id, order.topic_id)

    def open_(number: int) -> Partition:
        return open_partition(around, namespace_key, topic.what, topic.stream(number), source)

    desk = Desk(
        around.pipeline, order.limits, certain=lambda: broker.check(topic, around.stop), chores=around.chores,
        watch=around.watch,
    )  # fmt: skip
    try:
        reader = Reader(
            broker, topic, Asked(order.group, order.until_idle, order.skip_missing), desk, open_, around.say
        )
        around.say(f"{topic.what} (id {topic.id}, {topic.partitions} partitions), group {order.group!r}")
        reader.run(around.stop)
    finally:
        desk.close()
    about = {"topic": topic.name, "topic_id": topic.id, "group": order.group}
    positions = {str(number): at for number, at in sorted(reader.reached.items())}
    return Worked(desk.summary, about, positions, around.watch.time_to_ledger_ms())
