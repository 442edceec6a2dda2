"""A worker's log: one line per batch and per message, as JSON or for people; counts and ids, never what an event holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from lineitem.core.reasons import Reason
from lineitem.observability.metrics import Outcome
from lineitem.observability.watch import Seen

_NS_PER_MS = 1_000_000


class LogFormat(StrEnum):
    """How lines look."""

    JSON = "json"
    CONSOLE = "console"


class Log:
    """Writes lines with ``write``. ``now_ns``: nanoseconds since 1970; a batch slower than ``slow_ms`` is a warning."""

    def __init__(
        self, format_: LogFormat, write: Callable[[str], None], now_ns: Callable[[], int], slow_ms: int
    ) -> None:
        self._format, self._write, self._now_ns, self._slow_ms = format_, write, now_ns, slow_ms

    def message(self, text: str) -> None:
        """What a worker says to people."""
        self._line("info", self._now_ns(), {"message": text}, text)

    def batch(self, seen: Seen) -> None:
        """A batch that has ended."""
        document = batch_document(seen)
        level = "info"
        if seen.outcome is Outcome.FAILED:
            level = "error"
        elif seen.took_ns >= self._slow_ms * _NS_PER_MS or seen.reasons[Reason.CONFLICT]:
            level = "warning"
        self._line(level, seen.ended_ns, document, _sentence(document))

    def _line(self, level: str, at_ns: int, document: dict[str, Any], sentence: str) -> None:
        at = datetime.fromtimestamp(at_ns // _NS_PER_MS / 1000, UTC).isoformat(timespec="milliseconds")
        at = at.replace("+00:00", "Z")
        if self._format is LogFormat.JSON:
            self._write(json.dumps({"time": at, "level": level} | document, ensure_ascii=False))
        else:
            self._write(f"{at} {level:<7} {sentence}")


def batch_document(seen: Seen) -> dict[str, Any]:
    """A batch as a log line's fields; what there is none of is left out."""
    first, last = seen.line_item_ids or (None, None)
    whole = {
        "message": f"batch {seen.outcome}",
        "namespace": seen.namespace,
        "batch": seen.batch,
        "stream": seen.stream,
        "start": seen.start,
        "end": seen.end,
        "records": seen.records,
        "bytes": seen.bytes,
        **seen.outcomes,
        "line_items": seen.line_items,
        "first_line_item": first,
        "last_line_item": last,
        "dead_letters": {reason.code: number for reason, number in sorted(seen.reasons.items())} or None,
        "retries": [again.cause.value for again in seen.again] or None,
        "problem": seen.problem or None,
        "duration_ms": seen.took_ns // _NS_PER_MS,
        "stages_ms": {stage.value: took // _NS_PER_MS for stage, took in seen.stages_ns().items()},
        "trace_id": seen.trace_id,
    }
    return {name: value for name, value in whole.items() if value is not None}


def _sentence(document: dict[str, Any]) -> str:
    parts = [document["message"], f"{document['records']:,} records of {document['stream']} from {document['start']}"]
    if "batch" in document:
        parts[0] = f"batch {document['batch']}"
        parts.append(f"{document['line_items']:,} line items")
        parts += [f"{document[name]:,} {name.replace('_', ' ')}" for name in _WORTH_SAYING if document.get(name)]
    if "problem" in document:
        parts.append(document["problem"])
    slowest = sorted(document["stages_ms"].items(), key=lambda one: -one[1])[:3]
    parts.append(f"{document['duration_ms']:,} ms ({', '.join(f'{name} {took}' for name, took in slowest)})")
    if "trace_id" in document:
        parts.append(f"trace {document['trace_id']}")
    return "; ".join(parts)


_WORTH_SAYING = ("duplicate", "pending", "dead_lettered", "not_billable")
