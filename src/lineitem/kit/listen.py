"""Addresses to listen on, as people write them."""

from __future__ import annotations

import re

from lineitem.core.errors import UsageError

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^\s:\[\]/]*)):(?P<port>[0-9]{1,5})")
_PORT_MAX = 65535


def parse_listen(text: str) -> tuple[str, int]:
    """``127.0.0.1:9464``, ``[::1]:9464``; ``:9464`` has no host, "", and port 0 means any that is free. Raises UsageError."""
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > _PORT_MAX:
        raise UsageError(
            f"{text!r} is no address to listen on",
            do="Write HOST:PORT, such as 127.0.0.1:9464; port 0 takes a free one.",
        )
    return found["v6"] or found["host"] or "", int(found["port"])
