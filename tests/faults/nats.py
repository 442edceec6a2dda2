"""A real NATS server with JetStream for tests, synced to disk at every write."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from tests.faults.broker import die_with_parent, free_ports, until

PROGRAM = Path(sys.executable).with_name("nats-server")
_SETTINGS = """
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "{folder}/jetstream", sync_interval: always }}
authorization {{ user: billing, password: "let me in" }}
"""


class Server:
    """A running server and what tests do to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.port,) = free_ports(1)
        self._settings = folder / "nats.conf"
        self._settings.write_text(_SETTINGS.format(port=self.port, folder=folder))
        self._login: dict[str, Any] = {"user": "billing", "password": "let me in"}
        self.config = folder / "client.properties"
        self.config.write_text("user=billing\npassword=let me in\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until JetStream answers."""
        with open(self.folder / "nats.log", "ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "-c", self._settings], stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        assert until(self._answers), (self.folder / "nats.log").read_text()[-2000:]

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def url(self, stream: str) -> str:
        """As ``--source`` wants it."""
        return f"nats://127.0.0.1:{self.port}/{stream}"

    def do(self, action: Callable[[JetStreamContext], Awaitable[Any]]) -> Any:
        """One thing, with a connection of its own."""

        async def run() -> Any:
            client = Client()
            try:
                await client.connect(
                    f"nats://127.0.0.1:{self.port}", allow_reconnect=False, max_reconnect_attempts=1, error_cb=_silent,
                    **self._login,
                )  # fmt: skip
                return await action(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(run())

    def create(self, stream: str, **config: Any) -> None:
        """Make a stream that takes what is published under its name."""
        self.do(lambda jetstream: jetstream.add_stream(name=stream, subjects=[stream], **config))

    def publish(self, stream: str, records: list[bytes], headers: dict[str, str] | None = None) -> None:
        """Acknowledged by the server, one by one."""

        async def all_(jetstream: JetStreamContext) -> None:
            for record in records:
                await jetstream.publish(stream, record, headers=headers)

        self.do(all_)

    def _answers(self) -> bool:
        try:
            self.do(lambda jetstream: jetstream.account_info())
        except (NatsError, OSError, TimeoutError):
            return False
        return True


async def _silent(error: Exception) -> None:
    """What the client would write to the log: it is raised as well."""


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """A server for as long as the context lasts."""
    server = Server(folder)
    try:
        yield server
    finally:
        server.kill()
