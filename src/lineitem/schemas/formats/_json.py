"""JSON texts of schemas: parsed with exact numbers, the line of what is wrong, one canonical form."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec

from lineitem.schemas.model import BadSchema

_CANONICAL = msgspec.json.Encoder(order="sorted", decimal_format="number")


def parsed(text: str) -> Any:
    """A schema's JSON; fractions are Decimals. Raises BadSchema with line and column."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise BadSchema([f"line {error.lineno}, column {error.colno}: {error.msg}"]) from None
    except ValueError as error:
        raise BadSchema([str(error)]) from None
    except RecursionError:
        raise BadSchema(["the schema nests too deeply"]) from None


def canonical(document: Any) -> str:
    """Keys sorted, no spaces."""
    return _CANONICAL.encode(document).decode()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found
