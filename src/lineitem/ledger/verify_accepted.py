"""Checks accepted events against each batch's digest over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, LiteralString

import numpy as np
from numpy.typing import NDArray

from lineitem.ingest import backfills, intake
from lineitem.kit.copy import rows_by_width
from lineitem.kit.db import Connection
from lineitem.ledger.assembly import Assembly
from lineitem.ledger.chain import accepted_digest
from lineitem.ledger.report import Link, Place, Progress, Report

_IDENTITY = np.dtype(
    [("lane", ">i2"), ("batch", ">i8"), ("ordinal", ">i4"), ("key", "V16"), ("digest", "V16"), ("namespace", ">i4")]
)
_VALUE_AT = 6
"""Where the only value of a row of binary COPY begins: behind the number of fields and its length."""


def check_accepted(connection: Connection, links: Mapping[Place, Link], report: Report, progress: Progress) -> None:
    """Accepted events are those each batch recorded, as many as it counted, in its namespace."""
    wanted = {
        place: link.batch.itemized + link.batch.pending + link.batch.not_billable
        for place, link in links.items()
        if link.partition_key is not None
    }
    assembly = Assembly(wanted)
    for rows in _rows(connection, intake.COPY_OUT_IDENTITIES):
        for place, parts in assembly.add(rows):
            _compare(place, links[place], parts, report)
        report.events += len(rows)
        progress("events", report.events)
    for rows in _rows(connection, backfills.COPY_OUT_REVERTED):  # accepted, too, until their backfill was reverted
        for place, parts in assembly.add(rows):
            _compare(place, links[place], parts, report)
    for place, parts in assembly.rest():
        _compare(place, links[place], parts, report)
    for place in assembly.strangers:
        if place in wanted:
            report.add(place, "the accepted events are not those it recorded")
        else:
            report.add(place, "accepted events name it, which is no batch of usage")


def _rows(connection: Connection, query: LiteralString) -> Iterator[NDArray[Any]]:
    """Blocks of events, dtype ``_IDENTITY``."""
    for _, data in rows_by_width(connection, query, block_rows=1):
        if len(data) > _VALUE_AT:  # else null: the snapshot sees no row on these pages
            yield np.frombuffer(data, dtype=_IDENTITY, offset=_VALUE_AT)


def _compare(place: Place, link: Link, parts: list[NDArray[Any]], report: Report) -> None:
    batch = link.batch
    rows = np.concatenate([*parts, np.zeros(0, dtype=_IDENTITY)])
    if (rows["namespace"] != link.namespace_key).any():
        report.add(place, "an accepted event of it stands in another namespace")
    digest = accepted_digest(rows["key"], rows["digest"], rows["ordinal"].astype(np.int32))
    if digest != batch.accepted_digest:
        report.add(place, "the accepted events are not those it recorded")
    elif len(rows) != batch.itemized + batch.pending + batch.not_billable:
        report.add(place, "its counts do not match its accepted events")
