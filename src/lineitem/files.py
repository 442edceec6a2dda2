"""Usage from a file, through the pipeline: batch after batch, where it was left, a large one prepared in a second process.

Batches of a large file are prepared elsewhere while this process commits (ADR 0022).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from lineitem.flow import Elsewhere, Pipeline, Prepared, Summary
from lineitem.ingest import formats, intake
from lineitem.ingest.events import BatchLimits
from lineitem.kit.ahead import ahead
from lineitem.kit.failpoint import failpoint
from lineitem.ledger.post import LANES

Progress = Callable[[int, Summary], None]
"""Called after every batch with the position reached and the summary so far."""
Gate = Callable[[intake.Partition, int], None]
"""Called before every batch with its partition and its records: returns once they may go on."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read: its records, how they are read, and the stream they belong to."""

    file: BinaryIO
    content: str  # SHA-256 of the bytes, hex
    stream: str
    format: str
    settings: Mapping[str, Any]


def _open_gate(partition: intake.Partition, records: int) -> None:
    """Nothing holds a source back."""


def ingest(
    pipeline: Pipeline,
    source: Source,
    limits: BatchLimits,
    progress: Progress,
    *,
    two_processes: bool = False,
    gate: Gate = _open_gate,
) -> Summary:
    """Read a file to its end: an interrupted pass goes on where it stopped, a finished one starts again (all duplicates).

    ``two_processes``: prepare batches in another one; worth its start where there are several. The source must be a file
    of the system then.
    """
    namespace_key = pipeline.snapshot().namespace_key
    summary = Summary()
    with intake.exclusive(pipeline.reader, pipeline.namespace, source.stream, source.content):
        partition = intake.open_pass(
            pipeline.reader, pipeline.namespace, namespace_key, source.stream, source.content, LANES,
            source.format, source.settings,
        )  # fmt: skip
        summary.resumed_at = partition.next
        with _batches(pipeline, partition, source.file, limits, two_processes) as batches:
            for batch in batches:
                gate(partition, batch.received)
                summary.add(*pipeline.commit(batch))
                progress(batch.end, summary)
        failpoint("before_complete")
        intake.complete(pipeline.reader, partition.key, pipeline.clock.now_us())
    return summary


@contextmanager
def _batches(
    pipeline: Pipeline, partition: intake.Partition, file: BinaryIO, limits: BatchLimits, two_processes: bool
) -> Iterator[Iterator[Prepared]]:
    elsewhere = pipeline.elsewhere if two_processes else None
    if elsewhere is None:
        yield pipeline.prepare_all(partition, file, partition.next, limits)
        return
    first = next(formats.get(partition.format).read(file, partition.next, limits, partition.settings), None)
    if first is None:
        yield iter(())
        return
    job = _Job(elsewhere, partition, file.fileno(), first.end, limits)
    with ahead(_prepare_elsewhere, job, descriptors=[file.fileno()]) as others:
        yield _with_first(pipeline.prepare(partition, first), others)  # prepared here while the other process starts


def _with_first(first: Prepared, others: Iterator[Prepared]) -> Iterator[Prepared]:
    yield first
    yield from others


@dataclass(frozen=True, slots=True)
class _Job:
    """The batches of a file from position ``start`` on, for another process."""

    elsewhere: Elsewhere
    partition: intake.Partition
    descriptor: int
    start: int
    limits: BatchLimits


def _prepare_elsewhere(job: _Job) -> Iterator[Prepared]:
    with job.elsewhere.pipeline() as pipeline, open(job.descriptor, "rb") as file:
        yield from pipeline.prepare_all(job.partition, file, job.start, job.limits)
