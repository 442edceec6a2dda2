"""JSON texts of schemas: parsed with exact numbers, the line of what is wrong, one canonical form."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from lineitem.core.exact_json import exact_json
from lineitem.schemas.model import BadSchema

_CANONICAL = msgspec.json.Encoder(order="sorted", decimal_format="number")


def parsed(text: str) -> Any:
    """A schema's JSON; fractions are Decimals. Raises BadSchema with line and column."""
    try:
        return exact_json(text, unique_keys=True)
    except json.JSONDecodeError as error:
        raise BadSchema([f"line {error.lineno}, column {error.colno}: {error.msg}"]) from None
    except ValueError as error:
        raise BadSchema([str(error)]) from None
    except RecursionError:
        raise BadSchema(["the schema nests too deeply"]) from None


def canonical(document: Any) -> str:
    """Keys sorted, no spaces."""
    return _CANONICAL.encode(document).decode()
