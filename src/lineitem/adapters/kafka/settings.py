"""Settings of librdkafka that are not for people to choose."""

from __future__ import annotations

PORT = 9092
OWN = {
    "auto.offset.reset": "lineitem never skips records by itself",
    "bootstrap.servers": "it stands in --source",
    "metadata.broker.list": "it stands in --source",
    "enable.auto.commit": "positions are kept in the ledger",
    "enable.auto.offset.store": "positions are kept in the ledger",
    "enable.partition.eof": "lineitem needs it",
    "group.id": "it is --group",
    "group.protocol": "lineitem assigns partitions cooperatively",
    "isolation.level": "records of aborted transactions are never billed",
    "partition.assignment.strategy": "lineitem assigns partitions cooperatively",
}
"""Client settings that are not for people to choose, and why."""
