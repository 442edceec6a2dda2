"""Checkpoints: signed statements of where every lane stood, kept outside the database.

A chain shows that nothing inside it was altered, but a tail that was cut off leaves a shorter, perfectly good chain. A
checkpoint remembers the heads, so a cut tail, or a restored old copy, shows. Key and checkpoints belong where whoever
can write the database cannot: set LINEITEM_CHECKPOINT_DIR to another machine's disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import get_ident

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lineitem.core.errors import EnvironmentProblem, IntegrityError
from lineitem.core.ids import length_prefixed
from lineitem.core.period import us_to_text
from lineitem.kit.db import Connection
from lineitem.kit.failpoint import failpoint
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.ledger", "ledger.sql")
_KEY_FILE = "checkpoint.key"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Lane heads (lane -> batch number and hash) at one moment, microseconds since the epoch."""

    heads: Mapping[int, tuple[int, bytes]]
    signed_us: int

    @property
    def root(self) -> bytes:
        """One digest over all heads: what is signed."""
        parts = [b"lineitem checkpoint 1", self.signed_us.to_bytes(8, "big")]
        for lane, (batch, hashed) in sorted(self.heads.items()):
            parts += [lane.to_bytes(2, "big"), batch.to_bytes(8, "big"), hashed]
        return sha256(length_prefixed(*parts)).digest()


class Notary:
    """Signs and checks the checkpoints of one folder with an Ed25519 key kept beside the data, not in the database."""

    def __init__(self, folder: Path, key_folder: Path) -> None:
        self._folder = folder
        self.key_path = key_folder / _KEY_FILE

    def sign(self, connection: Connection, now_us: int) -> Path | None:
        """Write a checkpoint of the ledger as it is; None when nothing has been added since the last one."""
        rows = connection.execute(SQL.lanes).fetchall()
        checkpoint = Checkpoint({lane: (batch, hashed) for lane, batch, hashed in rows}, now_us)
        newest = next(self._newest(), None)
        if newest is not None and newest.heads == checkpoint.heads:
            return None
        key = self._key()
        path = self._folder / f"{now_us:020d}-{checkpoint.root.hex()[:12]}.json"
        _write_durably(path, _text(checkpoint, key.public_key().public_bytes_raw(), key.sign(checkpoint.root)))
        return path

    def check(self) -> Iterator[tuple[Path, Checkpoint | None, str]]:
        """Every checkpoint, oldest first: (file, checkpoint or None, what is wrong or "")."""
        public = None
        if self.key_path.exists():
            public = self._key().public_key().public_bytes_raw().hex()
        for path in self._paths():
            yield path, *_read(path, public)

    def _newest(self) -> Iterator[Checkpoint]:
        for path in reversed(self._paths()):
            checkpoint, problem = _read(path, None)
            if checkpoint is not None and not problem:
                yield checkpoint

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []

    def _key(self) -> Ed25519PrivateKey:
        """The signing key; made on first use, readable by the owner alone."""
        try:
            return Ed25519PrivateKey.from_private_bytes(self.key_path.read_bytes())
        except FileNotFoundError:
            fresh = Ed25519PrivateKey.generate()
            _write_durably(self.key_path, fresh.private_bytes_raw(), exclusive=True)
            return self._key()
        except ValueError as error:
            raise IntegrityError(
                "the checkpoint key is damaged", where=str(self.key_path), do="Restore it from a backup."
            ) from error


def _text(checkpoint: Checkpoint, public_key: bytes, signature: bytes) -> bytes:
    """The one way a checkpoint is written, so that no byte of its file is beyond the signature."""
    document = {
        "version": 1,
        "signed_at": us_to_text(checkpoint.signed_us),
        "signed_us": checkpoint.signed_us,
        "heads": {str(lane): [batch, hashed.hex()] for lane, (batch, hashed) in checkpoint.heads.items()},
        "root": checkpoint.root.hex(),
        "public_key": public_key.hex(),
        "signature": signature.hex(),
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _read(path: Path, public_key: str | None) -> tuple[Checkpoint | None, str]:
    """A checkpoint and what is wrong with it. ``public_key``: the key it must be signed with, hex, when known."""
    try:
        content = path.read_bytes()
        document = json.loads(content)
        heads = {int(lane): (int(batch), bytes.fromhex(head)) for lane, (batch, head) in document["heads"].items()}
        checkpoint = Checkpoint(heads, int(document["signed_us"]))
        key, signature = bytes.fromhex(document["public_key"]), bytes.fromhex(document["signature"])
        Ed25519PublicKey.from_public_bytes(key).verify(signature, checkpoint.root)
        whole = _text(checkpoint, key, signature) == content
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None, "is not a checkpoint"
    except InvalidSignature:
        return None, "its signature does not match its content"
    if public_key is not None and key.hex() != public_key:
        return None, "is signed with another key"
    return (checkpoint, "") if whole else (None, "its text was altered")


def _write_durably(path: Path, content: bytes, *, exclusive: bool = False) -> None:
    """Write, sync, then give the file its name; ``exclusive`` leaves a file that is already there alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        failpoint("before_checkpoint")
        if exclusive:
            if not path.exists():
                os.link(temporary, path)
            temporary.unlink()
        else:
            temporary.replace(path)
    except FileExistsError:
        temporary.unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write: {error.strerror}", where=str(path)) from error
