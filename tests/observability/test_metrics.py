"""The list of metrics keeps Prometheus' rules and bounds its labels; indicators name nothing that is not in it."""

from __future__ import annotations

import re

import pytest

from lineitem.observability.indicators import INDICATORS
from lineitem.observability.metrics import METRICS, OF_LEDGER, OF_WORKER, RECORD_OUTCOMES, TIME_TO_LEDGER, Kind, Metric
from lineitem.observability.recorder import Recorder

SERIES_MAX = 100
FORBIDDEN = re.compile(r"account|subject|tenant|(^|_)id$|event_id")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_and_explained(metric: Metric) -> None:
    """The unit stands last in the name, `_total` behind counters alone; there is a meaning and something to do."""
    assert re.fullmatch(r"lineitem_[a-z]+(_[a-z]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    if metric.unit in ("seconds", "bytes"):
        assert metric.name.removesuffix("_total").endswith(f"_{metric.unit}")
    assert metric.meaning.endswith(".")
    assert metric.remedy.endswith((".", ".md."))
    assert bool(metric.edges) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.edges) == sorted(set(metric.edges))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_labels_are_bounded(metric: Metric) -> None:
    """All values are known, or a bound is named; nothing that grows with usage is a label."""
    series = 1
    for label in metric.labels:
        assert bool(label.values) != bool(label.bound)
        assert not FORBIDDEN.search(label.name)
        series *= len(label.values) or 1
    assert series <= SERIES_MAX


def test_names_are_unique_and_everything_is_shown_by_somebody() -> None:
    """No name twice, and none that a worker and the ledger would both leave out."""
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert {*OF_WORKER, *OF_LEDGER} == set(METRICS)


def test_outcomes_are_those_of_conservation() -> None:
    """What `verify` adds up is what the metric adds up."""
    from lineitem.ledger.post import Counts, outcomes

    assert tuple(outcomes(Counts())) == RECORD_OUTCOMES


def test_time_to_ledger_shows_its_objectives() -> None:
    """M2: a second for those who ask at once, 30 s for streams, a day for files."""
    assert {1.0, 30.0, 86_400.0} <= set(TIME_TO_LEDGER.edges)


def test_indicators_stand_on_metrics() -> None:
    """Every name in an expression is a metric (or a histogram's series), and its indicator is the metric's or M3's share."""
    names = {metric.name for metric in METRICS}
    for one in INDICATORS:
        used = {found.removesuffix("_bucket") for found in re.findall(r"lineitem_\w+", one.expression)}
        assert used
        assert used <= names, one


def test_a_label_value_that_is_not_listed_is_a_defect() -> None:
    """Cardinality cannot grow by a typing error."""
    with pytest.raises(AssertionError):
        Recorder(METRICS).observe(TIME_TO_LEDGER, [1.0], "moon")
