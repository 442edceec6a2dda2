"""What the environment and the command line decide: where the ledger is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Config:
    """Where things are. ``database_url`` None means the embedded PostgreSQL under ``data_dir``."""

    data_dir: Path
    database_url: str | None
    checkpoint_dir: Path

    @classmethod
    def read(cls, data_dir: Path | None = None, environment: Mapping[str, str] = os.environ) -> Config:
        """From ``--data-dir`` or ``LINEITEM_DATA_DIR`` (default ``./.lineitem``), ``LINEITEM_DATABASE_URL`` and
        ``LINEITEM_CHECKPOINT_DIR`` (default ``<data-dir>/checkpoints``; better a place outside this machine)."""
        folder = (data_dir or Path(environment.get("LINEITEM_DATA_DIR") or ".lineitem")).absolute()
        checkpoints = environment.get("LINEITEM_CHECKPOINT_DIR")
        return cls(
            data_dir=folder,
            database_url=environment.get("LINEITEM_DATABASE_URL") or None,
            checkpoint_dir=Path(checkpoints) if checkpoints else folder / "checkpoints",
        )
