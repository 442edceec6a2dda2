"""What the environment and the command line decide: where the ledger is."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lineitem.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Config:
    """Where things are. ``database_url`` None means the embedded PostgreSQL under ``data_dir``; ``segments_in_database``:
    raw segments are not files of ``data_dir`` but rows beside the ledger, for machines that share no disk."""

    data_dir: Path
    database_url: str | None
    checkpoint_dir: Path
    segments_in_database: bool = False
    schema_registry: str | None = None
    schema_registry_config: Path | None = None

    @classmethod
    def read(cls, data_dir: Path | None = None, environment: Mapping[str, str] = os.environ) -> Config:
        """From ``--data-dir`` or ``LINEITEM_DATA_DIR`` (default ``./.lineitem``), ``LINEITEM_DATABASE_URL``,
        ``LINEITEM_CHECKPOINT_DIR`` (default ``<data-dir>/checkpoints``; better a place outside this machine),
        ``LINEITEM_SEGMENTS`` (``folder``, the default, or ``database``), ``LINEITEM_SCHEMA_REGISTRY`` and
        ``LINEITEM_SCHEMA_REGISTRY_CONFIG`` (default: the namespace's own registry).

        Raises UsageError for segments elsewhere."""
        folder = (data_dir or Path(environment.get("LINEITEM_DATA_DIR") or ".lineitem")).absolute()
        checkpoints = environment.get("LINEITEM_CHECKPOINT_DIR")
        registry_config = environment.get("LINEITEM_SCHEMA_REGISTRY_CONFIG")
        return cls(
            data_dir=folder,
            database_url=environment.get("LINEITEM_DATABASE_URL") or None,
            checkpoint_dir=Path(checkpoints) if checkpoints else folder / "checkpoints",
            segments_in_database=_segments(environment.get("LINEITEM_SEGMENTS")) == "database",
            schema_registry=environment.get("LINEITEM_SCHEMA_REGISTRY") or None,
            schema_registry_config=Path(registry_config) if registry_config else None,
        )


def _segments(value: str | None) -> str:
    value = value or "folder"
    if value not in ("folder", "database"):
        raise UsageError(f"LINEITEM_SEGMENTS is {value!r}", do="Set it to folder or database.")
    return value


ACTOR_CHARS_MAX = 128
"""Characters of a name somebody acts under."""


def actor(named: str | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """Who acts: as the command says, or ``LINEITEM_ACTOR``, or the operating system's user.

    A name is a record of who did what, not a proof of it: whoever may run the command may give any. Raises UsageError for
    one that is empty, too long or not printable.
    """
    name = (named if named is not None else environment.get("LINEITEM_ACTOR") or _system_user()).strip()
    if not name or len(name) > ACTOR_CHARS_MAX or not name.isprintable():
        raise UsageError(
            f"{name[:ACTOR_CHARS_MAX]!r} is not a name to act under",
            do=f"Use 1 to {ACTOR_CHARS_MAX} printable characters.",
        )
    return name


def _system_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user need not have an entry
        return f"uid-{os.geteuid()}"
