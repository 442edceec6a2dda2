"""One worker on a JetStream stream: looks the stream up, sees that it is the one the ledger knows, and reads."""

from __future__ import annotations

import asyncio

from lineitem.adapters.address import parse_address, read_settings
from lineitem.adapters.nats.reader import Reader
from lineitem.adapters.nats.server import PORT, SETTINGS, Server
from lineitem.adapters.opening import check_known, open_partition, source_name
from lineitem.adapters.streams import Around, StreamOrder, Worked
from lineitem.ingest.gate import SourceWatch
from lineitem.ingest.intake import Partition
from lineitem.worker import Desk


def work(order: StreamOrder, around: Around) -> Worked:
    """Read ``nats://host/stream``. Raises UsageError, InputError, Refused, EnvironmentProblem."""
    return asyncio.run(_work(order, around))


async def _work(order: StreamOrder, around: Around) -> Worked:
    address = parse_address(order.url, "nats", PORT, "stream")
    source = source_name(order, f"nats:{address.topic}")
    namespace_key = around.pipeline.snapshot().namespace_key
    server = await Server.connect(
        address, read_settings(order.config, known=SETTINGS) if order.config else {}, around.say
    )
    try:
        stream = await server.stream()
        check_known(around.connection, namespace_key, stream.what, stream.prefix, stream.id, order.topic_id)

        def open_() -> Partition:
            return open_partition(around, namespace_key, stream.what, stream.key, source)

        def certain() -> None:
            server.check(stream, around.stop)

        watch = SourceWatch(around.connection, namespace_key, around.pipeline.clock)
        desk = Desk(
            around.pipeline,
            order.limits,
            certain=certain,
            chores=around.chores,
            allowed=watch.allowed,
            watch=around.watch,
        )
        try:
            reader = Reader(
                server,
                stream,
                desk,
                open_,
                watch,
                around.say,
                until_idle=order.until_idle,
                skip_missing=order.skip_missing,
            )
            around.say(f"{stream.what} (made {stream.id})")
            await reader.run(around.stop)
        finally:
            desk.close()
    finally:
        await server.close()
    return Worked(
        desk.summary,
        {"stream": stream.name, "stream_id": stream.id},
        {"0": reader.reached},
        around.watch.time_to_ledger_ms(),
    )
