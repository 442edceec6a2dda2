"""Reads a stream in order, from where the ledger says, and hands its records to the desk.

A consumer that lives as long as this worker delivers from a sequence number on and acknowledges nothing: what it was given
is only remembered here. Any number of workers may read one stream; the one whose batch commits first goes on, and one
that finds its position moved stands by until nothing moves it any more.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from threading import Event
from urllib.parse import unquote

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from lineitem.adapters.kafka.records import record_of
from lineitem.adapters.nats.server import Server, Stream
from lineitem.adapters.opening import Kept, first_to_read
from lineitem.ingest.gate import SourceWatch
from lineitem.ingest.intake import Partition
from lineitem.observability.metrics import GATHERED, LAG, POSITION
from lineitem.worker import Desk

_FETCH = 256
"""Records asked for at once, and so the most that are held beside the desk (a server takes records up to 1 MB unless told)."""
_WAIT_S, _WAIT_BUSY_S = 0.1, 0.02
_STAND_BY_S = 5.0
_LOOK_S = 1.0
_FORGOTTEN_S = 300.0
"""When the server drops a consumer whose worker is gone."""
_CE = "ce-"
_KEPT = Kept("sequence", "the stream", "in the stream", "max_age")


class Reader:
    """One reader of a stream. ``open_``: the ledger's partition as it stands now; ``say``: a line for people."""

    def __init__(
        self,
        server: Server,
        stream: Stream,
        desk: Desk,
        open_: Callable[[], Partition],
        watch: SourceWatch,
        say: Callable[[str], None],
        *,
        until_idle: bool,
        skip_missing: bool,
    ) -> None:
        self._server, self._stream, self._desk = server, stream, desk
        self._open, self._watch, self._say = open_, watch, say
        self._paused = False
        self._until_idle, self._skip_missing = until_idle, skip_missing
        self._stop = Event()
        self._partition = open_()
        self.reached = self._partition.next
        """The position of the ledger."""
        self._fetched: deque[Msg] = deque()  # what the desk had no room for yet
        self._subscription: JetStreamContext.PullSubscription | None = None
        self._taken = 0  # the last sequence number that the desk has
        self._delivered = 0  # how many records the present consumer has delivered
        self._next_look_s = 0.0
        self._end = -1  # the last sequence number there is, while all is taken

    async def run(self, stop: Event) -> None:
        """Read until ``stop`` or, where asked, until there is nothing left. A batch in work is finished."""
        self._stop = stop
        try:
            await self._begin()
            while not stop.is_set():
                await self._heed()
                if self._paused:
                    await asyncio.to_thread(stop.wait, _WAIT_S)
                elif self._desk.over(self._partition.key):
                    await asyncio.to_thread(self._desk.wait, _WAIT_S)
                elif not self._fetched:
                    await self._fetch()
                await self._take()
                await self._hand_over()
                await self._look()
                if self._until_idle and await self._idle():
                    break
        finally:
            await asyncio.to_thread(self._desk.wait_for_all)  # it asks this loop for the stream's id
            await self._leave()

    async def _heed(self) -> None:
        """Stop reading where a switch pauses the stream, begin again where none does any more."""
        if not self._watch.look():
            return
        switch = self._watch.of(self._partition)
        if switch is not None and switch.per_second is None:
            if not self._paused:
                self._say(f"{self._stream.what}: paused by switch {switch.number} (`lineitem throttle list`)")
                self._paused = True
                self._desk.leave(self._partition.key, 0)  # what is gathered is read again from the ledger's position
                await self._leave()
        elif not self._paused:
            self._desk.bound(self._partition.key, switch and max(2 * (switch.per_second or 0), _FETCH))
        elif self._desk.quiet(self._partition.key):
            self._say(f"{self._stream.what}: no longer paused")
            self._paused = False
            await self._begin()

    # --- from where on ---------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Read from the ledger's position. Raises Refused where the stream does not have what comes next."""
        self._partition = self._open()
        state = (await self._server.info_in_time(self._stop)).state
        start = first_to_read(
            self._stream.what, _KEPT, max(self._partition.next, 1), state.first_seq, state.last_seq + 1,
            skip_missing=self._skip_missing, say=self._say,
        )  # fmt: skip
        self.reached = self._partition.next
        self._desk.take(self._partition)
        self._taken, self._end = start - 1, -1
        await self._leave()

    async def _subscribe(self) -> JetStreamContext.PullSubscription:
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._taken + 1,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=_FORGOTTEN_S,
            mem_storage=True,
        )
        self._delivered = 0
        return await self._server.jetstream.pull_subscribe("", stream=self._stream.name, config=config)

    async def _leave(self) -> None:
        """Give the consumer up; the next one begins behind what was taken."""
        self._fetched.clear()
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            try:
                await subscription.unsubscribe()
            except NatsError:
                return  # the server forgets it by itself

    # --- records ---------------------------------------------------------------------------------------------------------

    async def _fetch(self) -> None:
        """What has come. A consumer that the server lost is replaced."""
        wait_s = _WAIT_BUSY_S if self._desk.busy else _WAIT_S
        try:
            if self._subscription is None:
                self._subscription = await self._subscribe()
            self._fetched.extend(await self._subscription.fetch(_FETCH, timeout=wait_s))
        except TimeoutError:
            return
        except NatsError:
            await self._leave()
            await asyncio.to_thread(self._stop.wait, _WAIT_S)

    async def _take(self) -> None:
        """Give the desk what it has room for. A consumer that left a record out is replaced."""
        while self._fetched and not self._desk.over(self._partition.key):
            message = self._fetched.popleft()
            sequence = message.metadata.sequence
            if sequence.consumer != self._delivered + 1:
                await self._leave()
                return
            self._delivered += 1
            self._taken = sequence.stream
            self._end = -1 if message.metadata.num_pending else sequence.stream
            received_ms = int(message.metadata.timestamp.timestamp() * 1000)
            self._desk.add(self._partition.key, sequence.stream, _record(message), received_ms)

    async def _hand_over(self) -> None:
        hurry = [self._partition.key] if self._until_idle and self._end == self._taken else ()
        done = self._desk.step(hurry)
        if done is None:
            return
        if not done.moved:
            self.reached = done.end
            return
        self._say(f"{self._stream.what}: another worker reads it; standing by")
        await self._stand_by()
        await self._begin()

    async def _stand_by(self) -> None:
        """Until the position has not moved for a while (its worker is gone) and there is something to read, or all is read."""
        at = -1
        while not self._stop.is_set():
            self._desk.watch.progress.look(False)  # another one's work
            now = self._open().next
            info = await self._server.info_in_time(self._stop)
            if now == at and now <= info.state.last_seq:
                return
            if now > info.state.last_seq and self._until_idle:
                return
            at = now
            await asyncio.to_thread(self._stop.wait, _STAND_BY_S)

    async def _look(self) -> None:
        """Once a second: how far behind the ledger is, and whether there is work."""
        if time.monotonic() < self._next_look_s:
            return
        self._next_look_s = time.monotonic() + _LOOK_S
        recorder, place = self._desk.watch.recorder, (self._stream.name, "0")
        recorder.set(GATHERED, self._desk.gathered)
        recorder.set(POSITION, self.reached, *place)
        try:
            behind = max(0, (await self._server.info()).state.last_seq + 1 - max(self.reached, 1))
        except (NatsError, TimeoutError):
            return  # said by the connection; the last known lag goes on counting
        recorder.set(LAG, behind, *place)
        self._desk.watch.progress.look(behind > 0 and not self._paused)

    async def _idle(self) -> bool:
        if not self._desk.quiet(self._partition.key):
            return False
        if self._paused:
            return True  # there is nothing that may be read
        try:
            return (await self._server.info()).state.last_seq <= max(self._taken, self.reached - 1)
        except (NatsError, TimeoutError):
            return False


def _record(message: Msg) -> bytes:
    """The raw record: CloudEvents in structured or (headers ``ce-...``, NATS protocol binding 1.0.2) in binary mode."""
    headers = message.headers
    if not headers:
        return message.data
    return record_of(message.data, [(_as_kafka(name), unquote(value).encode()) for name, value in headers.items()])


def _as_kafka(name: str) -> str:
    low = name.lower()
    return "ce_" + low.removeprefix(_CE) if low.startswith(_CE) else low
