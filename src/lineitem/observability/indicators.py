"""The guide's indicators M1-M10 as expressions over metrics, those that something measures yet."""

from __future__ import annotations

from typing import NamedTuple


class Indicator(NamedTuple):
    """One way to read an indicator: ``expression`` in PromQL over the metrics of ``metrics.METRICS``."""

    sli: str
    meaning: str
    expression: str


INDICATORS = (
    Indicator("M1", "line items a second", "sum(rate(lineitem_line_items_total[5m]))"),
    Indicator(
        "M2",
        "time to ledger in seconds, 99th percentile, from the broker's receipt",
        'histogram_quantile(0.99, sum by (le) (rate(lineitem_time_to_ledger_seconds_bucket{clock="receive"}[5m])))',
    ),
    Indicator(
        "M3",
        "ingestion success: share of what was read that was not set aside",
        "1 - sum(rate(lineitem_dead_letters_total[1h])) / sum(rate(lineitem_records_total[1h]))",
    ),
    Indicator(
        "M3",
        "ingestion success: share of what producers say they sent that came in",
        'sum(increase(lineitem_records_total{outcome!~"duplicate|dead_lettered"}[1h])) '
        "/ sum(increase(lineitem_events_emitted_total[1h]))",
    ),
    Indicator(
        "M4",
        "duplicates by stage, share of what was read",
        "sum by (stage) (rate(lineitem_duplicates_total[1h])) / scalar(sum(rate(lineitem_records_total[1h])))",
    ),
    Indicator(
        "M5",
        "enrichment failures, share of what was read",
        "sum(rate(lineitem_enrichment_failures_total[1h])) / sum(rate(lineitem_records_total[1h]))",
    ),
    Indicator("M8", "dead letters an hour", "sum(increase(lineitem_dead_letters_total[1h]))"),
    # Every worker of a ledger shows the same depth.
    Indicator("M8", "dead letters that wait", "sum(max by (reason) (lineitem_dead_letters_open))"),
    Indicator("M8", "seconds the oldest has waited", "max(lineitem_dead_letters_oldest_age_seconds)"),
)
"""M6, M7, M9, M10 are about invoices, payments, costs and audits; nothing measures them yet."""
