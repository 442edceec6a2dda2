"""JSON texts with exact numbers: a fraction is a Decimal, never a binary float; NaN and Infinity are no JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any


def exact_json(text: str | bytes, *, integer: Callable[[str], Any] = int, unique_keys: bool = False) -> Any:
    """The value of one JSON text. ``integer``: what makes one of its digits; ``unique_keys``: a key twice is an error.

    Raises ValueError for what is no JSON or holds a number no Decimal can, RecursionError for what nests too deeply.
    """
    pairs = _once if unique_keys else None
    try:
        return json.loads(
            text, parse_float=Decimal, parse_int=integer, parse_constant=refuse_constant, object_pairs_hook=pairs
        )
    except ArithmeticError:
        raise ValueError("a number has an exponent too large") from None


def refuse_constant(name: str) -> Any:
    """For ``parse_constant``: Python reads NaN and Infinity, JSON does not have them."""
    raise ValueError(f"{name} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name!r} stands twice in one object")
        found[name] = value
    return found
