"""A TCP proxy that does to a connection what networks do: slow it, cut it, swallow it, or lose one answer.

Threads on real sockets. ``swallow`` drops packets in the kernel, below TCP: what is sent is not even acknowledged, as when a
cable is out; a connection that only was not read from would look alive to the other side for ever.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

UP, DOWN = "up", "down"
"""Towards the server, towards the client."""
_CHUNK_BYTES = 64 << 10
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27

Trap = Callable[["Flow", bytes], int | None]
"""Looks at what is about to pass: None lets it, a number lets so many bytes pass before ``Proxy.sprung`` acts."""


class Flow:
    """One direction of one connection; ``rest`` is a trap's memory of a message that is not whole yet."""

    def __init__(self, pair: Pair, direction: str) -> None:
        self.pair, self.direction = pair, direction
        self.rest = b""
        self.started = self.counted = False


class Pair:
    """A connection to the proxy and the one it made to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.forgotten = False

    def reset(self) -> None:
        """Cut both sides at once; what is under way is lost."""
        for one in (self.client, self.server):
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def forget_server(self) -> None:
        """Half open: the server's side is gone, the client hears nothing of it, and nothing answers its packets."""
        self.forgotten = True
        _swallow(self.client)
        with suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()


class Proxy:
    """Listens on ``port`` and passes everything on to a server of this machine, until told otherwise."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._pairs: list[Pair] = []
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        self._closed = threading.Event()
        self._swallowing = False
        self.sprung = threading.Event()
        """Set once a trap has caught something."""
        self.heal()
        threading.Thread(target=self._accept, daemon=True).start()

    def heal(self) -> None:
        """From now on everything passes at once, what was swallowed is sent again by TCP itself."""
        self.delay_s = 0.0
        self.chunk_bytes = _CHUNK_BYTES
        self._trap: Trap | None = None
        self._strike: Callable[[Pair], None] = Pair.reset
        with self._lock:
            if self._swallowing:
                self._swallowing = False
                for one in [self._listener, *self._sockets()]:
                    with suppress(OSError):
                        one.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        self.sprung.clear()
        self._open.set()

    def slow(self, delay_s: float = 0.0, chunk_bytes: int = _CHUNK_BYTES) -> None:
        """Pass so many bytes at a time and wait between them: a long way, or a trickle."""
        self.delay_s, self.chunk_bytes = delay_s, chunk_bytes

    def set_trap(self, trap: Trap, strike: Callable[[Pair], None] = Pair.reset) -> None:
        """Watch what passes; once ``trap`` catches something, ``strike`` its connection, once."""
        self.sprung.clear()
        self._strike, self._trap = strike, trap

    def cut(self) -> None:
        """Cut every connection; new ones are welcome."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for one in pairs:
            one.reset()

    def swallow(self, _: Pair | None = None) -> None:
        """Nothing passes any more, and nobody is told: a partition. ``heal`` ends it."""
        self._open.clear()
        with self._lock:
            self._swallowing = True
            for one in [self._listener, *self._sockets()]:
                _swallow(one)

    def half_open(self) -> None:
        """Every connection there is stays open on the client's side alone; new ones are welcome."""
        with self._lock:
            for one in self._pairs:  # and kept: closing them would tell the client
                one.forget_server()

    def close(self) -> None:
        """End it and every connection."""
        self._closed.set()
        self._open.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _sockets(self) -> list[socket.socket]:
        return [one for pair in self._pairs if not pair.forgotten for one in (pair.client, pair.server)]

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.server_port))
            except ConnectionError:  # no server: the client is told so
                client.close()
                continue
            except OSError:
                return
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = Pair(client, server)
            with self._lock:
                self._pairs.append(pair)
            for direction in (UP, DOWN):
                threading.Thread(target=self._pump, args=(Flow(pair, direction),), daemon=True).start()

    def _pump(self, flow: Flow) -> None:
        pair = flow.pair
        source, sink = (pair.client, pair.server) if flow.direction == UP else (pair.server, pair.client)
        try:
            while data := source.recv(self.chunk_bytes):
                self._open.wait()
                if self.delay_s and self._closed.wait(self.delay_s):
                    break
                passed = self._watch(flow, data)
                sink.sendall(data[:passed])
                if passed is not None:
                    self._strike(pair)
                    self.sprung.set()
                    self._open.wait()
                    sink.sendall(data[passed:])  # where the strike left the connection alive
            if not pair.forgotten:
                sink.shutdown(socket.SHUT_WR)
        except OSError:  # one side has broken off, or a fault has: the other side is told, unless it must not know
            if not pair.forgotten:
                pair.reset()

    def _watch(self, flow: Flow, data: bytes) -> int | None:
        with self._lock:
            trap = self._trap
            passed = None if trap is None else trap(flow, data)
            if passed is not None:
                self._trap = None
            return passed


# --- traps ---------------------------------------------------------------------------------------------------------------


def after_bytes(direction: str, count: int) -> Trap:
    """Once so many bytes have passed in a direction, over all connections: mostly in the middle of a message."""
    left = count

    def trap(flow: Flow, data: bytes) -> int | None:
        nonlocal left
        if flow.direction != direction:
            return None
        left -= len(data)
        return len(data) + left if left < 0 else None

    return trap


def commit_answered(number: int) -> Trap:
    """Just before the answer to the ``number``-th COMMIT (PostgreSQL: CommandComplete with the tag COMMIT) passes."""
    return _nth_message(DOWN, number, lambda kind, body: kind == b"C" and body == b"COMMIT\0", whole=False)


def mid_copy(number: int) -> Trap:
    """In the middle of the ``number``-th CopyData message towards PostgreSQL."""
    return _nth_message(UP, number, lambda kind, _: kind == b"d", whole=True)


def _nth_message(direction: str, number: int, wanted: Callable[[bytes, bytes], bool], *, whole: bool) -> Trap:
    """Frames of PostgreSQL's protocol 3.0 without TLS: a type byte, a length that counts itself, the body.

    The client's first message has no type byte. ``whole``: strike inside the message that is wanted, else before it.
    """
    seen = 0

    def trap(flow: Flow, data: bytes) -> int | None:
        nonlocal seen
        if flow.direction != direction:
            return None
        kept, text = len(flow.rest), flow.rest + data
        at = 0
        while True:
            kind_bytes = 1 if flow.started or direction == DOWN else 0
            head = at + kind_bytes + 4
            if len(text) < head:
                break
            end = at + kind_bytes + int.from_bytes(text[at + kind_bytes : head], "big")
            kind = text[at : at + kind_bytes]
            if len(text) < end and not (whole and wanted(kind, b"")):
                break
            if flow.started and not flow.counted and wanted(kind, text[head:end]):
                flow.counted, seen = True, seen + 1
                if seen == number:
                    return max((head + min(end, len(text))) // 2 if whole else at, kept) - kept
            if len(text) < end:
                break
            flow.started, flow.counted, at = True, False, end
        flow.rest = text[at:]
        return None

    return trap


def _swallow(one: socket.socket) -> None:
    """Have the kernel drop every packet for a socket: a filter (classic BPF) that keeps nothing of any."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # ret #0
    filter_ = struct.pack("HL", 1, ctypes.addressof(program))
    with suppress(OSError):  # closed meanwhile
        one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
