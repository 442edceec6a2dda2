"""SQL lives in files beside the rules it serves: a name, one line of purpose, the query."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString, cast

from lineitem.core.errors import LineitemError

_HEADING = re.compile(r"^-- name: (\w+)[^\n]*\n", re.MULTILINE)


class Queries:
    """The named queries of one file: ``queries.advance_position`` is its text."""

    def __init__(self, texts: dict[str, LiteralString]) -> None:
        self._texts = texts

    def __getattr__(self, name: str) -> LiteralString:
        try:
            return self._texts[name]
        except KeyError:
            raise AttributeError(f"no query named {name!r}; there are {sorted(self._texts)}") from None


@cache
def load_queries(package: str, file: str) -> Queries:
    """Read ``sql/<file>`` of a room. Each query starts with ``-- name: <name>``; the line after says what it is for."""
    text = files(package).joinpath("sql", file).read_text(encoding="utf-8")
    parts = _HEADING.split(text)[1:]
    names = parts[::2]
    if len(set(names)) != len(names):
        raise LineitemError(f"a query name stands twice in {package}/sql/{file}")
    # Files shipped with the package are as constant as literals in it; users' text never becomes SQL.
    return Queries({name: cast("LiteralString", body.strip()) for name, body in zip(names, parts[1::2], strict=True)})
