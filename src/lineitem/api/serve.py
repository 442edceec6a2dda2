"""Runs an application on an address until the process is told to stop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from lineitem.api.registry import registry_app
from lineitem.core.errors import EnvironmentProblem
from lineitem.kit.listen import parse_listen
from lineitem.ledger.schema_desk import SchemaDesk

_GRACE_S = 10


def serve_registry(desk: SchemaDesk, by: str, listen: str, say: Callable[[str], None]) -> None:
    """Answer the registry's REST on ``host:port`` (port 0: any that is free) until SIGTERM or Ctrl-C."""
    bound = _bound(listen)
    host, port = bound.getsockname()[:2]
    app: Any = registry_app(desk, by)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=_GRACE_S
    )
    say(f"schema registry of namespace {desk.namespace!r} on http://{f'[{host}]' if ':' in host else host}:{port}")
    with _signals_kept():
        uvicorn.Server(config).run(sockets=[bound])


@contextmanager
def _signals_kept() -> Iterator[None]:
    """The server ends on a signal and then sends it to itself again: let that find somebody who expects it."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bound(listen: str) -> socket.socket:
    host, port = parse_listen(listen)
    host = host or "127.0.0.1"  # nobody is asked who he is: other machines only where somebody says so
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot listen on {listen}: {error.strerror or error}", do="Name another address with --listen."
        ) from error
    return made
