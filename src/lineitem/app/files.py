"""Files that people name: opened, read and complained about by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from lineitem.adapters.flags.flagd import FlagFile
from lineitem.core.errors import InputError
from lineitem.core.limits import CATALOG_BYTES_MAX
from lineitem.ledger.canary import Flag


def flag_of(path: Path, flag: str) -> Flag:
    """A boolean flag of a flagd file, to choose accounts with."""
    return FlagFile(path, flag)


def mapping_text(path: Path) -> str:
    """A mapping file's text. Raises InputError when it is no text."""
    with readable(path) as file:
        try:
            return file.read(CATALOG_BYTES_MAX).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise InputError("the mapping file is not UTF-8 text", where=str(path)) from None


def file_digest(file: BinaryIO) -> str:
    """SHA-256 of a file's bytes, hex; leaves the file at its start. Raises InputError where the disk refuses."""
    digest = sha256()
    try:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", do="Name a readable file.") from error
    file.seek(0)
    return digest.hexdigest()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make every complaint about the inside of a file begin with the file's name."""
    try:
        yield
    except InputError as error:
        if not error.where.startswith(str(path)):
            error.where = f"{path}, {error.where}" if error.where else str(path)
        raise


def readable(path: Path) -> BinaryIO:
    """Open a file people name. Raises InputError that says what is wrong with it."""
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path), do="Name a readable file.") from error
