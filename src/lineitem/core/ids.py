"""Identities and digests: length-prefixed, so that joining can never make two things one.

An event's identity is (namespace, source, id). Joining with a separator makes ("a-b", "c") equal ("a", "b-c");
a length before every part does not.
"""

from __future__ import annotations

from hashlib import sha256


def length_prefixed(*parts: bytes) -> bytes:
    """Every part behind its length (4 bytes, big-endian): an injective encoding of the tuple."""
    encoded = b""
    for part in parts:
        encoded += len(part).to_bytes(4, "big") + part
    return encoded


def text_digest(*parts: str) -> bytes:
    """SHA-256 over the length-prefixed UTF-8 of ``parts`` (32 bytes)."""
    return sha256(length_prefixed(*map(str.encode, parts))).digest()


def identity_key(namespace: str, source: str, event_id: str) -> bytes:
    """The 16-byte key of an event's identity: the first half of ``text_digest``."""
    return text_digest(namespace, source, event_id)[:16]
