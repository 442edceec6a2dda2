"""The connection to NATS, and what it says about a stream: when it was made (another one if anew), what it still holds."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from threading import Event
from typing import Any

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import RetentionPolicy, StreamInfo
from nats.js.errors import NotFoundError

from lineitem.adapters.address import Address
from lineitem.adapters.opening import made_anew
from lineitem.core.errors import EnvironmentProblem, InputError, Refused

PORT = 4222
_CONNECT_S = 10
_PAUSE_S = 0.5
_PLAIN = {
    "user": "a login",
    "password": "its password",
    "token": "a token",
    "user_credentials": "a file of credentials",
}
_TLS = {"tls_ca": "a file of certificates to trust", "tls_cert": "a certificate to show", "tls_key": "its key"}
SETTINGS = _PLAIN | _TLS
"""What a settings file may say."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream as it was when the worker began. ``id``: when it was made, to the microsecond, as text."""

    place: str
    name: str
    id: str

    @property
    def what(self) -> str:
        """For people."""
        return f"stream {self.name!r}"

    @property
    def prefix(self) -> str:
        """How the names of every stream of this name in this place begin."""
        return f"nats:{self.place}/{self.name}/"

    @property
    def key(self) -> str:
        """The ledger's name for it."""
        return f"{self.prefix}{self.id}/0"


class Server:
    """A connection; all calls from the thread of its event loop but ``check``, which must come from another one."""

    def __init__(self, address: Address, client: Client, jetstream: JetStreamContext) -> None:
        self.address, self._client, self.jetstream = address, client, jetstream
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, address: Address, settings: Mapping[str, str], say: Callable[[str], None]) -> Server:
        """Raises InputError for a setting that is wrong, EnvironmentProblem where nobody answers or lets us in."""

        async def lost() -> None:
            if not client.is_closed:
                say("NATS: the connection is lost; trying again until it is back")

        async def found() -> None:
            say("NATS: the connection is back")

        causes: list[Exception] = []

        async def told(error: Exception) -> None:
            """The client raises that no server is left; this is why."""
            causes[:] = [error]

        servers = [f"nats://{one}" for one in address.servers.split(",")]
        options: dict[str, Any] = {
            "servers": servers,
            "connect_timeout": _CONNECT_S,
            "error_cb": told,
            **_options(settings),
        }
        once: dict[str, Any] = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 1}
        always: dict[str, Any] = {
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 1,
            "disconnected_cb": lost,
            "reconnected_cb": found,
        }
        client = Client()
        try:
            await client.connect(**options, **once)
            await client.close()  # it is there and lets us in: from now on an absence is waited for
            client = Client()
            await client.connect(**options, **always)
        except (NatsError, OSError, TimeoutError) as error:
            await client.close()
            raise EnvironmentProblem(
                f"NATS does not answer or refuses: {_said(causes[-1] if causes else error)}",
                where=address.servers,
                do="Check --source, the server, and --config; nothing is counted twice, run the same command again.",
            ) from error
        return cls(address, client, client.jetstream())

    async def close(self) -> None:
        """Leave; nothing is acknowledged, the ledger's position is the only one."""
        await self._client.close()

    async def stream(self) -> Stream:
        """Look the stream up. Raises Refused where there is none, or one whose records go when somebody has read them."""
        try:
            info = await self.info()
        except (NatsError, TimeoutError) as error:
            raise EnvironmentProblem(
                f"JetStream does not answer: {_said(error)}",
                where=self.address.servers,
                do="Start the server with JetStream on (-js), and check the rights of --config.",
            ) from error
        if info.config.retention not in (None, RetentionPolicy.LIMITS):
            raise Refused(
                f"stream {self.address.topic!r} keeps records only until they are read ({info.config.retention})",
                do="Usage must be there to be read again: make the stream with the retention policy `limits`.",
            )
        about: Any = self._client._server_info  # the public client does not say which cluster it is in
        place = str(about.get("domain") or about.get("cluster") or "")
        return Stream(place, self.address.topic, _id(info))

    async def info(self) -> StreamInfo:
        """The stream now. Raises Refused where there is none; what the client raises where nobody answers."""
        try:
            return await self.jetstream.stream_info(self.address.topic)
        except NotFoundError as error:
            raise Refused(
                f"there is no stream {self.address.topic!r}",
                where=self.address.servers,
                do="Check --source; a stream is made with `nats stream add`.",
            ) from error

    async def info_in_time(self, stop: Event) -> StreamInfo:
        """The stream now; a server that is away is waited for, until ``stop``."""
        while True:
            try:
                return await self.info()
            except (NatsError, TimeoutError) as error:
                if await asyncio.to_thread(stop.wait, _PAUSE_S):
                    raise EnvironmentProblem(
                        f"NATS does not answer: {_said(error)}", where=self.address.servers
                    ) from error

    def check(self, stream: Stream, stop: Event) -> None:
        """Raises Refused where the stream is another one now, or gone. Waits for a server that is away, until ``stop``."""
        found = _id(asyncio.run_coroutine_threadsafe(self.info_in_time(stop), self._loop).result())
        if found != stream.id:
            raise made_anew(stream.what, [stream.id], found)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _id(info: StreamInfo) -> str:
    assert info.created is not None
    return info.created.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def _options(settings: Mapping[str, str]) -> dict[str, Any]:
    """What the client wants. Raises InputError for a file that is no certificate."""
    options: dict[str, Any] = {name: settings[name] for name in _PLAIN if name in settings}
    if any(name in settings for name in _TLS):
        try:
            context = ssl.create_default_context(cafile=settings.get("tls_ca"))
            if "tls_cert" in settings:
                context.load_cert_chain(settings["tls_cert"], settings.get("tls_key"))
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                f"a certificate of --config cannot be used: {error}", do="Name readable PEM files."
            ) from error
        options["tls"] = context
    return options
