"""What stands in the ledger, as metrics: for jobs that are gone before they could be scraped, and beside a worker."""

from __future__ import annotations

from pathlib import Path

from lineitem.adapters.streams import place_of, positions_of
from lineitem.ingest import intake
from lineitem.ingest.letters import namespace_key
from lineitem.kit.db import Connection
from lineitem.ledger.health import totals
from lineitem.ledger.letters import depth
from lineitem.observability import metrics
from lineitem.observability.recorder import Recorder


def measure(
    recorder: Recorder, connection: Connection, namespace: str, now_us: int, url: str | None, config: Path | None
) -> None:
    """Set every metric of ``metrics.OF_LEDGER``: positions of one namespace, all else of the whole ledger.

    ``url``: a stream whose ends are asked for, so that lag is known, with the client settings of ``config``. Raises InputError
    for an unknown namespace, what asking the stream raises, DatabaseUnavailable.
    """
    found = totals(connection)
    for name, number in found.outcomes.items():
        recorder.set(metrics.LEDGER_RECORDS, number, name)
    recorder.set(metrics.LEDGER_LINE_ITEMS, found.line_items)
    recorder.set(metrics.LEDGER_BATCHES, found.batches)
    recorder.set(metrics.LEDGER_LAST_BATCH, found.last_usage_us / 1e6)
    measure_dead_letters(recorder, connection, now_us)
    # A topic made anew has two streams of its name: the one that was opened last is the one that is read.
    streams = intake.stream_positions(connection, namespace_key(connection, namespace))
    for stream, at in streams:
        recorder.set(metrics.POSITION, at, *place_of(stream))
    if url is not None:
        for number, place in sorted(positions_of(url, config, dict(streams)).items()):
            recorder.set(metrics.POSITION, place.position, place.topic, str(number))
            recorder.set(metrics.LAG, place.lag, place.topic, str(number))


def measure_dead_letters(recorder: Recorder, connection: Connection, now_us: int) -> None:
    """Set depth and oldest age of open dead letters, and that the ledger answers."""
    found = depth(connection, now_us)
    for code in metrics.REASON_CODES:
        one = found.get(code, {"dead_letters": 0, "oldest_seconds": 0})
        recorder.set(metrics.DEAD_LETTERS_OPEN, one["dead_letters"], code)
        recorder.set(metrics.DEAD_LETTERS_OLDEST, one["oldest_seconds"], code)
    recorder.set(metrics.LEDGER_UP, 1)
