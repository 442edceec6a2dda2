"""What a person says about a topic: ``kafka://host:port/topic``, and a file of client settings (TLS, SASL, timeouts)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lineitem.core.errors import InputError, UsageError

SCHEME = "kafka://"
_PORT = "9092"
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
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


@dataclass(frozen=True, slots=True)
class Address:
    """Brokers to begin with (``host:port``, separated by commas) and a topic."""

    servers: str
    topic: str


def parse_address(url: str) -> Address:
    """``kafka://host[:port][,host[:port]...]/topic``; the port is 9092 unless given. Raises UsageError."""
    rest = url.removeprefix(SCHEME)
    hosts, _, topic = rest.partition("/")
    if "@" in hosts:
        raise UsageError(
            "--source holds a user or a password", do="Put sasl.username and sasl.password into a file: --config FILE."
        )
    names = hosts.split(",")
    if rest == url or not all(_HOST.fullmatch(name) for name in names):
        raise UsageError(f"{url!r} is no address of a topic", do="Write kafka://host:9092/topic")
    if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise UsageError(f"{topic!r} is no name of a topic", where=url, do="Write kafka://host:9092/topic")
    return Address(",".join(name if re.search(r":[0-9]+$", name) else f"{name}:{_PORT}" for name in names), topic)


def read_settings(path: Path) -> dict[str, str]:
    """Settings of librdkafka, ``name=value`` a line, ``#`` for comments.

    Raises InputError with file and line, never with a value: it may be a password.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path), do="Name a readable file.") from error
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", where=str(path)) from None
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name, equals, value = (part.strip() for part in line.partition("="))
        where = f"{path}:{number}"
        if (not name and not equals) or name.startswith("#"):
            continue
        if not equals or not name:
            raise InputError("is not of the form name=value", where=where, do="Write one setting a line.")
        if name in OWN:
            raise InputError(f"{name} cannot be set: {OWN[name]}", where=where, do="Remove the line.")
        if name in found:
            raise InputError(f"{name} is set twice", where=where, do="Remove one of them.")
        found[name] = value
    return found
