"""A mapping applied to columns: what CSV rows, Parquet rows and log lines have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

from lineitem.core.reasons import Reason
from lineitem.ingest.decode import Candidates
from lineitem.ingest.digest import INTEGER_DIGITS_MAX, NumberTooLarge, exact_number
from lineitem.ingest.mapping import FieldMapping, Spec
from lineitem.ingest.sequences import numbers
from lineitem.ingest.time_formats import parse_times
from lineitem.ingest.validate import Problem, Problems, shown

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_TEMPLATE = re.compile(r"\{([^{}]*)\}")


def map_columns(
    mapping: FieldMapping, columns: Mapping[str, Sequence[Any]], rows: list[int], lost: Problems
) -> Candidates:
    """The candidates of ``len(rows)`` records given as columns of text (or, from Parquet, JSON values).

    ``mapping`` must be complete (``ingest.mapping.fitted``). Row i comes from record ``rows[i]``; ``lost`` are the
    records that have no row.
    """
    count = len(rows)
    problems: Problems = {}
    assert mapping.time is not None
    assert mapping.data is not None
    time = mapping.time
    payload = {name: _values(spec, columns, count, problems) for name, spec in mapping.data.items()}
    names = tuple(payload)
    data = [dict(zip(names, row, strict=True)) for row in zip(*payload.values(), strict=True)] if names else None
    return Candidates(
        rows=rows,
        id=_texts(mapping.id, columns, count),
        source=_texts(mapping.source, columns, count),
        type=_texts(mapping.type, columns, count),
        subject=_texts(mapping.subject, columns, count),
        time_us=parse_times(columns[time.column], time.format, time.timezone, problems),
        data=data if data is not None else [{} for _ in rows],
        traceparent=_texts(mapping.traceparent, columns, count),
        lost=lost,
        problems=problems,
        sequence=None if mapping.sequence is None else numbers(_texts(mapping.sequence, columns, count)),
    )


def _texts(spec: Spec | None, columns: Mapping[str, Sequence[Any]], count: int) -> list[str | None]:
    """An attribute's texts; None where there is none."""
    if spec is None:
        return [None] * count
    if spec.const is not None:
        return [spec.const] * count
    if spec.template is not None:
        texts = _filled(spec.template, columns, count)
    else:
        texts = [_text(value) for value in columns[str(spec.column)]]
    return texts if spec.default is None else [text or spec.default for text in texts]


def _text(value: Any) -> str | None:
    """A JSON scalar as text; objects and lists are no texts."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | Decimal) else None


def _filled(template: str, columns: Mapping[str, Sequence[Any]], count: int) -> list[str | None]:
    """The template filled for every row; None where one of its columns is empty."""
    names = _TEMPLATE.findall(template)
    pattern = "".join("%s" if i % 2 else p.replace("%", "%%") for i, p in enumerate(_TEMPLATE.split(template)))
    parts = [[_text(value) for value in columns[name]] for name in names]
    return [pattern % row if all(row) else None for row in zip(*parts, strict=True)]


def _values(spec: Spec, columns: Mapping[str, Sequence[Any]], count: int, problems: Problems) -> Sequence[Any]:
    """A payload entry's values in its type; an empty one that is not a string is null."""
    if spec.type == "string" and spec.column is not None:
        values = columns[spec.column]
        return values if spec.default is None else [spec.default if v in (None, "") else v for v in values]
    texts = _texts(spec, columns, count)
    if spec.type == "string":
        return texts
    convert = lru_cache(maxsize=count or 1)(_convert)  # usage repeats its values
    converted: list[Any] = [None] * count
    for row, text in enumerate(texts):
        if text:
            try:
                converted[row] = convert(text, spec.type)
            except (ValueError, NumberTooLarge):
                origin = spec.column or spec.template or spec.const
                detail = f"{origin}: {shown(text)} is not of type {spec.type}"
                problems.setdefault(row, Problem(Reason.BAD_FIELD, detail))
    return converted


def _convert(text: str, type_: str) -> int | Decimal | bool:
    """A text as an integer, a decimal or a boolean. Raises ValueError or NumberTooLarge."""
    text = text.strip()
    if type_ == "boolean":
        try:
            return _BOOLEANS[text.lower()]
        except KeyError:
            raise ValueError(text) from None
    if len(text) <= INTEGER_DIGITS_MAX and text.isascii() and text.isdigit():
        return int(text)
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    number = exact_number(text)
    if type_ == "integer" and isinstance(number, Decimal) and number != number.to_integral_value():
        raise ValueError(text)
    return number
