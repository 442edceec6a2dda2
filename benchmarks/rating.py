"""How fast the rating kernels are, as ratios against Python ``Decimal`` loops that do the same job in the same run.

    python -m benchmarks rating

Prints one JSON line a benchmark, medians of three: rows per second of fold and price together (running quantity of
every target, T at every row, amount = T - posted), and for ``meter_expression`` of GB-seconds worked out from payloads.
The loops below are the baseline: plain, idiomatic, exact Python with per-price work hoisted out; they get their values
as Decimals and run on the first rows of the same data. The ``wide`` line is the exact path beyond int64 (18 decimals),
which a ledger takes only where it must.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import rating_models
from lineitem.catalog.expression import parse_value
from lineitem.catalog.model import Aggregation, Price, Tier
from lineitem.ingest.events import KEY_DTYPE, EventColumns
from lineitem.rate.columns import Columns
from lineitem.rate.folds import FoldItems, FoldState, fold
from lineitem.rate.price import compile_price
from lineitem.rate.targets import rate_running
from lineitem.rate.value import compute_values

ROWS = 1_000_000
BASELINE_ROWS = 100_000
TARGETS = 10_000
RUNS = 3
NANO = Decimal("0.000000001")

GRADUATED = Price(
    id="calls", meter="calls", model="graduated", currency="EUR",
    tiers=(
        Tier(Decimal(1_000), Decimal("0.004"), Decimal("1.5")),
        Tier(Decimal(5_000), Decimal("0.0035")),
        Tier(Decimal(10_000), Decimal("0.00299"), Decimal("0.75")),
        Tier(Decimal(25_000), Decimal("0.0025")),
        Tier(None, Decimal("0.00175")),
    ),
)  # fmt: skip
FLAT = Price(id="tokens", meter="tokens", model="per_unit", currency="EUR", unit_price=Decimal("0.0000025"))


def graduated_amount(tiers: tuple[Tier, ...], quantity: Decimal) -> Decimal:
    """T of a graduated price: walk the tiers."""
    amount, below = tiers[0].flat_price, Decimal(0)
    for number, tier in enumerate(tiers):
        if number and quantity <= below:
            break
        if number:
            amount += tier.flat_price
        if tier.up_to is None or quantity <= tier.up_to:
            amount += (quantity - below) * tier.unit_price
            break
        amount += (tier.up_to - below) * tier.unit_price
        below = tier.up_to
    return amount.quantize(NANO, ROUND_HALF_UP)


def decimal_loop(price: Price, target: list[int], value: list[Decimal]) -> list[Decimal]:
    """The same job one event at a time: fold, price the running quantity, post the difference."""
    quantity = [Decimal(0)] * TARGETS
    posted = [Decimal(0)] * TARGETS
    amounts = []
    unit_price = price.unit_price
    for index, added in zip(target, value, strict=True):
        quantity[index] += added
        if unit_price is not None:
            total = (quantity[index] * unit_price).quantize(NANO, ROUND_HALF_UP)
        else:
            total = graduated_amount(price.tiers, quantity[index])
        amounts.append(total - posted[index])
        posted[index] = total
    return amounts


def kernel(price: Price, scale: int, target: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The same job in columns, compiling included."""
    compiled = compile_price(price, scale)
    quantity, _ = fold(Aggregation.SUM, FoldItems(target, value), FoldState.empty(TARGETS))
    amounts, _ = rate_running(compiled, target, quantity, np.zeros(TARGETS, dtype=np.int64))
    return amounts


GB_SECONDS = "ceil(data.duration_ms) * data.memory_mb / 1024000"
MS_MB = Decimal(1_024_000)


def gb_seconds_loop(payloads: list[dict[str, Any]]) -> list[Decimal]:
    """GB_SECONDS one event at a time."""
    values = []
    for payload in payloads:
        duration = Decimal(payload["duration_ms"]).to_integral_value(ROUND_CEILING)
        values.append(duration * payload["memory_mb"] / MS_MB)
    return values


def invocations(rows: int, decimals: int) -> EventColumns:
    """Decoded invocations of 1 ms to 90 s and 128 MB to 10 GB; a duration has ``decimals``."""
    random = np.random.default_rng(42)
    durations = random.integers(1, 90_000 * 10**decimals, rows).tolist()
    memory = (random.integers(1, 80, rows) * 128).tolist()
    payloads = [
        {"duration_ms": Decimal(duration).scaleb(-decimals) if decimals else duration, "memory_mb": mb}
        for duration, mb in zip(durations, memory, strict=True)
    ]
    texts, keys = ["x"] * rows, np.zeros(rows, dtype=KEY_DTYPE)
    return EventColumns(
        ordinal=np.arange(rows, dtype=np.int32), id=texts, source=texts, type=texts, subject=texts,
        time_us=np.zeros(rows, dtype=np.int64), data=payloads, traceparent=[None] * rows, key=keys, digest=keys,
    )  # fmt: skip


def bench_expression(name: str, rows: int, decimals: int) -> dict[str, object]:
    """From payloads to scaled integers, taking the fields out of the payloads included; both on one batch."""
    events = invocations(rows, decimals)
    number = parse_value(GB_SECONDS)

    def columns() -> np.ndarray:
        values, flaws = compute_values(number, Columns(events, None), None, 9)
        assert not flaws
        return values

    expected = [int(value.scaleb(9)) for value in gb_seconds_loop(events.data)]
    assert columns().tolist() == expected, "columns and loop disagree"
    rate, baseline = (rows / median_seconds(job) for job in (columns, lambda: gb_seconds_loop(events.data)))
    return result(name, rate, baseline)


def median_seconds(job: Callable[[], object]) -> float:
    """The median of RUNS timings."""
    timings = []
    for _ in range(RUNS):
        start = perf_counter()
        job()
        timings.append(perf_counter() - start)
    return median(timings)


def usage(scale: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Events by target and their values, 1 to 500 units each; beyond 9 decimals no int64 holds a target's sum."""
    random = np.random.default_rng(42)
    target = np.sort(random.integers(0, TARGETS, rows))
    value = random.integers(1, 500 * 10 ** min(scale, 9), rows)
    return target, value.astype(object) * 10 ** (scale - 9) if scale > 9 else value


def bench(name: str, price: Price, scale: int, rows: int) -> dict[str, object]:
    """Kernel against loop; the loop's amounts are compared with the kernel's first."""
    target, value = usage(scale, rows)
    subset = min(rows, BASELINE_ROWS)
    targets = target[:subset].tolist()
    values = [Decimal(number).scaleb(-scale) for number in value[:subset].tolist()]
    expected = [int(amount.scaleb(9)) for amount in decimal_loop(price, targets, values)]
    assert kernel(price, scale, target, value)[:subset].tolist() == expected, "kernel and loop disagree"
    return result(
        name,
        rows / median_seconds(lambda: kernel(price, scale, target, value)),
        subset / median_seconds(lambda: decimal_loop(price, targets, values)),
    )


def result(name: str, rate: float, baseline: float) -> dict[str, object]:
    """One line of the report."""
    return {
        "bench": name,
        "rate_per_s": round(rate),
        "baseline": "python_decimal_loop",
        "baseline_per_s": round(baseline),
        "ratio": round(rate / baseline, 1),
    }


def bench_model(case: rating_models.Case, rows: int) -> dict[str, object]:
    """One registered model against the Decimal loop published for it, at the meter scale 0."""
    target, value = usage(0, rows)
    inputs = rating_models.inputs(rows)
    subset = min(rows, BASELINE_ROWS)
    few = (target[:subset].tolist(), list(map(Decimal, value[:subset].tolist())), rating_models.rows_of(inputs, subset))
    amounts = rating_models.kernel(case.price, TARGETS, target, value, inputs)
    expected = [int(amount.scaleb(9)) for amount in rating_models.decimal_loop(case, TARGETS, *few)]
    assert amounts[:subset].tolist() == expected, f"{case.price.model}: kernel and loop disagree"
    rate = rows / median_seconds(lambda: rating_models.kernel(case.price, TARGETS, target, value, inputs))
    baseline = subset / median_seconds(lambda: rating_models.decimal_loop(case, TARGETS, *few))
    return {
        "bench": f"rating_{case.price.model}",
        "rate_per_s": round(rate),
        "baseline": "python_decimal_loop",
        "baseline_per_s": round(baseline),
        "ratio": round(rate / baseline, 1),
    }


def run(rows: int = ROWS) -> Iterator[dict[str, object]]:
    """Each registered model, and the tiered and the flat price at scales that stay in int64 and at one that does not."""
    for case in rating_models.CASES:
        yield bench_model(case, rows)
    for name, price, scale in (
        ("rating_graduated_scale9", GRADUATED, 9),
        ("rating_graduated_wide", GRADUATED, 18),
        ("rating_flat", FLAT, 0),
        ("rating_flat_scale9", FLAT, 9),
    ):
        yield bench(name, price, scale, rows)
    yield bench_expression("meter_expression", min(rows, BASELINE_ROWS), 0)
    yield bench_expression("meter_expression_fractions", min(rows, BASELINE_ROWS), 1)
