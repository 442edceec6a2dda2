"""A stream in memory, read as a broker's is: the smallest thing that must keep the contract of a source."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from lineitem.adapters.opening import Kept, check_known, first_to_read, made_anew, open_partition, source_name
from lineitem.adapters.streams import Around, StreamOrder, Worked
from lineitem.worker import Desk

_ids = count(1)
_KEPT = Kept("position", "the stream", "in the stream", "memory")


@dataclass
class Stream:
    """Records by position, from ``first`` on."""

    id: str = field(default_factory=lambda: f"id-{next(_ids)}")
    first: int = 0
    records: list[bytes] = field(default_factory=list)

    @property
    def end(self) -> int:
        """Behind the last one."""
        return self.first + len(self.records)


STREAMS: dict[str, Stream] = {}
"""By name: ``memory://host/NAME``."""


def work(order: StreamOrder, around: Around) -> Worked:
    """Read a stream from where the ledger is to its end."""
    name = order.url.rpartition("/")[2]
    stream = STREAMS[name]
    what, prefix = f"stream {name!r}", f"memory:{name}/"
    key = around.pipeline.snapshot().namespace_key
    check_known(around.connection, key, what, prefix, stream.id, order.topic_id)
    known = stream.id

    def certain() -> None:
        if STREAMS[name].id != known:
            raise made_anew(what, [known], STREAMS[name].id)

    desk = Desk(around.pipeline, order.limits, certain=certain, chores=around.chores, watch=around.watch)
    try:
        while True:
            partition = open_partition(
                around, key, what, f"{prefix}{stream.id}/0", source_name(order, f"memory:{name}")
            )
            start = first_to_read(
                what, _KEPT, partition.next, stream.first, stream.end, skip_missing=order.skip_missing, say=around.say
            )
            if start == stream.end:
                break
            desk.take(partition)
            if not _read(desk, partition.key, stream, start):
                continue  # another reader was faster: from where it is
    finally:
        desk.close()
    return Worked(desk.summary, {}, {"0": stream.end}, around.watch.time_to_ledger_ms())


def _read(desk: Desk, key: int, stream: Stream, position: int) -> bool:
    """To the end; false where another reader moved the position."""
    end = stream.end
    while not (position == end and desk.quiet(key)):
        while position < end and not desk.full:
            desk.add(key, position, stream.records[position - stream.first])
            position += 1
        done = desk.step([key])
        if done is not None and done.moved:
            return False
        desk.wait(0.05)
    return True
