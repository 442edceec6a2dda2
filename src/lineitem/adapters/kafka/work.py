"""One worker on a Kafka topic: looks the topic up, sees that it is the one the ledger knows, and reads."""

from __future__ import annotations

from lineitem.adapters.kafka.address import parse_address, read_settings
from lineitem.adapters.kafka.consumer import Asked, Reader
from lineitem.adapters.kafka.topic import Broker, Topic, recreated
from lineitem.adapters.streams import Around, StreamOrder, Worked
from lineitem.core.errors import Refused, UsageError
from lineitem.core.limits import FIELD_CHARS_MAX
from lineitem.ingest import intake
from lineitem.kit.db import Connection
from lineitem.ledger.post import LANES
from lineitem.worker import Desk

_FORMAT = "cloudevents"


def work(order: StreamOrder, around: Around) -> Worked:
    """Read ``kafka://host/topic`` as a member of a group. Raises UsageError, InputError, Refused, EnvironmentProblem."""
    address = parse_address(order.url)
    source = order.source or f"kafka:{address.topic}"
    if len(source) > FIELD_CHARS_MAX or not source.isprintable():
        raise UsageError("--source-name is too long or not printable", do=f"Use up to {FIELD_CHARS_MAX} characters.")
    namespace_key = around.pipeline.snapshot().namespace_key
    broker = Broker(address, read_settings(order.config) if order.config else {})
    topic = broker.topic()
    check_known(around.connection, namespace_key, topic, order.topic_id)

    def open_(number: int) -> intake.Partition:
        partition = intake.open_stream(
            around.connection, around.pipeline.namespace, namespace_key, topic.stream(number), LANES, _FORMAT,
            {"source": source},
        )  # fmt: skip
        if partition.settings != {"source": source}:
            raise Refused(
                f"topic {topic.name!r} is read with the source name {partition.settings.get('source')!r} since it began",
                do=f"An event without a source would become another one: --source-name "
                f"{partition.settings.get('source')}",
            )
        return partition

    desk = Desk(around.pipeline, order.limits, certain=lambda: broker.check(topic, around.stop), chores=around.chores)
    try:
        reader = Reader(
            broker, topic, Asked(order.group, order.until_idle, order.skip_missing), desk, open_, around.say
        )
        around.say(f"topic {topic.name!r} (id {topic.id}, {topic.partitions} partitions), group {order.group!r}")
        reader.run(around.stop)
    finally:
        desk.close()
    about = {"topic": topic.name, "topic_id": topic.id, "group": order.group}
    return Worked(desk.summary, about, {str(number): at for number, at in sorted(reader.reached.items())})


def check_known(connection: Connection, namespace_key: int, topic: Topic, accepted: str | None) -> None:
    """Raises Refused where the ledger has read a topic of this name that is another one."""
    names = intake.streams(connection, namespace_key, topic.prefix)
    known = sorted({name.removeprefix(topic.prefix).partition("/")[0] for name in names})
    if accepted is not None and accepted != topic.id:
        raise Refused(f"topic {topic.name!r} has the id {topic.id}, not {accepted}", do=f"--topic-id {topic.id}")
    if known and topic.id not in known and accepted is None:
        raise recreated(topic.name, known, topic.id)
