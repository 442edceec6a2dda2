"""What a person says about a stream: ``kafka://host:port/topic``, and a file of client settings (TLS, passwords, timeouts)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lineitem.core.errors import InputError, UsageError

_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class Address:
    """Servers to begin with (``host:port``, separated by commas) and what to read there."""

    servers: str
    topic: str


def parse_address(url: str, scheme: str, port: int, what: str = "topic") -> Address:
    """``scheme://host[:port][,host[:port]...]/topic``; ``port`` unless given. Raises UsageError."""
    rest = url.removeprefix(f"{scheme}://")
    hosts, _, topic = rest.partition("/")
    do = f"Write {scheme}://host:{port}/{what}"
    refuse_secrets(url)
    names = hosts.split(",")
    if rest == url or not all(_HOST.fullmatch(name) for name in names):
        raise UsageError(f"{url!r} is no address of a {what}", do=do)
    if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise UsageError(f"{topic!r} is no name of a {what}", where=url, do=do)
    return Address(",".join(name if re.search(r":[0-9]+$", name) else f"{name}:{port}" for name in names), topic)


def refuse_secrets(url: str, what: str = "--source", file: str = "--config") -> None:
    """Raises UsageError, without the address, where it may hold a password: it would be shown to others.

    ``what`` names the address for people, ``file`` the option of the file such things belong into.
    """
    if "@" in url or "?" in url:
        raise UsageError(
            f"{what} holds a user, a password or a query", do=f"Put them into a file that others cannot read: {file}."
        )


def read_settings(
    path: Path, *, refused: Mapping[str, str] = {}, known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Settings of a client, ``name=value`` a line, ``#`` for comments.

    ``refused``: names that are not for people, and why; ``known``: all there are, and what each is, where only those may
    stand there. Raises InputError with file and line, never with a value: it may be a password.
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
        if not equals or not _NAME.fullmatch(name) or not value.isprintable():
            # What stands before "=" may be a password, where somebody wrote "name: password".
            raise InputError("is not of the form name=value", where=where, do="Write one setting a line.")
        if name in refused:
            raise InputError(f"{name} cannot be set: {refused[name]}", where=where, do="Remove the line.")
        if name in found:
            raise InputError(f"{name} is set twice", where=where, do="Remove one of them.")
        if known is not None and (name not in known or not value):
            listed = ", ".join(f"{one} ({what})" for one, what in known.items())
            raise InputError(f"{name} is no setting, or has no value", where=where, do=f"There are {listed}.")
        found[name] = value
    return found
