"""Merkle trees against the known vectors of RFC 6962 and against its recursive definition."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineitem.ledger.merkle import EMPTY_ROOT, HASH, hash_rows, proof, root, root_from_proof

# Leaves and roots of the Certificate Transparency reference implementation (its MerkleTreeTest).
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaf_hashes(leaves: list[bytes]) -> NDArray[np.void]:
    return np.frombuffer(b"".join(sha256(b"\0" + leaf).digest() for leaf in leaves), dtype=HASH)


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\1" + by_definition(leaves[:k]) + by_definition(leaves[k:])).digest()


@pytest.mark.parametrize("count", range(1, 9))
def test_published_roots(count: int) -> None:
    """The roots of one to eight leaves are the published ones."""
    assert root(leaf_hashes([bytes.fromhex(leaf) for leaf in LEAVES[:count]])).hex() == ROOTS[count - 1]


def test_no_leaves() -> None:
    """The root of nothing is the hash of the empty string."""
    assert root(np.zeros(0, dtype=HASH)) == EMPTY_ROOT == sha256(b"").digest()


@given(st.lists(st.binary(max_size=40), max_size=70))
def test_any_number_of_leaves(leaves: list[bytes]) -> None:
    """Pairing level by level gives the tree that splitting at the largest power of two defines."""
    assert root(leaf_hashes(leaves)) == by_definition(leaves)


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=40), st.data())
def test_every_leaf_has_its_proof(leaves: list[bytes], data: st.DataObject) -> None:
    """A leaf's path leads to the root, and to no root once the leaf or a step of the path is another."""
    hashes = leaf_hashes(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = proof(hashes, index)
    assert root_from_proof(bytes(hashes[index]), path) == root(hashes)
    assert len(path) <= (len(leaves) - 1).bit_length()
    assert root_from_proof(sha256(b"another").digest(), path) != root(hashes)
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        side, sibling = path[at]
        broken = [*path[:at], (side, bytes([sibling[0] ^ 1]) + sibling[1:]), *path[at + 1 :]]
        assert root_from_proof(bytes(hashes[index]), broken) != root(hashes)


def test_rows_are_hashed_one_by_one() -> None:
    """Each element of a structured array is hashed as its bytes."""
    rows = np.array([(1, b"a"), (2, b"b")], dtype=[("n", ">u4"), ("text", "S1")])
    hashed = hash_rows(rows)
    assert [bytes(one) for one in hashed] == [sha256(b"\0\0\0\1a").digest(), sha256(b"\0\0\0\2b").digest()]
