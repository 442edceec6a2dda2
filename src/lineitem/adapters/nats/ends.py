"""How far the ledger is behind a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from lineitem.adapters.address import parse_address, read_settings
from lineitem.adapters.nats.server import PORT, SETTINGS, Server
from lineitem.adapters.streams import Place


def positions(url: str, config: Path | None, known: Mapping[str, int]) -> dict[int, Place]:
    """The stream at ``url`` as its one partition. ``known``: streams and how far the ledger has read them.

    Raises UsageError, InputError, Refused, EnvironmentProblem as reading it would.
    """
    return asyncio.run(_positions(url, config, known))


async def _positions(url: str, config: Path | None, known: Mapping[str, int]) -> dict[int, Place]:
    settings = read_settings(config, known=SETTINGS) if config else {}
    server = await Server.connect(parse_address(url, "nats", PORT, "stream"), settings, lambda text: None)
    try:
        stream = await server.stream()
        state = (await server.info()).state
    finally:
        await server.close()
    at = known.get(stream.key, 0)
    return {0: Place(stream.name, at, max(0, state.last_seq + 1 - max(at, state.first_seq, 1)))}
