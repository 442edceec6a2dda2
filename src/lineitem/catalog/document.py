"""The canonical form of a catalog: the bytes stored when it is published, and the digests that tell contents apart.

Canonical JSON with sorted keys, decimals as shortest plain text, and fields that are empty left out, so that layout,
comments and "1.0" against "1" make no difference, and a field the model gains later changes no stored digest.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from typing import Any

import msgspec

from lineitem.catalog.model import Catalog, Price
from lineitem.core.errors import IntegrityError
from lineitem.core.money import scaled_to_text

DOCUMENT_FORMAT = 1
"""Number of the layout; kept in every document, so that an old one can always be read."""

_DESCRIPTIVE = ("id", "description")
"""Fields of a price that do not move money."""


def catalog_document(catalog: Catalog) -> bytes:
    """The catalog as canonical JSON (UTF-8); ``catalog_from_document`` is the inverse."""
    return _json({"format": DOCUMENT_FORMAT, "catalog": plain(catalog)})


def catalog_from_document(document: bytes | str) -> Catalog:
    """Read a stored catalog back. Raises IntegrityError when it is not one this version wrote or can read."""
    do = "The stored catalog is damaged or newer than this program: run `lineitem verify`, or upgrade."
    try:
        content = msgspec.json.decode(document)
        if content["format"] != DOCUMENT_FORMAT:
            raise IntegrityError(f"catalog document of unknown format {content['format']!r}", do=do)
        return msgspec.convert(content["catalog"], Catalog)
    except (msgspec.MsgspecError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"not a catalog document: {error}", do=do) from error


def content_digest(catalog: Catalog) -> str:
    """SHA-256 of the canonical document, hex: equal for equal content however the file was written."""
    return sha256(catalog_document(catalog)).hexdigest()


def price_digest(price: Price) -> bytes:
    """SHA-256 (32 bytes) over what determines money: everything but the price's id and description.

    Versions of a pricebook whose price has one digest go on with the same tiers.
    """
    content = {key: value for key, value in plain(price).items() if key not in _DESCRIPTIVE}
    return sha256(_json(content)).digest()


def decimal_text(value: Decimal) -> str:
    """A finite decimal as shortest plain text, exactly: ``Decimal("1.50") -> "1.5"``.

    ``Decimal.normalize`` would round to the context's 28 digits.
    """
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError(f"{value} is not finite")
    number = int("".join(map(str, digits)))
    number = -number if sign else number
    return scaled_to_text(number, -exponent) if exponent < 0 else str(number * 10**exponent)


def plain(value: Any) -> Any:
    """A value of the model as JSON has it: dict, list, str, int, bool and None."""
    if is_dataclass(value):
        pairs = [(field, getattr(value, field.name)) for field in fields(value)]
        return {field.name: plain(held) for field, held in pairs if not _is_left_out(field.default, held)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        return decimal_text(value)
    return value.value if isinstance(value, Enum) else value


def _is_left_out(default: Any, value: Any) -> bool:
    # Only emptiness is left out, never e.g. a scale of 9: a default that changes later must not change old documents.
    return default is not MISSING and value == default and value in (None, "", ())


def _json(content: Any) -> bytes:
    return msgspec.json.encode(content, order="sorted")
