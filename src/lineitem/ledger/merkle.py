"""Merkle trees as RFC 6962 (section 2.1) defines them, over leaves that are already encoded.

A leaf is hashed as SHA-256(0x00 || leaf), a node as SHA-256(0x01 || left || right); a lone last node moves up unchanged,
which gives the same tree as the RFC's split at the largest power of two.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

EMPTY_ROOT = sha256(b"").digest()
HASH = np.dtype("V32")


def hash_rows(rows: NDArray[np.void]) -> NDArray[np.void]:
    """SHA-256 of every element of a structured or void array: shape (n,) in, (n,) dtype V32 out."""
    width = rows.dtype.itemsize
    data = rows.tobytes()
    hashed = b"".join([sha256(data[at : at + width]).digest() for at in range(0, len(data), width)])
    return np.frombuffer(hashed, dtype=HASH)


def root(leaves: NDArray[np.void]) -> bytes:
    """The root over leaf hashes of shape (n,), dtype V32. No leaves: SHA-256 of the empty string (RFC 6962)."""
    level = leaves
    while len(level) > 1:
        level = _parents(level)
    return bytes(level[0]) if len(level) else EMPTY_ROOT


def _parents(level: NDArray[np.void]) -> NDArray[np.void]:
    pairs = len(level) // 2
    nodes = np.empty((pairs, 65), dtype=np.uint8)
    nodes[:, 0] = 1
    nodes[:, 1:] = level[: 2 * pairs].view(np.uint8).reshape(pairs, 64)
    parents = hash_rows(nodes.view("V65").reshape(pairs))
    return np.concatenate([parents, level[-1:]]) if len(level) % 2 else parents


def proof(leaves: NDArray[np.void], index: int) -> list[tuple[str, bytes]]:
    """The audit path of leaf ``index`` from the leaf up: ("left" or "right", sibling hash)."""
    path: list[tuple[str, bytes]] = []
    level = leaves
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(("left" if sibling < index else "right", bytes(level[sibling])))
        level = _parents(level)
        index //= 2
    return path


def root_from_proof(leaf: bytes, path: list[tuple[str, bytes]]) -> bytes:
    """Follow an audit path from a leaf hash to the root it leads to."""
    current = leaf
    for side, sibling in path:
        current = sha256(b"\x01" + (sibling + current if side == "left" else current + sibling)).digest()
    return current
